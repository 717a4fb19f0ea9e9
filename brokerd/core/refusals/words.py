"""Upstream's own words in a refusal: found by trying, made fit to be shown.

The body is JSON `{"error": {…}}`, that inner object alone, or plain text, and the content type
does not tell which. It is somebody else's text: bounded, and what would drive a terminal or turn
its writing around is taken out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "BOM",
    "MAX_MESSAGE",
    "MAX_READ",
    "Words",
    "github_page",
    "is_page",
    "read_words",
    "words_of",
]

MAX_MESSAGE: Final = 400
"""Characters of upstream's words in a message; longer ones are a page, not a sentence."""

MAX_READ: Final = 64 * 1024
"""Bytes of a body that are looked at; refusals have some hundred."""

BOM: Final = b"\xef\xbb\xbf"
"""What some write before JSON or a page (RFC 8259 §8.1: it may be ignored)."""

MAX_URL: Final = 2048
"""Characters; a longer one does not fit on a screen, and a person has to look at it."""

_STRING: Final = rf'((?:[^"\\\x00-\x1f]|\\.){{0,{4 * MAX_MESSAGE}}})'
_FIELDS: Final = {
    "code": re.compile(rf'"code"\s*:\s*"{_STRING}"'),
    "type": re.compile(rf'"type"\s*:\s*"{_STRING}"'),
    "message": re.compile(rf'"message"\s*:\s*"{_STRING}'),  # where it may be that it is cut off
}

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PAGES: Final = ("url", "documentation_url", "help_url")
_GITHUB: Final = ("github.com", "ghe.com")


@dataclass(frozen=True)
class Words:
    """What it says; empty where it says nothing."""

    message: str = ""
    """One short printable line without its full stop."""
    code: str = ""
    """Upstream's own, without what may follow a colon."""
    url: str | None = None
    """A page of GitHub's, or where a remote agent wants to be authorized (`authorize_url`)."""
    is_sign_in: bool = False
    """Whether it is the latter."""


def is_page(body: bytes) -> bool:
    """Whether it is a web page: Copilot's own refusals are JSON or plain text."""
    return body[:MAX_READ].removeprefix(BOM).lstrip().startswith(b"<")


def read_words(body: bytes) -> Words:
    """Read a body, or its beginning; never raises. A web page says nothing."""
    text = body[:MAX_READ].removeprefix(BOM).decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith("<"):
            return Words()
        if text.startswith("{") and (cut_off := words_of(_members(text))) != Words():
            return cut_off
        # `off_topic` is a code that comes as the whole text.
        return Words(_line(text), text if "_" in text and _CODE.fullmatch(text) else "")
    if not isinstance(found, dict):
        return Words(_line(found))
    error = found.get("error")
    words = words_of(error or found)
    return Words(
        words.message or _line(found.get("message")),
        words.code or _code(found.get("code")),
        words.url or _sign_in(found) or _page(found),
        words.is_sign_in or (words.url is None and _sign_in(found) is not None),
    )


def words_of(error: object) -> Words:
    """Read the object that describes an error, or the string that stands in its place."""
    if not isinstance(error, dict):
        return Words(_line(error))
    code = _code(error.get("code"))
    if not code and error.get("type") != "error":  # the Messages API names errors by their type
        code = _code(error.get("type"))
    sign_in = _sign_in(error)
    return Words(
        _line(error.get("message")), code, sign_in or _page(error), is_sign_in=sign_in is not None
    )


def _members(text: str) -> dict[str, object]:
    """Return what can be read of JSON that was cut off: the first of each of these members."""
    found: dict[str, object] = {}
    for name, pattern in _FIELDS.items():
        member = pattern.search(text)
        if member is None:
            continue
        # The cut may have gone through an escape.
        for value in (member[1], member[1].rpartition("\\")[0]):
            try:
                found[name] = json.loads(f'"{value}"')
            except ValueError:
                continue
            break
    return found


def _code(value: object) -> str:
    """Return `rate_limited` for `rate_limited:…`; "" for what is no code."""
    code = value.partition(":")[0] if isinstance(value, str) else ""
    return code if _CODE.fullmatch(code) else ""


def _line(text: object) -> str:
    """Return one short line without its full stop; "" for what is no text."""
    if not isinstance(text, str):
        return ""
    # Not printable: control characters, bidirectional and other invisible ones, surrogates.
    shown = "".join(char if char.isprintable() else " " for char in text[: 4 * MAX_MESSAGE])
    line = " ".join(shown.split()).removesuffix(".")
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def _page(error: Mapping[Any, Any]) -> str | None:
    """Return a page of GitHub's that may be shown."""
    return next((page for name in _PAGES if (page := github_page(error.get(name)))), None)


def _sign_in(error: Mapping[Any, Any]) -> str | None:
    """Return where an agent's own sign-in is: it may be anywhere."""
    return _https(error.get("authorize_url"))


def github_page(value: object) -> str | None:
    """Return an address of GitHub's own pages that may be shown, None for all else."""
    url = _https(value)
    host = urlsplit(url).hostname if url else None
    is_githubs = host and any(host == name or host.endswith(f".{name}") for name in _GITHUB)
    return url if is_githubs else None


def _https(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > MAX_URL:
        return None
    if not (value.isascii() and value.isprintable()) or " " in value or "\\" in value:
        return None
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError:
        return None
    is_plain = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
    return value if is_plain else None
