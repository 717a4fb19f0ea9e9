"""One stream as its sender sees it: the credit that is left, and what its next message looks like.

A completion is thousands of small chunks. All that differs between their messages is a number and
the chunk, so the bytes before those are made once; a test proves the result equal to
`messages.encode`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from copilot_broker.wire.messages import Notification, encode


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["OutgoingStream", "notification"]

_SMALL: Final = tuple(bytes([number]) for number in range(0x80))
"""Positive fixints as they travel (MessagePack spec, "int format family")."""
_TAIL: Final = b"\x00\xa5chunk\xc0"
"""How a message with number 0 and a nil chunk ends."""
_CHUNK_8: Final = b"\xa5chunk\xc4"
_CHUNK_16: Final = b"\xa5chunk\xc5"
_CHUNK_32: Final = b"\xa5chunk\xc6"


def notification(
    method: str, params: dict[str, object], wrapper: tuple[str, Sequence[str]] | None
) -> Notification:
    """Return it as it goes out: by itself, or inside the wrapper that a hello asked for."""
    if wrapper is None:
        return Notification(method, [params])
    name, arguments = wrapper
    return Notification(name, [*arguments, [method, params]])


class OutgoingStream:
    """An open stream of a server."""

    __slots__ = ("_head", "credit", "seq", "stream")

    def __init__(
        self, stream: int, credit: int, wrapper: tuple[str, Sequence[str]] | None
    ) -> None:
        self.stream = stream
        self.credit = credit
        """Bytes that may be sent; below zero: owed by a chunk that went beyond it."""
        self.seq = 0
        """Number of the next chunk."""
        self._head = b""
        self.wrap(wrapper)

    def wrap(self, wrapper: tuple[str, Sequence[str]] | None) -> None:
        """Make what begins each message from now on."""
        params: dict[str, object] = {"stream": self.stream, "seq": 0, "chunk": None}
        self._head = encode(notification("stream.data", params, wrapper)).removesuffix(_TAIL)

    def data(self, chunk: bytes) -> bytes:
        """Return the `stream.data` message of the next chunk, which is counted and paid for."""
        seq, size = self.seq, len(chunk)
        self.seq = seq + 1
        self.credit -= size
        number = _SMALL[seq] if seq < 0x80 else _unsigned(seq)
        if size < 1 << 8:
            return b"%b%b%b%c%b" % (self._head, number, _CHUNK_8, size, chunk)
        if size < 1 << 16:
            length = size.to_bytes(2, "big")
            return b"%b%b%b%b%b" % (self._head, number, _CHUNK_16, length, chunk)
        return b"".join((self._head, number, _CHUNK_32, size.to_bytes(4, "big"), chunk))


def _unsigned(number: int) -> bytes:
    """Return a number from 128 up in its shortest form, as every encoder chooses it."""
    if number < 1 << 8:
        return b"\xcc" + number.to_bytes(1, "big")
    if number < 1 << 16:
        return b"\xcd" + number.to_bytes(2, "big")
    if number < 1 << 32:
        return b"\xce" + number.to_bytes(4, "big")
    return b"\xcf" + number.to_bytes(8, "big")
