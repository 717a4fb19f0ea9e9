"""The messages of MessagePack-RPC as values, and the only place that encodes and decodes them.

    request       [0, msgid, method, params]     params: a one-element array holding a map
    response      [1, msgid, error, result]
    notification  [2, method, params]

`decode` must only ever see what `Prescan` has walked: depth and counts are bounded there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgpack

from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.errors import LocalProtocolError, RemoteProtocolError


__all__ = [
    "FORGETS",
    "ErrorInfo",
    "Message",
    "Notification",
    "Request",
    "Response",
    "chunk_cost",
    "decode",
    "encode",
    "params_of",
    "short_request",
    "whole_msgid",
]

FORGETS: Final = msgpack.version < (1, 2, 1)
"""Whether msgpack's C decoder never frees what it has read of a message that turns out wrong
(msgpack-python#671; 1.2.1 is the first that always does). Each such message costs memory for good,
a quarter of a MiB if its sender wants that. Its Python twin frees all, and is some µs slower."""

_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2
_PLAIN: Final = frozenset({bool, bytes, float, int, str, type(None)})
_MSGID_END: Final = 1 << 32
"""`msgid` is an unsigned 32-bit number (MessagePack-RPC spec)."""


@dataclass(frozen=True)
class ErrorInfo:
    """Why a request was refused: the error map of the wire. Holds no secret."""

    error_class: ErrorClass
    """What the caller can do about it; a closed set."""
    code: str
    """What happened, machine-readable; an open set."""
    message: str
    hint: str = ""
    url: str | None = None
    retry_after: float | None = None
    """Seconds."""

    def __str__(self) -> str:
        """`code: message. hint`, what a caller gets who asked for `errors = "text"`."""
        return f"{self.code}: {self.message}." + (f" {self.hint}" if self.hint else "")

    def to_map(self) -> dict[str, object]:
        """As it travels; keys without a value are left out."""
        found: dict[str, object] = {
            "class": int(self.error_class),
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
        }
        if self.url is not None:
            found["url"] = self.url
        if self.retry_after is not None:
            found["retry_after"] = self.retry_after
        return found

    @classmethod
    def from_wire(cls, error: object) -> ErrorInfo:
        """Read a map or a string; a newer broker's unknown class is INTERNAL."""
        if not isinstance(error, Mapping):
            return cls(ErrorClass.INTERNAL, "error", str(error))
        number, retry_after, url = error.get("class"), error.get("retry_after"), error.get("url")
        try:
            error_class = ErrorClass(number) if isinstance(number, int) else ErrorClass.INTERNAL
        except ValueError:
            error_class = ErrorClass.INTERNAL
        return cls(
            error_class,
            str(error.get("code", "error")),
            str(error.get("message", "")),
            str(error.get("hint", "")),
            url if isinstance(url, str) else None,
            float(retry_after) if isinstance(retry_after, int | float) else None,
        )


@dataclass(frozen=True)
class Request:
    """Somebody asks; answered by the Response of the same `msgid`."""

    msgid: int
    method: str
    params: object = field(repr=False)


@dataclass(frozen=True)
class Response:
    """The answer; exactly one of `error` and `result` says something."""

    msgid: int
    error: object
    result: object = field(repr=False)


@dataclass(frozen=True)
class Notification:
    """Something is told; there is no answer."""

    method: str
    params: object = field(repr=False)


Message = Request | Response | Notification


def encode(message: Message) -> bytes:
    """Return the bytes of a message. Raises LocalProtocolError for what MessagePack cannot say."""
    match message:
        case Request(msgid, method, params):
            value: list[object] = [_REQUEST, msgid, method, params]
        case Response(msgid, error, result):
            value = [_RESPONSE, msgid, error, result]
        case Notification(method, params):
            value = [_NOTIFICATION, method, params]
    return _pack(value)


def _pack(value: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError("not_encodable", f"{type(error).__name__} in a message") from None
    return packed


def decode(frame: bytes | bytearray | memoryview, *, foreign: bool = False) -> Message:
    """Read one whole, prescanned message. Raises RemoteProtocolError `not_a_message`.

    `foreign`: from somebody who may send wrong ones on purpose, see `FORGETS`.
    """
    unpackb = _python_unpackb() if foreign and FORGETS else msgpack.unpackb
    try:
        value: Any = unpackb(frame, raw=False, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException):
        # The cause would show what was sent: it is dropped on purpose.
        raise RemoteProtocolError("not_a_message", "text that is not UTF-8, or odd keys") from None
    match value:
        case [int(kind), int(msgid), str(method), params] if (
            kind == _REQUEST and _is_msgid(msgid) and kind is not False
        ):
            return Request(msgid, method, params)
        case [int(kind), int(msgid), error, result] if (
            kind == _RESPONSE and _is_msgid(msgid) and kind is not True
        ):
            return Response(msgid, error, result)
        case [int(kind), str(method), params] if kind == _NOTIFICATION:
            return Notification(method, params)
    raise RemoteProtocolError("not_a_message", "neither request nor response nor notification")


@cache
def _python_unpackb() -> Callable[..., Any]:
    from msgpack.fallback import unpackb  # noqa: PLC0415 - only a broker needs it, and not every

    found: Callable[..., Any] = unpackb
    return found


def short_request(data: bytes) -> tuple[int, str, dict[str, Any]] | None:
    """Return msgid, method and params if `data` is exactly one short and plain request.

    It needs no walk before it is decoded, provided that it has no more bytes than a message may
    have values: nothing else makes decoding dear, and what is nested deeper than a map within
    params is not plain. None for all else, right or wrong: that is for the walk to say. Not to be
    asked where msgpack `FORGETS`.
    """
    try:
        value: Any = msgpack.unpackb(data, raw=False, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException):
        return None
    if type(value) is not list or len(value) != 4:
        return None
    kind, msgid, method, params = value
    if type(kind) is not int or kind != _REQUEST or type(msgid) is not int:
        return None
    if not 0 <= msgid < _MSGID_END or type(method) is not str:
        return None
    if type(params) is not list or len(params) != 1 or type(params[0]) is not dict:
        return None
    found = params[0]
    for key, given in found.items():
        if type(key) is not str or not (type(given) in _PLAIN or _is_plain_map(given)):
            return None
    return msgid, method, found


def _is_plain_map(value: object) -> bool:
    if type(value) is not dict:
        return False
    for key, inner in value.items():
        if type(key) is not str or type(inner) not in _PLAIN:
            return False
    return True


def whole_msgid(encoded: bytes) -> int | None:
    """Read a msgid by itself; None when it is none."""
    try:
        value: Any = msgpack.unpackb(encoded)
    except (ValueError, msgpack.exceptions.UnpackException):
        return None
    return value if isinstance(value, int) and _is_msgid(value) else None


def _is_msgid(msgid: int) -> bool:
    return not isinstance(msgid, bool) and 0 <= msgid < _MSGID_END


def params_of(params: object) -> dict[str, Any] | None:
    """Return the map inside `params`; None when it has another shape.

    No element, nil and an empty array count as an empty map: Lua cannot tell `{}` from `[]`.
    """
    match params:
        case [] | [None] | [[]]:
            return {}
        case [dict(found)]:
            for key in found:
                if not isinstance(key, str):
                    return None
            return found
    return None


def chunk_cost(chunk: object) -> int:
    """Say what a chunk takes from its stream's credit: bytes by number, else encoded size."""
    return len(chunk) if isinstance(chunk, bytes) else len(_pack(chunk))
