"""The machine's clock: naps that end together."""

from __future__ import annotations

import asyncio

import pytest

from brokerd.host.clock import BEAT, LONG_NAP, SystemClock


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

    async def one(length: float) -> float:
        await SystemClock().sleep(length)
        return loop.time()

    async def all_of_them() -> list[float]:
        return await asyncio.gather(*map(one, lengths))

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
