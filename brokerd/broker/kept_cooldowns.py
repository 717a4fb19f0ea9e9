"""Long cool-downs outlive a restart: kept in the index, under each name of the person.

The pacing gate knows them; here they are written when one begins, moves or is lifted, and told to
the gate of the next process. A short one is not worth the write: its refusal would be one request.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.remembering import remember
from brokerd.core.pacing.refused import HINT
from brokerd.core.tokens import KeptCooldown
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.ports import AccountIndex, Clock


__all__ = ["LASTING", "KeptCooldowns"]

log = logging.getLogger(__name__)

LASTING = 60.0
"""Seconds; a cool-down that lasts longer may well see the next start."""

SLACK = 2
"""Seconds between two ends that are one: each is worked out from two clocks."""


class KeptCooldowns:
    """Those of all accounts."""

    def __init__(
        self,
        index: AccountIndex,
        clock: Clock,
        cooling: Callable[[str], tuple[float, Failure] | None],
        restore: Callable[[str, float, Failure], None],
    ) -> None:
        """`cooling`: for how many seconds an account cools down yet, and why; None: it does not.

        `restore` takes the same. Whoever knows calls `keep` when it changes.
        """
        self._index = index
        self._clock = clock
        self._cooling = cooling
        self._restore = restore

    def restore(self) -> None:
        """Tell the gate of what the index says, once it is read: the gate bounds it."""
        for name, entry in self._index.entries().items():
            if entry.cooldown is None:
                continue
            kept = entry.cooldown
            left = kept.until - self._clock.wall()
            if left > 0:
                reason = Failure(ErrorClass.TEMPORARY, kept.code, kept.message, HINT, kept.url)
                self._restore(name, left, reason)
                log.info("cool-down restored", extra={"ACCOUNT": name, "SECONDS": round(left)})
        self.keep()

    def keep(self) -> None:
        """Write down what has changed. A failing write is logged: the next refusal mends it."""
        for name, entry in self._index.entries().items():
            wanted = self._wanted(name, entry.cooldown)
            if wanted != entry.cooldown:
                changed = replace(entry, cooldown=wanted)
                remember(self._index, name, changed, "cool-down not recorded")

    def _wanted(self, name: str, kept: KeptCooldown | None) -> KeptCooldown | None:
        found = self._cooling(name)
        if found is None:
            return None
        left, reason = found
        until = math.ceil(self._clock.wall() + left)
        if kept is not None and abs(kept.until - until) <= SLACK:
            return kept
        if left <= LASTING:
            return None
        return KeptCooldown(until, reason.code, reason.message, reason.url)
