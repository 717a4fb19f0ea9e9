"""What watchers are told, in which order, and what a logout does where there is no network."""

from __future__ import annotations

import random

import pytest

from brokerd.broker import LoginRequest
from brokerd.errors import BrokerError
from fakes.broker_world import World, ask, cancel, collect, failure_of
from fakes.clock import settle
from fakes.github import transient


OFFLINE = 10_000
"""Questions in a row that fail: more than any test asks."""


def cut_the_network(world):
    for method in ("exchange", "identify", "renew", "revoke", "poll_device_grant"):
        world.github.faults[method] = [transient() for _ in range(OFFLINE)]


async def test_a_logout_needs_no_network_and_is_told_to_watchers(ready):
    seen = []

    async def watch():
        async for state in ready.broker.watch(None):
            seen.append(state.kind)

    watchers = [await ask(watch()) for _ in range(3)]
    cut_the_network(ready)
    asked = len(ready.github.calls)
    await ready.broker.logout(None)
    await settle()
    assert not ready.store.items
    assert not ready.index.entries()
    assert seen == ["token"] * 3 + ["login_required"] * 3
    assert (await failure_of(ready.broker.lease(None))).code == "login_required"
    assert len(ready.github.calls) == asked, "nobody was asked"
    for watcher in watchers:
        await cancel(watcher)


async def test_a_logout_that_has_to_revoke_keeps_the_login_offline(ready):
    """What is not dead at GitHub is not said to be."""
    cut_the_network(ready)
    failure = await failure_of(ready.broker.logout(None, revoke=True))
    assert failure.code == "network_down"
    assert ready.store.items


class Watcher:
    """Follows one account and checks each state against those before it."""

    def __init__(self, world):
        self.world = world
        self.told = []
        self.newest = 0

    async def follow(self):
        async for state in self.world.broker.watch(None):
            if state.lease is not None:
                number = int(state.lease.token.split("n=")[1].split(":")[0])
                assert state.lease.expires_in > 0, "told of a token that is dead"
                assert number >= self.newest, "told of an older token after a newer one"
                self.newest = number
            code = state.failure.code if state.failure and not state.lease else None
            self.told.append((state.kind, state.lease and state.lease.token_id, code))


async def something(world, dice):
    """What may happen to a broker."""
    match dice.randrange(9):
        case 0 | 1:
            await world.clock.advance(dice.choice([1.0, 100.0, 900.0, 2000.0]), rounds=12)
        case 2:
            world.clock.suspend(dice.choice([60.0, 7200.0]))
        case 3:
            world.clock.jump_wall(dice.choice([-86_400.0, 86_400.0]))
        case 4:
            world.github.faults["exchange"] = [transient() for _ in range(dice.randrange(4))]
        case 5:
            await refused_or_done(world.broker.refresh(None))
        case 6:
            lease = await refused_or_done(world.broker.lease(None, timeout=0.0))
            if lease is not None:
                await refused_or_done(world.broker.lease(None, reject=lease.token_id, timeout=0.0))
        case 7:
            await refused_or_done(world.broker.logout(None))
        case 8:
            request = LoginRequest(client_id="app", token=f"gho_{dice.random()}")
            call = await ask(collect(world.broker.login(request)))
            await world.clock.advance(10.0, rounds=12)
            await cancel(call)
    await settle(12)


async def refused_or_done(call):
    try:
        return await call
    except BrokerError:
        return None


async def follow(world):
    watcher = Watcher(world)
    task = await ask(watcher.follow())
    assert watcher.told, "the state is told at once"
    return watcher, task


@pytest.mark.parametrize("seed", range(25))
async def test_watchers_never_go_back_and_all_end_at_the_same_state(seed):
    dice = random.Random(seed)
    world = World()
    world.keep_login()
    await world.start()
    following = []
    for _ in range(40):
        if dice.randrange(4) == 0:
            following.append(await follow(world))
        await something(world, dice)
        await settle()
        newcomer, task = await follow(world)
        for watcher, _ in following:
            assert watcher.told[-1] == newcomer.told[-1]
        await cancel(task)
    for watcher, task in following:
        assert not task.done(), task.exception()
        pairs = zip(watcher.told, watcher.told[1:], strict=False)
        assert all(one != other for one, other in pairs), "told twice"
        await cancel(task)
    await world.stop()
