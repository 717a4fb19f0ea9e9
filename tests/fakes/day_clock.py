"""Virtual time for a whole day over real HTTP: what is to come next, and whether all is still.

The machine has its three clocks (`FakeClock`); GitHub's own knows neither suspends nor jumps. All
sockets are loopback and in this one loop, so a loop with nothing to do is a world at rest.
"""

import asyncio
import heapq
import itertools
import time

from fakes.clock import FakeClock


STILL_TURNS = 3
"""Turns of the loop in a row, each with a look at all sockets, in which nothing was to be done."""

REAL_SECONDS = 20.0
"""Longer than anything between two virtual moments takes; what is not still by then hangs."""


class DayClock(FakeClock):
    """The machine's clocks, and the moments at which somebody else than the product acts."""

    def __init__(self):
        super().__init__()
        self._count_moments = itertools.count()
        self._naps = []
        """By CLOCK_MONOTONIC: a suspend freezes whoever naps, as it does a process."""
        self._moments = []
        """By true time, which is CLOCK_BOOTTIME."""

    async def nap(self, seconds):
        """Sleep as a client does: a resume does not end it."""
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._naps, (self.monotonic() + seconds, next(self._count_moments), future))
        await future

    def call_at(self, at, callback):
        """Call back when it is that late by true time, or as soon as the machine is awake."""
        heapq.heappush(self._moments, (at, next(self._count_moments), callback))

    def pass_to_next(self, end):
        """Go on to the next moment at which something happens, and let one thing happen.

        False: nothing does before `end` (true time), which it is now.
        """
        for heap in (self._sleepers, self._naps):
            while heap and heap[0][2].done():
                heapq.heappop(heap)
        offset = self.boottime() - self.monotonic()
        heads = [
            (heap[0][0] - (offset if heap is self._moments else 0.0), index)
            for index, heap in enumerate((self._sleepers, self._naps, self._moments))
            if heap
        ]
        at, index = min(heads, default=(float("inf"), 0))
        if at + offset > end:
            self._pass_to(end - offset)
            return False
        self._pass_to(at)
        _, _, what = heapq.heappop((self._sleepers, self._naps, self._moments)[index])
        if isinstance(what, asyncio.Future):
            what.set_result(None)
        else:
            what()
        return True


class TrueClock:
    """`simulator.clock.Clock` of somebody else's machine: always on, always right."""

    def __init__(self, clock):
        self._clock = clock
        self._epoch = clock.wall() - clock.boottime()

    def wall(self):
        return self._epoch + self._clock.boottime()

    def monotonic(self):
        return self._clock.boottime()


async def stillness(is_busy):
    """Wait until the loop has nothing to do and `is_busy` says no; no virtual time passes."""
    loop = asyncio.get_running_loop()
    give_up_at = time.monotonic() + REAL_SECONDS
    still = 0
    while still < STILL_TURNS:
        await asyncio.sleep(0)
        still = 0 if loop._ready or is_busy() else still + 1
        assert time.monotonic() < give_up_at, "requests are under way and nothing moves"
