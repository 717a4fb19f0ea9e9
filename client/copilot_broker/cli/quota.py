"""What is left of an account's quota, as Copilot's answers last told it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from copilot_broker.cli.display import print_bars


__all__ = ["print_quota"]


def print_quota(quota: Any) -> None:
    """Print a bar on stdout for each kind of request that is counted."""
    kinds = quota if isinstance(quota, Mapping) else {}
    print_bars(
        [_bar(str(name), kind) for name, kind in kinds.items() if isinstance(kind, Mapping)]
    )


def _bar(name: str, kind: Mapping[str, Any]) -> tuple[str, float | None, str]:
    left, entitled = _number(kind.get("percent_remaining")), _number(kind.get("entitlement"))
    if entitled is not None and entitled < 0:
        return name, None, "unlimited"
    if left is None:
        return name, None, "no figures"
    left = min(100.0, max(0.0, left))
    said = f"{left:.0f} % left"
    if entitled:
        said += f" of {entitled:g}"
    overage = _number(kind.get("overage"))
    if overage:
        said += f", {overage:g} beyond it"
    elif left == 0.0 and kind.get("overage_permitted") is True:
        said += ", what goes beyond it is billed"
    resets = _day(kind.get("resets_at"))
    return name, left, f"{said}, anew on {resets}" if resets else said


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
    known = isinstance(value, int | float) and not isinstance(value, bool)
    number = float(value) if known and isinstance(value, int | float) else None
    return number if number is not None and abs(number) < float("inf") else None
