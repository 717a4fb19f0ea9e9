"""The `x-quota-snapshot-*` headers of the last answer; see `core.quota_header` for their form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.quota.values import Quota, Report, completed


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.quota_header import QuotaSnapshot


__all__ = ["read"]


def read(snapshots: Mapping[str, QuotaSnapshot]) -> Report:
    """Turn what `quota_header.read` found into a report."""
    return Report(tuple(_kind(name, each) for name, each in snapshots.items()))


def _kind(name: str, told: QuotaSnapshot) -> Quota:
    # Limits that are no plan's (of a session, a week) have a percentage of nothing.
    is_counted = told.entitlement > 0 or told.percent_remaining == 0
    entitlement = float(told.entitlement) if is_counted and not told.is_unlimited else None
    return completed(
        Quota(
            name,
            entitlement=entitlement,
            used=None if entitlement is None else told.used,
            percent_remaining=told.percent_remaining,
            unlimited=told.is_unlimited,
            overage=told.overage,
            overage_permitted=told.overage_permitted,
            resets_at=told.resets_at,
        )
    )
