"""The time the simulator lives by: this machine's, or one that a test passes by hand."""

from __future__ import annotations

import time
from typing import Protocol


__all__ = ["Clock", "MachineClock"]


class Clock(Protocol):
    """Two clocks, as a machine has them."""

    def wall(self) -> float:
        """Tell the time: Unix seconds."""

    def monotonic(self) -> float:
        """Tell seconds that only ever pass."""


class MachineClock:
    """This machine's clocks."""

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()
