"""Lending tokens, and watching them."""

import asyncio
import math

import pytest

from brokerd.broker.leases import REFRESHES_PER_MINUTE
from brokerd.errors import ErrorClass, Failure
from fakes.broker_world import ask, cancel, failure_of
from fakes.clock import settle
from fakes.github import permanent, transient


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


async def test_everybody_is_told_what_is_left_of_a_wait_not_how_long_it_was(world):
    world.keep_login()
    world.github.faults["exchange"] = [transient("rate_limited", retry_after=60.0), transient()]
    broker = await world.start()
    await world.clock.advance(30.0)
    left = (await failure_of(broker.lease(None))).retry_after
    assert 30.0 <= left <= 36.0
    assert world.view().error.retry_after == pytest.approx(left)
    watch = broker.watch(None)
    assert (await anext(watch)).failure.retry_after == pytest.approx(left)
    await watch.aclose()
    await world.clock.advance(left - 5.0)
    assert world.view().error.retry_after == pytest.approx(5.0)


async def test_what_is_left_is_told_beside_a_token_that_lives_on(ready):
    ready.github.faults["exchange"] = [transient("rate_limited", retry_after=60.0)]
    await failure_of(ready.broker.refresh(None))
    await ready.clock.advance(50.0)
    assert 10.0 <= ready.view().error.retry_after <= 16.0
    watch = ready.broker.watch(None)
    state = await anext(watch)
    assert state.lease is not None
    assert state.failure.retry_after == ready.view().error.retry_after
    await watch.aclose()


async def test_who_asks_while_it_is_asked_again_is_not_told_the_old_time(world):
    world.keep_login()
    world.github.faults["exchange"] = [transient("rate_limited", retry_after=60.0)]
    world.github.gate = asyncio.Event()
    broker = await world.start()
    await world.clock.advance(70.0)
    assert world.github.count("exchange") == 2
    call = await ask(broker.lease(None))
    await world.clock.advance(5.0)
    failure = await failure_of(call)
    assert (failure.code, failure.retry_after) == ("rate_limited", 1.0)
    world.github.gate.set()


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


async def test_a_hundred_who_refresh_at_once_are_one_exchange(ready):
    exchanged = ready.github.count("exchange")
    tokens = await asyncio.gather(*(ready.broker.refresh(None) for _ in range(100)))
    assert len({one.token for one in tokens}) == 1
    assert ready.github.count("exchange") == exchanged + 1


@pytest.mark.parametrize("fault", [None, transient, permanent])
async def test_who_refreshes_in_a_loop_is_given_what_there_is(ready, fault):
    exchanged = ready.github.count("exchange")
    if fault is not None:
        ready.github.faults["exchange"] = [fault("odd") for _ in range(999)]
    for _ in range(200):
        if fault is None:
            assert (await ready.broker.refresh(None)).token == (
                await ready.broker.lease(None)
            ).token
        else:
            assert (await failure_of(ready.broker.refresh(None))).code == "odd"
    made = ready.github.count("exchange") - exchanged
    assert made == REFRESHES_PER_MINUTE
    ready.github.faults["exchange"] = []
    before = (await ready.broker.lease(None)).token
    await ready.clock.advance(61 / REFRESHES_PER_MINUTE)
    assert (await ready.broker.refresh(None)).token != before


async def test_a_rejected_token_is_replaced_however_often_somebody_refreshed(ready):
    for _ in range(2 * REFRESHES_PER_MINUTE):
        dead = await ready.broker.refresh(None)
    assert (await ready.broker.lease(None, reject=dead.token)).token != dead.token


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


# Cool-downs, of which the pacing gate knows.


async def watching(world, account=None):
    seen = []

    async def watch():
        async for state in world.broker.watch(account):
            seen.append(state)

    return seen, await ask(watch())


async def test_a_cool_down_stands_in_every_lease_at_once(ready):
    assert ready.broker.leasable(None, 0.0)[0].cooldown_until is None
    ready.cool_down("default", 90.0)
    expected = math.ceil(ready.clock.wall() + 90.0)
    assert ready.broker.leasable(None, 0.0)[0].cooldown_until == expected
    lease = await ready.broker.lease(None)
    assert lease.cooldown_until == expected
    assert lease.token, "the token is as good as before"
    await ready.clock.advance(91.0)
    assert (await ready.broker.lease(None)).cooldown_until is None


