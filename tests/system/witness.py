"""What a session shows of itself, from its start to its end: bus, processes, files, units, journal.

A monitor hears every message of the session bus. A sampler of root's reads argv and environment of
every process as long as there are any, again and again: what a process was before it executed
another program is a look of its own. Files and units are looked at before each test and at the end,
the journal once. Of all that only what could be a spelling of a secret is kept.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import defaultdict
from typing import IO, TYPE_CHECKING

from canary.spellings import SUSPICIOUS
from system.session import eventually


if TYPE_CHECKING:
    from canary.spellings import Net
    from system.session import Session


__all__ = ["LOOK_AT_FILES_AND_UNITS", "Witness"]

JOURNAL = (
    "journalctl", "--output=export", "--all", "--quiet", "--cursor-file=/run/log/witness",
)  # fmt: skip
"""What has come since the last look."""

OVERLAP = 64 * 1024
"""Bytes looked at again: the last look may have ended within a message."""

BEFORE = 60
"""Characters before a find that say where it was."""

LOOK = 0.005
"""Seconds between two looks at a process that is young."""

# Of the others: four times a second, as one that is a second old seldom becomes another program.
SAMPLER = """
import os, select, sys, time
known, seen, out = {}, set(), sys.stdout.buffer
while not select.select([sys.stdin], [], [], float(sys.argv[1]))[0]:
    now, pids = time.monotonic(), {name for name in os.listdir("/proc") if name.isdigit()}
    known = {pid: known.get(pid, (now, now)) for pid in pids}
    for pid, (born, due) in known.items():
        if now < due:
            continue
        known[pid] = born, now + (0 if now - born < 1 else 0.25)
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    data = file.read()
            except OSError:
                continue
            if data and data not in seen:
                seen.add(data)
                start = b"\\n" + name.encode() + b" "
                out.write(start + data.rstrip(b"\\0").replace(b"\\0", start))
    out.flush()
"""

# The store's own files are where a login belongs.
LOOK_AT_FILES_AND_UNITS = r"""
find "$HOME" "$XDG_RUNTIME_DIR" -type f -size -4096k ! -path '*/copilot-broker*/logins/*' \
  -exec env LC_ALL=C grep -aHoE \
  '[A-Za-z0-9+/_=-]{16,}|(%(25)*[0-9A-Fa-f]{2}){8,}|[0-9]{1,3}(, ?[0-9]{1,3}){7,}' {} + || true
echo the units:
systemctl --user show --property=Description,Environment,ExecStart,StatusText "*" || true
"""


class Witness:
    """Of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._runs: dict[tuple[str, str], str] = {}
        self.looked_through: dict[str, int] = {}
        """Characters of each kind of trace."""
        self._read: defaultdict[str, int] = defaultdict(int)
        self._bus, self._bus_file = self._start("dbus-monitor", "--session", "--binary")
        sampler = ("/usr/bin/python3", "-c", SAMPLER, str(LOOK))
        self._sampler, self._sampler_file = self._start(*sampler, root=True)

    def _start(
        self, *command: str, root: bool = False
    ) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - close() is where it ends
        argv = self._session.argv(*command, root=root)
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=file)
        eventually(lambda: file.seek(0, 2) or process.poll() is not None)
        assert process.poll() is None, f"{command[0]} has ended"
        return process, file

    def saw(self, where: str, text: str) -> None:
        """Keep what could be a secret of what was said `where`."""
        self.looked_through[where] = self.looked_through.get(where, 0) + len(text)
        for match in SUSPICIOUS.finditer(text):
            if (where, match[0]) not in self._runs:
                at = match.start()
                before = re.split(r"[\n\0]", text[max(0, at - BEFORE) : at])[-1]
                self._runs[where, match[0]] = f"{where}, after {before!r}"

    def saw_files_and_units(self, told: str) -> None:
        """Keep what LOOK_AT_FILES_AND_UNITS has printed."""
        files, _, units = told.partition("\nthe units:\n")
        self.saw("files", files)
        self.saw("units", units)

    def look(self) -> None:
        """Take in all that has been shown so far."""
        session = self._session
        told = session.run("sh", "-c", LOOK_AT_FILES_AND_UNITS, timeout=120)
        self.saw_files_and_units(told.stdout)
        session.run("journalctl", "--sync", root=True)
        journal = session.argv(*JOURNAL, root=True)
        done = subprocess.run(journal, stdout=subprocess.PIPE, timeout=120, check=True)
        self.saw("the journal", done.stdout.decode("latin-1"))
        for where, process, file in (
            ("the session bus", self._bus, self._bus_file),
            ("argv or environment", self._sampler, self._sampler_file),
        ):
            assert process.poll() is None, f"who looks at {where} has ended"
            file.seek(max(0, self._read[where] - OVERLAP))
            self.saw(where, file.read().decode("latin-1"))
            self._read[where] = file.tell()

    def leaks(self, net: Net) -> list[tuple[str, str, str]]:
        """Return kind, spelling and place of each secret that was shown."""
        return [
            (hit.kind, hit.spelling, where)
            for (_, run), where in self._runs.items()
            for hit in net.find(run)
        ]

    def close(self) -> None:
        """End both; the sampler ends with its stdin, the monitor with its session at the latest."""
        self._bus.terminate()
        for process in (self._bus, self._sampler):
            process.communicate(timeout=60)
        self._bus_file.close()
        self._sampler_file.close()
