"""An answer that is of use only whole: collected as upstream sends it.

A JSON body mostly comes in one read. Nothing of it is sent before all of it is there, so that an
upstream that dies is an honest status and not half an object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.proxy import Answer


__all__ = ["BODY_MAX", "Collected", "Held"]

BODY_MAX: Final = 32 * 1024 * 1024
"""Bytes of one body: as many as of a request."""

HELD_MAX: Final = 128 * 1024 * 1024
"""Bytes of all bodies that are being collected."""


class Held:
    """How many bytes are held for all of them."""

    def __init__(self, limit: int = HELD_MAX) -> None:
        self.limit = limit
        self.size = 0


class Collected:
    """`ports.Receiver` of one answer and `Work` of its request; closes the answer."""

    __slots__ = ("_answer", "_held", "_on_end", "_pieces", "_size")

    def __init__(
        self, answer: Answer, held: Held, on_end: Callable[[bytes, Failure | None], None]
    ) -> None:
        """`on_end` is told the body, or what kept it from us: once, not after `close`."""
        self._answer = answer
        self._held = held
        self._on_end: Callable[[bytes, Failure | None], None] | None = on_end
        self._pieces: list[bytes] = []
        self._size = 0

    def start(self) -> None:
        """Collect; it may have ended when this returns."""
        self._answer.stream_to(self)

    def data(self, chunk: bytes) -> None:
        """Take what one read brought."""
        self._pieces.append(chunk)
        self._size += len(chunk)
        self._held.size += len(chunk)
        if self._size > BODY_MAX or self._held.size > self._held.limit:
            self._end(b"", _too_long())

    def ended(self, failure: Failure | None) -> None:
        """Know that nothing follows."""
        pieces = self._pieces
        self._end(pieces[0] if len(pieces) == 1 else b"".join(pieces), failure)

    def go_on(self) -> None:
        """See `Work.go_on`: nothing has been sent."""

    def close(self) -> None:
        """See `Work.close`; twice is no error."""
        self._on_end = None
        self._pieces = []
        self._held.size -= self._size
        self._size = 0
        self._answer.close()

    def _end(self, body: bytes, failure: Failure | None) -> None:
        on_end = self._on_end
        self.close()
        if on_end is not None:
            on_end(body, failure)


def _too_long() -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "upstream_too_long",
        f"the answer is longer than {BODY_MAX} bytes, or too many long ones are under way",
        'Ask for it in pieces: "stream": true',
    )
