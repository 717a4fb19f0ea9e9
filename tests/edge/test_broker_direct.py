"""Accounts whose GitHub login is used directly: how that is found out, kept and shown."""

import asyncio

import pytest

from brokerd.broker import LoginRequest
from brokerd.core.settings import AccountSettings
from brokerd.errors import ErrorClass
from fakes.broker_world import REQUEST, ask, collect, failure_of
from fakes.clock import settle
from fakes.github import permanent, transient


FINE_GRAINED = "github_pat_11AAAA"


async def test_a_404_of_the_exchange_is_learned_once_and_remembered(world, caplog):
    caplog.set_level("INFO")
    world.keep_login()
    world.github.unexchangeable.add("gho_kept")
    broker = await world.start()
    lease = await broker.lease(None)
    assert lease.is_direct
    assert lease.token == "gho_kept"
    assert "gho_kept" not in repr(lease)
    assert world.index.entries()["default"].is_direct
    [record] = [r for r in caplog.records if "used directly" in r.getMessage()]
    assert record.ACCOUNT == "default"
    await world.clock.advance(100_000.0, rounds=8)
    assert world.github.count("exchange") == 1
    await world.stop()
    await world.start()
    assert (await world.broker.lease(None)).is_direct
    assert world.github.count("exchange") == 1, "remembered"


async def test_a_new_login_is_exchanged_again(world):
    world.keep_login(is_direct=True)
    broker = await world.start()
    assert world.github.count("exchange") == 0
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert (await call)[-1].account.mode == "exchange"
    assert world.github.count("exchange") == 1
    assert not world.index.entries()["default"].is_direct


async def test_what_is_learned_of_the_old_login_is_not_said_of_the_new_one(ready):
    """The new one is recorded, and waits for its first token, when the old one's 404 comes in."""
    ready.github.unexchangeable.add("gho_kept")
    ready.github.gate = gate = asyncio.Event()
    refresh = await ask(ready.broker.refresh(None))
    call = await ask(collect(ready.broker.login(LoginRequest(client_id="other"))))
    await ready.clock.advance(7.0)
    assert ready.index.entries()["default"].client_id == "other"
    gate.set()
    await call
    assert not ready.index.entries()["default"].is_direct
    assert not (await ready.broker.lease(None)).is_direct
    assert (await failure_of(refresh)).error_class is ErrorClass.TEMPORARY


async def test_an_index_that_cannot_be_written_costs_one_more_404_later(world, caplog):
    world.keep_login()
    world.github.unexchangeable.add("gho_kept")

    def full(name, entry):
        raise transient("disk_full")

    world.index.put = full
    broker = await world.start()
    assert (await broker.lease(None)).is_direct
    assert "direct use not recorded" in caplog.text


@pytest.mark.parametrize(
    ("configured", "learned", "asked"),
    [
        ("auto", False, "exchange"),
        ("auto", True, "direct"),
        ("exchange", False, "exchange"),
        ("exchange", True, "exchange"),
        ("direct", False, "direct"),
        ("direct", True, "direct"),
    ],
)
async def test_configuration_overrides_what_was_learned(world, configured, learned, asked):
    world.settings["default"] = AccountSettings(mode=configured, plan="business")
    world.keep_login(is_direct=learned)
    broker = await world.start()
    assert (await broker.lease(None)).is_direct is (asked == "direct")
    assert [method for method, _ in world.github.calls] == [asked]
    assert world.github.plans == ["business"]
    assert world.view().mode == asked
    assert world.index.entries()["default"].is_direct is learned


async def test_a_404_is_said_where_only_the_exchange_is_wanted(world):
    world.settings["default"] = AccountSettings(mode="exchange")
    world.keep_login()
    world.github.unexchangeable.add("gho_kept")
    broker = await world.start()
    assert (await failure_of(broker.lease(None))).code == "exchange_not_found"
    assert world.github.count("direct") == 0
    assert not world.index.entries()["default"].is_direct


async def test_a_reloaded_mode_is_taken_at_the_next_minting(ready):
    assert not (await ready.broker.lease(None)).is_direct
    ready.settings["default"] = AccountSettings(mode="direct")
    assert (await ready.broker.refresh(None)).is_direct
    ready.settings["default"] = AccountSettings(mode="exchange")
    assert not (await ready.broker.refresh(None)).is_direct


