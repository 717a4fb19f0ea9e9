"""A line in which nobody stands twice, and which leaves time for those who do not stand in it."""

from __future__ import annotations

import asyncio

import pytest

from brokerd.sockets.turns import SLICE, Turns


class Clock:
    """Passes by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_round_serves_as_many_as_fit_into_its_slice(clock):
    turns, served = Turns(clock), []

    def turn(who: int) -> None:
        clock.spend(SLICE / 2)
        served.append(who)

    for who in range(5):
        turns.join(who, lambda who=who: turn(who))
    for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]):
        await rounds(1)
        assert served == expected


async def test_who_joins_again_stands_behind_all_others(clock):
    turns, served = Turns(clock), []

    def busy() -> None:
        served.append("busy")
        turns.join("busy", busy)

    turns.join("busy", busy)
    turns.join("busy", busy)
    turns.join("other", lambda: served.append("other"))
    await rounds(2)
    assert served == ["busy", "other", "busy"]


async def test_who_was_not_served_at_once_goes_first_and_starves_nobody(clock):
    turns, served = Turns(clock), []

    def turn(who: str) -> None:
        clock.spend(SLICE)
        served.append(who)

    turns.join("a", lambda: turn("a"))
    turns.join("b", lambda: turn("b"))
    for who in ("A", "B"):
        turns.join(who, lambda who=who: turn(who), first=True)
    await rounds(1)
    assert served == ["A", "a"]
    await rounds(1)
    assert served == ["A", "a", "B", "b"]


async def test_one_process_waits_for_itself(clock):
    turns, served = Turns(clock), []
    for of, who in [(1, "a"), (1, "b"), (1, "c"), (2, "other")]:
        turns.join(who, lambda who=who: served.append(who), of=of)
    turns.leave("b")
    await rounds(1)
    assert served == ["a", "other", "c"]


async def test_who_leaves_is_not_served(clock):
    turns, served = Turns(clock), []
    turns.join("a", lambda: (served.append("a"), turns.leave("b")))
    turns.join("b", lambda: served.append("b"))
    turns.leave("nobody")
    await rounds(2)
    assert served == ["a"]


async def test_each_round_has_time_of_its_own_for_those_served_at_once(clock):
    turns = Turns(clock)
    assert turns.left > 0
    turns.used(SLICE / 2)
    assert turns.left > 0
    turns.used(SLICE / 2)
    assert turns.left <= 0
    await rounds(1)
    assert turns.left > 0
