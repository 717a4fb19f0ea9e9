r"""Which model a request's body asks for, without reading all of it where that can be spared.

A body has up to 32 MiB, and only its top-level `model` matters. JSON writes a key in two ways: as
it is, or with escapes, and each escape of one of these five letters begins with `\u006`. So where
there is none, and `"model"` stands in the body once, it is the one; it is of the top level when it
is the first thing in the body, or when nothing but plain members follow it to the body's end.
Everything else (a tool with a parameter called `model`) is left to the JSON parser.
"""

from __future__ import annotations

import json
import re

from brokerd.core.scanning import count
from brokerd.core.turns import MAX_ITEMS


__all__ = ["MAX_NAME", "model_of", "place_of"]

MAX_NAME = 200
"""Characters of a name that are looked at; real ones have forty."""

_KEY = b'"model"'
_ESCAPED_LETTER = b"\\u006"

_FIRST = re.compile(rb'\s*\{\s*"model"\s*:\s*"([^"\\\x00-\x1f]*)"')
_MEMBER = re.compile(rb'\s*:\s*"([^"\\\x00-\x1f]*)"')
_PLAIN = rb'(?:"[^"\\]{0,64}"|[-+.\w]{1,32})'
_REST = re.compile(rb'(?:\s*,\s*"[^"\\]{0,64}"\s*:\s*' + _PLAIN + rb"){0,16}\s*\}\s*\Z")
"""Members with nothing in them; bounded, so that looking costs nothing."""

_REST_MAX = 4096
"""Bytes after the name within which its rest must end to be looked at."""


def model_of(body: bytes) -> str:
    """Return the model that a JSON body names; "" for one that names none or is not JSON."""
    found = place_of(body)
    if found is not None:
        try:
            return str(found[1], "utf-8")[:MAX_NAME]
        except ValueError:
            return ""
    return _parsed(body) if _KEY in body or _ESCAPED_LETTER in body else ""


def place_of(body: bytes) -> re.Match[bytes] | None:
    """Return where the name stands (group 1), where that is sure without reading all of it."""
    if count(body, _KEY) != 1 or _ESCAPED_LETTER in body:
        return None
    return _FIRST.match(body) or _last(body)


def _last(body: bytes) -> re.Match[bytes] | None:
    """Find it where nothing but plain members follow it."""
    at = body.index(_KEY)
    if not body[max(0, at - 64) : at].rstrip(b" \t\r\n").endswith((b",", b"{")):
        return None  # a value, or the end of a string
    found = _MEMBER.match(body, at + len(_KEY))
    if found is None or len(body) - found.end() > _REST_MAX:
        return None
    return found if _REST.match(body, found.end()) else None


def _parsed(body: bytes) -> str:
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        return ""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    name = request.get("model") if isinstance(request, dict) else None
    return name[:MAX_NAME] if isinstance(name, str) else ""
