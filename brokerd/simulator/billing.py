"""`GET /users/{u}/settings/billing/{page}/usage`: what a person was billed for, by two pages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["CREDIT", "PREMIUM", "period", "usage"]

PREMIUM, CREDIT = "premium_request", "ai_credit"

_PRICES = {PREMIUM: 0.04, CREDIT: 0.01}  # US dollars for one
_FORMS = {PREMIUM: "several", CREDIT: "ai_credits"}
_WORDS = {
    PREMIUM: ("Copilot Premium Request", "requests"),
    CREDIT: ("Copilot AI Credit", "ai-credits"),
}
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


def usage(page: str, form: str, login: str, time_period: Mapping[str, int]) -> dict[str, Any]:
    """Build the answer of a page; what is counted by the other one is not on it."""
    items = [_item(page, model, count) for model, count in _USED] if form == _FORMS[page] else []
    return {"timePeriod": dict(time_period), "user": login, "usageItems": items}


def _item(page: str, model: str, count: float) -> dict[str, Any]:
    sku, unit = _WORDS[page]
    amount = round(count * _PRICES[page], 4)
    return {
        "product": "Copilot",
        "sku": sku,
        "model": model,
        "unitType": unit,
        "pricePerUnit": _PRICES[page],
        "grossQuantity": count,
        "grossAmount": amount,
        "discountQuantity": count,
        "discountAmount": amount,
        "netQuantity": 0,
        "netAmount": 0,
    }
