"""Questions kept from one conversation to the next: a private file, one JSON string a line.

Only where it is asked for: what people type to a model is theirs.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from errno import EPERM
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["KeptQuestions"]

MOST = 1000
"""Questions: years of arrow keys."""

MAX_FILE = 4 * 1024 * 1024
"""Bytes of the file that are read: its last ones; it is made shorter when there are more."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class KeptQuestions:
    """The file; every use opens it anew, so that several conversations can share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make it, or make it private. Raises OSError for what is not a file of this user's."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(self._open())
        if len(lines := self._lines()) > MOST or self.path.stat().st_size > MAX_FILE:
            self._replace(lines[-MOST // 2 :])

    def read(self) -> list[str]:
        """Return them, the oldest first; what makes no sense is left out."""
        found = []
        for line in self._lines():
            with suppress(ValueError, RecursionError):
                question = json.loads(line)
                if isinstance(question, str):
                    found.append(question)
        return found

    def add(self, question: str) -> None:
        """Keep one more, in one write; where that cannot be, it is not kept."""
        with suppress(OSError):
            file = self._open()
            try:
                os.write(file, json.dumps(question).encode() + b"\n")
            finally:
                os.close(file)

    def _lines(self) -> list[bytes]:
        try:
            file = os.fdopen(self._open(), "rb")
        except OSError:
            return []
        with file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_FILE))
            return file.read().splitlines()

    def _replace(self, lines: list[bytes]) -> None:
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "wb") as writer:
                writer.write(b"".join(line + b"\n" for line in lines))
            new.replace(self.path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def _open(self) -> int:
        file = os.open(self.path, _FLAGS, 0o600)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            os.close(file)
            raise OSError(EPERM, "it is no file of yours", str(self.path))
        if found.st_mode & 0o077:
            os.fchmod(file, 0o600)
        return file
