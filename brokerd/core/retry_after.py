"""How long upstream wants to be left alone, read from the headers of a refusal.

One reading for GitHub and Copilot. What is no time counts as absent, and no header can make us
wait for ever, or not at all.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["MAX_SECONDS", "MIN_SECONDS", "UNNAMED", "http_date", "seconds"]

MIN_SECONDS: Final = 1.0
"""Zero, negative numbers and dates gone by mean "now": asking again at once would be a loop."""

MAX_SECONDS: Final = 31 * 86400.0
"""Days have been seen; more than a month is no time to wait but a mistake."""

UNNAMED: Final = 60.0
"""Seconds to leave alone what limits us and names no time: a minute at least, says GitHub's
documentation ("Rate limits for the REST API")."""

_OWN_NAMES: Final = (
    "retry-after",
    # Copilot's own, for limits of the person and of the plan (one source each).
    "x-ratelimit-user-retry-after",
    "x-ratelimit-quota-exceeded-retry-after",
)
_MAX_LENGTH: Final = 64
"""A date has 29 characters or, in its obsolete form, up to 33."""

# RFC 9110 §10.2.3 has whole seconds only; fractions have been seen elsewhere.
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)


def seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds to wait, from 1 to 31 days; None when the headers name no time.

    `headers` have lower-case names; `now` is the time in Unix seconds, best by upstream's own
    clock (`date`). Retry-After comes first, as seconds or HTTP date (RFC 9110 §10.2.3); then
    Copilot's own headers; then the reset of a limit that is spent (GitHub's REST documentation,
    "Rate limits"). Never raises.
    """
    for name in _OWN_NAMES:
        found = _duration(headers.get(name, ""), now)
        if found is not None:
            return _bounded(found)
    if headers.get("x-ratelimit-remaining", "").strip() == "0":
        reset = _number(headers.get("x-ratelimit-reset", ""))
        if reset is not None:
            return _bounded(reset - now)
    return None


def http_date(text: str) -> float | None:
    """Read an HTTP date in any of its three forms (RFC 9110 §5.6.7) as Unix seconds."""
    if len(text) > _MAX_LENGTH:
        return None
    try:
        date = parsedate_to_datetime(text)
        # The form of asctime(3) names no zone; all HTTP dates are in UTC.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _duration(text: str, now: float) -> float | None:
    found = _number(text)
    if found is not None:
        return found
    date = http_date(text.strip())
    return None if date is None else date - now


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if len(text) <= _MAX_LENGTH and _NUMBER.fullmatch(text) else None


def _bounded(duration: float) -> float:
    """Bring it between the limits; NaN (infinity less infinity) is the longest."""
    return max(MIN_SECONDS, duration) if duration < MAX_SECONDS else MAX_SECONDS
