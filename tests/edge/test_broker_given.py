"""Accounts whose login comes from outside: identified at each start, never written, never lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from brokerd.core.audit import LOGIN_REFUSED
from brokerd.core.given import from_credential, from_environment
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import Pat, User
from brokerd.errors import ErrorClass
from brokerd.stores.ladder import LoginStores
from brokerd.stores.memory import MemoryStore
from fakes.broker_world import REQUEST, ask, collect, failure_of
from fakes.clock import settle
from fakes.github import bad_credentials, permanent, transient
from fakes.store import FakeIndex


PATIENCE = 5.0


@pytest.fixture
def outside(world):
    """A world whose accounts may be given logins, and whose stores are the real ladder."""
    world.stores = LoginStores(
        file=world.store, memory=MemoryStore(), secret_service=MemoryStore, default="file"
    )
    world.store.kind = "file"
    world.store.check = MemoryStore().check
    give(world)
    return world


def give(world, value="gho_env", name="default", host="github.com"):
    world.settings[name] = AccountSettings(source="environment", host=host)
    world.given[name] = from_environment({"GH_TOKEN": value})


def give_credential(world, value, name):
    world.settings[name] = AccountSettings(source="credential")
    world.given[name] = from_credential(name, value.encode())


def take_away(world, name="default"):
    del world.settings[name], world.given[name]


def view(world, name="default"):
    return next(each for each in world.broker.accounts() if each.name == name)


async def test_it_is_identified_and_lent_from_with_nothing_written(outside):
    broker = await outside.start()
    lease = await broker.lease(timeout=PATIENCE)
    assert lease.token.startswith("tid=")
    shown = view(outside)
    assert (shown.login, shown.store, shown.source, shown.state) == (
        "octocat", "environment", "environment", "ready",
    )  # fmt: skip
    assert outside.store.calls == []
    entry = outside.index.entries()["default"]
    assert (entry.user_id, entry.store, entry.source) == (42, "environment", "environment")
    assert "gho_env" not in repr(entry)
    assert outside.index.default == "default"
    assert [name for name, _ in outside.github.calls] == ["identify", "exchange"]


async def test_without_a_network_it_is_asked_again(outside):
    outside.github.faults["identify"] = [transient(), transient()]
    broker = await outside.start()
    shown = view(outside)
    assert (shown.state, shown.store, shown.error.code) == (
        "exchanging", "environment", "network_down",
    )  # fmt: skip
    await outside.clock.advance(120)
    assert view(outside).state == "ready"
    assert (await broker.lease(timeout=PATIENCE)).account == "default"
    assert outside.github.count("identify") == 3


async def test_what_cannot_be_used_is_told_in_every_answer_and_in_the_log(outside, caplog):
    give(outside, "ghp_classic")
    outside.keep_login("other", 7)
    outside.stores.get = {"memory": outside.store}.get
    broker = await outside.start()
    for call in (broker.lease("default"), broker.refresh("default")):
        failure = await failure_of(call)
        assert (failure.error_class, failure.code) == (
            ErrorClass.LOGIN_REQUIRED,
            "environment_unusable",
        )
    assert view(outside).error.code == "environment_unusable"
    assert view(outside).state == "signed_out"
    assert "copilot-cred login" not in broker.summary()
    (record,) = [each for each in caplog.records if "not used" in each.message]
    assert (record.PLACE, record.ERROR_CODE) == ("GH_TOKEN", "environment_unusable")
    assert "ghp_classic" not in caplog.text
    assert (await broker.lease("other", timeout=PATIENCE)).account == "other"
    assert outside.github.count("identify") == 0


async def test_the_summary_says_what_is_wrong_and_names_no_login(outside):
    give(outside, "ghp_classic")
    broker = await outside.start()
    assert "GH_TOKEN is set, but cannot be used" in broker.summary()
    assert "copilot-cred login" not in broker.summary()


async def test_a_renewal_under_way_is_saved_when_a_reload_takes_its_place(outside):
    given, settings = dict(outside.given), dict(outside.settings)
    take_away(outside)
    login = outside.keep_login(value="ghu_old", life=30.0)
    outside.index.put("default", replace(outside.index.entries()["default"], store="file"))
    gate = outside.github.gates["renew"] = asyncio.Event()
    broker = await outside.start()
    assert outside.github.count("renew") == 1
    outside.given.update(given)
    outside.settings.update(settings)
    broker.reconfigured()
    gate.set()
    await settle()
    assert outside.store.items[login.key].token.value == "ghu_1"
    assert (await failure_of(broker.lease())).code == "login_in_the_way"
    assert outside.github.count("exchange") == 0


async def test_each_start_asks_anew_and_finds_another_person(outside):
    await outside.start()
    await outside.stop()
    outside.github.user = User(7, "hubot")
    give(outside, "gho_other")
    broker = await outside.start()
    assert (await broker.lease(timeout=PATIENCE)).account == "default"
    entry = outside.index.entries()["default"]
    assert (entry.user_id, entry.login) == (7, "hubot")
    assert outside.index.default == "default"


async def test_another_persons_token_is_lent_only_once_github_says_whose_it_is(outside):
    await outside.start()
    await outside.stop()
    outside.github.faults["identify"] = [transient()]
    await outside.start()
    assert view(outside).state == "exchanging"
    assert outside.github.count("exchange") == 1  # of the first start


async def test_two_accounts_have_their_own(outside):
    give_credential(outside, "gho_work", "work")
    outside.github.identify = whose({"gho_env": User(1, "me"), "gho_work": User(2, "worker")})
    broker = await outside.start()
    assert [(each.name, each.login, each.store) for each in broker.accounts()] == [
        ("default", "me", "environment"),
        ("work", "worker", "credential"),
    ]
    assert (await broker.lease("work", timeout=PATIENCE)).account == "work"
    assert (await broker.lease(timeout=PATIENCE)).account == "default"


def whose(people):
    async def identify(token):
        return people[token.value]

    return identify


async def test_bad_credentials_are_shown_once_in_all_starts(outside):
    await outside.start()
    outside.github.revoked.add("gho_env")
    failure = await failure_of(outside.broker.refresh())
    assert failure.code == "bad_credentials"
    assert "EnvironmentFile=" in failure.hint
    assert "copilot-cred login" not in failure.hint
    asked = len(outside.github.calls)
    for _ in range(2):
        for _ in range(3):
            assert (await failure_of(outside.broker.lease())).code == "bad_credentials"
        outside.broker.reconfigured()
        await outside.stop()
        await outside.start()
    assert len(outside.github.calls) == asked
    outside.given["default"] = from_environment({"GH_TOKEN": "gho_new"})
    outside.broker.reconfigured()
    assert (await outside.broker.lease(timeout=PATIENCE)).account == "default"


async def test_a_rotated_token_that_is_dead_is_asked_about_once(outside, caplog):
    await outside.start()
    await outside.stop()
    give(outside, "gho_dead")
    outside.github.faults["identify"] = [bad_credentials()]
    await outside.start()
    assert (await failure_of(outside.broker.lease())).code == "bad_credentials"
    await outside.stop()
    await outside.start()
    assert (await failure_of(outside.broker.lease())).code == "bad_credentials"
    assert outside.github.count("identify") == 2
    refusals = [each for each in caplog.records if each.message == LOGIN_REFUSED.message]
    assert [each.ACCOUNT for each in refusals] == ["default"]
    assert "gho_dead" not in caplog.text


async def test_any_other_refusal_of_whose_it_is_ends_it_too(outside):
    outside.github.faults["identify"] = [permanent()]
    await outside.start()
    failure = await failure_of(outside.broker.lease())
    assert failure.code == "no_copilot_access"
    assert "copilot-cred login" not in failure.hint


async def test_nobody_signs_in_or_out(outside):
    broker = await outside.start()
    refused = [
        await failure_of(collect(broker.login(REQUEST))),
        await failure_of(collect(broker.login(replace(REQUEST, token="gho_brought")))),
        await failure_of(broker.logout()),
        await failure_of(broker.logout(revoke=True)),
    ]
    for failure in refused:
        assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "login_is_given")
        assert "GH_TOKEN" in failure.message
    assert outside.github.count("revoke") == 0
    assert (await broker.lease(timeout=PATIENCE)).account == "default"


async def test_a_kept_login_is_not_thrown_away_by_a_setting(outside):
    login = outside.keep_login()
    entry = outside.index.entries()["default"]
    outside.index.put("default", replace(entry, store="file"))
    broker = await outside.start()
    failure = await failure_of(broker.lease())
    assert failure.code == "login_in_the_way"
    assert failure.hint.endswith("copilot-cred logout")
    assert outside.store.items == {login.key: login}
    assert outside.github.calls == []
    await broker.logout()
    assert outside.store.items == {}
    assert (await broker.lease(timeout=PATIENCE)).account == "default"
    assert view(outside).store == "environment"


async def test_a_reload_back_resumes_the_kept_login(outside):
    outside.keep_login()
    outside.index.put("default", replace(outside.index.entries()["default"], store="file"))
    broker = await outside.start()
    take_away(outside)
    broker.reconfigured()
    assert (await broker.lease(timeout=PATIENCE)).account == "default"
    assert (view(outside).store, outside.github.count("identify")) == ("file", 0)


async def test_a_reload_takes_it_up_and_gives_it_up(outside):
    given, settings = dict(outside.given), dict(outside.settings)
    take_away(outside)
    broker = await outside.start()
    login = await ask(collect(broker.login(REQUEST)))
    outside.given.update(given)
    outside.settings.update(settings)
    broker.reconfigured()
    await settle()
    assert (await failure_of(login)).code == "login_is_given"
    assert (await broker.lease(timeout=PATIENCE)).account == "default"
    broker.reconfigured()  # nothing has changed
    assert outside.github.count("identify") == 1
    take_away(outside)
    broker.reconfigured()
    failure = await failure_of(broker.lease())
    assert (failure.code, failure.hint) == ("login_required", "Run copilot-cred login")
    assert (outside.index.entries(), broker.accounts()) == ({}, [])


async def test_another_host_means_another_question(outside):
    broker = await outside.start()
    give(outside, host="acme.ghe.com")
    broker.reconfigured()
    await settle()
    assert outside.github.count("identify") == 2
    assert outside.index.entries()["default"].host == "acme.ghe.com"


async def test_what_is_no_longer_configured_is_forgotten_at_the_next_start(outside):
    await outside.start()
    await outside.stop()
    take_away(outside)
    broker = await outside.start()
    assert (outside.index.entries(), broker.accounts()) == ({}, [])
    assert (await failure_of(broker.lease())).code == "login_required"


@pytest.mark.parametrize("is_identified", [True, False])
async def test_a_lock_holds_it_back(outside, is_identified):
    if not is_identified:
        outside.github.faults["identify"] = [transient()]
    broker = await outside.start()
    await broker.lock()
    asked = len(outside.github.calls)
    await outside.clock.advance(600)
    assert (await failure_of(broker.lease())).code == "broker_locked"
    broker.reconfigured()
    assert len(outside.github.calls) == asked
    await broker.unlock()
    assert (await broker.lease(timeout=PATIENCE)).account == "default"


async def test_a_reload_under_a_lock_waits_for_its_end(outside):
    given = dict(outside.given)
    outside.given.clear()
    broker = await outside.start()
    await broker.lock()
    outside.given.update(given)
    broker.reconfigured()
    await settle()
    assert outside.github.calls == []
    await broker.unlock()
    assert (await broker.lease(timeout=PATIENCE)).account == "default"


async def test_it_takes_no_other_token_into_keeping(outside):
    await outside.start()
    store = outside.stores.get("environment")
    (key,) = await store.keys()
    with pytest.raises(Exception, match="comes from outside"):
        await store.save_pat(key, Pat("github_pat_x"))
    login = await store.load(key)
    with pytest.raises(Exception, match="comes from outside"):
        await store.save(replace(login, source="login"))
    for kind in ("environment", "credential"):
        with pytest.raises(Exception, match="no store named"):
            await outside.stores.choose(kind)


async def test_an_index_that_fails_is_tried_again(outside, monkeypatch):
    def fail(_self, _name, _entry):
        raise transient("disk_full")

    with monkeypatch.context() as patched:
        patched.setattr(FakeIndex, "put", fail)
        await outside.start()
        assert view(outside).error.code == "disk_full"
    await outside.clock.advance(60)
    assert view(outside).state == "ready"
