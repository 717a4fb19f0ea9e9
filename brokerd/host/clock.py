"""The machine's clocks (clock_gettime(2)) and naps by them; fills `ports.Clock`."""

from __future__ import annotations

import asyncio
import logging
import time

from brokerd.host.clock_steps import ClockSteps


__all__ = ["BEAT", "LONG_NAP", "SystemClock"]

log = logging.getLogger(__name__)

LONG_NAP = 10.0
"""Seconds from which a nap may end early."""

BEAT = 5.0
"""Seconds: long naps end on multiples of it, so that whoever naps wakes the machine together."""


class SystemClock:
    """BOOTTIME for deadlines, MONOTONIC beside it to tell of a suspend, REALTIME for people."""

    def __init__(self) -> None:
        self._steps: ClockSteps | None = None
        self._naps: set[asyncio.Future[None]] = set()
        self._is_watching = False

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
        """Nap on the loop's clock, which stops in suspend.

        A long nap ends up to `BEAT` seconds early, and at once when the machine resumes.
        """
        if seconds < LONG_NAP:
            await asyncio.sleep(seconds)
            return
        loop = asyncio.get_running_loop()
        self._watch(loop)
        nap = loop.create_future()
        self._naps.add(nap)
        timer = loop.call_at((loop.time() + seconds) // BEAT * BEAT, _end, nap)
        try:
            await nap
        finally:
            timer.cancel()
            self._naps.discard(nap)

    def close(self) -> None:
        """Give back what long naps needed, while their loop still runs; twice is no error."""
        steps, self._steps = self._steps, None
        if steps is not None:
            asyncio.get_running_loop().remove_reader(steps)
            steps.close()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_watching:
            return
        self._is_watching = True
        try:
            self._steps = ClockSteps()
        except OSError as error:
            log.warning("a resume is noticed late", extra={"REASON": error.strerror})
            return
        loop.add_reader(self._steps, self._on_step)

    def _on_step(self) -> None:
        if self._steps is not None and self._steps.acknowledge():
            for nap in self._naps:
                _end(nap)


def _end(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)
