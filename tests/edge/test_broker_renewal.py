"""Expiring GitHub logins: renewed in time, kept before they are used, never lost by a renewal."""

import asyncio
from dataclasses import replace

import pytest

from brokerd.broker import roster
from brokerd.core.tokens import GitHubToken, Login, User
from brokerd.errors import ErrorClass
from fakes.broker_world import REQUEST, Killer, World, ask, cancel, collect, failure_of
from fakes.github import bad_credentials, bad_refresh_token, no_checkpoint, permanent, transient


HOURS_8 = 28_800.0


@pytest.fixture
async def expiring(world):
    """Signed in with a token of which little is left when the second refresh is due."""
    world.keep_login(value="ghu_kept", life=3400.0)
    await world.start()
    assert world.view().state == "ready"
    return world


async def test_a_new_login_knows_when_it_expires_also_in_its_next_life(world):
    world.github.login_life = HOURS_8
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    await call
    [login] = world.store.items.values()
    assert login.token.expires_at == pytest.approx(world.clock.wall() + HOURS_8, abs=10.0)
    assert login.token.refresh_token == "ghr_1"
    assert world.view().login_expires_in == pytest.approx(HOURS_8, abs=10.0)
    await world.stop()
    world.clock.suspend(7200.0)
    await world.start()
    assert world.view().login_expires_in == pytest.approx(HOURS_8 - 7200.0, abs=10.0)


async def test_it_is_renewed_ahead_of_its_expiry_and_saved_before_it_is_used(expiring, caplog):
    caplog.set_level("INFO")
    saved_at_exchange = []

    async def look(name):
        if name == "exchange asked":
            saved_at_exchange.append(expiring.kept_tokens())

    expiring.github.checkpoint = look
    await expiring.clock.advance(3600.0, rounds=8)
    assert expiring.github.count("renew") == 1
    [kept] = expiring.store.items.values()
    assert kept.token.value not in expiring.github.revoked
    assert saved_at_exchange[-1] == [kept.token.value]
    assert (kept.client_id, kept.key.user_id) == ("app", 42)
    [record] = [r for r in caplog.records if r.getMessage() == "login renewed"]
    assert record.ACCOUNT == "default"
    assert (await expiring.broker.lease(None)).token
    await expiring.clock.advance(2 * HOURS_8, rounds=8)
    assert expiring.github.count("renew") == 3
    assert len(expiring.github.revoked) == 6, "each renewal used the newest pair"


async def test_nobody_waits_for_a_renewal(expiring):
    expiring.github.gates["renew"] = asyncio.Event()
    expiring.github.lifetime = 4000.0
    await expiring.broker.refresh(None)
    await expiring.clock.advance(3010.0, rounds=8)
    assert expiring.github.count("renew") > 0
    call = await ask(expiring.broker.lease(None))
    assert call.result().token, "no time has passed"


async def test_a_login_that_expired_while_we_were_off_is_renewed_unasked(world):
    world.keep_login(value="ghu_kept", life=-100.0)
    broker = await world.start()
    assert (await broker.lease(None)).token
    assert (world.github.count("renew"), world.github.count("exchange")) == (1, 1)


async def test_a_wall_clock_that_was_wrong_gives_no_login_a_longer_life(world):
    world.keep_login(value="ghu_kept", life=10 * HOURS_8)
    await world.start()
    assert world.view().login_expires_in == pytest.approx(HOURS_8)


async def test_a_store_that_fails_is_tried_for_ever_and_said(expiring):
    expiring.store.faults["save"] = [transient("keyring_died") for _ in range(40)]
    await expiring.clock.advance(3300.0, rounds=8)
    view = expiring.view()
    assert view.unsaved
    assert view.error.code == "keyring_died"
    assert "not saved yet" in expiring.broker.summary()
    await expiring.clock.advance(3600.0, rounds=8)
    assert not expiring.view().unsaved
    assert expiring.github.count("renew") == 1
    assert not set(expiring.kept_tokens()) & expiring.github.revoked
    assert (await expiring.broker.lease(None)).token


async def test_nothing_is_renewed_while_the_store_cannot_be_read(expiring):
    locked = [transient("store_locked", error_class=ErrorClass.LOCKED) for _ in range(1000)]
    expiring.store.faults["load"] = locked
    await expiring.clock.advance(3300.0, rounds=8)
    assert expiring.github.count("renew") == 0, "what it brings could not be kept"
    locked.clear()
    await expiring.clock.advance(900.0, rounds=8)
    assert (await expiring.broker.lease(None)).token
    assert not set(expiring.kept_tokens()) & expiring.github.revoked


