"""Good answers → values. What we cannot do without is parsed strictly, all else leniently.

Strict: the three fields of the exchange, the id and login of a user, the codes of a device grant.
A field that has drifted to another type elsewhere counts as absent: a new field, a renamed plan or
a null where a list was must never cost a login. What a person or a client gets to see is held to
the characters that GitHub uses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from brokerd.core import token_string
from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.quota import token_fields
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from brokerd.upstream import bases
from brokerd.upstream.bodies import fields_of
from brokerd.upstream.identity import is_presentable
from brokerd.upstream.refusals import RETRY_HINT, bad_answer, server_time
from brokerd.upstream.values import (
    MAX_INTEGER,
    MAX_SECONDS,
    is_tellable,
    number_of,
    scopes_of,
    seconds_of,
    sku_of,
)


if TYPE_CHECKING:
    from brokerd.upstream.hosts import OriginAllowList, Urls
    from brokerd.upstream.http import Answer


__all__ = [
    "copilot_token",
    "copilot_user",
    "device_code",
    "direct_token",
    "error_word",
    "grant",
    "models",
    "user",
    "viewer_endpoints",
]

# RFC 8628 §3.2 and GitHub's documentation.
DEFAULT_INTERVAL = 5.0
DEFAULT_DEVICE_LIFETIME = 900.0
# The official client ignores `expires_at` and takes a token to live this much past `refresh_in`.
LIFETIME_PAST_REFRESH = 60.0
# Where no time to renew is told; GitHub's own is about five sixths of the life.
REFRESH_SHARE = 0.75
# Half an hour is usual. What outlives a day is a defect of a clock, and would be lent when dead.
MAX_LIFETIME = 86400.0
# A person reads it aloud from a terminal: nothing that a terminal could take for a command.
USER_CODE = re.compile(r"[A-Za-z0-9-]{4,32}")
LOGIN = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
ERROR_CODE = re.compile(r"[a-z_]{1,64}")
# What was found out about a direct token is relied on for a day, and looked at after half of it.
DIRECT_LIFETIME = 86400.0
DIRECT_REFRESH_IN = 43200.0
# The login is not in question.
MODELS_HINT = "Ask again: copilot-cred models"


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
        expires_in=seconds_of(fields.get("expires_in"), DEFAULT_DEVICE_LIFETIME),
        interval=seconds_of(fields.get("interval"), DEFAULT_INTERVAL),
    )


def grant(answer: Answer) -> GitHubToken | NotGranted:
    """Read the answer to a poll (RFC 8628 §3.5), which says by its body what it means."""
    fields = _object(answer)
    token, error = fields.get("access_token"), error_word(answer)
    if isinstance(token, str) and is_presentable(token):
        refresh_token = fields.get("refresh_token")
        presentable = isinstance(refresh_token, str) and is_presentable(refresh_token)
        return GitHubToken(
            value=token,
            refresh_token=refresh_token if presentable else None,
            expires_in=seconds_of(fields.get("expires_in"), None),
            scope=scopes_of(fields.get("scope")) or "",
        )
    if error:
        return NotGranted(error, seconds_of(fields.get("interval"), None))
    raise bad_answer(answer, "has neither access_token nor error")


def error_word(answer: Answer) -> str:
    """Return the `error` of an OAuth answer (RFC 6749 §5.2), "" for what is no such word."""
    error = (fields_of(answer) or {}).get("error")
    return error if isinstance(error, str) and ERROR_CODE.fullmatch(error) else ""


def user(answer: Answer) -> User:
    """Read `GET /user`, with what the token may do."""
    fields = _object(answer)
    number, login = fields.get("id"), fields.get("login")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= MAX_INTEGER:
        raise bad_answer(answer, "has no user id")
    if not isinstance(login, str) or not LOGIN.fullmatch(login):
        raise bad_answer(answer, "has no login name")
    return User(number, login, scopes_of(answer.headers.get("x-oauth-scopes")))


def copilot_token(
    answer: Answer, plan: str, urls: Urls, permitted: OriginAllowList
) -> CopilotToken:
    """Read the exchange; PermanentError when it names an API that is not permitted."""
    fields = _object(answer)
    token = fields.get("token")
    expires_at = number_of(fields.get("expires_at"))
    refresh_in = number_of(fields.get("refresh_in"))
    if not isinstance(token, str) or not is_presentable(token):
        raise bad_answer(answer, "has no token")
    if expires_at is None:
        raise bad_answer(answer, "has no expires_at")
    if refresh_in is None:
        raise bad_answer(answer, "has no refresh_in")
    refresh_in = min(refresh_in, MAX_SECONDS)
    now = server_time(answer)
    lifetime = 0.0 if now is None else expires_at - now - _age(answer)
    if not 0 < lifetime <= MAX_LIFETIME:  # no Date, or a proxy's with a wrong clock; milliseconds
        if refresh_in <= 0:
            raise bad_answer(answer, "has no refresh_in, nor a time that its token lives")
        lifetime = refresh_in + LIFETIME_PAST_REFRESH
    if refresh_in <= 0:
        # Tolerant: it is of no use, but the token beside it is good.
        refresh_in = lifetime * REFRESH_SHARE
    told = token_string.parse(token)
    endpoints = bases.endpoints_of(fields.get("endpoints"))
    chosen = bases.choose(endpoints, plan, urls, permitted, told)
    return CopilotToken(
        value=token,
        lifetime=min(lifetime, MAX_SECONDS),
        refresh_in=refresh_in,
        api_base=chosen.copilot,
        sku=sku_of(fields.get("sku")) or told.sku,
        completions_base=chosen.completions,
        quota=token_fields.read(fields),
    )


def copilot_user(answer: Answer) -> tuple[bases.Endpoints, str, str]:
    """Read `GET /copilot_internal/user`: the hosts it names, the plan and the sku.

    It has changed its shape often, so any JSON object will do. That it says `no_access`, or that
    chat is off, is no refusal: Copilot itself says so where it counts.
    """
    fields = _object(answer)
    return (
        bases.endpoints_of(fields.get("endpoints")),
        bases.plan_of(fields.get("copilot_plan")),
        sku_of(fields.get("access_type_sku")),
    )


def viewer_endpoints(answer: Answer) -> bases.Endpoints:
    """Read GraphQL's `viewer.copilotEndpoints`; nothing named where it answers with errors."""
    found: object = _object(answer)
    for key in ("data", "viewer", "copilotEndpoints"):
        found = found.get(key) if isinstance(found, dict) else None
    return bases.endpoints_of(found)


