"""JSON read, changed and written again with everything else as it was.

Numbers keep their digits (1.0 stays 1.0, and no digit of a long one is lost) and members their
order; only spaces between them go. What cannot be kept so is left alone: a key that stands twice
(readers differ in which one counts), NaN, what is not UTF-8, or has more values than a daemon
should make objects of.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from brokerd.core.turns import MAX_ITEMS


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["dumps", "edited", "loads"]


class _Number:
    """A number that Python would write otherwise."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def edited(body: bytes, change: Callable[[dict[str, Any]], bool]) -> bytes:
    """Return the JSON object `body` as `change` leaves it; the same bytes if it returns False.

    What cannot be read or written exactly is returned as it is, too.
    """
    try:
        found = loads(body)
        return dumps(found) if isinstance(found, dict) and change(found) else body
    except (ValueError, RecursionError):
        return body


def loads(body: bytes) -> Any:
    """Read it. Raises ValueError or RecursionError for what cannot be kept exactly."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        raise ValueError("too many values")
    return json.loads(
        str(body, "utf-8"),
        object_pairs_hook=_object,
        parse_float=_Number,
        parse_int=_integer,
        parse_constant=_constant,
    )


def dumps(value: Any) -> bytes:
    """Write what `loads` read. Raises RecursionError for what is nested too deep."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except TypeError:  # a `_Number`
        text = _written(value, encode_basestring)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say and UTF-8 cannot
        return _written(value, encode_basestring_ascii).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _integer(text: str) -> int | _Number:
    return _Number(text) if text == "-0" else int(text)


def _constant(text: str) -> Any:
    raise ValueError(text)


def _written(value: Any, quoted: Callable[[str], str]) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict):
        members = (f"{quoted(key)}:{_written(each, quoted)}" for key, each in value.items())
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(_written(each, quoted) for each in value)}]"
    return json.dumps(value)
