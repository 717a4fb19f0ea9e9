"""`quota.*` over a real socket: what reaches the broker, what comes back, and who may bring a token."""

from __future__ import annotations

import logging

import pytest

from brokerd.errors import ErrorClass
from fakes.broker import a_quota, signed_out
from fakes.rpc_door import Door


PAT = "github_pat_canary"
KIND = {
    "entitlement": None, "used": None, "remaining": None, "percent_remaining": None,
    "unlimited": False, "overage": None, "overage_permitted": None, "unit": "requests",
    "resets_at": None, "blocked": False,
}  # fmt: skip
SHOWN = {
    "account": "default",
    "host": "github.com",
    "login": "octocat",
    "source": "seat",
    "age": 12.5,
    "plan": "individual_pro",
    "sku": "monthly_subscriber",
    "tier": "",
    "has_pat": False,
    "kinds": {
        "chat": KIND | {"unlimited": True},
        "premium_interactions": KIND
        | {
            "entitlement": 300.0,
            "used": 95.33,
            "remaining": 204.67,
            "percent_remaining": 68.2,
            "resets_at": 1_769_904_000,
        },
    },
    "models": {},
    "tried": [
        {
            "source": "billing",
            "outcome": "not_configured",
            "class": int(ErrorClass.USAGE),
            "code": "no_pat",
            "message": "no token is kept",
            "hint": "Keep one: copilot-cred quota set-pat",
        },
        {"source": "seat", "outcome": "used"},
    ],
}


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        yield door


@pytest.fixture
async def client(door):
    return await door.knock()


async def test_all_of_it_is_shown(door, client):
    answer = await client.call("quota.get")
    assert answer.error is None
    assert answer.result == SHOWN
    assert door.broker.calls == [("quota", None, False, None, None)]


async def test_parameters_reach_the_broker(door, client):
    await client.call("quota.get", account="work", fresh=True, pat=PAT, tier="pro+")
    assert door.broker.calls == [("quota", "work", True, PAT, "pro+")]


async def test_what_each_model_used(door, client):
    door.broker.quotas.view = a_quota(models=(("Sim 4.5", 41.0),), age=None, tier="pro")
    shown = (await client.call("quota.get")).result
    assert (shown["models"], shown["age"], shown["tier"]) == ({"Sim 4.5": 41.0}, None, "pro")


async def test_a_token_is_kept_and_forgotten(door, client):
    assert (await client.call("quota.set_pat", pat=PAT, account="work")).result == SHOWN
    answer = await client.call("quota.forget_pat", account="work")
    assert answer.result == {"account": "work", "forgotten": True}
    assert door.broker.calls == [("set_pat", PAT, "work"), ("forget_pat", "work")]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("quota.get", {"account": 7}),
        ("quota.get", {"fresh": "yes"}),
        ("quota.get", {"pat": 7}),
        ("quota.get", {"tier": []}),
        ("quota.set_pat", {}),
        ("quota.set_pat", {"pat": 7}),
        ("quota.forget_pat", {"account": 7}),
    ],
)
async def test_parameters_that_make_no_sense(door, client, method, params):
    answer = await client.call(method, **params)
    assert answer.error.error_class is ErrorClass.USAGE
    assert door.broker.calls == []


async def test_a_failure_is_told(door, client):
    door.broker.quotas.view = signed_out()
    answer = await client.call("quota.get")
    assert (answer.error.error_class, answer.error.code) == (
        ErrorClass.LOGIN_REQUIRED,
        "login_required",
    )


async def test_who_may_only_look_may_ask_but_not_with_a_token(tmp_path):
    async with Door(tmp_path / "s") as door:
        await door.server.serve(door.socket, "elsewhere")
        client = await door.knock()
        assert (await client.call("quota.get", fresh=True)).error is None
        assert door.broker.calls == [("quota", None, False, None, None)]  # what is kept will do
        assert (await client.call("models.list", fresh=True)).error is None
        assert door.proxy.models_wanted_fresh == [False]
        door.broker.calls.clear()
        for method, params in (
            ("quota.get", {"pat": PAT}),
            ("quota.set_pat", {"pat": PAT}),
            ("quota.forget_pat", {}),
        ):
            answer = await client.call(method, **params)
            assert (answer.error.error_class, answer.error.code) == (
                ErrorClass.DENIED,
                "scope_too_low",
            )
        assert door.broker.calls == []


async def test_no_token_in_the_log(client, caplog):
    caplog.set_level(logging.DEBUG)
    await client.call("quota.set_pat", pat=PAT)
    await client.call("quota.get", pat=PAT)
    assert PAT not in caplog.text
    assert PAT not in repr([vars(record) for record in caplog.records])
