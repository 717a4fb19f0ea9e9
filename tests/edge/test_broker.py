"""The broker with fake edges, in virtual time: starting, time passing, stopping."""

import asyncio
import contextlib
import random

import pytest

from brokerd.broker import LoginRequest, LoginSucceeded, roster
from brokerd.errors import BrokerError, ErrorClass
from fakes.broker_world import REQUEST, ask, collect, failure_of
from fakes.clock import settle
from fakes.github import permanent, transient


async def test_signed_out_answers_at_once_naming_the_command(world):
    broker = await world.start()
    assert broker.started.is_set()
    failure = await failure_of(broker.lease(None))
    assert failure.error_class is ErrorClass.LOGIN_REQUIRED
    assert "copilot-cred login" in failure.hint
    assert world.clock.boottime() == 1000.0, "no time has passed"
    assert broker.summary() == "signed out: run copilot-cred login"


async def test_a_kept_login_gives_a_token(ready):
    token = await ready.broker.lease(None)
    assert (token.account, token.api_base) == ("default", "https://api.example.com")
    assert token.expires_in == pytest.approx(1800.0)
    assert token.expires_at == int(ready.clock.wall() + 1800)
    assert not token.clamped
    assert "canary" not in repr(token)
    assert ready.broker.summary() == "signed in as user42 (github.com), token valid 30 min"


async def test_what_is_asked_of_github_is_counted(ready):
    assert dict(ready.broker.exchanges()) == {("default", ""): 1}
    ready.github.faults["exchange"] = [transient("network")]
    with contextlib.suppress(BrokerError):
        await ready.broker.refresh()
    assert ready.broker.exchanges()["default", "network"] == 1


async def test_a_hanging_store_does_not_hang_the_start(world):
    never = asyncio.Event()

    async def hang(name):
        if name == "load asked":
            await never.wait()

    world.store.checkpoint = hang
    world.keep_login()
    broker = await world.start()
    assert not broker.started.is_set()
    await world.clock.advance(4.1)
    assert broker.started.is_set()


async def test_a_locked_store_is_said_at_once_and_asked_again(world):
    world.keep_login()
    locked = [transient("store_locked", error_class=ErrorClass.LOCKED) for _ in range(2)]
    world.store.faults["load"] = locked
    broker = await world.start()
    await world.clock.advance(1.1)
    assert (await failure_of(broker.lease(None))).error_class is ErrorClass.LOCKED
    await world.clock.advance(60.0)
    assert (await broker.lease(None)).token


# Time.


async def test_refresh_happens_ahead_of_expiry_without_a_caller(ready):
    old = await ready.broker.lease(None)
    await ready.clock.advance(1500.0, rounds=8)
    assert ready.github.count("exchange") == 2
    assert (await ready.broker.lease(None)).token != old.token


async def test_a_refresh_under_way_makes_nobody_wait(ready):
    old = await ready.broker.lease(None)
    ready.github.gate = asyncio.Event()
    await ready.clock.advance(1501.0, rounds=8)
    assert ready.github.count("exchange") == 2
    assert (await ready.broker.lease(None)).token == old.token


async def test_a_token_is_there_within_five_seconds_of_resume_without_a_caller(ready):
    old = await ready.broker.lease(None)
    ready.clock.suspend(86_400.0)
    await ready.clock.advance(4.9)
    [view] = ready.broker.accounts()
    assert view.state == "ready"
    assert view.expires_in > 1700
    assert (await ready.broker.lease(None)).token != old.token


async def test_the_reason_is_there_within_five_seconds_of_resume_when_the_network_hangs(ready):
    ready.github.gate = asyncio.Event()
    ready.clock.suspend(86_400.0)
    await ready.clock.advance(4.9)
    assert ready.view().error.code == "resuming"
    ready.github.gate.set()
    await ready.clock.advance(0.1)
    assert ready.view().error is None


