"""Lengths of time and times of day, as people say them."""

from __future__ import annotations

import re
import time


__all__ = ["duration", "moment", "pause", "span"]

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

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


def duration(seconds: float | None) -> str:
    """Return a length of time: `45 s`, `24 min`, `3 h`, `2 d`; `-` for None.

    Rounded down, in the largest unit that there are two of (one suffices for minutes).
    """
    if seconds is None:
        return "-"
    if not seconds < float("inf"):  # NaN compares false
        return "for ever"
    whole = max(0, int(seconds))
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if whole >= 2 * unit or (unit == MINUTE and whole >= unit):
            return f"{whole // unit} {name}"
    return f"{whole} s"


def pause(seconds: float, now: float | None = None) -> str:
    """Return how long to wait: `40 s`, from two minutes on with its end: `4 min (until 14:32)`.

    Never too short: parts of a second, and of the minute it ends in, count as whole ones. `now`
    is Unix seconds.
    """
    if not seconds < float("inf"):
        return "for ever"
    if seconds < 2 * MINUTE:
        return f"{max(0, -int(-seconds // 1))} s"
    at = (time.time() if now is None else now) + seconds
    return f"{duration(seconds)} (until {moment(at, now)})"


def moment(at: float, now: float | None = None) -> str:
    """Return a coming time of day here, rounded up to the minute: `14:32`; with the date if far.

    Both are Unix seconds.
    """
    far = at - (time.time() if now is None else now) >= DAY
    try:
        return time.strftime("%Y-%m-%d %H:%M" if far else "%H:%M", time.localtime(at + MINUTE - 1))
    except (OverflowError, ValueError, OSError):  # beyond what the C library's calendar holds
        return "a far day"


def span(words: str) -> float | None:
    """Return the seconds of a length of time as systemd.time(7) has it: `15min`, `1d 12h`, `90`.

    None for what is none.
    """
    seconds, at = 0.0, 0
    words = words.strip()
    while found := _SPAN.match(words, at):
        unit = _SECONDS.get(found[2] or "s")
        if unit is None:
            return None
        seconds += float(found[1]) * unit
        at = found.end()
    return seconds if words and at == len(words) else None
