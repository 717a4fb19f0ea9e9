"""The audit log of a machine, or a moment, without a journal: a file in the state folder.

One JSON object a line: `ts` (UTC, ISO 8601), `event`, `message`, `fields`. It is ours alone
(0600), only ever appended to, and bounded: a full one is renamed and replaces the one before it.
Each record opens it anew, for they are rare, and another daemon may have renamed it meanwhile.

Two daemons may share it. A line is one write to a descriptor opened with O_APPEND (write(2)), and
who renames holds a lock on that very file (flock(2)), so nobody renames a file that is new. What a
reader meets besides whole lines: empty ones, and torn ones where a disk was full.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


__all__ = ["FILE_NAME", "ROTATE_AT", "AuditLog"]

FILE_NAME: Final = "audit.jsonl"
"""In the state folder; the one before it has `.1` at its end. `copilot-cred audit` reads both."""

ROTATE_AT: Final = 1024 * 1024
"""Bytes: some five thousand records, months of a person's use."""

NEVER_ABOVE: Final = 2 * ROTATE_AT
"""Bytes: where it cannot be renamed, or somebody sits on its lock, nothing is added any more."""

LINE_MAX: Final = 16 * 1024
"""Bytes of one record; ours have under one KiB."""

_OPEN = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

log = logging.getLogger(__name__)


class AuditLog:
    """Appends records; never raises what the disk has against it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_failing = False

    def append(self, at: float, event: str, message: str, fields: Mapping[str, str]) -> None:
        """Write one record; `at` is Unix time. The first in a row that is lost is a warning."""
        ts = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
        entry = {"ts": ts.replace("+00:00", "Z"), "event": event, "message": message}
        line = json.dumps({**entry, "fields": dict(fields)}).encode() + b"\n"
        try:
            self._write(line)
        except OSError as error:
            if not self._is_failing:
                self._is_failing = True
                why = error.strerror or type(error).__name__
                log.warning("audit log not written", extra={"FILE": str(self.path), "REASON": why})
        else:
            self._is_failing = False

    def _write(self, line: bytes) -> None:
        if len(line) > LINE_MAX:
            raise OSError(0, "a record is too long")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = self._opened()
        try:
            if os.fstat(fd).st_size + len(line) > ROTATE_AT and self._rename(fd):
                os.close(fd)
                fd = -1
                fd = self._opened()
            size = os.fstat(fd).st_size
            if size + len(line) > NEVER_ABOVE:
                raise OSError(0, "the file is full and cannot be renamed")
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # who wrote last was cut short, or is half-way
            if os.write(fd, line) < len(line):
                raise OSError(0, "the disk is full")
        finally:
            if fd >= 0:
                os.close(fd)

    def _opened(self) -> int:
        fd = os.open(self.path, _OPEN, 0o600)
        try:
            _make_ours_alone(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _rename(self, fd: int) -> bool:
        """Put the full file aside; return whether the path may name another one now."""
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the descriptor
            with suppress(FileNotFoundError):
                if os.path.samestat(self.path.lstat(), os.fstat(fd)):
                    self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            return True
        return False


def _make_ours_alone(fd: int) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is not a regular file")
    if found.st_uid != os.geteuid():
        raise OSError(0, "it belongs to somebody else")
    if found.st_nlink > 1:  # planted: writing and renaming would meet another file of ours
        raise OSError(0, "it has another name too")
    if stat.S_IMODE(found.st_mode) != 0o600:
        os.fchmod(fd, 0o600)
