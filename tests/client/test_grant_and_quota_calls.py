"""Grants, doctor and quota: both clients ask the same and hand on the answer as it is."""

from __future__ import annotations

import inspect

import pytest

from client.small_broker import PATIENCE, HangUp, SmallBroker
from copilot_broker import AsyncClient, BrokerUnreachable, Client, InternalError


PAT = "github_pat_canary"
CALLS = [
    ("grants", (), {}, "grant.list", {}),
    ("explain_grant", (), {}, "grant.explain", {}),
    ("explain_grant", (7,), {}, "grant.explain", {"pid": 7}),
    (
        "explain_grant",
        (),
        {
            "unit": "app-code-1.scope",
            "label": "code",
            "sandbox": "flatpak",
            "uid": 0,
            "gid": 0,
            "listener": "agents",
            "key": "ci",
        },
        "grant.explain",
        {
            "unit": "app-code-1.scope",
            "label": "code",
            "sandbox": "flatpak",
            "uid": 0,
            "gid": 0,
            "listener": "agents",
            "key": "ci",
        },
    ),
    ("doctor", (), {}, "broker.doctor", {}),
    ("quota", (), {}, "quota.get", {}),
    (
        "quota",
        ("work", True, PAT, "pro+"),
        {},
        "quota.get",
        {"account": "work", "fresh": True, "pat": PAT, "tier": "pro+"},
    ),
    ("set_pat", (PAT,), {}, "quota.set_pat", {"pat": PAT}),
    ("set_pat", (PAT, "work"), {}, "quota.set_pat", {"pat": PAT, "account": "work"}),
    ("forget_pat", (), {}, "quota.forget_pat", {}),
    ("forget_pat", ("work",), {}, "quota.forget_pat", {"account": "work"}),
    ("create_key", ("ci",), {}, "key.create", {"name": "ci"}),
    (
        "create_key",
        ("ci",),
        {
            "models": ("gpt-*",),
            "account": "work",
            "requests_per_minute": 3,
            "budget": 9,
            "expires_in": 60,
        },
        "key.create",
        {
            "name": "ci",
            "models": ["gpt-*"],
            "account": "work",
            "requests_per_minute": 3,
            "budget": 9,
            "expires_in": 60.0,
        },
    ),
    ("revoke_key", ("ci",), {}, "key.revoke", {"name": "ci"}),
    ("lease_key", ("aider",), {}, "key.lease", {"label": "aider"}),
    (
        "lease_key",
        ("aider",),
        {"models": ("gpt-*",), "account": "work", "requests_per_minute": 3, "budget": 9},
        "key.lease",
        {
            "label": "aider",
            "models": ["gpt-*"],
            "account": "work",
            "requests_per_minute": 3,
            "budget": 9,
        },
    ),
    (
        "mint_key",
        ("claude", ("claude-*",)),
        {"expires_in": 60},
        "key.mint",
        {"label": "claude", "models": ["claude-*"], "expires_in": 60.0},
    ),
    (
        "mint_key",
        ("claude", ["*"]),
        {"expires_in": 60.5, "account": "work"},
        "key.mint",
        {"label": "claude", "models": ["*"], "expires_in": 60.5, "account": "work"},
    ),
]
METHODS = {method for *_, method, _ in CALLS}


async def ask(kind, path, name, given=(), named=None):
    """Call a method of either client."""
    client = kind(path, timeout=PATIENCE)
    try:
        answer = getattr(client, name)(*given, **(named or {}))
        return await answer if inspect.isawaitable(answer) else answer
    finally:
        await client.aclose() if isinstance(client, AsyncClient) else client.close()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("call", CALLS)
async def test_each_method_asks_what_it_says(tmp_path, kind, call):
    *asked, method, params = call
    with SmallBroker(tmp_path / "run", {method: lambda _: {"later": [1]}}) as broker:
        answer = await ask(kind, broker.path, *asked)
    assert answer == {"later": [1]}
    assert broker.asked == [(method, params)]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("name", ["grants", "explain_grant", "doctor", "quota", "forget_pat"])
async def test_an_answer_that_is_no_map_is_the_brokers_fault(tmp_path, kind, name):
    with (
        SmallBroker(tmp_path / "run", dict.fromkeys(METHODS, lambda _: [1])) as broker,
        pytest.raises(InternalError, match="is no map"),
    ):
        await ask(kind, broker.path, name)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_keys_are_a_list_of_maps_or_the_brokers_fault(tmp_path, kind):
    answers = [{"keys": [{"name": "ci", "later": 1}]}, {"keys": [7]}, {"keys": None}, {}, [1]]
    with SmallBroker(tmp_path / "run", {"key.list": lambda _: answers.pop(0)}) as broker:
        assert await ask(kind, broker.path, "keys") == [{"name": "ci", "later": 1}]
        while answers:
            with pytest.raises(InternalError, match=r"the answer to key\.list holds no keys"):
                await ask(kind, broker.path, "keys")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_keys_are_asked_for_again_when_the_broker_is_leaving(tmp_path, kind):
    left = []

    def leave_once(_):
        if not left:
            left.append(True)
            raise HangUp
        return {"keys": []}

    with SmallBroker(tmp_path / "run", {"key.list": leave_once}) as broker:
        assert await ask(kind, broker.path, "keys") == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("call", CALLS)
async def test_only_what_changes_nothing_is_asked_of_the_next_broker(tmp_path, kind, call):
    *asked, method, params = call
    left = []

    def leave_once(_):
        if not left:
            left.append(True)
            raise HangUp
        return {}

    with SmallBroker(tmp_path / "run", {method: leave_once}) as broker:
        if method in {"quota.set_pat", "quota.forget_pat", "key.create", "key.revoke"}:
            with pytest.raises(BrokerUnreachable, match="hung up"):
                await ask(kind, broker.path, *asked)
            assert broker.asked == [(method, params)]
        else:
            assert await ask(kind, broker.path, *asked) == {}
            assert broker.asked == [(method, params)] * 2
