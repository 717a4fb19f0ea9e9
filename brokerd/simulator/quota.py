"""The quota that Copilot tells in headers, on answers and on refusals alike."""

from __future__ import annotations

import time
from urllib.parse import urlencode


__all__ = ["quota_headers"]

PREMIUM_ENTITLEMENT = 300


def quota_headers(now: float, *, premium_remaining: float) -> dict[str, str]:
    """Write one URL-encoded query each; `rem` is percent, `ent` -1 is unlimited.

    `now`: Unix seconds; quotas start anew on the 1st of the next month.
    """
    today = time.gmtime(now)
    year, month = divmod(today.tm_year * 12 + today.tm_mon, 12)
    reset = f"{year:04}-{month + 1:02}-01T00:00:00Z"

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
