"""The audit log that the broker keeps where no journal does: `audit.jsonl`, two files at most.

Read as if somebody else had written it: bounded, ours alone or not at all, and what is torn or
makes no sense is skipped and counted.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from copilot_broker.cli.audit.events import BY_NAME
from copilot_broker.cli.audit.records import Record, of_broker
from copilot_broker.cli.state import state_folder


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from copilot_broker.cli.audit.records import Query


__all__ = ["LocalLog", "Tail", "log_path"]

READ_MAX = 4 * 1024 * 1024
"""Bytes of one file, its last ones: the broker begins another one after a quarter of that."""

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def log_path(environ: Mapping[str, str]) -> Path:
    """Return where the broker keeps it: in its state folder."""
    return state_folder(environ) / "audit.jsonl"


class LocalLog:
    """The log at rest. Raises OSError where it is there and cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = 0
        """Lines that made no sense."""

    def exists(self) -> bool:
        """Whether there is anything to be read, or ever was."""
        return any(os.path.lexists(path) for path in self._paths())

    def read(self, query: Query, since: float | None, count: int) -> list[Record]:
        """Return the newest records that are wanted, at most `count`, the oldest first."""
        found = [
            record
            for path in self._paths()
            for record in self.understood(_last_lines(path))
            if query.wants(record) and (since is None or record.at >= since)
        ]
        found.sort(key=lambda record: record.at)  # two daemons may have written
        return found[max(0, len(found) - count) :]

    def understood(self, lines: list[bytes]) -> Iterator[Record]:
        """Yield what the lines tell; those that make no sense are counted."""
        for line in lines:
            if not line.strip():
                continue  # where a torn one ends
            try:
                record = _record(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self.skipped += 1
            else:
                if record is not None:
                    yield record

    def _paths(self) -> tuple[Path, Path]:
        return self.path.with_name(f"{self.path.name}.1"), self.path


class Tail:
    """What is added to the log from now on, also when a new file takes the old one's place."""

    def __init__(self, log: LocalLog) -> None:
        self._log = log
        self._rest = b""
        self._fd = self._open()
        if self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_END)

    def read(self, query: Query) -> list[Record]:
        """Return the records that have come since the last time."""
        data = self._drained()
        if self._is_replaced():
            data += self._drained()  # written between the two looks
            self.close()
            self._fd = self._open()
            data += self._drained()
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-READ_MAX:]
        return [record for record in self._log.understood(lines) if query.wants(record)]

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        try:
            return _opened(self._log.path)
        except OSError:
            return -1

    def _drained(self) -> bytes:
        data = b""
        while self._fd >= 0 and (more := os.read(self._fd, 65536)):
            data += more
        return data

    def _is_replaced(self) -> bool:
        try:
            now = self._log.path.lstat()
        except FileNotFoundError:
            return False
        return self._fd < 0 or not os.path.samestat(now, os.fstat(self._fd))


def _last_lines(path: Path) -> list[bytes]:
    """Return the lines of a file, none if it is not there."""
    with suppress(FileNotFoundError), os.fdopen(_opened(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - READ_MAX))
        lines = file.read(READ_MAX).split(b"\n")
        return lines[1:] if size > READ_MAX else lines
    return []


def _opened(path: Path) -> int:
    fd = os.open(path, _OPEN)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
        return fd
    os.close(fd)
    raise PermissionError(0, "it is no file of yours", str(path))


def _record(entry: dict[str, object]) -> Record | None:
    """Read one line; None for an event of a newer broker. Raises what `understood` expects."""
    at = datetime.fromisoformat(str(entry["ts"])).timestamp()
    fields = entry["fields"]
    if not isinstance(fields, dict):
        raise TypeError
    event = BY_NAME.get(str(entry["event"]))
    return None if event is None else Record(at, event, of_broker(fields), "file")
