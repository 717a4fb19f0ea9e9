"""Moments as journalctl takes them, for the local log: the part of systemd.time(7) in use."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta


__all__ = ["moment"]

_UNITS = {
    "s sec second seconds": 1.0,
    "m min minute minutes": 60.0,
    "h hr hour hours": 3_600.0,
    "d day days": 86_400.0,
    "w week weeks": 604_800.0,
    "M month months": 2_629_800.0,
    "y year years": 31_557_600.0,
}
_SECONDS = {name: seconds for names, seconds in _UNITS.items() for name in names.split()}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")


def moment(words: str, now: float) -> float | None:
    """Return the moment in Unix seconds; None for words that only systemd knows, or nobody.

    Days begin at midnight here; so does a date without a time.
    """
    try:
        at = _moment(words.strip(), now)
    except (ValueError, OverflowError, OSError):  # no number, or beyond the calendar
        return None
    return at if at is not None and math.isfinite(at) else None


def _moment(words: str, now: float) -> float | None:
    if words.startswith("@"):
        return float(words[1:])
    if words.startswith("-"):
        return _before(words[1:], now)
    if words.endswith(" ago"):
        return _before(words.removesuffix(" ago"), now)
    return _named(words, datetime.fromtimestamp(now).astimezone())


def _before(span: str, now: float) -> float | None:
    seconds, at = 0.0, 0
    span = span.strip()
    while found := _SPAN.match(span, at):
        unit = _SECONDS.get(found[2] or "s")
        if unit is None:
            return None
        seconds += float(found[1]) * unit
        at = found.end()
    return now - seconds if span and at == len(span) else None


def _named(words: str, now: datetime) -> float:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    match words:
        case "now":
            return now.timestamp()
        case "today":
            return today.timestamp()
        case "yesterday":
            return (today - timedelta(days=1)).timestamp()
        case _:
            if _CLOCK.fullmatch(words):
                words = f"{today.date().isoformat()} {words.rjust(5, '0')}"
            return datetime.fromisoformat(words.replace(" UTC", "+00:00")).timestamp()
