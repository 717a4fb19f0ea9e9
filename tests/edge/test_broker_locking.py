"""A locked broker lends nothing and asks nothing; a wrong passphrase slows its giver only (P18)."""

import asyncio
import gc
import threading

import pytest

from brokerd.broker import LoginRequest, LoginSucceeded, UserCodeIssued, WatchState
from brokerd.broker.locking import (
    DELAY_FIRST,
    DELAY_MAX,
    PASSPHRASE_MAX,
    TRIES_MAX,
    Lock,
    delay_after,
)
from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.tokens import CopilotToken, GitHubToken
from brokerd.errors import BrokerError, ErrorClass
from fakes.broker_world import REQUEST, World, ask, collect, failure_of
from fakes.clock import FakeClock, settle
from fakes.github import transient


RIGHT, WRONG = "correct horse", "wrong horse"
PATIENCE = 20.0


async def done(*tasks):
    """Hashing takes a thread, and so a while that no fake clock knows of."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)  # a thread's work


def asked(world):
    """All that GitHub and the store were asked."""
    return len(world.github.calls), len(world.store.calls)


async def locked(world, passphrase=None):
    """A broker with a token of the kept login, locked."""
    world.keep_login()
    broker = await world.start()
    await broker.lease()
    async with asyncio.timeout(PATIENCE):
        assert await broker.lock(passphrase)
    await settle()
    return broker


async def test_a_locked_broker_lends_nothing_at_once(world):
    world.keep_login()
    broker = await world.start()
    lease = await broker.lease()
    assert broker.leasable(None, 0.0)
    locking = asyncio.create_task(broker.lock(RIGHT))
    await asyncio.sleep(0)
    assert not locking.done(), "the passphrase is being hashed"
    assert broker.leasable(None, 0.0) is None
    for wanted in (broker.lease(), broker.lease("nobody"), broker.refresh()):
        failure = await failure_of(wanted)
        assert (failure.error_class, failure.code) == (ErrorClass.LOCKED, "broker_locked")
        assert failure.hint.endswith("copilot-cred unlock")
    broker.reject("default", lease.token_id)
    assert await done(locking) == [True]
    assert broker.is_locked


async def test_nothing_is_asked_while_it_is_locked(world):
    broker = await locked(world)
    before = asked(world)
    await world.clock.advance(7_200.0)
    world.clock.suspend(7_200.0)
    await settle()
    broker.poke()
    broker.reconfigured()
    broker.drop_tokens()
    await world.clock.advance(7_200.0)
    assert asked(world) == before


def tokens_in_memory():
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, GitHubToken | CopilotToken)]


async def test_no_secret_is_left_in_memory(world):
    others = tokens_in_memory()  # of other tests
    broker = await locked(world)
    await settle()
    found = [each for each in tokens_in_memory() if not any(each is other for other in others)]
    (kept,) = [login.token for login in world.store.items.values()]
    assert len(found) == 1, "the store is of memory"
    assert found[0] is kept
    assert world.view().token_id is None
    assert await broker.unlock()
    await settle()
    assert len(tokens_in_memory()) > len(others) + 1


async def test_those_who_wait_for_a_token_are_told_at_once(world):
    world.keep_login()
    world.github.gate = asyncio.Event()
    broker = await world.start()
    lease, refresh = await ask(broker.lease()), await ask(broker.refresh())
    await broker.lock()
    await settle()
    for task in (lease, refresh):
        assert task.exception().failure.code == "broker_locked"
    world.github.gate.set()
    await settle()
    assert world.view().token_id is None


async def test_watchers_are_told_of_both_ends(world):
    world.keep_login()
    broker = await world.start()
    watch = broker.watch()
    first = await anext(watch)
    assert first.kind == "token"
    await broker.lock()
    state = await anext(watch)
    assert (state.kind, state.failure.code, state.lease) == ("failed", "broker_locked", None)
    late = broker.watch("somebody")
    assert (await anext(late)).failure == state.failure
    await broker.unlock()
    told = [await anext(watch)]
    while told[-1].kind != "token":
        told.append(await anext(watch))
    assert told[-1].lease.token_id != first.lease.token_id
    assert all(isinstance(each, WatchState) and each.lease is None for each in told[:-1])
    await watch.aclose()
    await late.aclose()


async def test_an_unlocked_broker_loads_and_exchanges_anew(world):
    broker = await locked(world)
    loads, exchanges = world.store.calls.count("load"), world.github.count("exchange")
    assert await broker.unlock()
    assert not broker.is_locked
    await broker.lease()
    assert world.store.calls.count("load") == loads + 1
    assert world.github.count("exchange") == exchanges + 1


async def test_it_is_seen_to_be_locked(world):
    world.keep_login("work", 7)
    broker = await locked(world)
    assert broker.summary() == "locked: run copilot-cred unlock; 2 accounts"
    for view in broker.accounts():
        assert view.error.code == "broker_locked"
        assert (view.token_id, view.expires_in, view.refresh_in) == (None, None, None)
    await broker.unlock()
    await settle()
    assert broker.summary().startswith("signed in as user7")
    assert all(view.error is None for view in broker.accounts())


async def test_a_second_lock_changes_nothing(world):
    broker = await locked(world, RIGHT)
    assert not await broker.lock(WRONG)
    assert not await broker.lock()
    assert await done(ask_later(broker.unlock(RIGHT))) == [True]
    assert not await broker.unlock()
    assert not await broker.unlock(WRONG)


def ask_later(coroutine):
    return asyncio.create_task(coroutine)


async def test_a_lock_without_a_passphrase_needs_none(world):
    broker = await locked(world)
    assert await broker.unlock("whatever")
    assert await broker.lock()
    assert await broker.unlock()


# Logins.


async def test_nobody_signs_in_meanwhile(world):
    broker = await locked(world)
    before = asked(world)
    assert (await failure_of(collect(broker.login(REQUEST)))).code == "broker_locked"
    assert asked(world) == before


async def test_a_login_that_waits_for_the_person_ends(world):
    world.github.polls = [NotGranted("authorization_pending")] * 1000
    broker = await world.start()
    progress = broker.login(REQUEST)
    assert isinstance(await anext(progress), UserCodeIssued)
    await broker.lock()
    assert (await failure_of(collect(progress))).code == "broker_locked"
    await settle()
    before = asked(world)
    await world.clock.advance(600.0)
    assert asked(world) == before


async def test_a_login_that_is_being_saved_is_saved_and_not_used(world):
    gate = asyncio.Event()

    async def at(name):
        if name == "save asked":
            await gate.wait()

    world.store.checkpoint = at
    broker = await world.start()
    login = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(10.0)
    await broker.lock()
    gate.set()
    await settle()
    told = await login
    assert isinstance(told[-1], LoginSucceeded)
    assert told[-1].account.error.code == "broker_locked"
    assert world.kept_tokens()
    assert world.github.count("exchange") == 0
    await broker.unlock()
    await settle()
    assert (await broker.lease()).account == "default"


async def test_a_renewal_under_way_is_saved(world):
    world.keep_login(life=30.0, value="ghu_old")
    world.github.gates["renew"] = asyncio.Event()
    broker = await world.start()
    await world.clock.advance(0.0)
    assert world.github.count("renew") == 1
    await broker.lock()
    assert world.withdrawals == 1
    world.github.gates["renew"].set()
    await settle()
    assert world.kept_tokens() != ["ghu_old"]
    assert world.withdrawals > 1, "what was kept of the new pair is forgotten, too"
    (runner,) = broker._roster.runners()
    kept = world.kept_tokens()[0]
    assert not any(kept in str(vars(each)) for each in (runner.machine, runner._asker))
    assert "ghu_old" not in str(vars(runner._asker))
    before = asked(world)
    await world.clock.advance(600.0)
    assert asked(world) == before
    await broker.unlock()
    await settle()
    assert await broker.lease()


async def test_signing_out_works_but_revoking_needs_the_login(world):
    broker = await locked(world)
    assert (await failure_of(broker.logout(revoke=True))).code == "broker_locked"
    assert world.kept_tokens()
    await broker.logout()
    assert world.kept_tokens() == []
    assert await broker.unlock()
    assert (await failure_of(broker.lease())).code == "login_required"


async def test_no_quota_is_read(world):
    broker = await locked(world)
    before = asked(world)
    for wanted in (broker.quotas.get(), broker.quotas.set_pat("github_pat_x")):
        assert (await failure_of(wanted)).code == "broker_locked"
    broker.quotas.used_up("default")
    await settle()
    assert asked(world) == before


async def test_a_failing_store_after_the_lock_is_told(world):
    broker = await locked(world)
    world.store.faults["load"] = [transient("store_locked", error_class=ErrorClass.LOCKED)]
    await broker.unlock()
    await settle()
    assert (await failure_of(broker.lease())).code == "store_locked"
    await world.clock.advance(60.0)
    assert await broker.lease()


# Passphrases.


def test_delays_grow_up_to_their_bound():
    assert [delay_after(n) for n in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    assert delay_after(10**9) == DELAY_MAX


async def test_a_wrong_passphrase_waits_and_nobody_else_does(world, audit_trail):
    broker = await locked(world, RIGHT)
    began_at = world.clock.monotonic()
    slow = []
    for wrong in (1, 2):
        slow.append(ask_later(broker.unlock(WRONG)))
        await until(lambda wrong=wrong: len(audit_trail.of("unlocked")) == wrong)
    assert (await failure_of(broker.lease())).code == "broker_locked"
    assert broker.accounts()
    assert not any(task.done() for task in slow)
    await world.clock.advance(DELAY_FIRST)
    assert [task.done() for task in slow] == [True, False]
    assert await done(ask_later(broker.unlock(RIGHT))) == [True], "who knows it does not wait"
    assert await broker.lease()
    assert world.clock.monotonic() == began_at + DELAY_FIRST
    await world.clock.advance(DELAY_FIRST)
    for error in await done(*slow):
        assert isinstance(error, BrokerError)
        assert (error.failure.error_class, error.failure.code) == (
            ErrorClass.DENIED,
            "wrong_passphrase",
        )
        assert RIGHT not in str(error)
        assert WRONG not in str(error)


async def test_no_passphrase_is_told_at_once_and_counts_for_nothing(world, audit_trail):
    broker = await locked(world, RIGHT)
    failure = await failure_of(broker.unlock())
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "passphrase_required")
    assert broker.is_locked
    assert not audit_trail.of("unlocked")


@pytest.mark.parametrize("passphrase", ["", "x" * (PASSPHRASE_MAX + 1), "é" * 513])
async def test_a_passphrase_has_bounds(world, passphrase):
    broker = await world.start()
    for wanted in (broker.lock(passphrase), broker.unlock(passphrase)):
        failure = await failure_of(wanted)
        assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "bad_passphrase")
    assert not broker.is_locked


class Threads:
    """A hash that waits for the test, and notices whether there is ever more than one."""

    def __init__(self):
        self.go = threading.Event()
        self.now = self.most = self.count = 0
        self._lock = threading.Lock()

    def __call__(self, passphrase, salt):
        with self._lock:
            self.now += 1
            self.count += 1
            self.most = max(self.most, self.now)
        assert self.go.wait(PATIENCE)
        with self._lock:
            self.now -= 1
        return passphrase + salt


@pytest.fixture
def threads():
    threads = Threads()
    yield threads
    threads.go.set()


async def test_one_passphrase_is_hashed_at_a_time_and_so_many_wait(threads):
    clock = FakeClock()
    lock = Lock(clock, derive=threads)
    lock.engage(b"right")
    tries = [ask_later(lock.open(b"wrong")) for _ in range(TRIES_MAX - 1)]
    await settle()
    assert (await failure_of(lock.open(b"right"))).code == "unlock_busy"
    for task in tries[1:]:
        task.cancel()
    await settle()
    assert (await failure_of(lock.open(b"right"))).code == "unlock_busy", "threads go on"
    threads.go.set()
    await until(lambda: not lock._tries)
    assert threads.most == 1
    assert threads.count == TRIES_MAX
    assert await lock.open(b"right")
    await clock.advance(DELAY_FIRST)
    assert (await done(tries[0]))[0].failure.code == "wrong_passphrase"


async def test_who_comes_too_late_is_told_that_it_is_open(threads):
    lock = Lock(FakeClock(), derive=threads)
    lock.engage(b"right")
    right, wrong = ask_later(lock.open(b"right")), ask_later(lock.open(b"wrong"))
    threads.go.set()
    assert await done(right, wrong) == [True, False]


async def test_a_closed_lock_leaves_nothing_behind(threads):
    lock = Lock(FakeClock(), derive=threads)
    lock.engage(b"right")
    opening = ask_later(lock.open(b"right"))
    await settle()
    closing = ask_later(lock.close())
    threads.go.set()
    await done(closing, opening)
    assert lock.is_locked


# What is written down.


async def test_records_of_a_lock(world, audit_trail):
    broker = await locked(world, RIGHT)
    slow = ask_later(broker.unlock(WRONG))
    await until(lambda: audit_trail.of("unlocked"))
    assert await done(ask_later(broker.unlock(RIGHT))) == [True]
    assert audit_trail.of("locked") == [{"REASON": "requested"}]
    assert audit_trail.of("tokens-dropped") == [{"REASON": "locked", "COUNT": 1}]
    assert audit_trail.of("unlocked") == [{"RESULT": "wrong"}, {"RESULT": "unlocked"}]
    assert await broker.lock()
    assert not await broker.lock()
    assert len(audit_trail.of("locked")) == 2
    assert not audit_trail.flaws
    assert RIGHT not in str(audit_trail.entries)
    slow.cancel()
    await settle()


# Dropped tokens (P36).


async def test_dropped_tokens_are_replaced(world, audit_trail):
    world.keep_login()
    world.keep_login("work", 7, "gho_work")
    broker = await world.start()
    before = {name: (await broker.lease(name)).token_id for name in ("default", "work")}
    await world.clock.advance(100.0)
    broker.drop_tokens()
    assert broker.leasable(None, 0.0) is None
    for name, token_id in before.items():
        assert (await broker.lease(name)).token_id != token_id
    assert audit_trail.of("tokens-dropped") == [{"REASON": "signal", "COUNT": 2}]


async def test_a_drop_respects_the_limits_of_upstream(world):
    world.keep_login()
    broker = await world.start()
    await broker.lease()
    await world.clock.advance(1500.0)
    world.github.faults["exchange"] = [transient("rate_limited", retry_after=300.0)]
    assert (await failure_of(broker.refresh())).code == "rate_limited"
    count = world.github.count("exchange")
    broker.drop_tokens()
    failure = await failure_of(broker.lease())
    assert failure.code == "rate_limited"
    assert failure.retry_after == pytest.approx(300.0, abs=35.0)
    assert world.github.count("exchange") == count


async def test_a_drop_of_nothing_is_no_error(world, audit_trail):
    broker = await world.start()
    broker.drop_tokens()
    assert audit_trail.of("tokens-dropped") == [{"REASON": "signal", "COUNT": 0}]


async def test_a_broker_of_another_life_is_not_locked():
    world = World()
    await locked(world, RIGHT)
    await world.stop()
    broker = await world.start()
    assert await broker.lease()
    await world.stop()


async def test_a_token_brought_along_is_refused_too(world):
    broker = await locked(world)
    request = LoginRequest(client_id="app", account="new", token="gho_brought")
    assert (await failure_of(collect(broker.login(request)))).code == "broker_locked"
