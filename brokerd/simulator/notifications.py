"""Why the exchange refuses an account: GitHub's notification ids, each with its ErrorEnvelope.

The ids are GitHub's; the text of `no_copilot_access` is as people have seen it, the others are
made up in its manner.
"""

from __future__ import annotations

from typing import Any


__all__ = ["NOTIFICATIONS", "error_envelope"]

SIGN_UP = "https://github.com/github-copilot/signup?editor={EDITOR}"
BILLING = "https://github.com/settings/billing"
SUPPORT = "https://support.github.com"
SETTINGS = "https://github.com/settings/copilot"

_NO_ACCESS = ("No access to GitHub Copilot found.", "Sign up for GitHub Copilot", SIGN_UP)
NOTIFICATIONS: dict[str, tuple[str, str, str]] = {
    "no_copilot_access": _NO_ACCESS,
    "not_signed_up": _NO_ACCESS,
    "subscription_ended": ("Your subscription has ended.", "Renew your subscription", BILLING),
    "enterprise_managed_user_account": (
        "Managed accounts get Copilot from their enterprise only.", "Ask your administrator",
        SUPPORT,
    ),
    "feature_flag_blocked": ("This feature is blocked for you.", "Contact support", SUPPORT),
    "spammy_user": ("Your account was flagged.", "Contact support", SUPPORT),
    "billing_locked": ("Your account is locked for billing.", "Mend your billing", BILLING),
    "trade_restricted": ("Trade controls restrict your account.", "Read why", SUPPORT),
    "trade_restricted_country": ("Copilot is not offered in your country.", "Read why", SUPPORT),
    "codespaces_demo_inactive": ("The demo has ended.", "Sign up for GitHub Copilot", SIGN_UP),
    "snippy_not_configured": (
        "Choose what to do about suggestions that match public code.", "Choose", SETTINGS,
    ),
    "expired_coupon": ("Your coupon has expired.", "Renew your subscription", BILLING),
    "revoked_coupon": ("Your coupon was revoked.", "Renew your subscription", BILLING),
    "go_http_client": ("This client is not permitted.", "Contact support", SUPPORT),
    "programmatic_token_generation": (
        "Tokens are asked for by a program in an unusual manner.", "Contact support", SUPPORT,
    ),
    "access_revoked": ("Your access was revoked.", "Contact support", SUPPORT),
    "server_error": ("Something went wrong on our side.", "Try again", SUPPORT),
}  # fmt: skip
_MAY_SIGN_UP = frozenset({"no_copilot_access", "not_signed_up", "codespaces_demo_inactive"})


def error_envelope(notification_id: str, login: str) -> dict[str, Any]:
    """Build the body of the 403; an id nobody knows gets the texts of `no_copilot_access`."""
    message, title, url = NOTIFICATIONS.get(notification_id, _NO_ACCESS)
    return {
        "can_signup_for_limited": notification_id in _MAY_SIGN_UP,
        "error_details": {
            "message": f"{message} You are currently logged in as {login}.",
            "notification_id": notification_id,
            "title": title,
            "url": url,
        },
        "message": "Resource not accessible by integration",
    }
