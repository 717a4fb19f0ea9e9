"""The table: what each status and each of upstream's codes means, and what to do about it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from brokerd.errors import ErrorClass


__all__ = [
    "AGENT",
    "BROKEN_OFF",
    "BY_CODE",
    "BY_STATUS",
    "EVENTS",
    "HIDDEN_AGENT",
    "INTERCEPTED",
    "LIMITED",
    "MODEL_NOT_SUPPORTED",
    "OTHER",
    "OTHER_4XX",
    "PERSONAL",
    "PROXY",
    "REDIRECT",
    "SINGLE_SIGN_ON",
    "TOO_LONG",
    "Limits",
    "Row",
]

Limits = Literal["nothing", "model", "account"]

MODEL_NOT_SUPPORTED: Final = "model_not_supported"
"""Code of the refusal that may be for want of accepted terms; see `with_terms`."""


class Row(NamedTuple):
    """What one kind of refusal means."""

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
TOO_LONG: Final = Row(ErrorClass.USAGE, "the prompt is too long for the model", _SHORTEN)
_FILTERED: Final = Row(
    ErrorClass.DENIED,
    "its content filter stopped it",
    "Say it in other words: copilot-cred chat",
)
LIMITED: Final = Row(
    ErrorClass.TEMPORARY, "there were too many requests", _LATER, limits="account"
)
BROKEN_OFF: Final = Row(ErrorClass.TEMPORARY, "it broke off", _LATER)

BY_CODE: Final = {
    (400, MODEL_NOT_SUPPORTED): Row(
        ErrorClass.USAGE,
        "the model is not known, or not open to this account",
        "Choose another, or accept its terms (copilot-cred models enable ID); "
        "which there are: copilot-cred models",
    ),
    (400, "model_not_available_for_integrator"): Row(
        ErrorClass.USAGE,
        "the app that this account signed in with does not have this model",
        "Choose one that it has, or sign in with another app; which there are: "
        "copilot-cred models",
    ),
    (400, "unsupported_api_for_model"): Row(
        ErrorClass.USAGE,
        "the model is not to be had at this path",
        "Use one of its supported_endpoints: copilot-cred models",
    ),
    (400, "model_max_prompt_tokens_exceeded"): TOO_LONG,
    (400, "previous_response_not_found"): Row(
        ErrorClass.USAGE,
        "the response to go on from is gone",
        "Send the whole conversation, without previous_response_id: copilot-cred chat",
    ),
    (400, "store_not_supported"): Row(
        ErrorClass.USAGE,
        "Copilot stores no responses",
        'Send "store": false; what each model takes: copilot-cred models',
    ),
    (400, "off_topic"): Row(
        ErrorClass.DENIED,
        "it sees no programming in it",
        "Say what it has to do with code: copilot-cred chat",
    ),
    (402, "quota_exceeded"): Row(ErrorClass.DENIED, "the plan's budget is used up", _BUDGET),
    (402, "free_quota_exceeded"): Row(
        ErrorClass.DENIED,
        "the free plan's budget is used up",
        f"It is renewed every month, or choose a plan on github.com. {_BUDGET}",
    ),
    (402, "overage_limit_reached"): Row(
        ErrorClass.DENIED,
        "the limit set for paid use is reached",
        f"Raise it in the billing settings on github.com. {_BUDGET}",
    ),
    (402, "billing_not_configured"): Row(
        ErrorClass.DENIED,
        "paid use is not set up",
        f"Set it up in the billing settings on github.com. {_BUDGET}",
    ),
    (413, "request_too_large"): Row(ErrorClass.USAGE, "the request is too large", _SHORTEN),
    (429, "user_model_rate_limited"): Row(
        ErrorClass.TEMPORARY, "the limit of this model is reached", _OTHER_MODEL, limits="model"
    ),
    (429, "model_overloaded"): Row(
        ErrorClass.TEMPORARY, "the model is overloaded", _OTHER_MODEL, limits="model"
    ),
    (429, "user_weekly_rate_limited"): Row(
        ErrorClass.TEMPORARY, "the limit of the week is reached", _WEEKLY, limits="account"
    ),
    (429, "integration_rate_limited"): Row(
        ErrorClass.TEMPORARY,
        "the limit of the app is reached, by everybody who uses it",
        _LATER,
        limits="account",
    ),
    (429, "agent_mode_limit_exceeded"): Row(
        ErrorClass.TEMPORARY, "the limit for agents is reached", _LATER, limits="account"
    ),
    (429, "quota_exceeded"): Row(
        ErrorClass.TEMPORARY, "the plan's budget is used up for now", _BUDGET, limits="account"
    ),
}

BY_STATUS: Final = {
    401: Row(
        ErrorClass.DENIED,
        "it does not accept the token",
        "Have it replaced: copilot-cred refresh; if that does not help: copilot-cred login",
    ),
    402: Row(ErrorClass.DENIED, "the budget is used up", _BUDGET),
    403: Row(
        ErrorClass.DENIED,
        "the plan or its policy does not allow it",
        "Whoever gives you Copilot can allow it; whose login this is: copilot-cred status",
    ),
    404: Row(
        ErrorClass.USAGE,
        "it knows no such path or model",
        "Choose one of: copilot-cred models",
    ),
    408: Row(ErrorClass.TEMPORARY, "the request came too slowly", _LATER),
    413: Row(ErrorClass.USAGE, "the request is too large", _SHORTEN),
    421: Row(
        ErrorClass.TEMPORARY,
        "it is the wrong host for this token",
        "Have the token replaced, and ask again: copilot-cred refresh",
    ),
    422: _FILTERED,
    424: Row(ErrorClass.TEMPORARY, "what an agent depends on failed", _LATER),
    429: LIMITED,
    466: Row(
        ErrorClass.DENIED,
        "it no longer supports this client's version",
        "Update copilot-broker, or set another [identity] copilot_api_version (for "
        "fill-in-the-middle: completions_api_version) in config.toml and run: "
        "systemctl --user reload copilot-broker",
    ),
    499: Row(ErrorClass.TEMPORARY, "it cancelled the request", _LATER),
    503: Row(
        ErrorClass.TEMPORARY,
        "the model's provider takes no more for now",
        _OTHER_MODEL,
        limits="model",
    ),
}

SINGLE_SIGN_ON: Final = Row(
    ErrorClass.DENIED,
    "an organization wants this login authorized by single sign-on",
    "Open the page and authorize the login: its link lives one hour. Then: copilot-cred refresh",
    code="sso_required",
)
REDIRECT: Final = Row(
    ErrorClass.TEMPORARY,
    "a redirect, which is never followed",
    "The network may want you to sign in on a web page first; then: copilot-cred refresh",
    code="redirect_refused",
)
OTHER_4XX: Final = Row(
    ErrorClass.USAGE,
    "it refuses the request",
    "Change the request; what each model takes: copilot-cred models",
)
OTHER: Final = Row(ErrorClass.TEMPORARY, "it is out of order", _LATER)

EVENTS: Final = {
    **{code: row for (_, code), row in BY_CODE.items()},
    "content_filter": _FILTERED,
    "session_expired": Row(
        ErrorClass.TEMPORARY,
        "its session has ended",
        "Ask again; if it goes on: copilot-cred refresh",
    ),
    "quota_exceeded": BY_CODE[402, "quota_exceeded"],
}
"""Errors in a stream have a code and no status; every other one is `BROKEN_OFF`."""

PERSONAL: Final = (
    "Give the token the permission Copilot Requests (github.com, settings of the token), "
    "then: copilot-cred login --with-token"
)
AGENT: Final = "A remote agent wants a sign-in of its own: open the page, then: copilot-cred chat"
HIDDEN_AGENT: Final = (
    "A remote agent wants a sign-in of its own, at an address that cannot be shown: sign in where "
    "it was set up, then: copilot-cred chat"
)
INTERCEPTED: Final = Row(
    ErrorClass.TEMPORARY,
    "a proxy or firewall in between answered {} in GitHub Copilot's place",
    "Sign in to this network if it wants that, or have its administrator let Copilot's host "
    "through, then: copilot-cred chat",
    code="intercepted",
)
"""A web page without GitHub's request id: Copilot has none."""
PROXY: Final = "A proxy or firewall may have answered in GitHub's place. "