@pytest.mark.parametrize("fault", [transient("store_busy"), permanent("no_space")])
async def test_nothing_is_renewed_while_the_store_cannot_be_written(expiring, fault):
    faults = expiring.store.faults["save again"] = [fault] * 1000
    await expiring.clock.advance(3300.0, rounds=8)
    assert expiring.github.count("renew") == 0, "what it brings could not be kept"
    faults.clear()
    await expiring.clock.advance(900.0, rounds=8)
    assert (await expiring.broker.lease(None)).token
    assert expiring.github.count("renew") == 1
    assert not set(expiring.kept_tokens()) & expiring.github.revoked


async def test_a_store_that_says_never_today_may_say_yes_tomorrow(expiring):
    expiring.store.faults["load"] = faults = [
        permanent("no_store", ErrorClass.STORE_UNAVAILABLE) for _ in range(1000)
    ]
    await expiring.clock.advance(3100.0, rounds=8)
    assert expiring.github.count("renew") == 0
    faults.clear()
    await expiring.clock.advance(600.0, rounds=8)
    assert expiring.github.count("renew") == 1


async def test_a_dead_refresh_token_asks_for_a_login_and_deletes_nothing(world):
    kept = world.keep_login(value="ghu_kept", life=-100.0)
    world.github.revoked.add(kept.token.refresh_token)
    broker = await world.start()
    for _ in range(20):
        failure = await failure_of(broker.lease(None))
        assert failure.error_class is ErrorClass.LOGIN_REQUIRED
        await world.clock.advance(600.0, rounds=8)
    assert world.github.count("renew") == 1
    assert world.store.items == {kept.key: kept}
    assert "delete" not in world.store.calls


async def test_a_newer_login_in_the_store_is_used_instead_of_the_refused_one(expiring):
    [kept] = expiring.store.items.values()
    newer = replace(kept, token=GitHubToken("gho_newer"))

    async def somebody_signs_in(name):
        if name == "renew asked":
            expiring.store.items[kept.key] = newer

    expiring.github.checkpoint = somebody_signs_in
    expiring.github.revoked |= {kept.token.value, kept.token.refresh_token}
    await expiring.clock.advance(3600.0, rounds=8)
    assert expiring.github.count("renew") == 1
    assert (await expiring.broker.lease(None)).token
    assert expiring.store.items == {kept.key: newer}


async def test_a_newer_login_is_never_saved_over(expiring):
    [kept] = expiring.store.items.values()
    newer = replace(kept, token=GitHubToken("gho_newer"))

    async def somebody_signs_in(name):
        if name == "login renewed":
            expiring.store.items[kept.key] = newer

    expiring.github.checkpoint = somebody_signs_in
    await expiring.clock.advance(3600.0, rounds=8)
    assert expiring.github.count("renew") == 1
    assert expiring.store.items == {kept.key: newer}
    assert (await expiring.broker.lease(None)).token


async def test_a_login_deleted_elsewhere_does_not_come_back(expiring):
    async def somebody_signs_out(name):
        if name == "login renewed":
            expiring.store.items.clear()

    expiring.github.checkpoint = somebody_signs_out
    await expiring.clock.advance(3600.0, rounds=8)
    assert expiring.github.count("renew") == 1
    assert not expiring.store.items


async def test_another_persons_new_login_is_not_undone_by_the_old_ones_renewal(expiring):
    """It is saved and waits for its first token when the old one's renewal comes in."""
    expiring.github.user = User(7, "hubot")
    expiring.github.gates["renew"] = renewal = asyncio.Event()
    await expiring.clock.advance(3010.0, rounds=8)
    assert expiring.github.count("renew") > 0
    expiring.github.gate = exchange = asyncio.Event()
    call = await ask(collect(expiring.broker.login(REQUEST)))
    await expiring.clock.advance(7.0, rounds=8)
    assert [key.user_id for key in expiring.store.items] == [7]
    renewal.set()
    await expiring.clock.advance(1.0, rounds=8)
    assert [key.user_id for key in expiring.store.items] == [7]
    assert expiring.index.entries()["default"].login == "hubot"
    exchange.set()
    await expiring.clock.advance(1.0, rounds=8)
    assert (await call)[-1].account.login == "hubot"


@pytest.mark.parametrize("life", [3400.0, -100.0])
@pytest.mark.parametrize("slow", [None, "login renewed", "save asked", "login written"])
async def test_two_names_for_one_login_renew_it_once(world, life, slow):
    async def dawdle(name):
        if name == slow:
            await world.clock.sleep(20.0)

    world.github.checkpoint = world.store.checkpoint = dawdle
    world.keep_login("a", value="ghu_kept", life=life)
    world.keep_login("b", value="ghu_kept", life=life)
    broker = await world.start()
    await world.clock.advance(4000.0, rounds=8)
    assert (await broker.lease("a")).token
    assert (await broker.lease("b")).token
    assert world.github.count("renew") == 1
    assert not set(world.kept_tokens()) & world.github.revoked


