"""A bad day: the whole broker, 100 clients, and a GitHub and a machine that misbehave by script.

What must hold at every moment is checked by `fakes.day` as it happens; here stand the script and
the balance at the end. More seeds: COPILOT_BROKER_DAYS=20 runs seeds 0 to 19.
"""

import math
import os
import random

import pytest

from fakes.day import ACCOUNTS, Day
from fakes.day_clients import ask_completions, reject_wrongly, use_tokens, watch


HOUR = 3600.0
DAY = 24 * HOUR
SEEDS = range(int(os.environ.get("COPILOT_BROKER_DAYS", "2")))

ASKERS, TAKERS, REJECTERS, WATCHERS = 70, 16, 4, 10
ASKS_EVERY = 430.0
"""Seconds between two completions of a client, in the mean: 10,000 in the hours awake."""


def write_script(day, rng):
    """Suspends, jumps of the wall clock, changes of plan; and GitHub's own troubles."""
    start = day.clock.boottime()

    def at_random(action):
        day.clock.call_at(start + rng.uniform(0.02, 0.97) * DAY, action)

    lengths = [rng.uniform(4 * HOUR, 9 * HOUR)]
    lengths += [math.exp(rng.uniform(math.log(2.0), math.log(0.7 * HOUR))) for _ in range(12)]
    for seconds in lengths:
        at_random(lambda seconds=seconds: day.suspend(seconds))
    for seconds in (24 * HOUR, -24 * HOUR, HOUR, -HOUR) * 2:
        at_random(lambda seconds=seconds: day.jump_wall(seconds))
    for _ in range(2):
        at_random(day.change_plan)
    day.trouble.write(DAY)


def send_clients(day, rng, seen):
    accounts = [*ACCOUNTS]

    def habits():
        return random.Random(rng.random())

    for number in range(ASKERS):
        account = accounts[number % 10 >= 7]
        day.client(
            ask_completions(
                day,
                habits(),
                f"asker {number}",
                account,
                mean=ASKS_EVERY,
                over_rpc=number % 10 in (6, 9),
            )
        )
    for number in range(TAKERS):
        account = accounts[number % 2]
        day.client(
            use_tokens(
                day, habits(), f"taker {number}", account, mean=900.0, over_rpc=number % 5 == 0
            )
        )
    for number in range(REJECTERS):
        account = accounts[number % 2]
        day.client(reject_wrongly(day, habits(), f"rejecter {number}", account, mean=2 * HOUR))
    for number in range(WATCHERS):
        day.client(watch(day, accounts[number % 2], seen))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_bad_day_shows_no_client_a_401_and_wastes_no_exchange(
    seed, monkeypatch, tmp_path, record_property
):
    seen = {}
    async with Day(seed, monkeypatch, tmp_path) as day:
        write_script(day, random.Random(seed))
        send_clients(day, random.Random(seed), seen)
        await day.pass_time(DAY)
        counts = day.counts
        for name, count in sorted(counts.items()):
            record_property(name, count)
            print(f"{name}: {count}")  # noqa: T201 - shown by -s
        assert day.early_completions() == []
        assert counts["exchanges"] <= len(ACCOUNTS) + counts["expiries"] + counts["rejected"]
        # It was a day worth the name.
        assert counts["completions"] > 5000
        assert counts["suspends"] >= 13
        assert counts["episodes"] > 40
        assert counts["exchanges failed"] > 20
        assert counts["completions refused"] > 100
        assert len(day.world.requests) < day.world.requests.maxlen
        await check_the_end(day, seen)


async def check_the_end(day, seen):
    """Let all be well, everybody go home, and what is under way end: nothing is left over."""
    day.trouble.end()
    await day.pass_time(HOUR)
    for account in ACCOUNTS:
        lease = await day.broker.lease(account)
        assert seen[account].lease.token_id == lease.token_id, "watchers know the token in use"
    await day.dismiss()
    await day.pass_time(60.0)
    for account in ACCOUNTS:
        view = day.pacer.view(account)
        assert (view.in_flight, view.queued) == (0, 0)
    assert day.under_way == 0
    assert not any(day.world.copilot.in_flight.values())
