"""Signing out, and several accounts side by side."""

import asyncio
from dataclasses import replace

import pytest

from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import AccountKey, GitHubToken, Pat
from brokerd.errors import ErrorClass
from fakes.broker_world import REQUEST, ask, collect, failure_of
from fakes.github import bad_credentials, permanent, transient
from fakes.store import FakeStore


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


async def test_logout_forgets_the_personal_access_token_too(ready):
    (key,) = ready.store.items
    ready.store.pats = {key: Pat("github_pat_x"), AccountKey("github.com", 404): Pat("another")}
    ready.store.faults["delete_pat"] = [transient("keyring_died")]
    assert (await failure_of(ready.broker.logout(None))).code == "keyring_died"
    await ready.broker.logout(None)
    assert list(ready.store.pats.values()) == [Pat("another")]


async def test_a_personal_access_token_stays_until_the_last_name_for_its_login_is_gone(world):
    key = world.keep_login("a").key
    world.keep_login("b")
    world.store.pats[key] = Pat("github_pat_x")
    broker = await world.start()
    await broker.logout("a")
    assert world.store.pats
    await broker.logout("b")
    assert not world.store.pats


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_personal_access_token_follows_its_login_to_another_store(
    world, is_broken, caplog
):
    key = world.keep_login("default", 42).key
    other = FakeStore()
    other.kind = "file"
    world.store.pats[key] = Pat("github_pat_x")
    if is_broken:
        world.store.faults["load_pat"] = [permanent("pat_broken", ErrorClass.STORE_UNAVAILABLE)]
    broker = await world.start()
    world.stores.get = {"memory": world.store, "file": other}.__getitem__
    world.stores.store = other
    call = await ask(collect(broker.login(replace(REQUEST, store="file"))))
    await world.clock.advance(7.0)
    await call
    assert (list(other.items), world.store.items, world.store.pats) == ([key], {}, {})
    assert other.pats == ({} if is_broken else {key: Pat("github_pat_x")})
    assert ("access token not moved" in caplog.text) is is_broken


@pytest.mark.parametrize("is_moved", [False, True])
async def test_anothers_login_under_the_same_name_ends_the_personal_access_token(world, is_moved):
    key = world.keep_login("default", 7).key
    world.store.pats[key] = Pat("github_pat_x")
    broker = await world.start()
    new = FakeStore() if is_moved else world.store
    new.kind = "file" if is_moved else new.kind
    world.stores.get = {"memory": world.store, "file": new}.__getitem__
    world.stores.store = new
    call = await ask(collect(broker.login(replace(REQUEST, store=new.kind))))
    await world.clock.advance(7.0)
    await call
    assert [key.user_id for key in {**world.store.items, **new.items}] == [42]
    assert not {**world.store.pats, **new.pats}


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
    failure = await failure_of(broker.lease("work"))
    assert (failure.code, failure.hint) == (
        "bad_credentials",
        "Run copilot-cred login --account work",
    )
    assert broker.accounts()[1].error.hint == failure.hint, "the same words everywhere"
    await broker.use("work")
    assert broker.accounts()[1].error.hint == failure.hint, "login never means the chosen default"
    assert (await failure_of(broker.lease(None))).code == "bad_credentials"
    assert [(v.name, v.default) for v in broker.accounts()] == [("home", False), ("work", True)]
    assert broker.summary().endswith("run copilot-cred login --account work; 2 accounts")
    assert (await failure_of(broker.use("nobody"))).error_class is ErrorClass.USAGE
    assert "--account nobody" in (await failure_of(broker.lease("nobody"))).hint


async def test_after_the_defaults_logout_nobodys_token_is_lent_instead(world):
    world.keep_login("default", 1, "gho_one")
    world.keep_login("work", 2, "gho_two")
    broker = await world.start()
    await broker.logout(None)
    for call in (broker.lease(None), broker.refresh(None), broker.logout(None),
                 broker.logout(None, revoke=True)):  # fmt: skip
        failure = await failure_of(call)
        assert (failure.error_class, failure.code, failure.hint) == (
            ErrorClass.LOGIN_REQUIRED,
            "no_default_account",
            "Choose the one there is with copilot-cred account use work",
        )
    assert broker.leasable(None, 0.0) is None
    watch = broker.watch(None)
    state = await anext(watch)
    assert (state.account, state.kind, state.lease) == ("default", "login_required", None)
    assert state.failure.code == "no_default_account"
    await watch.aclose()
    assert broker.summary() == "no default account: run copilot-cred account use NAME"
    assert not world.view().default
    assert (await broker.lease("work")).account == "work"
    assert (await failure_of(broker.lease("default"))).code == "login_required"
    await world.stop()
    broker = await world.start()
    assert (await failure_of(broker.lease(None))).code == "no_default_account"
    await broker.use("work")
    assert (await broker.lease(None)).account == "work"


