"""What plans include, for who knows their plan where GitHub does not tell the number.

From GitHub's documentation of plans as of mid-2026, in both units. These numbers move: whatever
any source states wins over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from brokerd.core.quota.values import Unit


__all__ = ["TIERS", "entitlement", "tier_named"]

TIERS: Final = ("free", "pro", "pro+", "max", "business", "enterprise")

_SPELLED: Final = {"pro_plus": "pro+", "pro-plus": "pro+", "proplus": "pro+"}

_REQUESTS: Final = {"free": 50, "pro": 300, "pro+": 1500, "business": 300, "enterprise": 1000}
"""Premium requests a month: the unit of old."""

_CREDITS: Final = {
    "pro": 1500, "pro+": 7000, "max": 20_000, "business": 1900, "enterprise": 3900,
}  # fmt: skip
"""AI credits a month, with the flexible part; those of business and enterprise are pooled, and
are more for a while."""


def tier_named(text: str | None) -> str:
    """Return the tier that somebody means by a word; "" for none that is known."""
    word = (text or "").strip().lower()
    word = _SPELLED.get(word, word)
    return word if word in TIERS else ""


def entitlement(tier: str, unit: Unit) -> float | None:
    """Return what the tier includes a month; None where that is not known."""
    found = (_CREDITS if unit == "credits" else _REQUESTS).get(tier)
    return None if found is None else float(found)
