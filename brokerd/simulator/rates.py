"""GitHub's primary rate limit: so many requests an hour for each person, told on every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from brokerd.simulator.clock import Clock
    from brokerd.simulator.settings import Settings


__all__ = ["Rates"]

WINDOW = 3600.0


@dataclass
class _Hour:
    began: float
    used: int = 0


class Rates:
    """What each person has used of the current hour."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._hours: dict[str, _Hour] = {}

    def clear(self) -> None:
        """Begin new hours."""
        self._hours.clear()

    def take(self, login: str, wall: float) -> tuple[bool, dict[str, str]]:
        """Count a request of theirs: (whether it is within the limit, headers of the answer).

        `wall`: GitHub's clock, by which the reset is told.
        """
        now = self._clock.monotonic()
        hour = self._hours.setdefault(login, _Hour(now))
        if now - hour.began >= WINDOW:
            hour.began, hour.used = now, 0
        limit = self._settings.rate_limit
        within = hour.used < limit
        hour.used += within
        return within, {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(limit - hour.used),
            "x-ratelimit-used": str(hour.used),
            "x-ratelimit-reset": str(int(wall + hour.began + WINDOW - now)),
            "x-ratelimit-resource": "core",
        }
