"""When to exchange again: ahead of expiry, after a failure, and because a caller wants more.

All randomness comes in as a number of [0, 1), so that two runs with one seed are one run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from brokerd.core.retry_after import MAX_SECONDS


if TYPE_CHECKING:
    from brokerd.core.tokens import CopilotToken
    from brokerd.errors import Failure


__all__ = [
    "MIN_VALID_AGE",
    "Retry",
    "backoff",
    "is_alive",
    "is_old_enough",
    "refresh_delay",
]

LEAD = 300.0
"""Seconds before expiry at which official clients renew; the room left for a failing network."""
LEAD_SHARE = 0.25
"""The most of a lifetime that the lead may take: short tokens would be renewed for ever."""
REFRESH_JITTER = 0.05
"""Share by which a refresh may come early, so that a fleet of machines does not ask at once."""
MIN_REFRESH_DELAY = 10.0
"""Seconds; a smaller `refresh_in` would look like token farming (or half of a shorter life)."""
BACKOFF_FIRST = 1.0
"""Seconds before the first retry: most failures are a network that is just coming up."""
BACKOFF_MAX = 300.0
"""Seconds; a retry at least every five minutes keeps a recovered upstream from going unnoticed."""
INTERCEPTED = "intercepted"
"""Code of an answer that is a portal's or a firewall's, not upstream's own: its time is a guess of
ours, and whoever has signed in to the network asks anew at once."""
RETRY_AFTER_JITTER = 0.1
"""Share by which we come later than `retry-after`: never early."""
MIN_VALID_AGE = 0.5
"""Share of its lifetime a token must be old before `min_valid` alone may replace it."""


@dataclass(frozen=True)
class Retry:
    """How a question that is asked again and again stands."""

    at: float | None
    """When to ask; None while it is given up until somebody does something."""
    failures: int = 0
    """In a row."""
    failure: Failure | None = None
    """The last one, until an answer comes."""
    not_before: float = 0.0
    """Upstream's own limit (`retry-after`); nothing of ours asks earlier."""

    def failed(
        self, failure: Failure, now: float, chance: float, *, ceiling: float = BACKOFF_MAX
    ) -> Retry:
        """Ask again later: jittered, doubling, and never before `retry-after` has passed."""
        delay = backoff(self.failures, chance, ceiling)
        not_before = self.not_before
        if failure.retry_after is not None and failure.retry_after > 0:
            limit = min(failure.retry_after, MAX_SECONDS)
            if failure.code != INTERCEPTED:
                not_before = max(not_before, now + limit)
            delay = max(delay, limit * (1 + RETRY_AFTER_JITTER * chance))
        at = max(now + delay, not_before)
        return Retry(at, self.failures + 1, failure, not_before)

    def given_up(self, failure: Failure) -> Retry:
        """Remember a refusal: asking again does not help."""
        return replace(self, at=None, failures=self.failures + 1, failure=failure)

    def soon(self, now: float) -> Retry:
        """Ask as early as upstream permits, whatever our own backoff says."""
        return replace(self, at=max(now, self.not_before))


def backoff(failures: int, chance: float, ceiling: float = BACKOFF_MAX) -> float:
    """Seconds to wait after `failures` earlier failures: between half and all of 1, 2, 4 … 300."""
    longest = min(ceiling, BACKOFF_FIRST * 2.0 ** min(failures, 16))
    return longest * (0.5 + 0.5 * chance)


def is_alive(token: CopilotToken) -> bool:
    """Whether an exchange's answer is a token that lives at all."""
    return math.isfinite(token.lifetime) and token.lifetime > 0


def refresh_delay(token: CopilotToken, chance: float) -> float:
    """Seconds after the asking at which to refresh: by `refresh_in`, but well before expiry."""
    latest = token.lifetime - min(LEAD, token.lifetime * LEAD_SHARE)
    due = min(token.refresh_in, latest) if math.isfinite(token.refresh_in) else latest
    floor = min(MIN_REFRESH_DELAY, token.lifetime / 2)
    return max(due * (1 - REFRESH_JITTER * chance), floor)


def is_old_enough(age: float, lifetime: float) -> bool:
    """Whether `min_valid` alone justifies an exchange: a younger token would gain too little."""
    return age >= lifetime * MIN_VALID_AGE
