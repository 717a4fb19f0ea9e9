"""The broker with fake edges, in virtual time."""

import asyncio
import contextlib
import math
import random

import pytest

from brokerd.broker import (
    Broker,
    LoginRequest,
    LoginSucceeded,
    LoginWaiting,
    UserCodeIssued,
    roster,
)
from brokerd.core.device_grant import NotGranted
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import GitHubToken, IndexEntry, Login, User
from brokerd.errors import BrokerError, ErrorClass
from fakes.clock import FakeClock, settle
from fakes.github import FakeGitHub, no_checkpoint, permanent, transient
from fakes.store import FakeIndex, FakeStore, FakeStores


REQUEST = LoginRequest(client_id="app")


class World:
    """What outlives a broker, and the broker of the moment."""

    def __init__(self, checkpoint=no_checkpoint, clock=None):
        self.clock = clock or FakeClock()
        self.github = FakeGitHub(self.clock, checkpoint=checkpoint)
        self.store = FakeStore(checkpoint)
        self.stores = FakeStores(self.store)
        self.index = FakeIndex()
        self.broker = None
        self.task = None

    def keep_login(self, name="default", user=42, value="gho_kept"):
        login = Login("github.com", User(user, f"user{user}"), GitHubToken(value), "app")
        self.store.items[login.key] = login
        self.index.put(name, IndexEntry("github.com", user, f"user{user}", "memory", "app"))

    async def start(self):
        self.broker = Broker(
            clock=self.clock,
            github=lambda host: self.github,
            stores=self.stores,
            index=self.index,
            settings=lambda name: AccountSettings(),
            random=random.Random(1),
        )
        self.task = asyncio.create_task(self.broker.run())
        await settle()
        return self.broker

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await settle()

    def view(self):
        return self.broker.accounts()[0]


@pytest.fixture
async def world():
    world = World()
    yield world
    if world.task is not None:
        await world.stop()


@pytest.fixture
async def ready(world):
    world.keep_login()
    await world.start()
    assert world.view().state == "ready"
    return world


async def ask(coroutine):
    """Start a call and let it come as far as it can without time passing."""
    task = asyncio.create_task(coroutine)
    await settle()
    return task


async def failure_of(awaitable):
    with pytest.raises(BrokerError) as caught:
        await awaitable
    return caught.value.failure


async def collect(iterator):
    return [item async for item in iterator]


# Start.


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


# Leases.


async def test_200_callers_at_the_instant_of_expiry_make_one_exchange(ready):
    old = await ready.broker.lease(None)
    before = ready.github.count("exchange")
    ready.clock.suspend(old.expires_in)
    ready.github.gate = asyncio.Event()
    calls = [asyncio.create_task(ready.broker.lease(None)) for _ in range(200)]
    await settle()
    ready.github.gate.set()
    tokens = await asyncio.gather(*calls)
    assert ready.github.count("exchange") == before + 1
    assert {t.token for t in tokens} != {old.token}
    assert len({t.token for t in tokens}) == 1
    assert all(t.expires_in > 1790 for t in tokens)


@pytest.mark.parametrize("by", ["token", "token_id"])
async def test_100_callers_rejecting_the_same_dead_token_make_one_refresh(ready, by):
    dead = await ready.broker.lease(None)
    calls = [ready.broker.lease(None, reject=getattr(dead, by)) for _ in range(100)]
    tokens = await asyncio.gather(*calls)
    assert ready.github.count("exchange") == 2
    assert {t.token_id for t in tokens} == {tokens[0].token_id} != {dead.token_id}


async def test_late_rejection_of_an_old_token_changes_nothing(ready):
    dead = await ready.broker.lease(None)
    fresh = await ready.broker.lease(None, reject=dead.token)
    assert (await ready.broker.lease(None, reject=dead.token)).token == fresh.token
    assert (await ready.broker.lease(None, reject="nonsense \u20ac")).token == fresh.token
    assert ready.github.count("exchange") == 2