def direct_token(token: GitHubToken, chosen: bases.Bases, sku: str) -> CopilotToken:
    """Make a GitHub token its own bearer."""
    return CopilotToken(
        value=token.value,
        lifetime=DIRECT_LIFETIME,
        refresh_in=DIRECT_REFRESH_IN,
        api_base=chosen.copilot,
        sku=sku,
        completions_base=chosen.completions,
        is_direct=True,
    )


def models(answer: Answer) -> list[dict[str, Any]]:
    """Read the model list: malformed entries are skipped, of duplicates the first is kept.

    So are entries that could not be passed on: lone surrogates, numbers of a thousand digits.
    """
    entries = _object(answer, MODELS_HINT).get("data")
    if not isinstance(entries, list):
        raise bad_answer(answer, "has no list of models", MODELS_HINT)
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(name, str) and name and is_tellable(entry):
            found.setdefault(name, entry)
    return list(found.values())


def _object(answer: Answer, hint: str = RETRY_HINT) -> dict[str, Any]:
    fields = fields_of(answer)
    if fields is None:
        raise bad_answer(answer, "is not JSON", hint)
    return fields


def _age(answer: Answer) -> float:
    """Seconds a cache has kept the answer (RFC 9111 §5.1)."""
    return seconds_of(answer.headers.get("age"), 0.0)
