"""One kind of use that a plan counts, as values; None stands for what nobody told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal


__all__ = ["AI_CREDITS", "PREMIUM", "SOURCES", "Quota", "Report", "Source", "Unit", "completed"]

Source = Literal["billing", "seat", "headers", "token"]
SOURCES: Final[tuple[Source, ...]] = ("billing", "seat", "headers", "token")
"""In the order in which they are asked: the most exact one first."""

Unit = Literal["requests", "credits"]
"""What is counted: requests (a model may count as several, or as a part of one), or AI credits,
which have taken their place in most plans since June 2026."""

PREMIUM: Final = "premium_interactions"
AI_CREDITS: Final = "ai_credits"

ALL: Final = 100.0


@dataclass(frozen=True)
class Quota:
    """One kind. Any number may be missing, and may be a fraction."""

    name: str
    """GitHub's word: `chat`, `completions`, `premium_interactions`…; an open set."""
    entitlement: float | None = None
    """What the plan includes for a period; None where there is no limit, too."""
    used: float | None = None
    """Since the period began; may be more than the entitlement."""
    remaining: float | None = None
    """Below zero: overdrawn."""
    percent_remaining: float | None = None
    """0 to 100."""
    unlimited: bool = False
    overage: float | None = None
    """Used beyond the entitlement."""
    overage_permitted: bool | None = None
    """Whether use beyond the entitlement goes on, and is billed."""
    unit: Unit = "requests"
    resets_at: int | None = None
    """Unix seconds: when it is counted anew."""
    blocked: bool = False
    """GitHub says outright that there is none left."""

    @property
    def is_limit_known(self) -> bool:
        """Whether it is known what the plan includes."""
        return self.unlimited or self.entitlement is not None

    @property
    def is_told(self) -> bool:
        """Whether there is anything besides its name."""
        numbers = (self.entitlement, self.used, self.remaining, self.percent_remaining)
        return self.unlimited or self.blocked or any(each is not None for each in numbers)


@dataclass(frozen=True)
class Report:
    """What one source told."""

    kinds: tuple[Quota, ...] = ()
    plan: str = ""
    """GitHub's word for the plan: `individual_pro`, `business`…; an open set, "" if not told."""
    sku: str = ""
    """GitHub's other word for it, as the exchange has it too."""
    models: tuple[tuple[str, float], ...] = ()
    """What each model has used, of the first kind; the biggest first."""
    is_bare: bool = False
    """There was nothing to count, which may be because it is counted elsewhere."""

    @property
    def tells(self) -> bool:
        """Whether it is of use to somebody who wants to know what is left."""
        return not self.is_bare and any(each.is_told for each in self.kinds)


def completed(quota: Quota) -> Quota:
    """Work out what follows from the rest; without a limit no other number means anything."""
    if quota.unlimited:
        return replace(
            quota, entitlement=None, remaining=None, percent_remaining=None, blocked=False
        )
    entitlement, used, remaining = quota.entitlement, quota.used, quota.remaining
    percent = quota.percent_remaining
    if quota.blocked and remaining is None and percent is None:
        remaining = 0.0
    if entitlement is not None:
        if remaining is None and used is not None:
            remaining = entitlement - used
        if remaining is None and percent is not None:
            remaining = entitlement * percent / ALL
        if used is None and remaining is not None:
            used = max(0.0, entitlement - remaining)
        if percent is None and remaining is not None and entitlement > 0:
            percent = min(ALL, max(0.0, ALL * remaining / entitlement))
    return replace(
        quota,
        used=_rounded(used),
        remaining=_rounded(remaining),
        percent_remaining=_rounded(percent),
    )


def _rounded(number: float | None) -> float | None:
    """Cut off what arithmetic on binary fractions adds."""
    return None if number is None else round(number, 6)
