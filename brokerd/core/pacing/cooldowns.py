"""Cool-downs: what upstream wants fewer requests of, and until when.

A cool-down ends by its time alone: no success of a request that was under way lifts it, and a
later refusal only ever moves its end away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from brokerd.core.pacing.model_name import model_of
from brokerd.core.retry_after import MAX_SECONDS, MIN_SECONDS


if TYPE_CHECKING:
    from brokerd.errors import Failure


__all__ = ["FIRST_GUESS", "LONGEST_GUESS", "MAX_MODELS", "Cooldown", "Cooldowns"]

FIRST_GUESS = 10.0
"""Seconds to wait where neither upstream nor the refusal's explanation says how long."""

LONGEST_GUESS = 300.0
"""Seconds that such guesses double up to: a tool must not sleep through upstream's recovery."""

MAX_MODELS = 64
"""Models that cool down at a time; there are fewer, and their names are the callers' words."""

_MAX_STREAK = 16
"""Guesses that are counted; the longest one is reached far earlier."""


@dataclass(frozen=True, slots=True)
class Cooldown:
    """No requests until `until`, and why."""

    until: float
    reason: Failure
    """As upstream's refusal was explained."""


class Cooldowns:
    """Those of one account: of all its requests, and of single models."""

    __slots__ = ("_account", "_models", "_streaks")

    def __init__(self) -> None:
        self._account: Cooldown | None = None
        self._models: dict[str, Cooldown] = {}
        self._streaks: dict[str | None, tuple[int, float]] = {}
        """What was limited (None: the account) → guesses in a row, and when the last one ends."""

    def begin(
        self,
        model: str | None,
        reason: Failure,
        now: float,
        *,
        is_new: bool,
        is_guess: bool = False,
    ) -> None:
        """Take a refusal: `model` (None: everything) wants no requests for a while.

        `is_guess`: upstream did not say how long; then each further refusal doubles it.
        `is_new`: false for one of several requests that were under way together; it can prolong,
        but is no further refusal of somebody who had waited.
        """
        if model is not None and model not in self._models and len(self._models) >= MAX_MODELS:
            model = None
        asked = reason.retry_after
        if asked is None or is_guess:
            first = FIRST_GUESS if asked is None else asked
            pause = self._guess(model, first, now, is_new=is_new)
        else:
            self._streaks.pop(model, None)
            pause = asked
        pause = min(max(pause, MIN_SECONDS), MAX_SECONDS)
        until = now + pause
        before = self._account if model is None else self._models.get(model)
        if before is not None and before.until >= until:
            return
        if model is None:
            self._account = Cooldown(until, reason)
        else:
            self._models[model] = Cooldown(until, reason)

    def succeeded(self, body: bytes) -> None:
        """Know that this passed, sent after the last refusal: guesses start anew."""
        self._streaks.pop(None, None)
        if self._streaks:
            self._streaks.pop(model_of(body), None)

    def has_guesses(self, now: float) -> bool:
        """Whether a success would change anything."""
        if self._streaks:
            self._streaks = {
                what: it for what, it in self._streaks.items() if now < it[1] + LONGEST_GUESS
            }
        return bool(self._streaks)

    def account(self, now: float) -> Cooldown | None:
        """Return what all requests have to wait for."""
        if self._account is not None and self._account.until <= now:
            self._account = None
        return self._account

    def model(self, name: str, now: float) -> Cooldown | None:
        """Return what requests for this model have to wait for."""
        found = self._models.get(name)
        if found is not None and found.until <= now:
            del self._models[name]
            return None
        return found

    def models(self, now: float) -> dict[str, Cooldown]:
        """Return those of single models, forgetting what is over."""
        if self._models:
            self._models = {name: it for name, it in self._models.items() if it.until > now}
        return self._models

    def _guess(self, model: str | None, first: float, now: float, *, is_new: bool) -> float:
        count, _ = self._streaks.get(model, (0, 0.0))
        if is_new or not count:
            count += 1
        pause = min(first * 2.0 ** (min(count, _MAX_STREAK) - 1), max(first, LONGEST_GUESS))
        if model in self._streaks or len(self._streaks) <= MAX_MODELS:
            self._streaks[model] = (count, now + pause)
        return pause
