"""`GET /users/{u}/settings/billing/premium_request/usage`: what a person was billed for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["period", "usage"]

PRICE = 0.04  # US dollars for a premium request
# Models and how many requests they were charged as: multipliers make fractions.
_USED = (("Simulated 4.5", 41.0), ("Simulated Mini", 12.33), ("Simulated Large", 0.25))
_RANGES = {"year": (2000, 9999), "month": (1, 12), "day": (1, 31)}


def period(query: Mapping[str, str], now: float) -> dict[str, int] | None:
    """Read which time is asked about, this month by default; None for what is no date."""
    today = time.gmtime(now)
    told = {"year": today.tm_year, "month": today.tm_mon}
    for name, (least, most) in _RANGES.items():
        if name not in query:
            continue
        if not query[name].isdecimal() or not least <= int(query[name]) <= most:
            return None
        told[name] = int(query[name])
    return told


def usage(form: str, login: str, time_period: Mapping[str, int]) -> dict[str, Any]:
    """Build the answer: `several` models or `empty`."""
    items = [_item(model, count) for model, count in _USED] if form == "several" else []
    return {"timePeriod": dict(time_period), "user": login, "usageItems": items}


def _item(model: str, count: float) -> dict[str, Any]:
    return {
        "product": "Copilot",
        "sku": "Copilot Premium Request",
        "model": model,
        "unitType": "requests",
        "pricePerUnit": PRICE,
        "grossQuantity": count,
        "grossAmount": round(count * PRICE, 4),
        "discountQuantity": count,
        "discountAmount": round(count * PRICE, 4),
        "netQuantity": 0,
        "netAmount": 0,
    }
