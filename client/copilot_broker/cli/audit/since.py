"""Moments as journalctl takes them, for the local log: the part of systemd.time(7) in use."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from copilot_broker.cli.times import span


__all__ = ["moment"]

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


def _before(words: str, now: float) -> float | None:
    seconds = span(words)
    return None if seconds is None else now - seconds


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