async def test_a_name_waits_for_the_other_one_but_not_for_ever(world):
    world.keep_login("a", value="ghu_kept", life=-100.0)
    world.keep_login("b", value="ghu_kept", life=-100.0)
    faults = world.store.faults["save"] = [transient("keyring_died") for _ in range(1000)]
    broker = await world.start()
    await world.clock.advance(200.0)
    assert world.github.count("renew") == 1
    assert sorted(view.error.code for view in broker.accounts()) == [
        "keyring_died",
        "renewal_waits",
    ]
    faults.clear()
    await world.clock.advance(600.0)
    assert (await broker.lease("a")).token
    assert (await broker.lease("b")).token
    assert world.github.count("renew") == 1


async def test_github_is_not_asked_when_the_answer_might_come_too_late(expiring):
    """A question is given up in the end; a pair of tokens that comes after that would be lost."""
    slow = [1]

    async def dawdle(name):
        if name == "load asked" and slow:
            slow.pop()
            await expiring.clock.sleep(70.0)

    expiring.store.checkpoint = dawdle
    expiring.github.gates["renew"] = answer = asyncio.Event()
    await expiring.clock.advance(3000.0, rounds=8)
    assert not slow
    while not expiring.github.count("renew"):
        await expiring.clock.advance(1.0)
    await expiring.clock.advance(45.0)
    answer.set()
    await expiring.clock.advance(10.0)
    assert expiring.github.count("renew") == 1
    assert not set(expiring.kept_tokens()) & expiring.github.revoked


async def test_a_name_that_signs_out_in_its_renewal_lets_the_other_one_go_on(world):
    world.keep_login("a", value="ghu_kept", life=-100.0)
    world.keep_login("b", value="ghu_kept", life=-100.0)
    world.github.gates["renew"] = asyncio.Event()
    broker = await world.start()
    assert world.github.count("renew") == 1
    del world.github.gates["renew"]
    await broker.logout("a")
    await world.clock.advance(1.0)
    assert (await broker.lease("b")).token


async def test_signing_out_while_a_renewal_is_being_saved_leaves_nothing_behind(expiring):
    gate = asyncio.Event()

    async def hold(name):
        if name == "save asked":
            await gate.wait()

    expiring.store.checkpoint = hold
    await expiring.clock.advance(3040.0, rounds=8)
    out = await ask(expiring.broker.logout(None))
    assert not out.done()
    gate.set()
    assert await out is False
    assert not expiring.store.items
    assert expiring.broker.accounts() == []


# Bad credentials: each of these would get the person locked out if it asked once per caller.


async def besiege(world, callers=200):
    """Callers, people who want a refresh, and watchers, all at once; then once more."""
    broker = world.broker
    watchers = [await ask(collect(broker.watch(None))) for _ in range(5)]
    for _ in range(2):
        calls = [broker.lease(None) for _ in range(callers)]
        calls += [broker.refresh(None) for _ in range(5)]
        calls += [broker.lease(None, min_valid=1e6) for _ in range(5)]
        failures = await asyncio.gather(*map(failure_of, calls))
        assert {f.error_class for f in failures} == {ErrorClass.LOGIN_REQUIRED}
        broker.poke()
        world.clock.suspend(7200.0)
        await world.clock.advance(7200.0, rounds=8)
    for watcher in watchers:
        await cancel(watcher)
    return {f.code for f in failures}


@pytest.mark.parametrize("mode", ["exchange", "direct"])
async def test_200_callers_with_a_dead_login_make_one_request(world, mode):
    world.keep_login(is_direct=mode == "direct")
    world.github.revoked.add("gho_kept")
    world.github.gates[mode] = gate = asyncio.Event()
    await world.start()
    besieged = await ask(besiege(world))
    gate.set()
    await world.clock.advance(20_000.0, rounds=8)
    assert await besieged == {"bad_credentials"}
    assert [method for method, _ in world.github.calls] == [mode]
    assert world.store.items


@pytest.mark.parametrize("mode", ["exchange", "direct"])
async def test_with_a_refresh_token_one_renewal_more_and_no_other(world, mode):
    kept = world.keep_login(value="ghu_kept", life=HOURS_8, is_direct=mode == "direct")
    world.github.revoked |= {kept.token.value, kept.token.refresh_token}
    world.github.gates[mode] = gate = asyncio.Event()
    await world.start()
    besieged = await ask(besiege(world))
    gate.set()
    await world.clock.advance(20_000.0, rounds=8)
    await besieged
    assert [method for method, _ in world.github.calls] == [mode, "renew"]
    assert world.store.items == {kept.key: kept}


