"""The few bytes of `copilot-cred get`: one request, one response, the standard library only.

Importing msgpack and the whole connection takes longer than asking. So this file writes the one
request that `get` makes and reads its answer; a property test proves both equal to the rest of
the package. Nothing else uses it.
"""

from __future__ import annotations

from _struct import pack, unpack


__all__ = ["MAX_RESPONSE", "decode_response", "encode_get"]

MAX_RESPONSE = 256 * 1024
"""Bytes of an answer to `token.get`; two thousand are usual."""

_MAX_DEPTH = 32
_MSGID = 0
_FIXSTR_END = 32


def encode_get(
    min_valid: float = 60.0, account: str | None = None, reject: str | None = None
) -> bytes:
    """`[0, 0, "token.get", [{…}]]`; keys that are None are left out."""
    texts = {"account": account, "reject": reject}
    given = {key: text for key, text in texts.items() if text is not None}
    head = bytes([0x94, 0x00, _MSGID]) + _text("token.get") + b"\x91"
    body = bytes([0x81 + len(given)]) + _text("min_valid") + b"\xcb" + pack(">d", min_valid)
    return head + body + b"".join(_text(key) + _text(text) for key, text in given.items())


def _text(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    if size < _FIXSTR_END:
        return bytes([0xA0 | size]) + data
    if size < 1 << 8:
        return b"\xd9" + pack(">B", size) + data
    return (b"\xda" + pack(">H", size) if size < 1 << 16 else b"\xdb" + pack(">I", size)) + data


def decode_response(data: bytes) -> tuple[object, object] | None:
    """`(error, result)` of the answer at the start of `data`; None while bytes are missing.

    Raises ValueError when it is no answer to `encode_get`.
    """
    if len(data) > MAX_RESPONSE:
        raise ValueError("the broker's answer is too long")
    if data and data[0] != 0x94:
        raise ValueError("this is not how a broker answers")
    try:
        value, _ = _value(data, 0, 0)
    except IndexError:
        return None
    match value:
        case [1, 0, error, result]:
            return error, result
    raise ValueError("this is not an answer to what was asked")


_NUMBERS = {
    0xCA: (">f", 4),
    0xCB: (">d", 8),
    0xCC: (">B", 1),
    0xCD: (">H", 2),
    0xCE: (">I", 4),
    0xCF: (">Q", 8),
    0xD0: (">b", 1),
    0xD1: (">h", 2),
    0xD2: (">i", 4),
    0xD3: (">q", 8),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# type byte → bytes of its length field
_BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


def _value(data: bytes, at: int, depth: int) -> tuple[object, int]:
    """Return the value at `at` and where the next begins. Raises IndexError past the end."""
    if depth > _MAX_DEPTH:
        raise ValueError("the broker's answer is nested too deeply")
    kind = data[at]
    at += 1
    if kind < 0x80 or kind >= 0xE0:
        return (kind if kind < 0x80 else kind - 0x100), at
    if kind in _CONSTANTS:
        return _CONSTANTS[kind], at
    if kind in _NUMBERS:
        form, size = _NUMBERS[kind]
        return unpack(form, _take(data, at, size))[0], at + size
    if kind in _BINS:
        size, at = _size(data, at, _BINS[kind])
        return _take(data, at, size), at + size
    if kind in _TEXTS or 0xA0 <= kind < 0xC0:
        size, at = _size(data, at, _TEXTS[kind]) if kind in _TEXTS else (kind & 0x1F, at)
        return _take(data, at, size).decode(), at + size
    if kind in _ARRAYS or 0x90 <= kind < 0xA0:
        size, at = _size(data, at, _ARRAYS[kind]) if kind in _ARRAYS else (kind & 0x0F, at)
        return _array(data, at, size, depth)
    if kind in _MAPS or kind < 0x90:
        size, at = _size(data, at, _MAPS[kind]) if kind in _MAPS else (kind & 0x0F, at)
        flat, at = _array(data, at, 2 * size, depth)
        if not all(isinstance(key, str) for key in flat[::2]):
            raise ValueError("the broker's answer has a key that is no text")
        return dict(zip(flat[::2], flat[1::2], strict=True)), at
    raise ValueError("the broker's answer has a type this client does not know")


def _array(data: bytes, at: int, size: int, depth: int) -> tuple[list[object], int]:
    found = []
    for _ in range(size):
        value, at = _value(data, at, depth + 1)
        found.append(value)
    return found, at


def _size(data: bytes, at: int, size: int) -> tuple[int, int]:
    return int.from_bytes(_take(data, at, size), "big"), at + size


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]
