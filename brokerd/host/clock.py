"""The machine's clocks (clock_gettime(2)); fills `ports.Clock`."""

from __future__ import annotations

import asyncio
import time


__all__ = ["SystemClock"]


LONG_NAP = 10.0
"""Seconds from which a nap may end early."""

BEAT = 5.0
"""Seconds: long naps end on multiples of it, so that whoever naps wakes the machine together."""


class SystemClock:
    """BOOTTIME for deadlines, MONOTONIC beside it to tell of a suspend, REALTIME for people."""

    def boottime(self) -> float:
        """Seconds since boot, suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def monotonic(self) -> float:
        """Seconds since boot, suspend left out."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def wall(self) -> float:
        """Unix seconds; jumps when somebody sets the clock."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Nap on the loop's clock, which stops in suspend: callers keep naps short.

        A long nap ends up to `BEAT` seconds early.
        """
        if seconds >= LONG_NAP:
            now = asyncio.get_running_loop().time()
            seconds = (now + seconds) // BEAT * BEAT - now
        await asyncio.sleep(seconds)