@pytest.mark.parametrize(
    ("age", "min_valid", "exchanges", "clamped"),
    [
        (0, 0, 0, False),
        (0, 1700, 0, False),
        (0, 1900, 0, True),  # a new one could not live that long either
        (0, 1e9, 0, True),
        (800, 1000, 0, False),
        (800, 1001, 0, True),  # too young to be replaced for this alone
        (1000, 800, 0, False),
        (1000, 801, 1, False),
        (1000, 1800, 1, False),
        (1000, 1801, 1, True),
        (1000, math.inf, 1, True),
    ],
)
async def test_min_valid_is_honoured_or_said_to_be_clamped(
    ready, age, min_valid, exchanges, clamped
):
    await ready.clock.advance(age)
    before = ready.github.count("exchange")
    token = await ready.broker.lease(None, min_valid=min_valid)
    assert ready.github.count("exchange") - before == exchanges
    assert token.clamped is clamped
    assert clamped == (token.expires_in < min_valid)


async def test_min_valid_never_exchanges_more_than_once_per_half_life(ready):
    for _ in range(200):
        await ready.broker.lease(None, min_valid=1e9)
        await ready.clock.advance(45.0, rounds=8)
    assert ready.github.count("exchange") <= 1 + 200 * 45 / 900


async def test_min_valid_falls_back_to_the_old_token_when_the_exchange_fails(ready):
    await ready.clock.advance(1000)
    ready.github.faults["exchange"] = [transient()]
    token = await ready.broker.lease(None, min_valid=1700)
    assert token.clamped
    assert (await ready.broker.lease(None, min_valid=1700)).clamped
    assert ready.github.count("exchange") == 2


@pytest.mark.parametrize("nonsense", [-1.0, math.nan])
async def test_nonsense_min_valid_is_refused(ready, nonsense):
    failure = await failure_of(ready.broker.lease(None, min_valid=nonsense))
    assert failure.error_class is ErrorClass.USAGE


async def test_a_caller_waits_at_most_its_timeout(world):
    world.keep_login()
    world.github.gate = asyncio.Event()
    broker = await world.start()
    call = await ask(broker.lease(None))
    await world.clock.advance(3.9)
    assert not call.done()
    await world.clock.advance(0.2)
    failure = await failure_of(call)
    assert failure.error_class is ErrorClass.TEMPORARY
    assert failure.retry_after is not None


async def test_a_caller_waits_through_a_short_backoff(world):
    world.keep_login()
    world.github.faults["exchange"] = [transient()]
    broker = await world.start()
    call = await ask(broker.lease(None))
    await world.clock.advance(1.1)
    assert (await call).token


async def test_a_long_cool_down_is_said_at_once_with_retry_after(world):
    world.keep_login()
    world.github.faults["exchange"] = [transient("rate_limited", retry_after=600.0)]
    broker = await world.start()
    failure = await failure_of(broker.lease(None))
    assert failure.code == "rate_limited"
    assert 600 <= failure.retry_after <= 660
    assert (await failure_of(broker.refresh(None))).retry_after == pytest.approx(600.0)
    broker.poke()
    await world.clock.advance(599.0)
    assert world.github.count("exchange") == 1
    await world.clock.advance(61.0)
    assert (await broker.lease(None)).token


async def test_a_refused_exchange_is_said_and_only_refresh_asks_again(world):
    world.keep_login()
    world.github.faults["exchange"] = [permanent()]
    broker = await world.start()
    for _ in range(50):
        assert (await failure_of(broker.lease(None))).error_class is ErrorClass.DENIED
    await world.clock.advance(7200.0, rounds=8)
    assert world.github.count("exchange") == 1
    assert world.view().error.code == "no_copilot_access"
    assert world.store.items, "the login stays"
    assert (await broker.refresh(None)).token


async def test_bad_credentials_are_tried_once_and_nothing_is_deleted(world):
    world.keep_login()
    world.github.revoked.add("gho_kept")
    broker = await world.start()
    for _ in range(50):
        failure = await failure_of(broker.lease(None))
        assert (failure.code, failure.error_class) == (
            "bad_credentials",
            ErrorClass.LOGIN_REQUIRED,
        )
        await world.clock.advance(60.0, rounds=8)
    assert world.github.count("exchange") == 1
    assert "delete" not in world.store.calls
    assert (await failure_of(broker.refresh(None))).code == "bad_credentials"


async def test_refresh_is_shared_and_gives_a_new_token(ready):
    old = await ready.broker.lease(None)
    tokens = await asyncio.gather(*(ready.broker.refresh(None) for _ in range(20)))
    assert ready.github.count("exchange") == 2
    assert {t.token for t in tokens} != {old.token}


