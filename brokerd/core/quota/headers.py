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
    is_counted = not told.is_unlimited and told.entitlement > 0
    return completed(
        Quota(
            name,
            entitlement=None if told.is_unlimited else float(told.entitlement),
            used=told.used if is_counted else None,
            percent_remaining=told.percent_remaining,
            unlimited=told.is_unlimited,
            overage=told.overage,
            overage_permitted=told.overage_permitted,
            resets_at=told.resets_at,
        )
    )
