"""Durations as a person says them."""

from __future__ import annotations

import math


__all__ = ["in_words"]

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def in_words(seconds: float) -> str:
    """Return a duration in two units at most, never too short: `5 days 9 hours`.

    Raises OverflowError or ValueError for what is not finite.
    """
    left = max(1, math.ceil(seconds))
    if left > 120:
        left = math.ceil(left / 60) * 60
    parts = []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}" + ("s" if count > 1 else ""))
    return " ".join(parts[:2])
