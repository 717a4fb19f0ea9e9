"""The journal, through journalctl: what the broker has written there, and what it is writing.

Only records of one's own uid are asked for, which the journal itself vouches for (_UID, in
systemd.journal-fields(7)): another user could write the same ids. So could any program of one's
own; such a record has another unit than the broker's in _SYSTEMD_USER_UNIT, and is shown as that.
Not `--user`, which looks into the per-user files alone, and those exist only where the journal is
kept on disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from copilot_broker.cli.audit.events import BY_ID, BY_NAME, FIELDS
from copilot_broker.cli.audit.records import Record, of_broker
from copilot_broker.cli.report import Refusal
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Iterator

    from copilot_broker.cli.audit.records import Query


__all__ = ["Following", "Journal", "JournalUnreadableError"]

UNIT = "copilot-broker.service"
"""The broker's; a simulated one is the same unit with a drop-in."""

WRITERS = ("_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT")
"""Who wrote a record, as journald found out; the second for what no user manager has started."""

END_GRACE = 5.0
"""Seconds that a journalctl we have asked to end gets."""

SAID_MAX = 4096
"""Bytes that we read of what journalctl says went wrong."""


class JournalUnreadableError(Exception):
    """There is no journal, or none that this user may read; the text says why."""


class Journal:
    """Runs journalctl, by its name on the PATH and never through a shell."""

    def __init__(self) -> None:
        self.cursor = ""
        """That of the newest record met, wanted or not: where to go on from."""

    def read(self, query: Query, count: int) -> list[Record]:
        """Return the newest records that are wanted, at most `count`, the oldest first.

        Raises JournalUnreadableError; Refusal where journalctl does not know the words of `since`.
        """
        argv = [*_command(query), "--reverse"]
        if query.since is not None:
            argv.append(f"--since={query.since}")
        found: list[Record] = []
        with _running(argv) as (process, said):
            assert process.stdout is not None
            for line in process.stdout:
                record = self._understood(line)
                if record is not None and query.wants(record):
                    found.append(record)
                    if len(found) == count:
                        return found[::-1]
            if process.wait() != 0:
                raise _refused(said, query)
        if not self.cursor:
            _prove_there_is_one()
        return found[::-1]

    def follow(self, query: Query, since: float) -> Following:
        """Start to read what comes after the last `read`, or after `since` (Unix seconds)."""
        argv = [*_command(query), "--follow", "--no-tail"]
        argv.append(f"--after-cursor={self.cursor}" if self.cursor else f"--since=@{since:.6f}")
        return Following(self, argv, query)

    def _understood(self, line: bytes) -> Record | None:
        """Read one line of `--output=json`; None for what is no record of ours."""
        try:
            entry = json.loads(line)
            at = int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000
            event = BY_ID[entry["MESSAGE_ID"]]
        except (ValueError, TypeError, KeyError):
            return None
        self.cursor = self.cursor or str(entry.get("__CURSOR", ""))
        user_unit, unit = (entry.get(name) for name in WRITERS)
        by = user_unit or unit
        vouched = user_unit == UNIT
        return Record(
            at, event, of_broker(entry), "journal", by if isinstance(by, str) else "", vouched
        )


class Following:
    """A journalctl that goes on; close it."""

    def __init__(self, journal: Journal, argv: list[str], query: Query) -> None:
        self._journal = journal
        self._query = query
        self._running = _running(argv)
        self._process, self._said = self._running.__enter__()
        self._rest = b""

    def fileno(self) -> int:
        """Return what to wait on."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> list[Record]:
        """Return what has come, once `fileno` is readable; raises as `Journal.read` at its end."""
        data = os.read(self.fileno(), 65536)
        if not data:
            self._process.wait()
            raise _refused(self._said, self._query)
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = map(self._journal._understood, lines)  # noqa: SLF001 - the two halves of one
        return [record for record in found if record and self._query.wants(record)]

    def close(self) -> None:
        """Have it end."""
        self._running.__exit__(None, None, None)


def _command(query: Query) -> list[str]:
    program = shutil.which("journalctl")
    if program is None:
        why = "there is no journalctl on this machine"
        raise JournalUnreadableError(why)
    shown = ",".join(["MESSAGE_ID", *WRITERS, *sorted(FIELDS)])
    argv = [program, "--output=json", "--no-pager", f"--output-fields={shown}"]
    argv += [f"_UID={os.getuid()}"]
    argv += [f"MESSAGE_ID={BY_NAME[name].message_id}" for name in sorted(query.events)]
    return argv if query.account is None else [*argv, f"ACCOUNT={query.account}"]


@contextmanager
def _running(argv: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """Run journalctl; what it says on stderr is kept aside, for it may say a lot."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(  # noqa: S603 - a list, and its values are no options
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
            )
        except OSError as error:
            why = f"journalctl does not run: {error.strerror}"
            raise JournalUnreadableError(why) from error
        with process:
            try:
                yield process, said
            finally:
                _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(END_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _refused(said: BinaryIO, query: Query) -> Exception:
    """Return why journalctl has failed, in its own last words."""
    said.seek(0)
    lines = said.read(SAID_MAX).decode(errors="replace").strip().splitlines()
    why = lines[-1].rstrip(".") if lines else "journalctl has ended without a word"
    if query.since is not None and "timestamp" in why:
        hint = "see what it takes: man systemd.time, or copilot-cred audit --help"
        return Refusal(ErrorClass.USAGE, "bad_since", f"--since: {why}", hint)
    return JournalUnreadableError(why)


def _prove_there_is_one() -> None:
    """Tell a journal without our records from no journal: with JSON journalctl says neither."""
    program = shutil.which("journalctl") or "journalctl"
    argv = [program, "--no-pager", "--lines=1", "--output=short", f"_UID={os.getuid()}"]
    with _running(argv) as (process, said):
        assert process.stdout is not None
        process.stdout.read()
        process.wait()
        said.seek(0)
        if b"No journal files were found" in said.read(SAID_MAX):
            why = "no journal files were found"
            raise JournalUnreadableError(why)
