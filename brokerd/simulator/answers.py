"""The bodies of the simulated api.github.com."""

from __future__ import annotations

from typing import Any

from aiohttp import web


__all__ = ["bad_credentials", "exchanged", "no_access", "no_user_agent", "not_found"]


def bad_credentials() -> web.Response:
    """Answer a GitHub token that is dead or unknown."""
    return _standard(401, "Bad credentials")


def not_found() -> web.Response:
    """Answer for what does not exist, and for what GitHub would rather not show."""
    return _standard(404, "Not Found")


def no_user_agent() -> web.Response:
    """Answer a client without a name as api.github.com does."""
    text = "Request forbidden by administrative rules. Make sure it has a User-Agent header.\n"
    return web.Response(text=text, status=403)


def _standard(status: int, message: str) -> web.Response:
    body = {
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(status),
    }
    return web.json_response(body, status=status)


def no_access(notification_id: str, login: str) -> web.Response:
    """Refuse the exchange with an ErrorEnvelope: this account has no Copilot."""
    details = {
        "message": f"No access to GitHub Copilot found. You are currently logged in as {login}.",
        "notification_id": notification_id,
        "title": "Sign up for GitHub Copilot",
        "url": "https://github.com/github-copilot/signup?editor={EDITOR}",
    }
    body = {
        "can_signup_for_limited": True,
        "error_details": details,
        "message": "Resource not accessible by integration",
    }
    return web.json_response(body, status=403)


def exchanged(
    form: str, *, token: str, expires_at: int, refresh_in: float, sku: str, api_base: str
) -> dict[str, Any]:
    """Build what the exchange answers, in one of three forms."""
    minimal: dict[str, Any] = {"token": token, "expires_at": expires_at, "refresh_in": refresh_in}
    if form == "minimal":
        return minimal
    full = minimal | {
        "sku": sku,
        "individual": True,
        "chat_enabled": True,
        "endpoints": {
            "api": api_base,
            "proxy": api_base,
            "telemetry": api_base,
            "origin-tracker": api_base,
        },
        "limited_user_quotas": None,
        "limited_user_reset_date": None,
        "organization_list": [],
        "enterprise_list": None,
        "public_suggestions": "disabled",
        "telemetry": "disabled",
        "tracking_id": "simulated",
    }
    if form == "full":
        return full
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
