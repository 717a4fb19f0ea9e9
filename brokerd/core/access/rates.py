"""How often: token buckets by the numbers. The clock is passed in.

A bucket of N a minute holds N, so that many may come at once; it fills by one every 60/N seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brokerd.core.access.refusals import request_rate


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.access.rules import Rule
    from brokerd.errors import Failure


__all__ = ["Bucket", "Rates"]

_MINUTE: Final = 60.0
"""Seconds."""

_MARGIN: Final = 0.001
"""Seconds: more than what floating-point numbers lose."""


class Bucket:
    """The requests that one rule still allows."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._size = float(per_minute)
        self._seconds_each = _MINUTE / per_minute
        self._left = self._size
        self._at = now

    def wait(self, now: float) -> float:
        """Return the seconds until there is one to take; 0.0: there is."""
        passed = max(0.0, now - self._at)  # a clock that goes back gives nothing
        self._left = min(self._size, self._left + passed / self._seconds_each)
        self._at = now
        missing = 1.0 - self._left
        # A little more than that, so that who waits just so long is not sent away again.
        return missing * self._seconds_each + _MARGIN if missing > 0.0 else 0.0

    def take(self) -> None:
        """Take one that is there."""
        self._left -= 1.0


class Rates:
    """The buckets of all rules, each shared by all that its rule applies to."""

    def __init__(self) -> None:
        self._buckets: dict[Rule, Bucket] = {}

    def take(self, limits: Iterable[Rule], now: float) -> Failure | None:
        """Take one request from each, or none at all: then say why."""
        buckets: list[Bucket] = []
        longest, worst = 0.0, None
        for rule in limits:
            bucket = self._bucket(rule, now)
            buckets.append(bucket)
            wait = bucket.wait(now)
            if wait > longest:
                longest, worst = wait, rule
        if worst is not None:
            return request_rate(worst.requests_per_minute or 1, worst.where, longest)
        for bucket in buckets:
            bucket.take()
        return None

    def keep(self, rules: Iterable[Rule]) -> None:
        """Forget the buckets of rules that do not hold any more; the others stay as empty."""
        held = frozenset(rules)
        self._buckets = {rule: each for rule, each in self._buckets.items() if rule in held}

    def _bucket(self, rule: Rule, now: float) -> Bucket:
        bucket = self._buckets.get(rule)
        if bucket is None:
            bucket = self._buckets[rule] = Bucket(rule.requests_per_minute or 1, now)
        return bucket
