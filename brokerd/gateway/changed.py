"""What is done to a stream of events on its way: nothing, repairs, a translation, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from brokerd.core.dialects.errors import error_event


if TYPE_CHECKING:
    from brokerd.core.dialects.dialect import Dialect
    from brokerd.core.repairs.answering import StreamRepairs
    from brokerd.errors import Failure


__all__ = ["Changed", "Repaired", "Untouched"]


class Changed(Protocol):
    """Changes a stream on its way: a translation, or repairs."""

    def feed(self, chunk: bytes) -> bytes:
        """Take whole events, return what is to be sent of them."""
        ...

    def end(self) -> bytes:
        """Return what is still to be sent at the end of a whole stream."""
        ...

    def broken(self, failure: Failure) -> bytes:
        """Return what tells the caller that upstream has died."""
        ...


class Untouched:
    """`Changed` that changes nothing."""

    __slots__ = ("_dialect",)

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def feed(self, chunk: bytes) -> bytes:
        """See `Changed.feed`."""
        return chunk

    def end(self) -> bytes:
        """See `Changed.end`."""
        return b""

    def broken(self, failure: Failure) -> bytes:
        """See `Changed.broken`."""
        return error_event(self._dialect, failure)


class Repaired:
    """`Changed` by repairs, and then by something else."""

    __slots__ = ("_repairs", "_then")

    def __init__(self, repairs: StreamRepairs, then: Changed) -> None:
        self._repairs = repairs
        self._then = then

    def feed(self, chunk: bytes) -> bytes:
        """See `Changed.feed`."""
        chunk = self._repairs.feed(chunk)
        return self._then.feed(chunk) if chunk else chunk

    def end(self) -> bytes:
        """See `Changed.end`."""
        rest = self._repairs.end()
        return (self._then.feed(rest) if rest else b"") + self._then.end()

    def broken(self, failure: Failure) -> bytes:
        """See `Changed.broken`."""
        return self._then.broken(failure)
