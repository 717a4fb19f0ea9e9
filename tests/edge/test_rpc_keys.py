"""`key.*` over a real socket: the text once, the limits checked, and admin only."""

from __future__ import annotations

import logging
import os

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.keys import BUDGET_MAX, EXPIRES_MAX, KeptKeys, digest_of, text_of
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.gate import Gate
from fakes.key_store import FakeKeyStore
from fakes.rpc_door import Door


NOW = 1_790_000_000.0
PLAIN = {
    "name": "ci",
    "created_at": int(NOW),
    "expires_at": None,
    "models": None,
    "account": None,
    "requests_per_minute": None,
    "budget": None,
    "spent_today": 0,
}


@pytest.fixture
def store():
    return FakeKeyStore()


@pytest.fixture
def gate(store):
    return Gate(keys=store, wall=lambda: NOW)


@pytest.fixture
async def client(tmp_path, gate):
    async with Door(tmp_path / "s", gate=gate) as door:
        yield await door.knock()


async def test_a_key_is_made_listed_and_revoked(client, store):
    created = (await client.call("key.create", name="ci")).result
    text = created.pop("key")
    assert created == PLAIN
    assert [key.digest for key in store.kept.keys] == [digest_of(text)]
    assert (await client.call("key.list")).result == {"keys": [PLAIN]}
    assert (await client.call("key.revoke", name="ci")).result == {"name": "ci", "connections": 0}
    assert (await client.call("key.list")).result == {"keys": []}
    assert text.encode() in client.received
    assert client.received.count(text.encode()) == 1


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        ({"models": ["gpt-*", "o3"]}, {"models": ["gpt-*", "o3"]}),
        ({"account": "work"}, {"account": "work"}),
        ({"requests_per_minute": 1}, {"requests_per_minute": 1}),
        ({"budget": BUDGET_MAX}, {"budget": BUDGET_MAX}),
        ({"expires_in": 1}, {"expires_at": int(NOW) + 1}),
        ({"expires_in": 1.5}, {"expires_at": int(NOW) + 2}),
        ({"expires_in": EXPIRES_MAX}, {"expires_at": int(NOW) + EXPIRES_MAX}),
        (dict.fromkeys(("models", "account", "budget", "expires_in")), {}),
    ],
)
async def test_a_limit_is_kept_and_shown(client, params, shown):
    created = (await client.call("key.create", name="ci", **params)).result
    del created["key"]
    assert created == PLAIN | shown
    assert (await client.call("key.list")).result == {"keys": [created]}


