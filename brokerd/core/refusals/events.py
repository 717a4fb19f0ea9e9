"""Errors that come under 200: among the events of a stream, or in its place."""

from __future__ import annotations

import json
import re
from typing import Final

from brokerd.core.refusals.rows import BROKEN_OFF, EVENTS
from brokerd.core.refusals.words import BOM, MAX_READ, Words, words_of
from brokerd.errors import Failure


__all__ = ["explain_event", "explain_whole"]

_MAYBE_ERROR: Final = re.compile(
    rb'"error"[ \t]*:[ \t]*[{"]|"(?:type|finish_reason)"[ \t]*:[ \t]*"error"'
)
"""What stands in each event that is an error's. Nothing that a model writes looks so: in a JSON
string the quotes are escaped."""


def explain_event(chunk: bytes) -> Failure | None:
    """Explain the error that stands among the events of a chunk of a stream under 200, if any.

    Lines cut off at either end of the chunk count for nothing. Never raises.
    """
    if b'"error"' not in chunk:  # what nearly all there are end with
        return None
    for line in chunk[-MAX_READ:].splitlines():
        if _MAYBE_ERROR.search(line):
            words = _event_words(line.removeprefix(b"data:").strip())
            if words is not None:
                return _said(words)
    return None


_NEAR: Final = 4096
"""Bytes at the beginning of a whole answer that are searched: an error has little before it, and a
long answer is not read for one."""


def explain_whole(body: bytes) -> Failure | None:
    """Explain the error that stands in place of an answer that came whole, under 200, if any.

    Nothing says that it is JSON but itself. Never raises.
    """
    if body.find(b'"error"', 0, _NEAR) < 0 or len(body) > MAX_READ:  # nearly all end with this
        return None
    if _MAYBE_ERROR.search(body, 0, _NEAR) is None:
        return None
    words = _event_words(body.removeprefix(BOM))
    if words is None:  # who asks for a stream, and takes it whole
        return explain_event(body)
    return _said(words, "answered with an error")


def _event_words(text: bytes) -> Words | None:
    """Return what an event says of an error; None for one that is none, or cut off."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    if not isinstance(found, dict):
        return None
    response = found.get("response")
    for error in (
        found.get("error"),
        response.get("error") if isinstance(response, dict) else None,
    ):
        if error:
            return words_of(error)
    if found.get("type") == "error":
        return words_of(found)
    choices = found.get("choices")
    if isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") == "error" for choice in choices
    ):
        return Words()
    return None


def _said(words: Words, how: str = "broke off") -> Failure:
    row = EVENTS.get(words.code, BROKEN_OFF)
    message = f"GitHub Copilot {how}" + (f": {words.message}" if words.message else "")
    return Failure(row.error_class, words.code or "upstream_error", message, row.hint, words.url)
