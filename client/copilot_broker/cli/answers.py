"""What Copilot says when it does not answer: one sentence, one class, one hint.

The body of a refusal is JSON with an `error`, that inner object alone, or plain text, whatever its
content type says, so it is read by trying. It is somebody else's word: shown, never acted upon.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

from copilot_broker.cli.report import Refusal
from copilot_broker.errors import ErrorClass


__all__ = ["broken_off", "refusal_of"]

MAX_SHOWN = 400
"""Characters of upstream's own words that are shown; a longer text is a page, not a sentence."""

MODELS = "see what there is: copilot-cred models"
LATER = "try again later; meanwhile see: copilot-cred status"

KNOWN = {
    400: (ErrorClass.USAGE, MODELS),
    401: (ErrorClass.DENIED, "sign in again: copilot-cred login"),
    402: (ErrorClass.DENIED, "take a model that costs nothing: copilot-cred models"),
    403: (ErrorClass.DENIED, "once GitHub allows it: copilot-cred refresh"),
    408: (ErrorClass.TEMPORARY, LATER),
    413: (ErrorClass.USAGE, "shorten the prompt; for the models' sizes: copilot-cred models"),
    421: (ErrorClass.TEMPORARY, "fetch a new token: copilot-cred refresh"),
    422: (ErrorClass.DENIED, "its filter refuses the prompt: say it in other words"),
    424: (ErrorClass.TEMPORARY, LATER),
    429: (ErrorClass.TEMPORARY, LATER),
    466: (
        ErrorClass.DENIED,
        "update copilot-broker, or set [identity] and: systemctl --user reload copilot-broker",
    ),
    499: (ErrorClass.TEMPORARY, LATER),
}
"""Status → what can be done about it (RFC 9110 §15, and Copilot's own); any other 4xx is USAGE."""

HINTS = {
    "model_max_prompt_tokens_exceeded": (
        "shorten the prompt or take a model with more context: copilot-cred models"
    ),
    "unsupported_api_for_model": "take a model whose endpoints name chat: copilot-cred models",
}
"""Codes that say more than their status."""

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Return what an answer with this status (not 2xx) means to the person who asked."""
    error_class, hint = KNOWN.get(status, (ErrorClass.USAGE, MODELS))
    if not 400 <= status < 500:
        error_class, hint = ErrorClass.TEMPORARY, LATER
    message, code, url = _words(body)
    if not message:
        message = _phrase(status)
        if "x-github-request-id" not in headers:
            message += " (perhaps a proxy on the way: GitHub puts its mark on what it answers)"
    return Refusal(
        error_class,
        code or f"http_{status}",
        f"Copilot answered {status}: {message}",
        HINTS.get(code, hint),
        url,
        _retry_after(headers),
    )


def broken_off(error: object) -> Refusal:
    """Return what an `error` in the midst of an answer (status 200) means."""
    message, code, url = _said(error)
    return Refusal(
        ErrorClass.TEMPORARY,
        code or "upstream_error",
        f"Copilot broke off: {message or 'it does not say why'}",
        LATER,
        url,
    )


def _words(body: bytes) -> tuple[str, str, str | None]:
    """Return message, code and address of a body; empty where it holds none to be read."""
    text = body.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        return ("" if text.startswith("<") else _sentence(text)), "", None
    if not isinstance(found, Mapping):
        return _sentence(text), "", None
    message, code, url = _said(found.get("error") or found)
    return message, code, url or _address(found)


def _said(error: object) -> tuple[str, str, str | None]:
    if not isinstance(error, Mapping):
        return (_sentence(error) if isinstance(error, str) else ""), "", None
    message, code = error.get("message"), error.get("code")
    known = isinstance(code, str) and _CODE.fullmatch(code) is not None
    return (
        _sentence(message) if isinstance(message, str) else "",
        str(code) if known else "",
        _address(error),
    )


def _address(found: Mapping[object, object]) -> str | None:
    """Return where a remote agent wants to be authorized, if this is what it says."""
    url = found.get("authorize_url")
    return url if isinstance(url, str) and url.startswith("https://") else None


def _sentence(text: str) -> str:
    """Return one line without its full stop, cut where it is no sentence any more."""
    line = " ".join(text.split()).removesuffix(".")
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def _phrase(status: int) -> str:
    from http import HTTPStatus  # noqa: PLC0415  # other verbs load this file too

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "it does not say why"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until asking again can help: a number or a date (RFC 9110 §10.2.3)."""
    text = headers.get("retry-after") or headers.get("x-ratelimit-user-retry-after") or ""
    if text.isascii() and text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  # slow, and rarely wanted

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
