"""`GET /users/{u}/settings/billing/…/usage`: what a person has used in a month.

Two pages of one shape: `premium_request` (documented) counts premium requests; `ai_credit`, of
June 2026 and later, counts the credits that have taken their place in most plans. What the second
looks like is known from reports only, so nothing but a list of items is relied on. Neither tells
what the plan includes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from brokerd.core.quota.scalars import MAX_ENTRIES, month_after, number, word
from brokerd.core.quota.values import AI_CREDITS, PREMIUM, Quota, Report, Unit


if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


__all__ = ["read"]

MAX_ITEMS: Final = 10_000
"""Of a month: one for each model (and perhaps day); bounds what is added up."""


def read(
    premium: Mapping[str, Any] | None,
    credit: Mapping[str, Any] | None,
    year: int,
    month: int,
) -> Report:
    """Read both pages, either of which may be missing; they were asked for that month (UTC).

    Counters begin anew on the 1st. Nothing on either page is told as none used, and `is_bare`:
    what is billed through an organization is not on them.
    """
    resets_at = month_after(year, month)
    kinds: list[Quota] = []
    models: tuple[tuple[str, float], ...] = ()
    for name, unit, page in ((PREMIUM, "requests", premium), (AI_CREDITS, "credits", credit)):
        used = _used(page, unit)
        if used is not None:
            kinds.append(_kind(name, unit, sum(used.values()), resets_at))
            models = models or _ranked(used)
    if kinds:
        return Report(tuple(kinds), models=models)
    none = Quota(PREMIUM, used=0.0, resets_at=resets_at)
    return Report((none,), is_bare=True)


def _kind(name: str, unit: str, used: float, resets_at: int | None) -> Quota:
    counted: Unit = "credits" if unit == "credits" else "requests"
    return Quota(name, used=round(used, 6), unit=counted, resets_at=resets_at)


def _used(page: Mapping[str, Any] | None, unit: str) -> dict[str, float] | None:
    """Add up what was used, by model; None where nothing on the page counts."""
    found: dict[str, float] = {}
    for item in _items(page):
        # `gross` is all use: what the plan covers (`discount`) and what is billed (`net`).
        quantity = number(item.get("grossQuantity"))
        if quantity is None or quantity < 0 or not _is_counted(item, unit):
            continue
        model = word(item.get("model"))
        found[model] = found.get(model, 0.0) + quantity
    return found or None


def _items(page: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    items = page.get("usageItems") if page is not None else None
    for item in islice(items, MAX_ITEMS) if isinstance(items, list) else ():
        if isinstance(item, Mapping):
            yield item


def _is_counted(item: Mapping[str, Any], unit: str) -> bool:
    """Whether an item is of what the page is about: other products may stand beside it."""
    sku = str(item.get("sku") or "").lower()
    if unit == "requests":
        return "premium" in sku
    told = str(item.get("unitType") or "").lower()
    return "credit" in sku or "credit" in told or (not sku and not told)


def _ranked(used: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    named = [(model, round(count, 6)) for model, count in used.items() if model]
    return tuple(sorted(named, key=lambda each: (-each[1], each[0]))[:MAX_ENTRIES])
