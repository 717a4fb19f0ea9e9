"""What is left of a plan, a bar for each kind of request that is counted.

Nothing here is sure: GitHub leaves numbers out, sends fractions and negative ones, counts without
a limit and limits without a count. What is known is said; what is not known is never made up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from copilot_broker.cli.display import print_bars


__all__ = ["print_quota"]

ALL = 100.0


def print_quota(quota: Any) -> None:
    """Print a bar on stdout for each kind of request that is counted."""
    kinds = quota if isinstance(quota, Mapping) else {}
    print_bars(
        [_bar(str(name), kind) for name, kind in kinds.items() if isinstance(kind, Mapping)]
    )


def _bar(name: str, kind: Mapping[str, Any]) -> tuple[str, float | None, str]:
    """Return the name, the percentage that is left (None: no bar) and the words."""
    entitled, used = _number(kind.get("entitlement")), _number(kind.get("used"))
    if kind.get("unlimited") is True or (entitled is not None and entitled < 0):
        return name, None, f"unlimited, {_count(used)} used" if used else "unlimited"
    left = _percent_left(kind, entitled, used)
    if entitled == 0.0 and left:  # of nothing all is left, which a bar must not say
        return name, None, "none in this plan"
    said = _how_much(left, entitled, used, _unit(kind))
    if not said and (kind.get("blocked") is True or _number(kind.get("remaining")) is not None):
        said = f"{_count(_number(kind.get('remaining')) or 0.0)} left"
    if not said:
        return name, None, "no figures"
    overage = _number(kind.get("overage"))
    if overage:
        said += f", {_count(overage)} beyond it"
    elif left == 0.0 and kind.get("overage_permitted") is True:
        said += ", what goes beyond it is billed"
    resets = _day(kind.get("resets_at"))
    return name, left, f"{said}, anew on {resets}" if resets else said


def _percent_left(
    kind: Mapping[str, Any], entitled: float | None, used: float | None
) -> float | None:
    left = _number(kind.get("percent_remaining"))
    if left is None and entitled:
        remaining = _number(kind.get("remaining"))
        if remaining is None and used is not None:
            remaining = entitled - used
        left = None if remaining is None else ALL * remaining / entitled
    return None if left is None else min(ALL, max(0.0, left))


def _how_much(left: float | None, entitled: float | None, used: float | None, unit: str) -> str:
    if used is not None and entitled is not None:
        said = f"{_count(used)} of {_count(entitled)}{unit} used"
        return said if left is None else f"{said}, {_percent(left)} left"
    if used is not None and left is None:
        return f"{_count(used)}{unit} used, of how many is not told"
    if left is not None:
        said = f"{_percent(left)} left"
        return f"{said} of {_count(entitled)}{unit}" if entitled else said
    return "" if entitled is None else f"{_count(entitled)}{unit}, how many are used is not told"


def _unit(kind: Mapping[str, Any]) -> str:
    """Return the word for what is counted: requests go without saying."""
    unit = kind.get("unit")
    return f" {unit}" if isinstance(unit, str) and unit not in {"", "requests"} else ""


def _percent(left: float) -> str:
    """Return a percentage that says neither nothing of something nor all of less."""
    if 0.0 < left < 1.0:
        return "less than 1 %"
    return f"{min(left, 99.0) if left < ALL else left:.0f} %"


def _count(number: float) -> str:
    """Return a number as people write it: no exponent, two decimals at most."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _day(at: object) -> str:
    """Return the day of a moment: Unix seconds, or a date as ISO 8601 writes it."""
    if isinstance(at, str):
        return at.partition("T")[0]
    seconds = _number(at)
    try:
        return "" if seconds is None else time.strftime("%Y-%m-%d", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) else None