async def test_an_account_called_default_is_not_chosen_by_its_name_alone(world):
    for number, name in enumerate(["work", "default", "home", "lab"]):
        world.keep_login(name, number + 1, f"gho_{name}")
    broker = await world.start()
    await broker.logout("lab")
    assert (await broker.lease(None)).account == "work", "the default is still there"
    await broker.logout("work")
    hint = "Choose one (default, home) with copilot-cred account use NAME"
    assert (await failure_of(broker.lease(None))).hint == hint
    assert broker.leasable(None, 0.0) is None


async def test_four_names_are_too_many_for_a_hint(world):
    for number, name in enumerate("abcde"):
        world.keep_login(name, number + 1, f"gho_{name}")
    broker = await world.start()
    await broker.logout(None)
    assert (await failure_of(broker.lease(None))).hint.startswith("Choose one (b, c, d, ...) ")


@pytest.mark.parametrize(
    ("kept", "name", "default"),
    [
        ([], "work", "work"),
        (["a"], "work", None),
        (["a"], "default", "default"),
        (["work"], "work", "work"),
    ],
)
async def test_a_new_login_becomes_the_default_when_nobody_else_can_be_meant(
    world, kept, name, default
):
    for number, each in enumerate(kept):
        world.keep_login(each, number + 1, f"gho_{each}")
    world.index.default = None
    broker = await world.start()
    call = await ask(collect(broker.login(replace(REQUEST, account=name))))
    await world.clock.advance(7.0)
    await call
    assert world.index.default == default


async def test_a_new_login_does_not_take_the_default_from_another(world):
    world.keep_login("work", 1, "gho_one")
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    await call
    assert world.index.default == "work"


async def test_two_names_for_one_login_keep_it_until_the_last_is_gone(world):
    world.keep_login("a")
    world.keep_login("b")
    broker = await world.start()
    await broker.logout("a")
    assert world.store.items
    await broker.logout("b")
    assert not world.store.items


# No pooling, no failover.


async def test_another_accounts_token_is_never_handed_out_instead(world):
    world.keep_login("home", 1, "gho_one")
    world.keep_login("work", 2, "gho_two")
    world.github.revoked.add("gho_one")
    broker = await world.start()
    mine = await broker.lease("work")
    assert mine.account == "work"
    for _ in range(3):
        for account in ("home", None):
            failure = await failure_of(broker.lease(account))
            assert failure.code == "bad_credentials"
            assert broker.leasable(account, 0.0) is None
        assert (await failure_of(broker.lease(None, reject=mine.token))).code == "bad_credentials"
        assert (await broker.lease("work")).token == mine.token
        await world.clock.advance(60.0)
    await broker.use("work")
    assert (await broker.lease(None)).account == "work"
    assert {(v.name, v.state) for v in broker.accounts()} == {
        ("home", "signed_out"),
        ("work", "ready"),
    }


async def test_every_account_asks_for_itself(world, caplog):
    caplog.set_level("INFO")
    world.keep_login("home", 1, "gho_one")
    world.keep_login("work", 2, "gho_two")
    world.settings["work"] = AccountSettings(plan="enterprise", mode="direct")
    broker = await world.start()
    leases = [await broker.lease(name) for name in ("home", "work")]
    assert [lease.account for lease in leases] == ["home", "work"]
    assert [lease.is_direct for lease in leases] == [False, True]
    assert leases[0].token_id != leases[1].token_id
    issued = [r for r in caplog.records if r.getMessage() == "token refreshed"]
    assert {r.ACCOUNT: r.MODE for r in issued} == {"home": "exchange", "work": "direct"}


