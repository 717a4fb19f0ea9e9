"""Where does the next message end? Told from the bytes alone, before anything is decoded.

MessagePack has no frame length, so the end is found by walking the type bytes (MessagePack spec,
"Formats"). The walk allocates nothing: it keeps a position and how many values each open container
still lacks. So a claim of 1 GB, a tower of nested arrays or an array of a million empty arrays is
refused when its header is read and not when memory is gone. The walk resumes where it stopped;
a message that arrives byte by byte costs the same as one that arrives whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from copilot_broker.wire.errors import RemoteProtocolError


if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_broker.wire.limits import Limits


__all__ = ["Prescan"]

_REQUEST: Final = 0
_MSGID, _METHOD, _PARAMS = 1, 2, 3
"""Which elements of a request's array these are."""

# Per type byte: (bytes of length field, size without one, payload bytes and values per length).
_Format = tuple[int, int, int, int]


def _formats() -> list[_Format | None]:
    table: list[_Format | None] = [None] * 256
    for byte in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
        table[byte] = (0, 0, 1, 0)  # small integers, nil, false, true
    for byte in range(0x80, 0x90):
        table[byte] = (0, byte & 0x0F, 0, 2)  # fixmap
    for byte in range(0x90, 0xA0):
        table[byte] = (0, byte & 0x0F, 0, 1)  # fixarray
    for byte in range(0xA0, 0xC0):
        table[byte] = (0, byte & 0x1F, 1, 0)  # fixstr
    for first in (0xC4, 0xD9):  # bin, str
        for step in range(3):
            table[first + step] = (1 << step, 0, 1, 0)
    for step in range(4):  # uint, int of 1, 2, 4, 8 bytes
        table[0xCC + step] = table[0xD0 + step] = (0, 1 << step, 1, 0)
    table[0xCA], table[0xCB] = (0, 4, 1, 0), (0, 8, 1, 0)  # float, double
    for step in range(2):
        table[0xDC + step] = (2 << step, 0, 0, 1)  # array
        table[0xDE + step] = (2 << step, 0, 0, 2)  # map
    return table  # 0xC1 is never used; the extension types have no place on this wire


_FORMATS: Final = _formats()
_ARRAYS: Final = frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})
_LEAVES: Final = tuple(
    1 + form[1] * form[2] if form and not form[0] and not form[1] * form[3] else 0
    for form in _FORMATS
)
"""Per type byte: the bytes of a value that this byte alone tells all about; 0 for the others.

`c0` and its like are sized 0; nine of ten values on the wire are of this kind.
"""


class Prescan:
    """Walks one message after the other; `find_end` is called again whenever bytes were added."""

    def __init__(self, limits: Limits, large: Callable[[bytes], bool]) -> None:
        """Ask `large` with a request's encoded method whether it may have `limits.large_frame`."""
        self._limits = limits
        self._large = large
        self._forget()

    def _forget(self) -> None:
        self._position = 0
        self._lacking: list[int] = []  # per open container: values still to come
        self._items = 0
        self._elements: list[int] = []  # where the message's own elements start
        self._bound = self._limits.frame

    def find_end(self, buffer: bytearray | bytes) -> int | None:
        """Where the message at the start of `buffer` ends; None while bytes are missing.

        Raises RemoteProtocolError `not_a_message`, `bad_type`, `frame_too_large`,
        `too_deep` or `too_many_items`.
        """
        if buffer and not self._position and buffer[0] not in _ARRAYS:
            raise RemoteProtocolError("not_a_message", "a message is an array (MessagePack-RPC)")
        if (not self._position or self._lacking) and not self._walk(buffer):
            return None
        end = self._position
        if end > len(buffer):
            return None
        self._forget()
        return end

    def missing(self, buffer: bytearray | bytes) -> int:
        """Bytes that the message lacks, as far as what was walked tells."""
        return max(0, self._position - len(buffer))

    def large_msgid(self, buffer: bytearray | bytes) -> bytes | None:
        """Return the encoded msgid of the large request that has begun; None for anything else."""
        starts = self._elements
        if len(starts) <= _PARAMS or self._bound != self._limits.large_frame:
            return None
        return bytes(buffer[starts[_MSGID] : starts[_METHOD]])

    def _walk(self, buffer: bytearray | bytes) -> bool:
        """Walk over headers until the last is known; False when that takes more bytes.

        All of it is in one loop, as it runs for every value of every request.
        """
        limits, lacking, filled, bound = self._limits, self._lacking, len(buffer), self._bound
        position, items = self._position, self._items
        while not position or lacking:
            if position >= filled:
                break
            if len(lacking) == 1:
                self._note_element(buffer, position)
                bound = self._bound
            values = 0
            first = buffer[position]
            size = _LEAVES[first]
            if size:
                position += size
            else:
                form = _FORMATS[first]
                if form is None:
                    raise RemoteProtocolError("bad_type", f"type byte {first:#04x} is not used")
                length_bytes, size, payload, values = form
                header_end = position + 1 + length_bytes
                if header_end > filled:
                    break
                if length_bytes:
                    size = int.from_bytes(buffer[position + 1 : header_end], "big")
                # Lengths of containers cost no bytes of their own.
                position = header_end + size * payload
                values *= size
            if position > bound:
                raise RemoteProtocolError("frame_too_large", f"more than {bound} bytes")
            if lacking:
                lacking[-1] -= 1
            if values:
                items += values
                if items > limits.items:
                    raise RemoteProtocolError("too_many_items", f"more than {limits.items} values")
                if len(lacking) == limits.depth:
                    raise RemoteProtocolError("too_deep", f"nested deeper than {limits.depth}")
                lacking.append(values)
            while lacking and not lacking[-1]:
                lacking.pop()
        self._position, self._items = position, items
        return bool(position) and not lacking

    def _note_element(self, buffer: bytearray | bytes, position: int) -> None:
        starts = self._elements
        if starts and starts[-1] == position:
            return  # seen before, when its header was not there yet
        starts.append(position)
        if len(starts) == _PARAMS + 1 and buffer[starts[0]] == _REQUEST:
            method = bytes(buffer[starts[_METHOD] : starts[_PARAMS]])
            if self._large(method):
                self._bound = self._limits.large_frame