@pytest.mark.parametrize("jump", [86_400.0, -3_600.0])
async def test_the_end_of_a_cooldown_is_told_by_the_wall_clock_of_the_moment(ready, jump):
    ready.cool_down("default", 90.0)
    assert (await ready.broker.lease(None)).cooldown_until == math.ceil(ready.clock.wall() + 90.0)
    ready.clock.jump_wall(jump)
    for _ in range(2):
        lease = await ready.broker.lease(None)
        assert lease.cooldown_until == math.ceil(ready.clock.wall() + 90.0)


async def test_watchers_are_told_why_upstream_wants_nothing(ready):
    seen, watcher = await watching(ready)
    url = "https://docs.github.com/limits"
    reason = Failure(ErrorClass.TEMPORARY, "rate_limited", "slow down", "Wait", url, 99.0)
    ready.cooldown_reasons["default"] = reason
    ready.cool_down("default", 90.0)
    await settle()
    told = seen[1].failure
    assert told.message.endswith("for a while (rate_limited: slow down)")
    assert (told.code, told.url, told.retry_after) == ("cooling_down", url, pytest.approx(90.0))
    await cancel(watcher)


async def test_watchers_are_told_once_when_it_begins_and_not_when_it_runs_out(ready):
    seen, watcher = await watching(ready)
    ready.cool_down("default", 90.0)
    await settle()
    assert [s.kind for s in seen] == ["token", "cooldown"]
    assert seen[1].lease.token == seen[0].lease.token
    assert seen[1].lease.cooldown_until == math.ceil(ready.clock.wall() + 90.0)
    assert seen[1].failure.code == "cooling_down"
    assert seen[1].failure.retry_after == pytest.approx(90.0)
    for _ in range(40):
        await ready.clock.advance(7.0)
        ready.broker.announce()
    await settle()
    assert [s.kind for s in seen] == ["token", "cooldown"]
    ready.cool_down("default", 30.0)
    await settle()
    assert [s.kind for s in seen] == ["token", "cooldown", "cooldown"]
    await cancel(watcher)


async def test_watchers_are_told_when_it_is_lifted_early_or_gets_longer(ready):
    seen, watcher = await watching(ready)
    ready.cool_down("default", 90.0)
    await ready.clock.advance(10.0)
    ready.cool_down("default", 300.0)
    await ready.clock.advance(10.0)
    ready.cool_down("default", 0.0)
    await settle()
    assert [s.kind for s in seen] == ["token", "cooldown", "cooldown", "token"]
    assert seen[3].lease.cooldown_until is None
    await cancel(watcher)


async def test_a_rotation_in_a_cool_down_is_told_as_such(ready):
    seen, watcher = await watching(ready)
    ready.cool_down("default", 90.0)
    await ready.broker.refresh(None)
    await settle()
    assert [s.kind for s in seen] == ["token", "cooldown", "cooldown"]
    assert seen[2].lease.token_id != seen[1].lease.token_id
    await cancel(watcher)


async def test_what_is_worse_than_a_cool_down_is_told_instead(ready):
    seen, watcher = await watching(ready)
    ready.cool_down("default", 90.0)
    await settle()
    await ready.broker.logout(None)
    await settle()
    assert [s.kind for s in seen] == ["token", "cooldown", "login_required"]
    await cancel(watcher)


async def test_a_cool_down_of_one_account_is_none_of_another(world):
    world.keep_login("home", 1, "gho_one")
    world.keep_login("work", 2, "gho_two")
    broker = await world.start()
    seen, watcher = await watching(world, "home")
    world.cool_down("work", 90.0)
    await settle()
    assert (await broker.lease("home")).cooldown_until is None
    assert (await broker.lease("work")).cooldown_until is not None
    assert [s.kind for s in seen] == ["token"]
    await cancel(watcher)
