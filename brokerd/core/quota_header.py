"""What is left of a plan: the `x-quota-snapshot-*` headers of an answer, whatever its status.

Each is an URL-encoded query string, `ent=300&ov=0.0&ovPerm=false&rem=29.7&rst=2026-05-01T…`. `rem`
is a percentage. One that cannot be read is left out: it is information, and no completion fails
for it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["NAMES", "QuotaSnapshot", "read"]

_PREFIX: Final = "x-quota-snapshot-"

NAMES: Final = frozenset(
    _PREFIX + name for name in ("chat", "completions", "premium_interactions", "premium_models")
)
"""Headers that answers are known to have; where there is one, `read` finds others too."""

UNLIMITED: Final = -1

_QUOTA: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_VALUE: Final = 1024
"""Characters; true ones have 80."""
_MAX_FIELDS: Final = 32
_MAX_NUMBER: Final = 1e12
"""Beyond any plan; keeps arithmetic on nonsense finite."""


@dataclass(frozen=True)
class QuotaSnapshot:
    """One quota as it stood when the answer was sent."""

    entitlement: int
    """Requests of a period; -1: there is no limit."""
    percent_remaining: float
    """0 to 100."""
    overage: float
    """Used beyond the entitlement, and paid for."""
    overage_permitted: bool
    resets_at: int | None
    """Unix seconds; None: it was not told."""

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is counted."""
        return self.entitlement == UNLIMITED

    @property
    def used(self) -> float:
        """Requests of this period so far, as far as the percentage tells; 0 without a limit."""
        return max(0.0, self.entitlement * (1 - self.percent_remaining / 100))


def read(headers: Mapping[str, str]) -> dict[str, QuotaSnapshot]:
    """Return the snapshots by quota (`chat`, `premium_models`…); names are lower-case."""
    found = {}
    for name, value in headers.items():
        quota = name.removeprefix(_PREFIX)
        if quota != name and _QUOTA.fullmatch(quota):
            snapshot = _read(value)
            if snapshot is not None:
                found[quota] = snapshot
    return found


def _read(text: str) -> QuotaSnapshot | None:
    if len(text) > _MAX_VALUE:
        return None
    try:
        pairs = parse_qs(text, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return None
    fields = {name: values[-1] for name, values in pairs.items()}
    entitlement = _number(fields.get("ent"))
    remaining = _number(fields.get("rem"))
    if entitlement is None or remaining is None or (entitlement < 0 and entitlement != UNLIMITED):
        return None
    return QuotaSnapshot(
        entitlement=round(entitlement),
        percent_remaining=min(max(remaining, 0.0), 100.0),
        overage=max(_number(fields.get("ov")) or 0.0, 0.0),
        overage_permitted=fields.get("ovPerm", "").lower() == "true",
        resets_at=_time(fields.get("rst", "")),
    )


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) and abs(found) <= _MAX_NUMBER else None


def _time(text: str) -> int | None:
    """Read an ISO 8601 time, UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a "+" that was not encoded
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    try:
        return int(found.timestamp())
    except (ValueError, OverflowError):
        return None