async def test_the_view_of_an_account_tells_all_of_it(world):
    world.keep_login()
    await world.start()
    view = world.view()
    assert (view.scopes, view.sku, view.mode) == ("read:user", "monthly_subscriber", "exchange")
    assert view.api_base == "https://api.example.com"
    assert view.login_expires_in is None
    lease = await world.broker.lease(None)
    assert lease.completions_base == "https://proxy.example.com"
    assert lease.cooldown_until is None


# Revoking.


async def test_revoking_kills_the_login_first_and_then_forgets_it(ready, caplog):
    caplog.set_level("INFO")
    assert await ready.broker.logout(None, revoke=True) is True
    assert ready.github.revoked == {"gho_kept"}
    assert not ready.store.items
    assert not ready.index.entries()
    assert [m for m, _ in ready.github.calls] == ["exchange", "revoke"]
    [record] = [r for r in caplog.records if r.getMessage() == "login revoked"]
    assert record.ACCOUNT == "default"


async def test_without_revoke_nothing_is_revoked(ready):
    assert await ready.broker.logout(None) is False
    assert ready.github.count("revoke") == 0


@pytest.mark.parametrize("error", [transient("rate_limited", 3600.0), permanent("refused")])
async def test_a_login_that_cannot_be_revoked_stays(ready, error):
    ready.github.faults["revoke"] = [error]
    token = (await ready.broker.lease(None)).token
    failure = await failure_of(ready.broker.logout(None, revoke=True))
    assert failure.code == error.failure.code
    assert failure.error_class == error.failure.error_class
    assert failure.retry_after == error.failure.retry_after
    assert "not revoked" in failure.message
    assert failure.hint.endswith("copilot-cred logout --account default")
    assert failure.url == "https://github.com/settings/applications"
    assert ready.store.items
    assert (await ready.broker.lease(None)).token == token
    assert await ready.broker.logout(None, revoke=True) is True


async def test_the_step_past_what_is_never_revoked_signs_out_nobody_else(world):
    for number, name in enumerate(("home", "work"), 1):
        world.keep_login(name, number, f"ghs_{name}")
    broker = await world.start()
    error = permanent("not_revocable", ErrorClass.USAGE)
    error.failure = replace(error.failure, hint="Leave out --revoke: copilot-cred logout")
    world.github.faults["revoke"] = [error]
    failure = await failure_of(broker.logout("work", revoke=True))
    assert failure.hint.endswith("copilot-cred logout --account work")


async def test_where_to_revoke_it_by_hand_is_githubs_word_if_it_has_one(ready):
    error = permanent("revocation_refused")
    page = "https://github.com/settings/personal-access-tokens"
    error.failure = replace(error.failure, url=page)
    ready.github.faults["revoke"] = [error]
    failure = await failure_of(ready.broker.logout(None, revoke=True))
    assert failure.url == page
    assert page in failure.hint


async def test_nobody_is_told_to_try_again_what_never_works(ready):
    error = permanent("not_revocable", ErrorClass.USAGE)
    ready.github.faults["revoke"] = [error]
    failure = await failure_of(ready.broker.logout(None, revoke=True))
    assert failure.code == "not_revocable"
    assert failure.hint == error.failure.hint
    assert ready.store.items


async def test_a_login_that_is_not_in_use_is_revoked_from_its_store(world):
    world.keep_login()
    world.github.faults["exchange"] = [bad_credentials()]
    broker = await world.start()
    assert world.view().state == "signed_out"
    assert await broker.logout(None, revoke=True) is True
    assert world.github.revoked == {"gho_kept"}
    assert not world.store.items


async def test_a_store_that_fails_leaves_all_as_it_is(world):
    world.keep_login()
    world.github.faults["exchange"] = [bad_credentials()]
    broker = await world.start()
    world.store.faults["load"] = [transient("store_locked", error_class=ErrorClass.LOCKED)]
    assert (await failure_of(broker.logout(None, revoke=True))).code == "store_locked"
    assert world.github.count("revoke") == 0
    assert world.store.items


async def test_nothing_kept_is_nothing_to_revoke(world):
    world.keep_login()
    world.store.items.clear()
    broker = await world.start()
    failure = await failure_of(broker.logout(None, revoke=True))
    assert (failure.code, failure.error_class) == ("nothing_to_revoke", ErrorClass.USAGE)
    assert world.index.entries()
    assert (await failure_of(broker.logout("nobody", revoke=True))).code == "unknown_account"
    assert world.github.count("revoke") == 0