async def test_failing_refresh_keeps_the_token_and_says_why(ready):
    ready.github.faults["exchange"] = [transient()]
    assert (await failure_of(ready.broker.refresh(None))).code == "network_down"
    assert ready.view().error.code == "network_down"
    assert (await ready.broker.lease(None)).token


async def test_a_defect_of_an_edge_does_not_end_the_broker(world):
    world.keep_login()
    world.github.faults["exchange"] = [RuntimeError("canary")]
    broker = await world.start()
    assert world.view().error.error_class is ErrorClass.INTERNAL
    await world.clock.advance(2.0)
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


# Login.


async def test_login_shows_the_code_waits_and_succeeds_after_the_save(world):
    world.github.polls = [NotGranted("authorization_pending"), NotGranted("slow_down", 10.0)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    assert world.view().state == "awaiting_user"
    assert (await failure_of(broker.lease(None))).code == "login_pending"
    await world.clock.advance(60.0)
    first, *waits, last = await call
    assert first == UserCodeIssued("WDJB-MJHT", "https://github.com/login/device", 900.0, 5.0)
    assert waits
    assert all(isinstance(w, LoginWaiting) and w.expires_in < 900 for w in waits)
    assert isinstance(last, LoginSucceeded)
    assert (last.account.login, last.account.state, last.account.default) == (
        "octocat",
        "ready",
        True,
    )
    assert world.github.times("poll_device_grant") == pytest.approx([1006.0, 1012.0, 1026.0])
    assert world.index.entries()["default"].login == "octocat"
    assert (await broker.lease(None)).token


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "token_expired", "what"])
async def test_a_refused_login_says_why_and_leaves_nothing(world, error):
    world.github.polls = [NotGranted(error)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert "copilot-cred login" in (await failure_of(call)).hint
    assert broker.accounts() == []
    assert not world.store.items


async def test_no_store_is_said_before_the_person_is_sent_to_the_browser(world):
    world.stores.absent = True
    broker = await world.start()
    failure = await failure_of(collect(broker.login(REQUEST)))
    assert failure.error_class is ErrorClass.STORE_UNAVAILABLE
    assert world.github.calls == []


async def test_no_network_at_the_first_step_is_said_at_once(world):
    world.github.faults["request_device_code"] = [transient()]
    broker = await world.start()
    assert (await failure_of(collect(broker.login(REQUEST)))).code == "network_down"


@pytest.mark.parametrize("step", ["poll", "identify", "save", "exchange"])
async def test_network_failure_in_any_later_step_is_retried(world, step):
    if step == "poll":
        world.github.polls = [transient(), transient()]
    elif step == "save":
        world.store.faults["save"] = [transient(), transient()]
    else:
        world.github.faults[step] = [transient(), transient()]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(40.0)
    assert isinstance((await call)[-1], LoginSucceeded)
    assert (await broker.lease(None)).token


async def test_unsaved_is_shown_and_success_is_not_reported(world):
    world.store.faults["save"] = [transient("keyring_died") for _ in range(4)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert world.view().unsaved
    assert world.view().error.code == "keyring_died"
    assert not call.done()
    assert world.github.count("exchange") == 0
    assert "not saved" in broker.summary()
    await world.clock.advance(60.0)
    assert not (await call)[-1].account.unsaved


async def test_an_account_without_copilot_is_signed_in_and_says_so(world):
    world.github.faults["exchange"] = [permanent()]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert (await call)[-1].account.error.code == "no_copilot_access"


async def test_two_callers_share_one_prompt_and_leaving_cancels_with_the_last(world):
    world.github.polls = [NotGranted("authorization_pending")] * 100
    broker = await world.start()
    callers = [await ask(collect(broker.login(REQUEST))) for _ in range(2)]
    assert world.github.count("request_device_code") == 1
    await cancel(callers[0])
    await world.clock.advance(20.0)
    assert world.view().state == "awaiting_user"
    await cancel(callers[1])
    polls = world.github.count("poll_device_grant")
    await world.clock.advance(60.0)
    assert world.github.count("poll_device_grant") == polls
    assert broker.accounts() == []


async def test_50_callers_see_one_code_and_all_succeed(world):
    broker = await world.start()
    calls = [await ask(collect(broker.login(REQUEST))) for _ in range(50)]
    await world.clock.advance(10.0)
    results = await asyncio.gather(*calls)
    assert world.github.count("request_device_code") == world.github.count("exchange") == 1
    assert all(isinstance(r[-1], LoginSucceeded) for r in results)


async def test_a_different_login_for_the_same_account_is_refused(world):
    broker = await world.start()
    first = await ask(collect(broker.login(REQUEST)))
    failure = await failure_of(collect(broker.login(LoginRequest(client_id="other"))))
    assert failure.code == "login_in_progress"
    await cancel(first)


async def test_a_login_being_saved_is_seen_through_when_its_caller_leaves(world):
    world.store.faults["save"] = [transient()]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(6.1)
    await cancel(call)
    await world.clock.advance(5.0)
    assert (await broker.lease(None)).token


async def test_the_old_login_stays_leasable_until_the_new_one_succeeds(ready):
    old = await ready.broker.lease(None)
    ready.github.polls = [NotGranted("authorization_pending")] * 2
    call = await ask(collect(ready.broker.login(REQUEST)))
    await ready.clock.advance(13.0)
    assert (await ready.broker.lease(None)).token == old.token
    await ready.clock.advance(20.0)
    assert (await call)[-1].account.login == "octocat"
    assert (await ready.broker.lease(None)).token != old.token
    assert "gho_kept" not in {login.token.value for login in ready.store.items.values()}


async def test_a_cancelled_login_leaves_the_old_one(ready):
    old = await ready.broker.lease(None)
    ready.github.polls = [NotGranted("access_denied")]
    call = await ask(collect(ready.broker.login(REQUEST)))
    await ready.clock.advance(7.0)
    assert (await failure_of(call)).code == "access_denied"
    assert (await ready.broker.lease(None)).token == old.token


async def test_another_persons_login_under_the_same_name_replaces_the_item(world):
    world.keep_login(user=7)
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    await call
    assert [key.user_id for key in world.store.items] == [42]
    assert [view.login for view in broker.accounts()] == ["octocat"]


async def test_login_with_a_token_needs_no_person(world):
    broker = await world.start()
    [done] = await collect(broker.login(LoginRequest(client_id="app", token="gho_canary")))
    assert done.account.source == "token"
    assert world.github.count("request_device_code") == 0


@pytest.mark.parametrize("token", ["", "ghp_classic", "gho_\n", "gh\u00f6"])
async def test_a_token_copilot_cannot_accept_is_refused_unasked(world, token):
    broker = await world.start()
    request = LoginRequest(client_id="app", token=token)
    assert (await failure_of(collect(broker.login(request)))).error_class is ErrorClass.USAGE
    assert world.github.calls == []


async def cancel(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await settle()


# Killed.


class Killer:
    """Stops the world for good at the n-th place where somebody awaits."""

    def __init__(self, nth):
        self.left = nth
        self.at = None
        self.dead = asyncio.Event()

    async def __call__(self, name):
        self.left -= 1
        if self.left == 0:
            self.at = name
            self.dead.set()
        if self.left <= 0:
            await asyncio.Event().wait()


async def test_killed_at_any_await_the_login_is_there_or_was_never_reported():
    places = set()
    for nth in range(1, 40):
        killer = Killer(nth)
        world = World(killer)
        broker = await world.start()
        events = []

        async def person(broker=broker, events=events):
            async for event in broker.login(REQUEST):
                events.append(event)

        call = await ask(person())
        await world.clock.advance(10.0)
        reported = any(isinstance(event, LoginSucceeded) for event in events)
        await cancel(world.task)
        with contextlib.suppress(BrokerError):
            await call
        assert reported == any(isinstance(event, LoginSucceeded) for event in events)
        if killer.at is None:
            assert reported
            break
        places.add(killer.at)
        world.github.checkpoint = world.store.checkpoint = no_checkpoint
        reborn = await world.start()
        if reported or killer.at.startswith("exchange"):
            assert (await reborn.lease(None)).token
        else:
            with contextlib.suppress(BrokerError):
                await reborn.lease(None)
        await world.stop()
    assert places == {"request_device_code asked", "device code issued", "poll_device_grant asked", "poll answered",
                      "identify asked", "user identified", "save asked", "login written", "exchange asked",
                      "token exchanged"}  # fmt: skip


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


# Logout, use, several accounts.


async def test_logout_forgets_here_and_in_the_store(ready):
    await ready.broker.logout(None)
    assert not ready.store.items
    assert not ready.index.entries()
    assert (await failure_of(ready.broker.lease(None))).code == "login_required"
    failure = await failure_of(ready.broker.logout(None))
    assert failure.error_class is ErrorClass.USAGE


async def test_a_logout_the_store_fails_is_not_called_a_success(ready):
    ready.store.faults["delete"] = [transient("keyring_died")]
    assert (await failure_of(ready.broker.logout(None))).code == "keyring_died"
    assert (await failure_of(ready.broker.lease(None))).code == "login_required"
    await ready.broker.logout(None)
    assert not ready.store.items


async def test_logout_ends_a_prompt(world):
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await broker.logout("default")
    assert (await failure_of(call)).error_class is ErrorClass.LOGIN_REQUIRED
    assert broker.accounts() == []


async def test_accounts_have_a_machine_each_and_one_default(world):
    world.keep_login("home", 1, "gho_one")
    world.keep_login("work", 2, "gho_two")
    world.github.revoked.add("gho_two")
    broker = await world.start()
    assert (await broker.lease(None)).account == "home"
    assert (await failure_of(broker.lease("work"))).code == "bad_credentials"
    await broker.use("work")
    assert (await failure_of(broker.lease(None))).code == "bad_credentials"
    assert [(v.name, v.default) for v in broker.accounts()] == [("home", False), ("work", True)]
    assert broker.summary().endswith("2 accounts")
    assert (await failure_of(broker.use("nobody"))).error_class is ErrorClass.USAGE
    assert "--account nobody" in (await failure_of(broker.lease("nobody"))).hint


async def test_two_names_for_one_login_keep_it_until_the_last_is_gone(world):
    world.keep_login("a")
    world.keep_login("b")
    broker = await world.start()
    await broker.logout("a")
    assert world.store.items
    await broker.logout("b")
    assert not world.store.items


# Watching.


async def test_watchers_get_the_state_at_once_and_one_message_per_rotation(ready):
    seen = []

    async def watch():
        async for state in ready.broker.watch(None):
            seen.append(state)

    watcher = await ask(watch())
    assert [s.kind for s in seen] == ["token"]
    await ready.clock.advance(1501.0, rounds=8)
    assert [s.kind for s in seen] == ["token", "token"]
    assert seen[0].lease.token_id != seen[1].lease.token_id
    ready.github.faults["exchange"] = [transient() for _ in range(100)]
    await ready.clock.advance(1900.0, rounds=8)
    assert [s.kind for s in seen] == ["token", "token", "cooldown"]
    assert seen[2].failure.code == "network_down"
    await ready.broker.logout(None)
    await settle()
    assert [s.kind for s in seen][3:] == ["login_required"]
    await cancel(watcher)


async def test_a_slow_watcher_sees_the_latest_only(ready):
    watch = ready.broker.watch(None)
    await anext(watch)
    for _ in range(5):
        last = await ready.broker.refresh(None)
    assert (await anext(watch)).lease.token_id == last.token_id
    later = await ask(anext(watch))
    assert not later.done()
    await cancel(later)
    await watch.aclose()


async def test_changes_are_called_back(world):
    world.keep_login()
    broker = await world.start()
    lines = []
    broker.on_change(lambda: lines.append(broker.summary()))
    await broker.logout(None)
    assert lines[-1] == "signed out: run copilot-cred login"


async def test_a_watcher_of_nothing_and_of_a_refusal_is_told_what_to_do(world):
    broker = await world.start()
    watch = broker.watch(None)
    state = await anext(watch)
    assert (state.kind, state.failure.code) == ("login_required", "login_required")
    await watch.aclose()
    await world.stop()
    world.keep_login()
    world.github.faults["exchange"] = [permanent()]
    broker = await world.start()
    watch = broker.watch("default")
    state = await anext(watch)
    assert (state.kind, state.failure.code) == ("failed", "no_copilot_access")
    await watch.aclose()
    assert "no token yet: it never works" in broker.summary()


# What else may break.


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
