"""Good answers → values. What we cannot do without is parsed strictly, all else leniently.

Strict: the three fields of the exchange, the id and login of a user, the codes of a device grant.
A field that has drifted to another type elsewhere counts as absent: a new field, a renamed plan or
a null where a list was must never cost a login.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from brokerd.core.device_grant import NotGranted
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from brokerd.upstream.identity import is_presentable
from brokerd.upstream.refusals import bad_answer, json_of, server_time


if TYPE_CHECKING:
    from typing import TypeVar

    from brokerd.upstream.hosts import OriginAllowList, Urls
    from brokerd.upstream.http import Answer

    Default = TypeVar("Default", float, None)


__all__ = ["copilot_token", "device_code", "fields_of", "grant", "models", "user"]

# RFC 8628 §3.2 and GitHub's documentation.
DEFAULT_INTERVAL = 5.0
DEFAULT_DEVICE_LIFETIME = 900.0
# Longer than anything GitHub issues; keeps arithmetic on nonsense finite.
MAX_SECONDS = 366 * 86400.0
# The official client ignores `expires_at` and takes a token to live this much past `refresh_in`.
LIFETIME_PAST_REFRESH = 60.0
# A person reads it aloud from a terminal: nothing that a terminal could take for a command.
USER_CODE = re.compile(r"[A-Za-z0-9-]{4,32}")
LOGIN = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
ERROR_CODE = re.compile(r"[a-z_]{1,64}")


def fields_of(answer: Answer) -> dict[str, Any] | None:
    """Return the JSON object in the body, or the form that a server sends to who accepts any."""
    if answer.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(answer.body.decode("utf-8", "replace")))
    found = json_of(answer)
    return found if isinstance(found, dict) else None


def device_code(answer: Answer, permitted: OriginAllowList) -> DeviceCode:
    """Read a device authorization response (RFC 8628 §3.2); TransientError when it is none."""
    fields = _object(answer)
    code, shown = fields.get("device_code"), fields.get("user_code")
    page = fields.get("verification_uri")
    if not isinstance(code, str) or not is_presentable(code):
        raise bad_answer(answer, "has no device_code")
    if not isinstance(shown, str) or not USER_CODE.fullmatch(shown):
        raise bad_answer(answer, "has no user_code that can be shown")
    page = permitted.shown_page(page) if isinstance(page, str) else None
    if page is None:
        raise bad_answer(answer, "has no verification_uri on GitHub")
    return DeviceCode(
        device_code=code,
        user_code=shown,
        verification_uri=page,
        expires_in=_seconds(fields.get("expires_in"), DEFAULT_DEVICE_LIFETIME),
        interval=_seconds(fields.get("interval"), DEFAULT_INTERVAL),
    )


def grant(answer: Answer) -> GitHubToken | NotGranted:
    """Read the answer to a poll (RFC 8628 §3.5), which says by its body what it means."""
    fields = _object(answer)
    token, error = fields.get("access_token"), fields.get("error")
    if isinstance(token, str) and is_presentable(token):
        refresh_token = fields.get("refresh_token")
        scope = fields.get("scope")
        return GitHubToken(
            value=token,
            refresh_token=refresh_token if isinstance(refresh_token, str) else None,
            expires_in=_seconds(fields.get("expires_in"), None),
            scope=scope if isinstance(scope, str) else "",
        )
    if isinstance(error, str) and ERROR_CODE.fullmatch(error):
        return NotGranted(error, _seconds(fields.get("interval"), None))
    raise bad_answer(answer, "has neither access_token nor error")


def user(answer: Answer) -> User:
    """Read `GET /user`."""
    fields = _object(answer)
    number, login = fields.get("id"), fields.get("login")
    if not isinstance(number, int) or isinstance(number, bool) or number <= 0:
        raise bad_answer(answer, "has no user id")
    if not isinstance(login, str) or not LOGIN.fullmatch(login):
        raise bad_answer(answer, "has no login name")
    return User(number, login)


def copilot_token(answer: Answer, urls: Urls, permitted: OriginAllowList) -> CopilotToken:
    """Read the exchange; PermanentError when it names an API that is not permitted."""
    fields = _object(answer)
    token = fields.get("token")
    expires_at = _number(fields.get("expires_at"))
    refresh_in = _number(fields.get("refresh_in"))
    if not isinstance(token, str) or not is_presentable(token):
        raise bad_answer(answer, "has no token")
    if expires_at is None:
        raise bad_answer(answer, "has no expires_at")
    if refresh_in is None or refresh_in <= 0:
        raise bad_answer(answer, "has no refresh_in")
    refresh_in = min(refresh_in, MAX_SECONDS)
    now = server_time(answer)
    lifetime = 0.0 if now is None else expires_at - now - _age(answer)
    if lifetime <= 0:  # no Date, or one that a proxy with a wrong clock has written
        lifetime = refresh_in + LIFETIME_PAST_REFRESH
    endpoints = fields.get("endpoints")
    api = endpoints.get("api") if isinstance(endpoints, dict) else None
    sku = fields.get("sku")
    return CopilotToken(
        value=token,
        lifetime=min(lifetime, MAX_SECONDS),
        refresh_in=refresh_in,
        api_base=permitted.copilot_origin(api) if isinstance(api, str) and api else urls.copilot,
        sku=sku if isinstance(sku, str) else "",
    )


def models(answer: Answer) -> list[dict[str, Any]]:
    """Read the model list: malformed entries are skipped, of duplicates the first is kept."""
    entries = _object(answer).get("data")
    if not isinstance(entries, list):
        raise bad_answer(answer, "has no list of models")
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(name, str) and name:
            found.setdefault(name, entry)
    return list(found.values())


def _object(answer: Answer) -> dict[str, Any]:
    fields = fields_of(answer)
    if fields is None:
        raise bad_answer(answer, "is not JSON")
    return fields


def _age(answer: Answer) -> float:
    """Seconds a cache has kept the answer (RFC 9111 §5.1)."""
    return _seconds(answer.headers.get("age"), 0.0)


def _seconds(value: object, default: Default) -> float | Default:
    """Read a duration; `default` for what is none."""
    found = _number(value)
    return default if found is None or found < 0 else min(found, MAX_SECONDS)


def _number(value: object) -> float | None:
    """Read a number, also one in a string: one server in a test of the official client does so."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
