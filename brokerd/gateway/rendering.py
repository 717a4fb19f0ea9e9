"""Heads of answers, as bytes (RFC 9112 §4)."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["CONTINUE", "has_body", "head_of"]

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
_FRAMING: Final = frozenset(
    {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
)
"""The session's own."""

_ODD: Final = frozenset("\r\n\0")

_date: tuple[int, str] = (0, "")


def has_body(status: int, *, is_head: bool) -> bool:
    """Whether an answer of this status may have one (RFC 9110 §6.4.1)."""
    return not (is_head or status in (204, 304) or status < 200)


def head_of(status: int, headers: Mapping[str, str], framing: str) -> bytes:
    """Return the head; `framing` are the session's own lines, each with its end.

    A value that could not be told from a line of its own is left out.
    """
    line = _LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    # No line end more than there are headers: one look at all of them at once.
    is_clean = own.count("\r") == own.count("\n") == len(headers) and "\0" not in own
    if not (is_clean and _FRAMING.isdisjoint(headers)):
        own = "".join(_clean(headers))
    date = "" if "date" in headers else _date_line()
    return f"{line}{framing}{own}{date}\r\n".encode("latin-1", "replace")


def _clean(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        if name not in _FRAMING and _ODD.isdisjoint(value):
            yield f"{name}: {value}\r\n"


def _date_line() -> str:
    """Return the line, made anew once a second (RFC 9110 §6.6.1)."""
    global _date  # noqa: PLW0603 - of the whole process
    now = int(time())
    if _date[0] != now:
        _date = (now, f"date: {formatdate(now, usegmt=True)}\r\n")
    return _date[1]
