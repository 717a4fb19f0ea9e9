"""Telling a whole event stream from a cut one where only the connection's end ends it.

Such a body (RFC 9112 §6.3, the last case) looks the same whether upstream has finished or died.
Copilot's streams end in `data: [DONE]`, so one of this kind without it is a cut one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.usage_tail import UsageTail


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.errors import Failure
    from brokerd.ports import Receiver


__all__ = ["UntilDone", "ends_in_done", "is_done"]


def ends_in_done(headers: Mapping[str, str]) -> bool:
    """Whether a body with these headers has to end in `[DONE]`, once nothing else frames it."""
    return headers.get("content-type", "").lower().startswith("text/event-stream")


def is_done(body: bytes) -> bool:
    """Whether `[DONE]` is in a body that was read whole."""
    tail = UsageTail()
    tail.feed(body)
    return tail.is_done


class UntilDone:
    """`ports.Receiver` before another one: an end without `[DONE]` becomes `failure`."""

    def __init__(self, receiver: Receiver, failure: Failure) -> None:
        self._receiver = receiver
        self._failure = failure
        self._tail = UsageTail()

    def data(self, chunk: bytes) -> None:
        """Pass it on."""
        self._tail.feed(chunk)
        self._receiver.data(chunk)

    def ended(self, failure: Failure | None) -> None:
        """Pass it on, or say that it was cut."""
        if failure is None and not self._tail.is_done:
            failure = self._failure
        self._receiver.ended(failure)
