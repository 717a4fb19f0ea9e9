"""The machine's clock: naps that end together, and with a resume."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from brokerd.host import clock as clock_module
from brokerd.host.clock import BEAT, LONG_NAP, SystemClock
from brokerd.host.clock_steps import ClockSteps


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of passing."""

    skipped = 1000.3

    def time(self) -> float:
        return self.skipped

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.skipped = max(self.skipped, self._scheduled[0].when())
        super()._run_once()


def nap(start: float, *lengths: float) -> list[float]:
    """When naps end that begin together."""
    loop = Loop()
    loop.skipped = start

    async def all_of_them() -> list[float]:
        clock = SystemClock()

        async def one(length: float) -> float:
            await clock.sleep(length)
            return loop.time()

        try:
            return await asyncio.gather(*map(one, lengths))
        finally:
            clock.close()

    try:
        return loop.run_until_complete(all_of_them())
    finally:
        loop.close()


@pytest.mark.parametrize("start", [1000.0, 1000.3, 1004.999])
def test_long_naps_end_together_and_never_late(start: float) -> None:
    first, second = nap(start, 30.0, 33.0)
    assert first % BEAT == pytest.approx(0, abs=1e-6)
    assert start + 30.0 - BEAT < first <= start + 30.0
    assert second - first in (0.0, BEAT)


def test_naps_of_one_length_stay_together_although_they_began_apart() -> None:
    (early,), (late,) = nap(1000.1, 30.0), nap(1003.9, 30.0)
    assert early == late == 1030.0


@pytest.mark.parametrize("length", [0.0, 0.25, LONG_NAP - 0.01])
def test_short_naps_are_exact(length: float) -> None:
    assert nap(1000.3, length) == [pytest.approx(1000.3 + length)]


def step_the_clock() -> None:
    """Set the wall clock to what it shows: to the kernel a step, as each resume is."""
    try:
        time.clock_settime(time.CLOCK_REALTIME, time.time())
    except PermissionError:
        reason = "needs to set the machine's clock (CAP_SYS_TIME): run as root"
        if os.environ.get("CI") and os.getuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)


def test_a_step_of_the_clock_is_told_once_and_again() -> None:
    steps = ClockSteps()
    try:
        assert not steps.acknowledge()
        for _ in range(2):
            step_the_clock()
            assert steps.acknowledge()
            assert not steps.acknowledge()
    finally:
        steps.close()


async def test_a_resume_ends_a_long_nap() -> None:
    clock = SystemClock()
    napping = asyncio.create_task(clock.sleep(3600.0))
    try:
        await asyncio.sleep(0)
        step_the_clock()
        async with asyncio.timeout(10):
            await napping
    finally:
        napping.cancel()
        clock.close()


async def test_naps_do_without_the_kernels_help(monkeypatch) -> None:
    def refuse() -> None:
        raise OSError(38, "not implemented")

    monkeypatch.setattr(clock_module, "ClockSteps", refuse)
    clock = SystemClock()
    napping = asyncio.create_task(clock.sleep(3600.0))
    await asyncio.sleep(0)
    assert not napping.done()
    napping.cancel()
    clock.close()
