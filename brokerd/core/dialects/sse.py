"""Server-sent events (WHATWG HTML §9.2): from bytes cut anywhere to events, and back."""

from __future__ import annotations

from typing import NamedTuple


__all__ = ["MAX_EVENT", "SseEvent", "SseReader", "TooLongError", "sse"]

MAX_EVENT = 8 * 1024 * 1024
"""Bytes of one event; the longest known is the whole answer in `response.completed`."""


class TooLongError(ValueError):
    """An event is longer than `MAX_EVENT`."""


class SseEvent(NamedTuple):
    """One event."""

    name: str
    """Its `event` field; "" without one."""
    data: bytes
    """Its `data` fields, joined by line feeds."""


class SseReader:
    """Feed it every read, in order; comments and unknown fields are left out."""

    def __init__(self) -> None:
        self._rest = bytearray()
        """Of a line that is not whole."""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._is_first = True

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Return the events that are whole now. Raises TooLongError."""
        if self._after_cr and chunk:  # the other half of a line end that was cut in two
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        self._rest += chunk
        lines = (
            bytes(self._rest).splitlines(keepends=True) if b"\n" in chunk or b"\r" in chunk else []
        )
        if lines and not lines[-1].endswith((b"\n", b"\r")):
            self._rest = bytearray(lines.pop())
        elif lines:
            self._after_cr = lines[-1].endswith(b"\r")
            self._rest.clear()
        found: list[SseEvent] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), found)
        if len(self._rest) + self._size > MAX_EVENT:
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
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")


def sse(data: bytes, name: str = "") -> bytes:
    """Write one event; `data` is one line."""
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: %b\n\n" % data
