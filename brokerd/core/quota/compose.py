"""Several reports → one answer: the first that tells is the one used, the others fill its gaps.

The billing pages count exactly, and do not tell what the plan includes; the seat does. So the
numbers of one kind may come from two sources, and kinds that the first does not know from others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from brokerd.core.quota.tiers import entitlement
from brokerd.core.quota.values import AI_CREDITS, PREMIUM, completed


if TYPE_CHECKING:
    from collections.abc import Sequence

    from brokerd.core.quota.values import Quota, Report, Source


__all__ = ["Composed", "Told", "compose", "is_enough"]

_BUDGET = frozenset({PREMIUM, "premium_models", AI_CREDITS})
"""Names of the one budget that all models draw on, whichever source tells it."""


@dataclass(frozen=True)
class Told:
    """A report, and whose it is."""

    source: Source
    report: Report


@dataclass(frozen=True)
class Composed:
    """The answer."""

    source: Source
    kinds: tuple[Quota, ...]
    added: frozenset[Source]
    """Sources that filled a gap."""
    plan: str
    sku: str
    models: tuple[tuple[str, float], ...]
    is_by_tier: bool
    """Whether an entitlement is the caller's word for the plan, and no source's."""


def is_enough(told: Sequence[Told]) -> bool:
    """Whether asking further sources could not add anything."""
    useful = [each for each in told if each.report.tells]
    if not useful or all(each.source == "billing" for each in useful):
        return False
    return all(each.is_limit_known for each in compose(told).kinds)


def compose(told: Sequence[Told], tier: str = "") -> Composed:
    """Put them together, in the order given; at least one.

    `tier`: as `tiers.tier_named` has it.
    """
    first = next((each for each in told if each.report.tells), told[0])
    # A bare page says "none", which is no answer beside one that counts.
    others = [each for each in told if each is not first and not each.report.is_bare]
    kinds = list(first.report.kinds)
    added: set[Source] = set()
    for other in others:
        for kind in other.report.kinds:
            if _added(kinds, kind):
                added.add(other.source)
    filled = [_with_tier(kind, tier) for kind in kinds]
    sources = [first, *others]
    return Composed(
        source=first.source,
        kinds=tuple(filled),
        added=frozenset(added),
        plan=next((each.report.plan for each in sources if each.report.plan), ""),
        sku=next((each.report.sku for each in sources if each.report.sku), ""),
        models=first.report.models,
        is_by_tier=filled != kinds,
    )


def _added(kinds: list[Quota], other: Quota) -> bool:
    """Fill the gap in `kinds` that it fits; return whether there was one."""
    at = _counterpart(kinds, other)
    if at is None:
        names = {each.name for each in kinds}
        if other.name in names and other.unit == "credits":
            other = replace(other, name=AI_CREDITS)  # the same budget by its new count
        if other.name not in names:
            kinds.append(other)
            return other.is_told
        return False
    before = kinds[at]
    kinds[at] = _filled(before, other)
    return kinds[at] != before


def _counterpart(kinds: Sequence[Quota], other: Quota) -> int | None:
    """Find the kind that counts the same."""
    for at, kind in enumerate(kinds):
        if kind.name == other.name and (kind.unit == other.unit or not kind.is_told):
            return at
    if other.name in _BUDGET:
        for at, kind in enumerate(kinds):
            if kind.name in _BUDGET and kind.unit == other.unit:
                return at
    return None


def _filled(kind: Quota, other: Quota) -> Quota:
    if not kind.is_told:
        return replace(other, name=kind.name, resets_at=other.resets_at or kind.resets_at)
    return completed(
        replace(
            kind,
            entitlement=other.entitlement if kind.entitlement is None else kind.entitlement,
            unlimited=kind.unlimited or (kind.entitlement is None and other.unlimited),
            used=other.used if kind.used is None else kind.used,
            overage=other.overage if kind.overage is None else kind.overage,
            overage_permitted=(
                other.overage_permitted
                if kind.overage_permitted is None
                else kind.overage_permitted
            ),
            resets_at=kind.resets_at or other.resets_at,
        )
    )


def _with_tier(kind: Quota, tier: str) -> Quota:
    if kind.is_limit_known or not kind.is_told or kind.name not in _BUDGET:
        return kind
    return completed(replace(kind, entitlement=entitlement(tier, kind.unit)))
