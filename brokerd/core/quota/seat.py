"""`GET /copilot_internal/user`: a person's seat and what is left of its quotas. Undocumented.

Plans that are paid for have `quota_snapshots`; free ones have what is left
(`limited_user_quotas`) and what there was (`monthly_quotas`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from brokerd.core.quota.scalars import entries, flag, moment, number, word
from brokerd.core.quota.values import Quota, Report, completed


if TYPE_CHECKING:
    from typing import Any


__all__ = ["free_kinds", "read"]

UNLIMITED: Final = -1


def read(fields: Mapping[str, Any]) -> Report:
    """Read the answer; any JSON object will do. Never raises."""
    is_in_credits = flag(fields.get("token_based_billing")) is True
    resets_at = _first(fields, "quota_reset_date_utc", "quota_reset_date")
    kinds = [
        _snapshot(name, each, resets_at, is_in_credits=is_in_credits)
        for name, each in entries(fields.get("quota_snapshots"))
    ]
    known = {each.name for each in kinds if each.is_told}
    free = free_kinds(
        fields.get("limited_user_quotas"),
        fields.get("monthly_quotas"),
        moment(fields.get("limited_user_reset_date")) or resets_at,
    )
    free = tuple(each for each in free if each.name not in known)
    named = {each.name for each in free}
    return Report(
        tuple(each for each in kinds if each.name not in named) + free,
        plan=word(fields.get("copilot_plan")),
        sku=word(fields.get("access_type_sku")),
    )


def free_kinds(left: object, whole: object, resets_at: int | None) -> tuple[Quota, ...]:
    """Read the two maps of a free plan, either of which may be missing."""
    remaining, entitled = dict(entries(left)), dict(entries(whole))
    return tuple(
        completed(
            Quota(
                name,
                entitlement=_not_negative(number(entitled.get(name))),
                remaining=number(remaining.get(name)),
                resets_at=resets_at,
            )
        )
        for name in remaining | entitled
    )


def _snapshot(name: str, value: object, resets_at: int | None, *, is_in_credits: bool) -> Quota:
    """Read one; what is no map leaves its name: the seat has it, and does not tell."""
    if not isinstance(value, Mapping):
        return Quota(name)
    entitlement = number(value.get("entitlement"))
    unlimited = flag(value.get("unlimited")) is True or entitlement == UNLIMITED
    remaining = number(value.get("quota_remaining"))
    if remaining is None:
        remaining = number(value.get("remaining"))  # the same, without its fraction
    percent = number(value.get("percent_remaining"))
    told = flag(value.get("token_based_billing"))
    in_credits = is_in_credits and not unlimited if told is None else told
    used = number(value.get("credits_used")) if in_credits else None
    has_quota = flag(value.get("has_quota"))
    return completed(
        Quota(
            name,
            entitlement=_not_negative(entitlement),
            used=_not_negative(used),
            remaining=remaining,
            percent_remaining=None if percent is None else min(100.0, max(0.0, percent)),
            unlimited=unlimited,
            overage=_not_negative(number(value.get("overage_count"))),
            overage_permitted=flag(value.get("overage_permitted")),
            unit="credits" if in_credits else "requests",
            resets_at=moment(value.get("quota_reset_at")) or resets_at,
            blocked=has_quota is False and not unlimited,
        )
    )


def _first(fields: Mapping[str, Any], *names: str) -> int | None:
    return next((at for name in names if (at := moment(fields.get(name))) is not None), None)


def _not_negative(value: float | None) -> float | None:
    return value if value is not None and value >= 0 else None
