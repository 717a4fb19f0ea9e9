"""What GitHub Copilot says instead of a completion, as an exception.

The body of a refusal is JSON `{"error": {…}}`, that inner object alone, or plain text, and the
content type does not tell which: read by trying. It is somebody else's text: bounded, and what
would drive a terminal is taken out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from copilot_broker.errors import ErrorClass, UpstreamRefused, refused


__all__ = ["MAX_MESSAGE", "MAX_READ", "broken_off", "refusal_of", "retry_after_of"]

MAX_MESSAGE: Final = 400
"""Characters of upstream's own words in a message; longer ones are a page, not a sentence."""

MAX_READ: Final = 64 * 1024
"""Bytes of a body that are looked at: refusals have some hundred."""

_DENIED_HINT: Final = "Look at: copilot-cred status"
_LATER: Final = "Ask again later; meanwhile: copilot-cred status"
_CHANGE: Final = "Change the request; the models are shown by: copilot-cred models"

_BY_STATUS: Final = {
    401: (ErrorClass.DENIED, "Sign in again: copilot-cred login"),
    402: (ErrorClass.DENIED, _DENIED_HINT),
    403: (ErrorClass.DENIED, _DENIED_HINT),
    408: (ErrorClass.TEMPORARY, _LATER),
    421: (ErrorClass.TEMPORARY, "Fetch a new token: copilot-cred refresh"),
    422: (ErrorClass.DENIED, "Its content filter refuses: say it in other words"),
    424: (ErrorClass.TEMPORARY, _LATER),
    429: (ErrorClass.TEMPORARY, _LATER),
    466: (ErrorClass.DENIED, "Update copilot-broker, or [identity] in its config.toml"),
    499: (ErrorClass.TEMPORARY, _LATER),
}
"""What can be done about it; any other 4xx is USAGE, everything else TEMPORARY."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_UNSHOWN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069]+"
)
"""C0, DEL, C1 (ECMA-48), line separators, invisible and bidirectional controls."""


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamRefused:
    """Return the exception for an answer that is not 2xx."""
    known = (ErrorClass.USAGE, _CHANGE) if 400 <= status < 500 else (ErrorClass.TEMPORARY, _LATER)
    error_class, hint = _BY_STATUS.get(status, known)
    message, code, url = _words(body)
    return refused(
        status,
        error_class,
        code or f"upstream_{status}",
        f"GitHub Copilot answered {status}" + (f": {message}" if message else ""),
        hint,
        url=url,
        retry_after=retry_after_of(headers),
    )


def broken_off(status: int, event: Mapping[str, Any]) -> UpstreamRefused:
    """Return the exception for an error that stands where an answer was going on."""
    message, code, url = _said(event.get("error"))
    return refused(
        status,
        ErrorClass.TEMPORARY,
        code or "upstream_error",
        "GitHub Copilot broke off" + (f": {message}" if message else ""),
        _LATER,
        url=url,
    )


def retry_after_of(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds until asking again can help: a number or a date (RFC 9110 §10.2.3).

    `now` is Unix seconds.
    """
    text = str(headers.get("retry-after") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    if not text:
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  (seldom, and it is large)

    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, at - (time.time() if now is None else now))


def _words(body: bytes) -> tuple[str, str, str | None]:
    """Return message, code and address; empty where there are none."""
    text = body[:MAX_READ].decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ("" if text.startswith("<") else _sentence(text)), "", None
    if not isinstance(found, Mapping):
        return _sentence(found), "", None
    message, code, url = _said(found.get("error") or found)
    return message, code, url or _address(found)


def _said(error: object) -> tuple[str, str, str | None]:
    if not isinstance(error, Mapping):
        return _sentence(error), "", None
    code = error.get("code")
    known = isinstance(code, str) and _CODE.match(code)  # `rate_limited:…` is `rate_limited`
    return _sentence(error.get("message")), known[0] if known else "", _address(error)


def _address(found: Mapping[Any, Any]) -> str | None:
    """Return where an agent wants to be authorized, if that is what it says."""
    url = found.get("authorize_url")
    plain = isinstance(url, str) and url.startswith("https://") and not _UNSHOWN.search(url)
    return url if plain else None


def _sentence(text: object) -> str:
    """Return one short line without its full stop; "" for what is no text."""
    if not isinstance(text, str):
        return ""
    line = " ".join(_UNSHOWN.sub(" ", text).split()).removesuffix(".")
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
