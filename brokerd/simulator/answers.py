"""The bodies of the simulated api.github.com."""

from __future__ import annotations

from typing import Any

from aiohttp import web


__all__ = [
    "LOCKED_OUT",
    "NOT_INTEGRATED",
    "exchanged",
    "no_user_agent",
    "refused",
    "standard",
]

LOCKED_OUT = "Maximum number of login attempts exceeded. Please try again later."
FREE_RESET = 14 * 86400
"""Seconds until a free plan is counted anew; here a date is a number, on the seat it is not."""
NOT_INTEGRATED = "Resource not accessible by integration"


def standard(status: int, message: str) -> dict[str, Any]:
    """Build what GitHub says with a refusal."""
    return {
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(status),
    }


def refused(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with a refusal, as all of api.github.com does."""
    return web.json_response(standard(status, message), status=status, headers=headers)


def no_user_agent() -> web.Response:
    """Answer a client without a name as api.github.com does."""
    text = "Request forbidden by administrative rules. Make sure it has a User-Agent header.\n"
    return web.Response(text=text, status=403)


def exchanged(
    form: str,
    *,
    token: str,
    expires_at: int,
    refresh_in: float,
    sku: str,
    individual: bool,
    endpoints: dict[str, str] | None,
) -> dict[str, Any]:
    """Build what the exchange answers, in one of four forms."""
    minimal: dict[str, Any] = {"token": token, "expires_at": expires_at, "refresh_in": refresh_in}
    if form == "minimal":
        return minimal
    full = minimal | {
        "sku": sku,
        "individual": individual,
        "chat_enabled": True,
        "limited_user_quotas": None,
        "limited_user_reset_date": None,
        "organization_list": [],
        "enterprise_list": None,
        "public_suggestions": "disabled",
        "telemetry": "disabled",
        "tracking_id": "simulated",
    }
    if endpoints is not None:
        full["endpoints"] = endpoints
    if form == "full":
        return full
    if form == "free":
        return full | {
            "sku": "free_limited_copilot",
            "limited_user_quotas": {"chat": 37, "completions": 1985},
            "limited_user_reset_date": expires_at + FREE_RESET,
        }
    return full | {
        "expires_at": str(expires_at),
        "sku": 7,
        "individual": "yes",
        "chat_enabled": None,
        "organization_list": {"not": "a list"},
        "limited_user_quotas": [1, 2],
        "telemetry": 0,
        "a_field_of_tomorrow": {"nested": [None]},
    }