@pytest.mark.parametrize(
    "params",
    [
        {"name": None},
        {"name": 7},
        {"name": ""},
        {"name": "a b"},
        {"name": "../x"},
        {"name": text_of(bytes(32))},
        {"models": []},
        {"models": "gpt-*"},
        {"models": ["gpt-*", 7]},
        {"models": ["a\nb"]},
        {"models": ["x" * 257]},
        {"account": "a b"},
        {"account": 7},
        {"requests_per_minute": 0},
        {"requests_per_minute": True},
        {"requests_per_minute": 1.5},
        {"budget": 0},
        {"budget": -1},
        {"budget": BUDGET_MAX + 1},
        {"budget": "10"},
        {"expires_in": 0},
        {"expires_in": 0.5},
        {"expires_in": -1},
        {"expires_in": EXPIRES_MAX + 1},
        {"expires_in": float("inf")},
        {"expires_in": float("nan")},
        {"expires_in": "1d"},
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_and_nothing_is_kept(client, store, params):
    error = (await client.call("key.create", **{"name": "ci", **params})).error
    assert (error.error_class, error.code) == (ErrorClass.USAGE, "bad_params")
    assert text_of(bytes(32)) not in str(error)
    assert store.saves == 0


@pytest.mark.parametrize("name", [None, 7])
async def test_to_revoke_takes_a_name(client, name):
    assert (await client.call("key.revoke", name=name)).error.code == "bad_params"


async def test_what_is_there_already_and_what_is_not_say_what_to_do(client):
    await client.call("key.create", name="ci")
    error = (await client.call("key.create", name="ci")).error
    assert (error.error_class, error.code) == (ErrorClass.USAGE, "key_exists")
    error = (await client.call("key.revoke", name="other")).error
    assert (error.error_class, error.code) == (ErrorClass.USAGE, "key_not_found")
    assert error.hint.endswith(": copilot-cred key list")


async def test_keys_that_cannot_be_read_are_told_of_and_stay(tmp_path):
    broken = Failure(ErrorClass.STORE_UNAVAILABLE, "keys_broken", "it is not JSON", "mv a b")
    store = FakeKeyStore(KeptKeys())
    store.faults = [PermanentError(broken)]
    async with Door(tmp_path / "s", gate=Gate(keys=store)) as door:
        client = await door.knock()
        for method in ("key.create", "key.list", "key.revoke"):
            store.faults = [PermanentError(broken)]
            error = (await client.call(method, name="ci")).error
            assert (error.error_class, error.code) == (9, "keys_broken")
        assert store.saves == 0
        assert (await client.call("broker.status")).error is None


ALL = ["key.create", "key.lease", "key.list", "key.mint", "key.revoke"]


@pytest.mark.parametrize("method", ALL)
async def test_it_takes_admin(tmp_path, store, method):
    async with Door(tmp_path / "s", gate=Gate([Rule(scope=Scope.TOKEN)], keys=store)) as door:
        client = await door.knock()
        error = (await client.call(method, name="ci")).error
        assert (error.error_class, error.code) == (ErrorClass.DENIED, "scope_too_low")
    assert store.saves == 0


async def test_the_records_tell_who_and_which_and_never_the_key(client, audit_trail, caplog):
    caplog.set_level(logging.DEBUG)
    text = (await client.call("key.create", name="ci", expires_in=60)).result["key"]
    await client.call("key.revoke", name="ci")
    (created,), (revoked,) = audit_trail.of("key-created"), audit_trail.of("key-revoked")
    assert (created["KEY"], created["LIFETIME"]) == ("ci", 60)
    assert (revoked["KEY"], revoked["COUNT"]) == ("ci", 0)
    asked = [(each["OPERATION"], each["KEY"]) for each in audit_trail.of("operation-granted")]
    assert asked == [("key.create", ""), ("key.revoke", "")]
    assert all(text not in str(vars(record)) for record in caplog.records)


async def test_keys_and_their_rules_are_explained(client, gate):
    await client.call("key.create", name="ci", models=["gpt-*"], requests_per_minute=5)
    gate.regrant([Rule("config.toml:3", key="ci", accounts=("work",))])
    rules = (await client.call("grant.list")).result["rules"]
    assert rules == [
        {"where": "config.toml:3", "who": {"key": "ci"}, "what": {"accounts": ["work"]}},
        {
            "where": "key ci",
            "who": {"key": "ci"},
            "what": {"scope": "complete", "models": ["gpt-*"], "requests_per_minute": 5},
        },
    ]
    told = (await client.call("grant.explain", key="ci", listener="http-tcp")).result
    assert (told["scope"], told["models"], told["accounts"]) == ("complete", ["gpt-*"], ["work"])
    assert told["peer"]["key"] == "ci"
    assert {step["where"] for step in told["steps"]} == {
        "listener http-tcp",
        "config.toml:3",
        "key ci",
    }
    told = (await client.call("grant.explain", key="nobody")).result
    assert (told["admitted"], told["error"]["code"]) == (False, "key_unknown")


async def test_who_uses_a_revoked_key_is_told_to_the_one_who_revokes(client, gate):
    text = (await client.call("key.create", name="ci")).result["key"]
    caller = gate.admit(Peer(pid=1, uid=os.getuid(), gid=1), "http-tcp")
    caller.on_revoked = caller.close
    gate.with_key(caller, text)
    assert (await client.call("key.revoke", name="ci")).result["connections"] == 1
    assert gate.connections == 1  # ours
