"""Virtual time: it passes only when a test says so."""

import asyncio
import heapq
import itertools
import math


ROUNDS = 40
"""Turns of the event loop after which everything that can happen at one instant has happened."""


async def settle(rounds=ROUNDS):
    """Let everybody who can run do so; no time passes."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class FakeClock:
    """ports.Clock with sleeps that end when `advance` has come to them."""

    def __init__(self, boottime=1_000.0, suspended=0.0, wall=1_800_000_000.0):
        self._monotonic = boottime - suspended
        self._suspended = suspended
        self._wall = wall
        self._sleepers = []
        self._count = itertools.count()

    def boottime(self):
        return self._monotonic + self._suspended

    def monotonic(self):
        return self._monotonic

    def wall(self):
        return self._wall

    async def sleep(self, seconds):
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(
            self._sleepers, (self._monotonic + max(0.0, seconds), next(self._count), future)
        )
        await future

    def suspend(self, seconds):
        """The lid is closed: BOOTTIME and the wall go on, MONOTONIC does not; then naps end."""
        self._suspended += seconds
        self._wall += seconds
        for _, _, future in self._sleepers:
            if not future.done():
                future.set_result(None)

    def jump_wall(self, seconds):
        """Somebody sets the wall clock."""
        self._wall += seconds

    @property
    def due_in(self):
        """Seconds until the next nap ends; infinite where nobody naps."""
        return max(0.0, self._next_end() - self._monotonic)

    async def advance(self, seconds, rounds=ROUNDS):
        """Pass time, ending each nap at its moment; settles in between."""
        await settle(rounds)
        end = self._monotonic + seconds
        while (at := self._next_end()) <= end:
            _, _, future = heapq.heappop(self._sleepers)
            self._pass_to(at)
            future.set_result(None)
            await settle(rounds)
        self._pass_to(end)
        await settle(rounds)

    def _next_end(self):
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else math.inf

    def _pass_to(self, at):
        passed = max(0.0, at - self._monotonic)
        self._monotonic += passed
        self._wall += passed
