"""A completion that its caller wants in one piece: collected as upstream sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure
from copilot_broker.wire.limits import MAX_LARGE_FRAME


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.ports import Reply


__all__ = ["BODY_MAX", "WholeAnswer"]

BODY_MAX = MAX_LARGE_FRAME - 256 * 1024
"""Bytes of a body: what fits into one answer, with room for the headers of upstream's."""

WORTH_TELLING = 64 * 1024
"""Bytes below which nobody is told how much is held: the usual answer comes in one read."""


class WholeAnswer:
    """`ports.Receiver` of one reply; closes it."""

    def __init__(
        self,
        reply: Reply,
        on_end: Callable[[bytes, Failure | None], None],
        hold: Callable[[int], None],
    ) -> None:
        """`on_end` is called once with the body or with what kept it from us.

        `hold` is told how many bytes more are held, or fewer; it may close us.
        """
        self._reply = reply
        self._on_end: Callable[[bytes, Failure | None], None] | None = on_end
        self._hold = hold
        self._pieces: list[bytes] = []
        self._size = self._told = 0

    def start(self) -> None:
        """Collect; it may have ended when this returns."""
        self._reply.stream_to(self)

    def data(self, chunk: bytes) -> None:
        """Take what one read brought."""
        self._pieces.append(chunk)
        self._size += len(chunk)
        if self._size > BODY_MAX:
            self._end(b"", _too_long())
        elif self._size > WORTH_TELLING:
            self._tell(self._size)

    def ended(self, failure: Failure | None) -> None:
        """Know that nothing follows."""
        pieces = self._pieces
        self._end(pieces[0] if len(pieces) == 1 else b"".join(pieces), failure)

    def close(self) -> None:
        """Want no more; upstream is cut at once. Nothing is told: twice is no error."""
        self._on_end = None
        self._pieces = []
        self._reply.close()
        if self._told:
            self._tell(0)

    def _tell(self, size: int) -> None:
        more, self._told = size - self._told, size
        self._hold(more)

    def _end(self, body: bytes, failure: Failure | None) -> None:
        on_end = self._on_end
        self.close()
        if on_end is not None:
            on_end(body, failure)


def _too_long() -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "upstream_too_long",
        f"the answer is longer than {BODY_MAX} bytes",
        "Ask for it in pieces: copilot-cred chat",
    )