async def test_the_pair_of_a_renewal_under_way_is_the_one_revoked(world):
    world.keep_login(value="ghu_kept", life=-100.0)
    world.github.gates["renew"] = gate = asyncio.Event()
    broker = await world.start()
    out = await ask(broker.logout(None, revoke=True))
    assert world.github.count("revoke") == 0
    gate.set()
    assert await out is True
    assert len(world.github.revoked) == 4, "the old pair by the renewal, the new one by us"
    assert not world.store.items


async def test_a_login_with_two_names_is_revoked_for_both(world, caplog):
    world.keep_login("a")
    world.keep_login("b")
    broker = await world.start()
    assert await broker.logout("a", revoke=True) is True
    [record] = [r for r in caplog.records if "another name" in r.getMessage()]
    assert (record.ACCOUNT, record.REVOKED_AS) == ("b", "a")
    await failure_of(broker.refresh("b"))
    assert (await failure_of(broker.lease("b"))).code == "bad_credentials"
    assert world.github.count("exchange") == 3


# Logins that GitHub has refused as dead.


@pytest.mark.parametrize("is_direct", [False, True])
async def test_of_two_names_of_a_dead_login_one_finds_out(world, is_direct):
    for name in ("a", "b"):
        world.keep_login(name, is_direct=is_direct)
    world.github.revoked.add("gho_kept")
    broker = await world.start()
    for name in ("a", "b"):
        assert (await failure_of(broker.lease(name))).code == "bad_credentials"
    assert len(world.github.calls) == 1


async def test_a_token_that_another_name_found_dead_is_not_used_when_it_is_due(world):
    world.keep_login("a")
    world.keep_login("b")
    broker = await world.start()
    await world.clock.advance(1000.0)
    world.github.revoked.add("gho_kept")
    before = world.github.count("exchange")
    assert (await failure_of(broker.refresh("a"))).code == "bad_credentials"
    assert (await broker.lease("b")).token, "what was lent lives on"
    await world.clock.advance(3000.0)
    failure = await failure_of(broker.lease("b"))
    assert (failure.code, failure.hint) == (
        "bad_credentials",
        "Run: copilot-cred login --account b",
    )
    assert world.github.count("exchange") == before + 1


@pytest.mark.parametrize("fault", ["forbidden", "network_down"])
async def test_another_refusal_is_tried_again_at_the_next_start(world, fault):
    login = world.keep_login()
    error = permanent(fault) if fault == "forbidden" else transient(fault)
    world.github.faults["exchange"] = [error]
    await world.start()
    assert world.view().error.code == fault
    assert world.index.entries()["default"].refused == ""
    await world.stop()
    broker = await world.start()
    assert (await broker.lease(None)).token
    assert login.token.value in world.kept_tokens()


async def test_a_newer_login_in_the_store_is_tried_although_the_old_one_was_refused(world):
    world.keep_login()
    world.github.revoked.add("gho_kept")
    await world.start()
    await world.stop()
    assert "gho_kept" not in repr(world.index.entries())
    login = next(iter(world.store.items.values()))
    world.store.items[login.key] = replace(login, token=GitHubToken("gho_by_hand"))
    broker = await world.start()
    assert (await broker.lease(None)).token


async def test_the_same_token_brought_again_and_taken_is_no_longer_dead(world):
    """GitHub had refused it by mistake."""
    world.keep_login()
    world.github.revoked.add("gho_kept")
    await world.start()
    assert world.index.entries()["default"].refused
    world.github.revoked.clear()
    await world.clock.advance(1000.0)
    await collect(world.broker.login(replace(REQUEST, token="gho_kept")))
    assert not world.index.entries()["default"].refused
    assert (await world.broker.lease(None)).token


async def test_an_index_that_cannot_be_written_costs_one_more_refusal(world, caplog):
    world.keep_login()
    world.github.revoked.add("gho_kept")

    def full(name, entry):
        raise transient("disk_full")

    put, world.index.put = world.index.put, full
    broker = await world.start()
    assert (await failure_of(broker.lease(None))).code == "bad_credentials"
    assert "refusal not recorded" in caplog.text
    await world.stop()
    world.index.put = put
    broker = await world.start()
    assert (await failure_of(broker.lease(None))).code == "bad_credentials"
    assert world.github.count("exchange") == 2
