"""Ready-made faults, by name: every refusal and every way to break off that Copilot is known for.

Statuses, codes and texts as clients have seen them: a body that is JSON often comes as text/plain,
`retry-after` is a date or seconds (up to days), and quota headers come on refusals too.
"""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

from brokerd.simulator.faults import Fault
from brokerd.simulator.quota import quota_headers


__all__ = ["NAMES", "error_text", "named", "rate_limit"]

HOUR = 3600
# Seen in the wild: five days and nine hours.
LONG_RETRY_AFTER = 465_000
# Somewhere within the second event of an answer.
CUT_BYTES = 300

MODEL_NOT_SUPPORTED = "The requested model is not supported."
TOKEN_EXPIRED = "unauthorized: token expired\n"  # noqa: S105 - a text, no secret
NO_PERMISSION = "unauthorized: Personal Access Token does not have Copilot Requests permission\n"
MISDIRECTED = "Misdirected Request\n"

_RATE_LIMITS = {
    "rate_limited": "global-chat:global-usage-5-hour-key:user",
    "user_model_rate_limited": "user-model-chat:sim-chat:user",
    "user_global_rate_limited": "global-chat:global-usage-5-hour-key:user",
    "user_weekly_rate_limited": "global-chat:global-cogs-7-day-key:user",
    "integration_rate_limited": "integration:global-usage-5-hour-key:integration",
    "model_overloaded": "model:sim-chat",
    "agent_mode_limit_exceeded": "agent-mode:user",
    "quota_exceeded": "quota:premium_interactions:user",
    # A code may carry a suffix: compare the part before the colon.
    "rate_limited_suffix": "global-chat:global-usage-5-hour-key:user",
}
_RETRY_AFTER = {"user_weekly_rate_limited": LONG_RETRY_AFTER}
_RATE_LIMITED = (
    "Sorry, you have exceeded your Copilot rate limit. Please review our Terms of Service."
)
_PAYMENT_CODES = (
    "quota_exceeded", "free_quota_exceeded", "overage_limit_reached", "billing_not_configured",
)  # fmt: skip
_BAD_REQUESTS = {
    "model_not_supported": MODEL_NOT_SUPPORTED,
    "model_not_available_for_integrator": "The requested model is not available for integrator "
    '"simulated". Available models: [sim-chat sim-claude]',
    "unsupported_api_for_model": 'model "sim-responses" is not accessible via the '
    "/chat/completions endpoint",
    "model_max_prompt_tokens_exceeded": "prompt token count of 131073 exceeds the limit of 128000",
    "store_not_supported": "store is not supported: nothing is kept here",
    "invalid_request_body": "input: prompt token count of 131073 exceeds the limit of 128000",
    "previous_response_not_found": "Previous response with id 'resp_simulated' not found.",
}


def error_text(code: str, message: str, **more: str) -> str:
    """Write an error as JSON, for a body that says it is text."""
    return json.dumps({"error": {"message": message, "code": code, **more}}) + "\n"


def rate_limit(name: str, retry_after: int) -> Fault:
    """Refuse (429), and say for how long."""
    key = _RATE_LIMITS[name]
    code = name.replace("_suffix", ":premium")
    seconds = str(retry_after)
    headers: dict[str, str | None] = {
        "retry-after": seconds,
        "x-ratelimit-exceeded": key,
        "x-ratelimit-user-retry-after": seconds,
    }
    return Fault(429, headers, error_text(code, _RATE_LIMITED))


