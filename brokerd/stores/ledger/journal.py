"""The journal of the ledger: a file that only grows, by one write(2) for what is told at once.

What the kernel has taken outlives a killed process. It is not fsynced: a machine that loses its
power may forget the last seconds.

    "CPBUSE01"  generation: 8 random bytes  records (`core.ledger.record`)

What the database has taken in is cut off: the rest goes into a new file of another generation,
which replaces the old one whole (rename(2)). So a position in a generation always means the same
bytes, whenever somebody was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from brokerd.stores import private_files


if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["HEADER", "Journal", "Part"]

_MAGIC: Final = b"CPBUSE01"
_GENERATION: Final = 8
"""Bytes."""

HEADER: Final = len(_MAGIC) + _GENERATION


class Part(NamedTuple):
    """What there is to fold."""

    generation: bytes
    end: int
    """Bytes of the file, header included, that were whole records when this was made."""
    fd: int
    """For `read` in another thread; the journal's own, which stays open until that has ended."""

    def read(self, start: int) -> bytes:
        """Return its bytes from `start` on; called from any thread. Raises OSError."""
        pieces = []
        at = max(start, HEADER)
        while at < self.end and (piece := os.pread(self.fd, self.end - at, at)):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)


class Journal:
    """One open file; all of it is the loop's but `Part.read`. Not used once closed."""

    def __init__(self, path: Path) -> None:
        """Open it, or begin one. Raises BrokerError as `private_files` does."""
        self._path = path
        private_files.make_folder(path.parent)
        self._fd = private_files.open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.size = 0
        """Bytes, header included."""
        try:
            self._begin()
        except OSError as error:
            os.close(self._fd)
            raise private_files.failed("write", path, error) from error
        except BaseException:
            os.close(self._fd)
            raise

    def _begin(self) -> None:
        head = os.pread(self._fd, HEADER, 0)
        self.size = os.fstat(self._fd).st_size
        if len(head) == HEADER and head.startswith(_MAGIC):
            self._generation = head[len(_MAGIC) :]
        else:  # new, or none of ours: its whole records are found all the same
            self._generation = secrets.token_bytes(_GENERATION)
            self._replace(os.pread(self._fd, self.size, 0))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to fold."""
        return self.size <= HEADER

    @property
    def part(self) -> Part:
        """All that was written so far."""
        return Part(self._generation, self.size, self._fd)

    def append(self, records: bytes) -> None:
        """Write them, all or none. Raises OSError."""
        written = os.write(self._fd, records)
        if written != len(records):
            try:
                _write(self._fd, records[written:])
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self.size)
                raise
        self.size += len(records)

    def forget(self, until: int, instead: bytes = b"") -> None:
        """Begin a new generation with `instead`, and what is there from `until` on.

        Raises OSError; then all is as it was.
        """
        rest = os.pread(self._fd, self.size - until, until)
        self._generation, before = secrets.token_bytes(_GENERATION), self._generation
        try:
            self._replace(instead + rest)
        except OSError:
            self._generation = before
            raise

    def _replace(self, records: bytes) -> None:
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(new, flags, 0o600)
        try:
            data = _MAGIC + self._generation + records
            _write(fd, data)
            new.rename(self._path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        os.close(self._fd)
        self._fd, self.size = fd, len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _write(fd: int, data: bytes) -> None:
    """Write all of it; a disk that takes only a part is full (write(2))."""
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
