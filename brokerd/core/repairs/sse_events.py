"""A stream of server-sent events as bytes: whole events out of reads that are cut anywhere.

Unlike `core.dialects.sse` it keeps every byte: what nobody changes goes on as it came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects.sse import MAX_EVENT
from brokerd.core.repairs.exact import edited


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Held", "changed", "each_event"]

_EVENT: Final = re.compile(rb".+?(?:\n\r?\n|\Z)", re.DOTALL)
_DATA: Final = re.compile(rb"^data:[ ]?([^\r\n]*)", re.MULTILINE)
_ENDS: Final = (b"\n\n", b"\n\r\n")


class Held:
    """Holds back the beginning of an event whose end has not come yet.

    No client can use such a beginning, so to hold it costs nobody any time. A read that ends with
    an event is given back as the very same object.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def take(self, chunk: bytes) -> bytes:
        """Return the events that are whole now, b"" for none."""
        rest = self._rest
        if not rest and chunk.endswith(_ENDS):
            return chunk
        begin = max(0, len(rest) - 2)  # an end may be cut as well
        rest += chunk
        end = 0
        for each in _ENDS:
            at = rest.rfind(each, begin)
            if at >= 0:
                end = max(end, at + len(each))
        if not end:
            return b""
        whole = bytes(rest[:end])
        del rest[:end]
        return whole

    @property
    def is_too_long(self) -> bool:
        """Whether an event has become longer than any is: this is no stream of events."""
        return len(self._rest) > MAX_EVENT

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._rest

    def release(self) -> bytes:
        """Return what is held, and hold nothing."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


def each_event(whole: bytes) -> list[bytes]:
    """Cut whole events apart; joined they are the same bytes."""
    if b"\r" in whole:
        return _EVENT.findall(whole)
    if whole.find(b"\n\n") == len(whole) - 2:  # one, as most reads are
        return [whole]
    *events, rest = whole.split(b"\n\n")
    return [each + b"\n\n" for each in events] + ([rest] if rest else [])


def changed(event: bytes, change: Callable[[dict[str, Any]], bool]) -> bytes:
    """Return an event with its data, one line of JSON, as `change` leaves it.

    The same object if `change` returns False, or if its data is something else.
    """
    found = _DATA.search(event)
    if found is None or _DATA.search(event, found.end()):
        return event
    data = found[1]
    new = edited(data, change)
    return event if new is data else event[: found.start(1)] + new + event[found.end(1) :]
