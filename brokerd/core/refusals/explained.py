"""An answer that is no completion, explained by the table of `rows`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from brokerd.core import single_sign_on
from brokerd.core.answers import wants_own_login
from brokerd.core.refusals.rows import (
    AGENT,
    BY_CODE,
    BY_STATUS,
    HIDDEN_AGENT,
    INTERCEPTED,
    LIMITED,
    MODEL_NOT_SUPPORTED,
    OTHER,
    OTHER_4XX,
    PERSONAL,
    PROXY,
    REDIRECT,
    SINGLE_SIGN_ON,
    TOO_LONG,
    Limits,
    Row,
)
from brokerd.core.refusals.words import Words, github_page, is_page, read_words
from brokerd.core.retry_after import UNNAMED, http_date, seconds
from brokerd.errors import Failure


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = ["Refusal", "explain", "is_limit", "with_terms"]

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
        retry_after = PROVIDER_WAIT if status == 503 else UNNAMED
    is_githubs = not 400 <= status < 500 or bool(headers.get("x-github-request-id"))
    if not is_githubs and is_page(body):
        message = INTERCEPTED.meaning.format(status)
        error_class, code = INTERCEPTED.error_class, INTERCEPTED.code
        failure = Failure(error_class, code, message, INTERCEPTED.hint, None, retry_after)
        return Refusal(failure, row.limits, is_guess)
    hint = row.hint if is_githubs else PROXY + row.hint
    code = words.code or row.code or f"upstream_{status}"
    url = words.url
    if row is SINGLE_SIGN_ON:
        url = github_page(single_sign_on.page_of(headers[single_sign_on.HEADER]))
    message = f"GitHub Copilot answered {status}: {words.message or row.meaning}"
    failure = Failure(row.error_class, code, message, hint, url, retry_after)
    limits = row.limits
    if limits == "nothing" and status >= 500 and retry_after is not None:
        limits = "model"  # who names a time is obeyed; as for a 503, by what asked for the same
    return Refusal(failure, limits, is_guess)


def is_limit(status: int, headers: Mapping[str, str]) -> bool:
    """Whether upstream wants fewer requests, as far as the head tells: of what, its body says."""
    return status in (429, 503) or (status == 403 and _is_limit(headers))


def _row(status: int, headers: Mapping[str, str], words: Words, body: bytes) -> Row:
    row = BY_CODE.get((status, words.code))
    if row is not None:
        return row
    if status == 400 and "prompt token count of" in words.message:
        return TOO_LONG  # /responses calls it invalid_request_body
    if status == 401 and "Personal Access Token" in words.message:
        return BY_STATUS[401]._replace(hint=PERSONAL)
    if status == 401 and wants_own_login(body):
        hint = AGENT if words.is_sign_in else HIDDEN_AGENT
        return BY_STATUS[401]._replace(hint=hint, meaning="a remote agent wants a sign-in")
    if status == 403 and _wants_single_sign_on(headers):
        return SINGLE_SIGN_ON
    if status == 403 and _is_limit(headers):
        return LIMITED
    if status == 429 and _is_weekly(headers.get("x-ratelimit-exceeded", "")):
        return BY_CODE[429, "user_weekly_rate_limited"]
    known = BY_STATUS.get(status)
    if known is not None:
        return known
    if 300 <= status < 400:
        return REDIRECT
    return OTHER_4XX if 400 <= status < 500 else OTHER


def _wants_single_sign_on(headers: Mapping[str, str]) -> bool:
    return single_sign_on.page_of(headers.get(single_sign_on.HEADER, "")) is not None


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