async def test_an_exchange_cut_off_by_a_suspend_is_asked_again(ready):
    ready.github.gate = gate = asyncio.Event()
    await ready.clock.advance(1501.0, rounds=8)
    ready.clock.suspend(7200.0)
    ready.github.gate = None
    await ready.clock.advance(4.9)
    assert ready.view().state == "ready"
    gate.set()
    await settle()
    assert ready.github.count("exchange") == 3


async def test_wall_clock_jumps_change_nothing_but_the_wall_time_told(ready):
    old = await ready.broker.lease(None)
    for jump in (86_400.0, -172_800.0):
        ready.clock.jump_wall(jump)
        await ready.clock.advance(10.0)
        token = await ready.broker.lease(None)
        assert token.token == old.token
        assert token.expires_at == int(ready.clock.wall() + token.expires_in)
    assert ready.github.count("exchange") == 1


async def test_a_year_with_suspends_and_wall_jumps_has_a_lease_at_every_step(ready, monkeypatch):
    monkeypatch.setattr(roster, "NAP", 3600.0)  # a year of short naps is slow
    rng = random.Random(3)
    clock, start = ready.clock, ready.clock.boottime()
    while clock.boottime() < start + 365 * 86_400.0:
        chance = rng.random()
        if chance < 0.05:
            clock.suspend(rng.uniform(60.0, 3 * 86_400.0))
        elif chance < 0.10:
            clock.jump_wall(rng.choice([-86_400.0, 86_400.0]))
        else:
            await clock.advance(rng.uniform(60.0, 7200.0), rounds=20)
        token = await ready.broker.lease(None)
        assert token.expires_in >= 60
    assert ready.github.count("exchange") > 5_000


@pytest.mark.parametrize("signed_in", [True, False])
async def test_an_idle_broker_wakes_twice_a_minute(world, signed_in):
    if signed_in:
        world.keep_login()
    await world.start()
    await world.clock.advance(60.0)
    naps = []
    sleep = world.clock.sleep
    world.clock.sleep = lambda seconds: naps.append(seconds) or sleep(seconds)
    await world.clock.advance(600.0)
    assert len(naps) <= 20
    assert max(naps) <= 30.0


# What else may break.


async def test_stopping_answers_whoever_waits(world):
    world.keep_login()
    world.github.gate = asyncio.Event()
    broker = await world.start()
    call = await ask(broker.lease(None))
    prompt = await ask(collect(broker.login(LoginRequest(client_id="app", account="work"))))
    watcher = await ask(collect(broker.watch(None)))
    await world.stop()
    assert (await failure_of(call)).code == "broker_stopping"
    assert (await failure_of(prompt)).code == "broker_stopping"
    assert (await watcher)[0].kind == "cooldown"


async def test_an_index_that_cannot_be_read_does_not_stop_the_start(world):
    def broken():
        raise permanent("store_newer", ErrorClass.STORE_UNAVAILABLE)

    world.index.load = broken
    broker = await world.start()
    assert broker.started.is_set()


async def test_an_index_that_cannot_be_written_counts_as_unsaved(world):
    put, failures = world.index.put, [transient("disk_full"), transient("disk_full")]

    def full(name, entry):
        if failures:
            raise failures.pop()
        put(name, entry)

    world.index.put = full
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(6.1)
    assert world.view().unsaved
    await world.clock.advance(10.0)
    assert isinstance((await call)[-1], LoginSucceeded)


async def test_a_replaced_login_that_cannot_be_deleted_does_not_undo_the_new_one(world):
    world.keep_login(user=7)
    world.store.faults["delete"] = [transient("keyring_died")]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert (await call)[-1].account.user_id == 42


async def test_logout_while_the_login_is_being_saved_leaves_nothing_behind(world):
    gate = asyncio.Event()

    async def hold(name):
        if name == "save asked":
            await gate.wait()

    world.store.checkpoint = hold
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(6.1)
    out = await ask(broker.logout("default"))
    assert not out.done()
    gate.set()
    await out
    await settle()
    assert not world.store.items
    assert not world.index.entries()
    assert broker.accounts() == []
    with contextlib.suppress(BrokerError):
        await call
