"""`GET /copilot_internal/user`: a person's Copilot seat and what is left of its quotas.

Nine forms: the shape has changed often, and differs from plan to plan.
"""

from __future__ import annotations

import time
from typing import Any


__all__ = ["month_end", "seat"]

NANO = 1_000_000_000
_PLANS = {"individual": "individual_pro", "business": "business", "enterprise": "enterprise"}


def month_end(now: float) -> str:
    """Give the 1st of the next month, when quotas start anew, as YYYY-MM-DD."""
    today = time.gmtime(now)
    year, month = divmod(today.tm_year * 12 + today.tm_mon, 12)
    return f"{year:04}-{month + 1:02}-01"


def seat(
    form: str, *, login: str, plan: str, sku: str, now: float, endpoints: dict[str, str] | None
) -> dict[str, Any]:
    """Build the answer in one of its forms; `now`: Unix seconds by GitHub's clock."""
    reset = month_end(now)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    told: dict[str, Any] = {
        "login": login,
        "access_type_sku": sku,
        "analytics_tracking_id": "simulated",
        "assigned_date": None if plan == "individual" else "2025-01-01T00:00:00Z",
        "can_signup_for_limited": False,
        "chat_enabled": True,
        "cli_enabled": True,
        "copilot_plan": _PLANS[plan],
        "organization_login_list": [] if plan == "individual" else ["octo-org"],
        "organization_list": [] if plan == "individual" else [{"login": "octo-org", "name": None}],
    }
    if endpoints is not None:
        told["endpoints"] = endpoints
    return told | _quotas(form, reset, stamp)


def _quotas(form: str, reset: str, stamp: str) -> dict[str, Any]:
    ends = {"quota_reset_date": reset, "quota_reset_date_utc": f"{reset}T00:00:00.000Z"}
    match form:
        case "fractional" | "unlimited" | "exhausted":
            premium = {
                "fractional": _snapshot("premium_interactions", 300, 204.67, stamp),
                "unlimited": _unlimited("premium_interactions", stamp),
                "exhausted": _snapshot("premium_interactions", 300, 0, stamp)
                | {"has_quota": False},
            }[form]
            return ends | {
                "quota_snapshots": {
                    "chat": _unlimited("chat", stamp),
                    "completions": _unlimited("completions", stamp),
                    "premium_interactions": premium,
                },
            }
        case "free":
            return {
                "access_type_sku": "free_limited_copilot",
                "copilot_plan": "free",
                "can_upgrade_plan": True,
                "limited_user_quotas": {"chat": 37, "completions": 1985},
                "monthly_quotas": {"chat": 50, "completions": 2000},
                "limited_user_reset_date": reset,
                "limited_user_subscribed_day": 1,
            }
        case "no_access":
            return {
                "access_type_sku": "no_access",
                "can_signup_for_limited": True,
                "chat_enabled": False,
                "cli_enabled": False,
                "copilot_plan": "free",
            }
        case "nulls":
            return {
                "access_type_sku": None,
                "copilot_plan": None,
                "organization_list": [None],
                "quota_reset_date": None,
                "quota_snapshots": {"chat": None, "completions": None},
                "limited_user_quotas": None,
                "monthly_quotas": None,
            }
        case "odd":
            premium = _snapshot("premium_interactions", 300, 29.7, stamp)
            return {
                "copilot_plan": 7,
                "chat_enabled": "yes",
                "quota_reset_date": 20270101,
                "quota_snapshots": {
                    "chat": [],
                    "completions": "all",
                    "premium_interactions": premium
                    | {"entitlement": "300", "percent_remaining": "9.9", "overage_count": None},
                },
                "a_field_of_tomorrow": {"nested": [None]},
            }
        case "ai_credits":
            credits_left = _snapshot("premium_interactions", 1500, 1204.25, stamp)
            return ends | {
                "token_based_billing": True,
                "quota_snapshots": {
                    "chat": _unlimited("chat", stamp),
                    "completions": _unlimited("completions", stamp),
                    "premium_interactions": credits_left
                    | {"token_based_billing": True, "credits_used": 295.75},
                },
            }
        case _:
            overdrawn = _snapshot("premium_interactions", 300, -2.33, stamp)
            return ends | {
                "quota_snapshots": {
                    "chat": _unlimited("chat", stamp),
                    "completions": _snapshot("completions", 4000, 3999.5, stamp),
                    "premium_interactions": overdrawn
                    | {"overage_permitted": True, "overage_count": 2.33},
                },
            }


def _snapshot(quota_id: str, entitlement: float, remaining: float, stamp: str) -> dict[str, Any]:
    return {
        "quota_id": quota_id,
        "entitlement": entitlement,
        "remaining": int(remaining),
        "quota_remaining": remaining,
        "percent_remaining": round(max(0.0, 100 * remaining / entitlement), 2),
        "unlimited": False,
        "overage_count": 0,
        "overage_permitted": False,
        "timestamp_utc": stamp,
    }


def _unlimited(quota_id: str, stamp: str) -> dict[str, Any]:
    """Build an unlimited quota: its numbers say nothing, and are often 0."""
    told = _snapshot(quota_id, 1, 0, stamp)
    return told | {"entitlement": -1, "percent_remaining": 100.0, "unlimited": True}
