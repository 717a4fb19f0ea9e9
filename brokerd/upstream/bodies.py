"""What the body of an answer says, whatever its Content-Type claims; and whose answer it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl


if TYPE_CHECKING:
    from brokerd.upstream.http import Answer


__all__ = ["bears_request_id", "fields_of", "is_intercepted", "json_of"]

FORM = "application/x-www-form-urlencoded"
# An answer of GitHub's login has six fields.
MAX_FORM_FIELDS = 64


def json_of(answer: Answer) -> object:
    """Return what the body says in JSON, whatever its Content-Type; None when it says nothing."""
    try:
        found: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return found


def fields_of(answer: Answer) -> dict[str, Any] | None:
    """Return the JSON object in the body, or the form that a server sends to who accepts any."""
    if answer.headers.get("content-type", "").startswith(FORM):
        text = answer.body.decode("utf-8", "replace")
        try:
            return dict(parse_qsl(text, max_num_fields=MAX_FORM_FIELDS))
        except ValueError:
            return None
    found = json_of(answer)
    return found if isinstance(found, dict) else None


def bears_request_id(answer: Answer) -> bool:
    """Whether it bears GitHub's request id, as all of GitHub's own answers do."""
    return bool(answer.headers.get("x-github-request-id"))


def is_intercepted(answer: Answer) -> bool:
    """Whether something in between has refused in GitHub's place: a proxy, a captive portal.

    GitHub's own refusals bear its request id. Proxies that strip unknown headers are common, so a
    body in GitHub's words is believed without it: an object with `message` or `error`.
    """
    if not 400 <= answer.status < 500 or bears_request_id(answer):
        return False
    fields = fields_of(answer) or {}
    return "message" not in fields and "error" not in fields