async def test_a_renewed_login_that_is_refused_too_ends_it(world):
    world.keep_login(value="ghu_kept", life=HOURS_8)
    world.github.faults["exchange"] = [bad_credentials() for _ in range(9)]
    await world.start()
    await besiege(world, callers=20)
    assert [method for method, _ in world.github.calls] == ["exchange", "renew", "exchange"]
    assert not set(world.kept_tokens()) & world.github.revoked, "the newest pair is kept"


async def test_after_a_dead_login_only_a_new_one_asks_again(world):
    world.keep_login()
    world.github.revoked.add("gho_kept")
    broker = await world.start()
    await failure_of(broker.lease(None))
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    await call
    assert (await broker.lease(None)).token
    assert world.github.count("exchange") == 2


async def test_a_refusal_of_the_refresh_token_under_a_living_token_costs_nothing_yet(expiring):
    expiring.github.faults["renew"] = [bad_refresh_token()]
    old = await expiring.broker.lease(None)
    await expiring.clock.advance(1000.0, rounds=8)
    assert (await expiring.broker.lease(None)).token == old.token


# Killed, and stopped.


PLACES = ["renew asked", "login renewed", "save asked", "login written"]


class KilledAt(Killer):
    """Stops the world for good at a named place."""

    def __init__(self, place):
        super().__init__(1)
        self.place = place

    async def __call__(self, name):
        if name == self.place or self.left <= 0:
            await super().__call__(name)


async def renewing(place_or_hook):
    world = World(place_or_hook)
    world.keep_login(value="ghu_kept", life=-100.0)
    await world.start()
    return world


@pytest.mark.parametrize("place", PLACES)
async def test_killed_in_a_renewal_the_newest_saved_pair_is_kept(place, monkeypatch):
    monkeypatch.setattr(roster, "SAVE_GRACE", 0.0)  # killed: nobody waits
    killer = KilledAt(place)
    world = await renewing(killer)
    assert killer.at == place
    await world.stop()
    [kept] = world.store.items.values()
    is_dead = kept.token.value in world.github.revoked
    world.github.checkpoint = world.store.checkpoint = no_checkpoint
    reborn = await world.start()
    if place in ("login renewed", "save asked"):
        # GitHub has killed the old pair, and the new one died with us: nothing can help.
        assert is_dead
        failure = await failure_of(reborn.lease(None))
        assert failure.error_class is ErrorClass.LOGIN_REQUIRED
        assert world.store.items == {kept.key: kept}, "nothing is erased"
        assert reborn.accounts()[0].login == "user42"
    else:
        assert not is_dead
        assert (await reborn.lease(None)).token
    await world.stop()


@pytest.mark.parametrize("place", PLACES)
async def test_a_stop_lets_a_renewal_be_saved_first(place):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(name):
        if name == place:
            reached.set()
            await go_on.wait()

    world = await renewing(hold)
    assert reached.is_set()
    stopping = await ask(world.stop())
    assert not stopping.done()
    go_on.set()
    await stopping
    assert not set(world.kept_tokens()) & world.github.revoked
    world.github.checkpoint = world.store.checkpoint = no_checkpoint
    reborn = await world.start()
    assert (await reborn.lease(None)).token
    assert world.github.count("renew") == 1
    await world.stop()


async def test_a_stop_waits_for_no_renewal_that_hangs(monkeypatch):
    monkeypatch.setattr(roster, "SAVE_GRACE", 0.01)
    world = await renewing(no_checkpoint)
    await world.stop()
    world.keep_login(value="ghu_other", life=-100.0)
    world.github.gates["renew"] = asyncio.Event()
    await world.start()
    await asyncio.wait_for(world.stop(), 10.0)
    assert world.kept_tokens() == ["ghu_other"]


async def test_a_login_of_another_app_in_the_store_starts_anew_in_auto_mode(world):
    kept = world.keep_login(is_direct=True)
    world.github.revoked.add("gho_kept")
    other = Login("github.com", User(42, "user42"), GitHubToken("gho_newer"), "other-app")

    async def somebody_signs_in(name):
        if name == "direct asked":
            world.store.items[kept.key] = other

    world.github.checkpoint = somebody_signs_in
    broker = await world.start()
    assert (await broker.lease(None)).is_direct is False
    assert [method for method, _ in world.github.calls] == ["direct", "exchange"]
