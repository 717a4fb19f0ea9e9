"""The quota that Copilot tells: in headers, on answers and refusals alike, and in events."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode


__all__ = ["quota_headers", "quota_snapshots"]

PREMIUM_ENTITLEMENT = 300


def quota_headers(now: float, *, premium_remaining: float) -> dict[str, str]:
    """Write one URL-encoded query each; `rem` is percent, `ent` -1 is unlimited.

    `now`: Unix seconds; quotas start anew on the 1st of the next month.
    """
    reset = _reset(now)

    def snapshot(entitlement: int, remaining: float) -> str:
        return urlencode(
            {"ent": entitlement, "ov": 0.0, "ovPerm": "false", "rem": remaining, "rst": reset}
        )

    unlimited = snapshot(-1, 100.0)
    premium = snapshot(PREMIUM_ENTITLEMENT, premium_remaining)
    return {
        "x-quota-snapshot-chat": unlimited,
        "x-quota-snapshot-completions": unlimited,
        "x-quota-snapshot-premium_interactions": premium,
        "x-quota-snapshot-premium_models": premium,
    }


def quota_snapshots(now: float, *, premium_remaining: float) -> dict[str, dict[str, Any]]:
    """Tell the same as `copilot_quota_snapshots` of an event, where `entitlement` is a string."""
    reset = _reset(now)

    def snapshot(entitlement: int, remaining: float) -> dict[str, Any]:
        return {
            "entitlement": str(entitlement),
            "percent_remaining": remaining,
            "overage_permitted": False,
            "overage_count": 0,
            "reset_date": reset,
            "has_quota": entitlement < 0 or remaining > 0,
        }

    return {
        "chat": snapshot(-1, 100.0),
        "premium_interactions": snapshot(PREMIUM_ENTITLEMENT, premium_remaining),
        "premium_models": snapshot(PREMIUM_ENTITLEMENT, premium_remaining),
    }


def _reset(now: float) -> str:
    today = time.gmtime(now)
    year, month = divmod(today.tm_year * 12 + today.tm_mon, 12)
    return f"{year:04}-{month + 1:02}-01T00:00:00Z"