def _table(now: float) -> dict[str, Fault]:
    spent: dict[str, Any] = dict(quota_headers(now, premium_remaining=0.0))
    quota = error_text("quota_exceeded", "You have exceeded your premium request allowance.")
    date = formatdate(now + HOUR, usegmt=True)
    html: dict[str, str | None] = {"Content-Type": "text/html"}
    blocked = {
        "message": "This extension is temporarily blocked.",
        "code": "extension_blocked",
        "type": "rate_limit_error",
    }
    return {
        **{f"400_{code}": Fault(400, {}, error_text(code, text))
           for code, text in _BAD_REQUESTS.items()},
        "400_inner_object": Fault(
            400, {}, json.dumps({"message": MODEL_NOT_SUPPORTED, "code": "model_not_supported"})
        ),
        "400_off_topic": Fault(400, {}, "off_topic"),
        "401_token_expired": Fault(401, {}, TOKEN_EXPIRED),
        "401_ide_token_expired": Fault(401, {}, f"IDE token expired: {TOKEN_EXPIRED}"),
        "401_authorize_url": Fault(
            401, {}, {"authorize_url": "https://github.com/login/oauth/authorize?client_id=sim"}
        ),
        "401_pat": Fault(401, {}, NO_PERMISSION),
        "402_date": Fault(402, {"retry-after": date, **spent}, quota),
        "402_seconds": Fault(402, {"retry-after": str(HOUR), **spent}, quota),
        **{f"402_{code}": Fault(402, {"retry-after": date, **spent}, error_text(code, "No quota."))
           for code in _PAYMENT_CODES},
        "403_feature": Fault(
            403, {}, "unauthorized: not authorized to use this Copilot feature\n"
        ),
        "403_forbidden": Fault(403, {}, "forbidden: access denied"),
        "403_denied": Fault(403, {}, "access denied"),
        "404_json": Fault(404, {}, {"error": {"message": "Not Found", "code": "not_found"}}),
        "404_text": Fault(404, {}, "404 page not found\n"),
        "413_json": Fault(413, {}, error_text("request_too_large", "Request Entity Too Large")),
        "413_text": Fault(413, {}, "Request Entity Too Large\n"),
        "421": Fault(421, {}, MISDIRECTED),
        "422": Fault(422, {}, "The response was filtered by the Responsible AI Service.\n"),
        "424": Fault(424, {}, "failed dependency: the agent did not answer\n"),
        **{f"429_{name}": rate_limit(name, _RETRY_AFTER.get(name, 60)) for name in _RATE_LIMITS},
        "429_no_retry_after": Fault(429, {}, error_text("rate_limited", _RATE_LIMITED)),
        "429_date": Fault(
            429, {"retry-after": date}, error_text("rate_limited", _RATE_LIMITED)
        ),
        "429_text": Fault(429, {"retry-after": "60"}, "too many requests\n"),
        "429_extension_blocked": Fault(
            429,
            {"retry-after": "60", "x-ratelimit-exceeded": "extension:simulated:user"},
            {"error": blocked},
        ),
        "429_long": Fault(
            429,
            {
                "retry-after": str(LONG_RETRY_AFTER),
                "x-ratelimit-exceeded": _RATE_LIMITS["user_weekly_rate_limited"],
                "x-ratelimit-quota-exceeded-retry-after": str(LONG_RETRY_AFTER),
            },
            error_text("user_weekly_rate_limited", "You have reached your weekly rate limit."),
        ),
        "466": Fault(
            466, {}, "bad request: the specified API version is no longer supported. "
            "You may need to update your client to a newer version.\n",
        ),
        "499": Fault(499, {}, ""),
        "500": Fault(500, {}, "internal server error\n"),
        "502_html": Fault(502, html, "<html><body><h1>502 Bad Gateway</h1></body></html>\n"),
        "503": Fault(503, {}, "upstream provider limit reached\n"),
        "proxy_403": Fault(403, html | {"x-github-request-id": None}, "<html>Blocked</html>\n"),
        # Of the connection; where there is no status, it's the true answer that breaks off.
        "reset_before_head": Fault(reset=True, hard=True),
        "close_before_head": Fault(reset=True),
        "reset_after_head": Fault(cut_after=0, hard=True),
        "close_after_head": Fault(cut_after=0),
        "reset_in_body": Fault(cut_after=CUT_BYTES, hard=True),
        "close_in_body": Fault(cut_after=CUT_BYTES),
        "reset_in_chunk": Fault(cut_after=10, hard=True),
        "close_in_chunk": Fault(cut_after=10),
        "close_between_chunks": Fault(cut_after_writes=2),
        "dribble": Fault(200, {}, {"choices": [], "object": "chat.completion"}, drip=0.01),
        "endless_head": Fault(200, endless_head=True),
    }  # fmt: skip


NAMES = tuple(_table(0))


def named(name: str, now: float) -> Fault:
    """Give the fault of that name; dates in it are counted from `now`, Unix seconds.

    KeyError: no such name.
    """
    return _table(now)[name]
