"""How many requests may be under way: as many as there are, until upstream limits us.

Then half of what was under way; one more after each round of successes (additive increase,
multiplicative decrease, as TCP does, RFC 5681 §3.1); no limit again after ten quiet minutes. What
is under way already is never cut.

Answers may take minutes, and a stalled one never succeeds. So waiting widens the limit too: when
somebody has waited `PATIENCE` and nothing was refused meanwhile, one more may go.
"""

from __future__ import annotations


__all__ = ["PATIENCE", "QUIET", "Limit"]

QUIET = 600.0
"""Seconds without a refusal after which there is no limit any more."""

PATIENCE = 5.0
"""Seconds; most answers' heads take less, and a turn comes well within what anybody waits at most.
A limit that is still there is met with one request in that time, not with all that wait."""


class Limit:
    """Of one account."""

    __slots__ = ("_calm_since", "_limited_at", "_successes", "_value")

    def __init__(self) -> None:
        self._value: int | None = None
        self._limited_at = 0.0
        self._calm_since = 0.0
        self._successes = 0

    def value(self, now: float) -> int | None:
        """Return how many may be under way now; None: as many as there are."""
        if self._value is not None and now >= self._limited_at + QUIET:
            self._value = None
        return self._value

    def ends_at(self) -> float | None:
        """When there is no limit any more; None: there is none."""
        return None if self._value is None else self._limited_at + QUIET

    def cut(self, in_flight: int, now: float, *, is_new: bool) -> None:
        """Take a refusal that came with `in_flight` under way, the refused one counted.

        `is_new`: false for those that were sent before the limit in force: they are one burst.
        """
        self._limited_at = now
        if is_new or self._value is None:
            out = in_flight if self._value is None else min(in_flight, self._value)
            self._value = max(1, out // 2)
            self._successes = 0

    def refused(self, until: float) -> None:
        """Know that upstream wants less, of whatever, until then: waiting before is no reason."""
        self._calm_since = max(self._calm_since, until)

    def widens_at(self, waiting_since: float) -> float:
        """When one more may go because somebody has waited since then; ask while there is one."""
        return max(waiting_since, self._calm_since) + PATIENCE

    def widen(self, now: float) -> None:
        """Let one more go, and the next one only after as long again."""
        self._calm_since = now
        if self._value is not None:
            self._value += 1

    def succeeded(self) -> None:
        """Count a success of a request that was sent under the limit in force."""
        if self._value is None:
            return
        self._successes += 1
        if self._successes >= self._value:
            self._successes = 0
            self._value += 1