@pytest.mark.parametrize("start", ["exchange", "direct"])
async def test_a_reload_that_changes_the_mode_is_heeded_at_once(world, start):
    other = "direct" if start == "exchange" else "exchange"
    world.settings["default"] = AccountSettings(mode=start)
    world.keep_login()
    broker = await world.start()
    lease = await broker.lease(None)
    broker.reconfigured()
    await settle()
    assert [method for method, _ in world.github.calls] == [start], "it fits"
    world.settings["default"] = AccountSettings(mode=other)
    broker.reconfigured()
    assert (await broker.lease(None)).token == lease.token, "until the other one is there"
    await settle()
    assert [method for method, _ in world.github.calls] == [start, other]
    assert (await broker.lease(None)).is_direct is (other == "direct")


async def test_what_was_learned_fits_and_so_does_nothing_at_all(world):
    world.keep_login(is_direct=True)
    world.keep_login("away", 7, "gho_away")
    world.github.revoked.add("gho_away")
    broker = await world.start()
    before = list(world.github.calls)
    broker.reconfigured()
    await settle()
    assert world.github.calls == before


async def test_a_fine_grained_token_is_never_exchanged(world):
    broker = await world.start()
    [done] = await collect(broker.login(LoginRequest(client_id="app", token=FINE_GRAINED)))
    assert (done.account.mode, done.account.source) == ("direct", "token")
    assert (await broker.lease(None)).is_direct
    assert [method for method, _ in world.github.calls] == ["identify", "direct"]


@pytest.mark.parametrize(
    ("token", "mode", "code"),
    [
        ("ghp_classic", "auto", "classic_token_refused"),
        ("ghp_classic", "direct", "classic_token_refused"),
        ("ghr_refresh", "auto", "refresh_token_refused"),
        (FINE_GRAINED, "exchange", "direct_token_refused"),
        ("ghs_installation", "exchange", "direct_token_refused"),
    ],
)
async def test_a_token_of_the_wrong_kind_is_refused_unasked(world, token, mode, code):
    world.settings["default"] = AccountSettings(mode=mode)
    broker = await world.start()
    failure = await failure_of(collect(broker.login(LoginRequest(client_id="app", token=token))))
    assert (failure.code, failure.error_class) == (code, ErrorClass.USAGE)
    assert failure.hint
    assert world.github.calls == []
    assert broker.accounts() == []


async def test_it_is_shown_as_what_it_is(world):
    world.keep_login(is_direct=True)
    broker = await world.start()
    view = world.view()
    assert (view.mode, view.api_base) == ("direct", "https://api.example.com")
    assert broker.summary() == "signed in as user42 (github.com), used directly"
    world.github.faults["direct"] = [transient()]
    await failure_of(broker.refresh(None))
    assert broker.summary().endswith("used directly, refresh fails: it does not work now")


async def test_before_the_first_token_the_view_tells_what_was_learned(world):
    world.keep_login(is_direct=True)
    world.github.faults["direct"] = [permanent()]
    await world.start()
    assert world.view().mode == "direct"


async def test_a_watcher_knows_a_login_from_a_token(ready):
    """The doors hand out the one and never the other."""
    watch = ready.broker.watch(None)
    assert not (await anext(watch)).lease.is_direct
    ready.settings["default"] = AccountSettings(mode="direct")
    await ready.broker.refresh(None)
    state = await anext(watch)
    assert state.lease.is_direct
    assert "gho_kept" not in repr(state)
    await watch.aclose()


async def test_who_reports_a_direct_token_waits_for_what_github_says_of_it(world):
    world.keep_login(is_direct=True)
    broker = await world.start()
    lease = await broker.lease(None)
    world.github.gates["direct"] = gate = asyncio.Event()
    call = await ask(broker.lease(None, reject=lease.token_id))
    assert not call.done()
    assert (await broker.lease(None)).token == lease.token, "others need not wait"
    gate.set()
    assert (await call).token == lease.token
    for _ in range(10):
        assert (await broker.lease(None, reject=lease.token_id)).token == lease.token
    assert world.github.count("direct") == 2
    await world.clock.advance(61.0)
    world.github.revoked.add("gho_kept")
    failure = await failure_of(broker.lease(None, reject=lease.token_id))
    assert failure.code == "bad_credentials"
