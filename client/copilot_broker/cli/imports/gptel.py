"""gptel's files under Emacs' folder, as Lisp prints them: a string, and a plist beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import WHY_NOT, Kind, Login
from copilot_broker.cli.imports.raw import app_by_kind
from copilot_broker.cli.imports.reading import Unreadable


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_gptel", "read_gptel_token"]

_STRING = r'"((?:[^"\\]|\\.)*)"'


def read_gptel(data: bytes) -> Iterator[Login]:
    """Read `github-token`: `"ghu_…"`."""
    match = re.fullmatch(rf"\s*{_STRING}\s*", _text(data), re.DOTALL)
    if match is None:
        raise Unreadable("no Lisp string")
    token = re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL).strip()
    yield Login(token, app=app_by_kind(token))


def read_gptel_token(data: bytes) -> Iterator[Login]:
    """Read `token`: `(:token "tid=…" :expires_at …)`."""
    text = _text(data)
    match = re.compile(rf":token\s+{_STRING}").match(text, max(0, text.find(":token")))
    if match is None:
        raise Unreadable("no Lisp plist with a token")
    yield Login(match[1], problem=WHY_NOT[Kind.COPILOT])


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable("no text") from None
