"""Server-sent events (WHATWG HTML §9.2): from bytes cut anywhere to events, and back."""

from __future__ import annotations

from typing import NamedTuple


__all__ = ["MAX_EVENT", "SseEvent", "SseReader", "TooLongError", "sse"]

MAX_EVENT = 8 * 1024 * 1024
"""Bytes of one event; the longest known is the whole answer in `response.completed`."""


class TooLongError(ValueError):
    """An event is longer than `MAX_EVENT`."""

    def __init__(self) -> None:
        super().__init__(f"an event of more than {MAX_EVENT} bytes")


class SseEvent(NamedTuple):
    """One event."""

    name: str
    """Its `event` field; "" without one."""
    data: bytes
    """Its `data` fields, joined by line feeds."""


class SseReader:
    """Feed it every read, in order.

    Comments, `id`, `retry` and unknown fields are left out, and so is an event at the end that no
    empty line has closed: who wrote it did not finish.
    """

    __slots__ = ("_after_cr", "_data", "_is_first", "_name", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = bytearray()
        """Of a line that is not whole."""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        """Bytes of the event's fields so far."""
        self._after_cr = False
        self._is_first = True

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Return the events that are whole now. Raises TooLongError; the reader is of no use then.

        Lines end with CR LF, LF or CR, which may be cut in two.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        rest = self._rest
        rest += chunk
        found: list[SseEvent] = []
        if b"\n" in chunk or b"\r" in chunk:
            whole = bytes(rest)
            rest.clear()
            lines = whole.splitlines()
            self._after_cr = whole.endswith(b"\r")
            if not self._after_cr and not whole.endswith(b"\n"):
                rest += lines.pop()
            for line in lines:
                self._take(line, found)
        if len(rest) + self._size > MAX_EVENT:
            raise TooLongError
        return found

    def _take(self, line: bytes, found: list[SseEvent]) -> None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                found.append(SseEvent(self._name, b"\n".join(self._data)))
            self._name, self._data, self._size = "", [], 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
        else:
            return
        self._size += len(line)
        if self._size > MAX_EVENT:
            raise TooLongError


def sse(data: bytes, name: str = "") -> bytes:
    """Write one event; `data` and `name` are one line each."""
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: %b\n\n" % data
