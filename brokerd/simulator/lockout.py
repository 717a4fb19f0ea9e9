"""GitHub's lock on people whose credentials keep being wrong.

"After detecting several requests with invalid credentials within a short period, the API will
temporarily reject all authentication attempts for that user (including ones with valid
credentials)" (docs.github.com, authenticating to the REST API). A token that says whose it was
counts for that person, any other for the address it came from.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from brokerd.simulator.clock import Clock
    from brokerd.simulator.settings import Settings


__all__ = ["Lockout"]

WINDOW = 60.0  # "a short period": seconds


class Lockout:
    """Who is locked out until when."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._failures: defaultdict[str, deque[float]] = defaultdict(deque)
        self._until: dict[str, float] = {}

    def clear(self) -> None:
        """Let everybody in again."""
        self._failures.clear()
        self._until.clear()

    def holds(self, who: str) -> bool:
        """Whether nothing of theirs is looked at now."""
        return self._clock.monotonic() < self._until.get(who, float("-inf"))

    def count(self, who: str) -> bool:
        """Note a wrong credential; True: that was one too many."""
        now = self._clock.monotonic()
        failures = self._failures[who]
        failures.append(now)
        while failures[0] < now - WINDOW:
            failures.popleft()
        if len(failures) <= self._settings.lockout_after:
            return False
        failures.clear()
        self._until[who] = now + self._settings.lockout_for
        return True
