"""Runs that are under way: `runs.json` in the state folder, for the daemon after this one.

It holds digests, never a key, and is worth nothing after the next start of the machine. So what
cannot be understood here is no error: nobody's right is lost but that of programs that can be
started anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.loopback import host_and_port
from brokerd.core.passing import RUNS_MAX, KeptRun, PassingKey, Process, is_passing_name, key_label
from brokerd.core.setting_checks import NotAllowedError
from brokerd.stores import private_files
from brokerd.stores.keys import checked_key, checked_spent, whole_number


if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["FILE_NAME", "VERSION", "RunFile"]

FILE_NAME: Final = "runs.json"

VERSION: Final = 1
"""Of the file; one of another version is not read."""

_FRAME: Final = 64
"""Bytes around the runs, and more."""

_BOOT_ID_LENGTH: Final = 36
"""Characters of a boot id: a UUID (random(4))."""


class RunFile:
    """One file. Errors are those of `private_files`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[KeptRun]:
        """Read the runs; no file, or one that cannot be understood, is none."""
        data = private_files.read(self._path)
        try:
            record = {} if data is None else json.loads(data)
            runs = record.get("runs", []) if record.get("version") == VERSION else []
            return [_run(raw) for raw in runs[:RUNS_MAX]]
        except (NotAllowedError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return []

    def save(self, runs: list[KeptRun]) -> int:
        """Replace the file; without runs there is none. Return how many are left out.

        A file that is too large is not read again, and would lose all of them. So what has no more
        room, with its patterns for models, is left out.
        """
        if not runs:
            private_files.remove(self._path)
            return 0
        written, room = [], private_files.MAX_BYTES - _FRAME
        for run in runs:
            text = json.dumps(_record(run), ensure_ascii=False)
            size = len(text.encode()) + len(",\n")
            if size <= room:
                written.append(text)
                room -= size
        lines = ",\n".join(written)
        data = f'{{"version": {VERSION}, "runs": [\n{lines}\n]}}\n'
        private_files.replace(self._path, data.encode())
        return len(runs) - len(written)


def _record(run: KeptRun) -> dict[str, Any]:
    return {
        "key": {name: value for name, value in asdict(run.key).items() if value is not None},
        "spent": None if run.spent is None else asdict(run.spent),
    }


def _run(raw: dict[str, Any]) -> KeptRun:
    """Return it, or raise ValueError, TypeError or KeyError: an unclear limit is not left out."""
    values, spent = raw["key"], raw["spent"]
    key = checked_key(values, PassingKey, name=is_passing_name, label=key_label, at=_address)
    process = values["process"]
    boot = process["boot"]
    if not isinstance(boot, str) or len(boot) != _BOOT_ID_LENGTH:
        raise ValueError
    found = Process(whole_number(process["pid"]), whole_number(process["started"]), boot)
    fields = {**vars(key), "process": found}
    return KeptRun(PassingKey(**fields), None if spent is None else checked_spent(spent))


def _address(value: str) -> str:
    host_and_port(value)
    return value
