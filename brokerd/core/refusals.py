"""What a refusal of the Copilot API means: one table, from an answer to words and a next step.

    400  by code: the model, the endpoint, the length…   USAGE: change the request
    401  the token, a personal one, or an agent's own    DENIED
    402  quota and billing, by code                      DENIED
    403  plan or policy; with a limit's headers: wait    DENIED, or TEMPORARY (limits the account)
    404  413                                             USAGE
    422  content filter                                  DENIED
    429  limits, by code                                 TEMPORARY (limits account or model)
    466  the client's version                            DENIED
    421  408  424  499  5xx                              TEMPORARY (5xx naming a time: the model)
    503  the model's provider                            TEMPORARY (limits the model)

Upstream's own code is the code where it has one (`rate_limited:…` is `rate_limited`), else
`upstream_STATUS`. The status decides what kind of failure it is, whoever answered; that GitHub did
not (no `x-github-request-id`) is part of the hint.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from brokerd.core.answers import wants_own_login
from brokerd.core.refusal_words import (
    BOM,
    MAX_READ,
    Words,
    github_page,
    is_page,
    read_words,
    words_of,
)
from brokerd.core.retry_after import http_date, seconds
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = [
    "MODEL_NOT_SUPPORTED",
    "Refusal",
    "explain",
    "explain_event",
    "explain_whole",
    "is_limit",
    "with_terms",
]

Limits = Literal["nothing", "model", "account"]

MODEL_NOT_SUPPORTED: Final = "model_not_supported"
"""Code of the refusal that may be for want of accepted terms; see `with_terms`."""

DEFAULT_WAIT: Final = 60.0
"""Seconds to leave an account alone when a limit names no time (GitHub's documentation)."""

PROVIDER_WAIT: Final = 10.0
"""Seconds after a 503, which names no time: so long the official client pauses completions."""

_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
"""What can stand in a command as it is."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is no completion, explained."""

    failure: Failure
    limits: Limits = "nothing"
    """What upstream wants fewer requests of for a while (`failure.retry_after`)."""
    is_guess: bool = False
    """Upstream named no time: `retry_after` is ours, and grows while it goes on refusing."""


class _Row(NamedTuple):
    error_class: ErrorClass
    meaning: str
    """Said where upstream has no words of its own."""
    hint: str
    limits: Limits = "nothing"
    code: str = ""
    """Where upstream has no code and the status does not say it all."""


_LATER: Final = "Ask again later; meanwhile: copilot-cred status"
_OTHER_MODEL: Final = "Another model may answer now, choose one: copilot-cred models"
_SHORTEN: Final = "Send less, or choose a model that takes more: copilot-cred models"
_BUDGET: Final = "What is left, and until when: copilot-cred status"
_WEEKLY: Final = "It ends with the week: nothing is sent before; until when: copilot-cred status"
_TOO_LONG: Final = _Row(ErrorClass.USAGE, "the prompt is too long for the model", _SHORTEN)
_FILTERED: Final = _Row(
    ErrorClass.DENIED,
    "its content filter stopped it",
    "Say it in other words: copilot-cred chat",
)
_LIMITED: Final = _Row(
    ErrorClass.TEMPORARY, "there were too many requests", _LATER, limits="account"
)
_BROKEN_OFF: Final = _Row(ErrorClass.TEMPORARY, "it broke off", _LATER)

_BY_CODE: Final = {
    (400, MODEL_NOT_SUPPORTED): _Row(
        ErrorClass.USAGE,
        "the model is not known, or not open to this account",
        "Choose another, or accept its terms (copilot-cred models enable ID); "
        "which there are: copilot-cred models",
    ),
    (400, "model_not_available_for_integrator"): _Row(
        ErrorClass.USAGE,
        "the app that this account signed in with does not have this model",
        "Choose one that it has, or sign in with another app; which there are: "
        "copilot-cred models",
    ),
    (400, "unsupported_api_for_model"): _Row(
        ErrorClass.USAGE,
        "the model is not to be had at this path",
        "Use one of its supported_endpoints: copilot-cred models",
    ),
    (400, "model_max_prompt_tokens_exceeded"): _TOO_LONG,
    (400, "previous_response_not_found"): _Row(
        ErrorClass.USAGE,
        "the response to go on from is gone",
        "Send the whole conversation, without previous_response_id: copilot-cred chat",
    ),
    (400, "store_not_supported"): _Row(
        ErrorClass.USAGE,
        "Copilot stores no responses",
        'Send "store": false; what each model takes: copilot-cred models',
    ),
    (400, "off_topic"): _Row(
        ErrorClass.DENIED,
        "it sees no programming in it",
        "Say what it has to do with code: copilot-cred chat",
    ),
    (402, "quota_exceeded"): _Row(ErrorClass.DENIED, "the plan's budget is used up", _BUDGET),
    (402, "free_quota_exceeded"): _Row(
        ErrorClass.DENIED,
        "the free plan's budget is used up",
        f"It is renewed every month, or choose a plan on github.com. {_BUDGET}",
    ),
    (402, "overage_limit_reached"): _Row(
        ErrorClass.DENIED,
        "the limit set for paid use is reached",
        f"Raise it in the billing settings on github.com. {_BUDGET}",
    ),
    (402, "billing_not_configured"): _Row(
        ErrorClass.DENIED,
        "paid use is not set up",
        f"Set it up in the billing settings on github.com. {_BUDGET}",
    ),
    (413, "request_too_large"): _Row(ErrorClass.USAGE, "the request is too large", _SHORTEN),
    (429, "user_model_rate_limited"): _Row(
        ErrorClass.TEMPORARY, "the limit of this model is reached", _OTHER_MODEL, limits="model"
    ),
    (429, "model_overloaded"): _Row(
        ErrorClass.TEMPORARY, "the model is overloaded", _OTHER_MODEL, limits="model"
    ),
    (429, "user_weekly_rate_limited"): _Row(
        ErrorClass.TEMPORARY, "the limit of the week is reached", _WEEKLY, limits="account"
    ),
    (429, "integration_rate_limited"): _Row(
        ErrorClass.TEMPORARY,
        "the limit of the app is reached, by everybody who uses it",
        _LATER,
        limits="account",
    ),
    (429, "agent_mode_limit_exceeded"): _Row(
        ErrorClass.TEMPORARY, "the limit for agents is reached", _LATER, limits="account"
    ),
    (429, "quota_exceeded"): _Row(
        ErrorClass.TEMPORARY, "the plan's budget is used up for now", _BUDGET, limits="account"
    ),
}

_BY_STATUS: Final = {
    401: _Row(
        ErrorClass.DENIED,
        "it does not accept the token",
        "Have it replaced: copilot-cred refresh; if that does not help: copilot-cred login",
    ),
    402: _Row(ErrorClass.DENIED, "the budget is used up", _BUDGET),
    403: _Row(
        ErrorClass.DENIED,
        "the plan or its policy does not allow it",
        "Whoever gives you Copilot can allow it; whose login this is: copilot-cred status",
    ),
    404: _Row(
        ErrorClass.USAGE,
        "it knows no such path or model",
        "Choose one of: copilot-cred models",
    ),
    408: _Row(ErrorClass.TEMPORARY, "the request came too slowly", _LATER),
    413: _Row(ErrorClass.USAGE, "the request is too large", _SHORTEN),
    421: _Row(
        ErrorClass.TEMPORARY,
        "it is the wrong host for this token",
        "Have the token replaced, and ask again: copilot-cred refresh",
    ),
    422: _FILTERED,
    424: _Row(ErrorClass.TEMPORARY, "what an agent depends on failed", _LATER),
    429: _LIMITED,
    466: _Row(
        ErrorClass.DENIED,
        "it no longer supports this client's version",
        "Update copilot-broker, or set another [identity] copilot_api_version in config.toml "
        "and run: systemctl --user reload copilot-broker",
    ),
    499: _Row(ErrorClass.TEMPORARY, "it cancelled the request", _LATER),
    503: _Row(
        ErrorClass.TEMPORARY,
        "the model's provider takes no more for now",
        _OTHER_MODEL,
        limits="model",
    ),
}

_SINGLE_SIGN_ON: Final = _Row(
    ErrorClass.DENIED,
    "an organization wants this login authorized by single sign-on",
    "Open the page and authorize the login: its link lives one hour. Then: copilot-cred refresh",
    code="sso_required",
)
_REDIRECT: Final = _Row(
    ErrorClass.TEMPORARY,
    "a redirect, which is never followed",
    "The network may want you to sign in on a web page first; then: copilot-cred refresh",
    code="redirect_refused",
)
_OTHER_4XX: Final = _Row(
    ErrorClass.USAGE,
    "it refuses the request",
    "Change the request; what each model takes: copilot-cred models",
)
_OTHER: Final = _Row(ErrorClass.TEMPORARY, "it is out of order", _LATER)

_EVENTS: Final = {
    **{code: row for (_, code), row in _BY_CODE.items()},
    "content_filter": _FILTERED,
    "session_expired": _Row(
        ErrorClass.TEMPORARY,
        "its session has ended",
        "Ask again; if it goes on: copilot-cred refresh",
    ),
    "quota_exceeded": _BY_CODE[402, "quota_exceeded"],
}
"""Errors in a stream have a code and no status; every other one is `_BROKEN_OFF`."""

_PERSONAL: Final = (
    "Give the token the permission Copilot Requests (github.com, settings of the token), "
    "then: copilot-cred login --with-token"
)
_AGENT: Final = "A remote agent wants a sign-in of its own: open the page, then: copilot-cred chat"
_HIDDEN_AGENT: Final = (
    "A remote agent wants a sign-in of its own, at an address that cannot be shown: sign in where "
    "it was set up, then: copilot-cred chat"
)
_INTERCEPTED: Final = _Row(
    ErrorClass.TEMPORARY,
    "a proxy or firewall in between answered {} in GitHub Copilot's place",
    "Sign in to this network if it wants that, or have its administrator let Copilot's host "
    "through, then: copilot-cred chat",
    code="intercepted",
)
"""A web page without GitHub's request id: Copilot has none."""
_PROXY: Final = "A proxy or firewall may have answered in GitHub's place. "


def explain(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Refusal:
    """Explain an answer that is not 2xx. `now`: Unix seconds; `body` may be its beginning only.

    Names of `headers` are lower-case. Never raises.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        body = b""  # it would be shown as it came
    words = read_words(body)
    row = _row(status, headers, words, body)
    retry_after = seconds(headers, http_date(headers.get("date", "")) or now)
    is_guess = retry_after is None and row.limits != "nothing"
    if is_guess:
        retry_after = PROVIDER_WAIT if status == 503 else DEFAULT_WAIT
    is_githubs = not 400 <= status < 500 or bool(headers.get("x-github-request-id"))
    if not is_githubs and is_page(body):
        message = _INTERCEPTED.meaning.format(status)
        error_class, code = _INTERCEPTED.error_class, _INTERCEPTED.code
        failure = Failure(error_class, code, message, _INTERCEPTED.hint, None, retry_after)
        return Refusal(failure, row.limits, is_guess)
    hint = row.hint if is_githubs else _PROXY + row.hint
    code = words.code or row.code or f"upstream_{status}"
    url = words.url
    if row is _SINGLE_SIGN_ON:
        url = github_page(headers["x-github-sso"].partition("url=")[2].partition(";")[0].strip())
    message = f"GitHub Copilot answered {status}: {words.message or row.meaning}"
    failure = Failure(row.error_class, code, message, hint, url, retry_after)
    limits = row.limits
    if limits == "nothing" and status >= 500 and retry_after is not None:
        limits = "model"  # who names a time is obeyed; as for a 503, by what asked for the same
    return Refusal(failure, limits, is_guess)


def is_limit(status: int, headers: Mapping[str, str]) -> bool:
    """Whether upstream wants fewer requests, as far as the head tells: of what, its body says."""
    return status in (429, 503) or (status == 403 and _is_limit(headers))


def _row(status: int, headers: Mapping[str, str], words: Words, body: bytes) -> _Row:
    row = _BY_CODE.get((status, words.code))
    if row is not None:
        return row
    if status == 400 and "prompt token count of" in words.message:
        return _TOO_LONG  # /responses calls it invalid_request_body
    if status == 401 and "Personal Access Token" in words.message:
        return _BY_STATUS[401]._replace(hint=_PERSONAL)
    if status == 401 and wants_own_login(body):
        hint = _AGENT if words.is_sign_in else _HIDDEN_AGENT
        return _BY_STATUS[401]._replace(hint=hint, meaning="a remote agent wants a sign-in")
    if status == 403 and headers.get("x-github-sso", "").startswith("required"):
        return _SINGLE_SIGN_ON
    if status == 403 and _is_limit(headers):
        return _LIMITED
    if status == 429 and _is_weekly(headers.get("x-ratelimit-exceeded", "")):
        return _BY_CODE[429, "user_weekly_rate_limited"]
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    if 300 <= status < 400:
        return _REDIRECT
    return _OTHER_4XX if 400 <= status < 500 else _OTHER


def _is_limit(headers: Mapping[str, str]) -> bool:
    """Whether a 403 is about the rate of requests (GitHub's secondary limits)."""
    return "retry-after" in headers or headers.get("x-ratelimit-remaining", "").strip() == "0"


def _is_weekly(key: str) -> bool:
    """Whether the key of a limit (`global-chat:global-cogs-7-day-key:user`) is of the week's."""
    return "7-day" in key or "week" in key.lower()


def with_terms(failure: Failure, model: str, models: Iterable[Mapping[str, Any]]) -> Failure:
    """Say how to accept the terms of a model that was refused for want of that.

    `model` is the one asked for, `models` are GitHub's entries. Others stay as they are.
    """
    if failure.code != MODEL_NOT_SUPPORTED or not _MODEL_ID.fullmatch(model):
        return failure
    entry = next((entry for entry in models if entry.get("id") == model), {})
    policy = entry.get("policy")  # absent: usable
    if not isinstance(policy, dict) or policy.get("state") in (None, "enabled"):
        return failure
    hint = f"Its terms are not accepted yet; to accept them: copilot-cred models enable {model}"
    return replace(failure, hint=hint)


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
    row = _EVENTS.get(words.code, _BROKEN_OFF)
    message = f"GitHub Copilot {how}" + (f": {words.message}" if words.message else "")
    return Failure(row.error_class, words.code or "upstream_error", message, row.hint, words.url)
