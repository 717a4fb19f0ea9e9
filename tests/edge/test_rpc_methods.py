"""Each method over a real socket: what goes in reaches the broker, what comes out has its shape."""

from __future__ import annotations

import logging
import math

import pytest

from brokerd.core.quota_header import QuotaSnapshot
from brokerd.errors import ErrorClass, Failure
from brokerd.views import PacingView
from fakes.broker import CANARY, a_lease, a_view, signed_out
from fakes.rpc_door import Door


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        yield door


@pytest.fixture
async def client(door):
    return await door.knock()


async def test_hello_names_the_broker_and_the_scope(client):
    answer = await client.call("broker.hello", protocol=1, client="test", features=["unheard-of"])
    assert answer.error is None
    assert answer.result["protocol"] == 1
    assert answer.result["name"] == "copilot-broker"
    assert answer.result["version"] == "1.2.3"
    assert answer.result["scope"] == "admin"
    assert "streams" in answer.result["features"]


async def test_hello_with_a_broken_wrapper_is_refused_and_the_connection_goes_on(client):
    answer = await client.call("broker.hello", notify=7)
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.USAGE, "bad_hello")
    assert (await client.call("token.get")).error is None


async def test_token_get_hands_over_the_token_and_how_to_use_it(door, client):
    answer = await client.call("token.get", account="work", min_valid=300, reject="0a1b2c3d")
    assert door.broker.calls == [("lease", "work", 300.0, "0a1b2c3d")]
    assert answer.result == {
        "token": CANARY,
        "token_type": "bearer",
        "expires_at": 1_900_000_000,
        "expires_in": 1500.0,
        "api_base": "https://api.example.test",
        "completions_base": "https://proxy.example.test",
        "headers": {"Editor-Version": "copilot-broker/1.2.3"},
        "account": "default",
        "token_id": "0a1b2c3d",
        "clamped": False,
        "cooldown_until": None,
    }


@pytest.mark.parametrize("at_hand", [False, True])
async def test_token_get_says_until_when_copilot_wants_no_requests(door, client, at_hand):
    lease = a_lease(cooldown_until=1_900_000_007)
    door.broker.lease_answer, door.broker.at_hand = lease, lease if at_hand else None
    for _ in range(3):
        assert (await client.call("token.get")).result["cooldown_until"] == 1_900_000_007


@pytest.mark.parametrize("at_hand", [False, True])
async def test_a_github_token_that_is_used_directly_is_never_lent(door, client, caplog, at_hand):
    lease = a_lease(is_direct=True)
    door.broker.lease_answer, door.broker.at_hand = lease, lease if at_hand else None
    for params in ({}, {"min_valid": 60.0}, {"reject": "0a1b2c3d"}, {}, {"min_valid": 60.0}):
        answer = await client.call("token.get", **params)
        assert (answer.error.error_class, answer.error.code) == (ErrorClass.DENIED, "direct_mode")
        assert "copilot-cred login" in answer.error.hint
    refreshed = await client.call("broker.refresh")
    assert refreshed.result["token_id"] == "0a1b2c3d"
    assert CANARY.encode() not in client.received
    door.server.close()
    told = [
        (record.message, record.OPERATION, record.REASON, record.COUNT)
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]
    assert told == [("operation denied", "token.get", "direct_mode", count) for count in (1, 4)]


@pytest.mark.parametrize("at_hand", [False, True])
async def test_why_no_token_is_lent_leads_to_the_account_that_was_asked_for(door, client, at_hand):
    lease = a_lease(is_direct=True, account="work")
    door.broker.lease_answer, door.broker.at_hand = lease, lease if at_hand else None
    hint = (await client.call("token.get", account="work")).error.hint
    assert hint.endswith("copilot-cred login --account work --client-id vscode")


async def test_an_account_that_lends_no_token_completes(door, client):
    door.broker.at_hand = a_lease(is_direct=True)
    assert (await client.call("completion.create", body=b"{}")).result["status"] == 200


async def test_token_get_has_defaults_and_ignores_unknown_keys(door, client):
    assert (await client.call("token.get", flavour="sweet", account=None)).error is None
    assert door.broker.calls == [("lease", None, 60.0, None)]


@pytest.mark.parametrize(
    "params",
    [
        {"account": 7},
        {"account": [[]]},
        {"reject": True},
        {"min_valid": "60"},
        {"min_valid": -1},
        {"min_valid": True},
        {"min_valid": math.nan},
        {"min_valid": math.inf},
    ],
    ids=str,
)
async def test_params_that_make_no_sense_are_usage_errors(door, client, params):
    answer = await client.call("token.get", **params)
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.USAGE, "bad_params")
    assert door.broker.calls == []


async def test_an_unknown_method_is_a_usage_error_without_echoing_a_book(client):
    answer = await client.call("token.steal" + "x" * 10_000)
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.USAGE, "unknown_method")
    assert len(answer.error.message) < 200


async def test_a_failure_of_the_broker_travels_whole(door, client):
    door.broker.lease_answer = signed_out()
    answer = await client.call("token.get")
    assert answer.error.error_class is ErrorClass.LOGIN_REQUIRED
    assert answer.error.hint == "copilot-cred login"


async def test_errors_are_one_string_for_who_asked_so(door, client):
    await client.call("broker.hello", errors="text")
    door.broker.lease_answer = signed_out()
    answer = await client.call("token.get")
    assert answer.error.message == "login_required: nobody is signed in. copilot-cred login"


async def test_a_defect_is_told_without_its_text(door, client, caplog):
    door.broker.lease_answer = RuntimeError(f"lost {CANARY}")
    answer = await client.call("token.get")
    assert answer.error.error_class is ErrorClass.INTERNAL
    assert CANARY not in str(answer.error)
    assert "request failed" in caplog.messages


async def test_refresh_shows_the_new_token_without_handing_it_out(door, client):
    door.broker.lease_answer = a_lease(token_id="ffffffff")
    answer = await client.call("broker.refresh", account="work")
    assert door.broker.calls == [("refresh", "work")]
    assert answer.result["token_id"] == "ffffffff"
    assert CANARY not in repr(answer.result)


async def test_account_list_use_and_logout(door, client):
    failure = Failure(ErrorClass.DENIED, "no_seat", "no Copilot seat", "https://github.com")
    door.broker.views = [a_view(), a_view(name="work", default=False, error=failure)]
    listed = (await client.call("account.list")).result
    assert listed["default"] == "default"
    assert [account["name"] for account in listed["accounts"]] == ["default", "work"]
    assert listed["accounts"][0]["error"] is None
    assert listed["accounts"][1]["error"]["class"] == int(ErrorClass.DENIED)
    assert (await client.call("account.use", account="work")).result == {"default": "work"}
    assert (await client.call("account.use")).error.code == "bad_params"
    assert (await client.call("account.logout", account="work")).result == {"revoked": False}
    assert (await client.call("account.logout", revoke=True)).result == {"revoked": True}
    assert (await client.call("account.logout", revoke=1)).error.code == "bad_params"
    assert door.broker.calls == [
        ("use", "work"),
        ("logout", "work", False),
        ("logout", None, True),
    ]


async def test_account_maps_have_the_fields_of_the_view_and_how_its_use_goes(door, client):
    view = a_view(login_expires_in=3600.5)
    door.broker.views = [view]
    (account,) = (await client.call("account.list")).result["accounts"]
    assert account == {
        **vars(view),
        "pacing": {
            "cooldown_in": None,
            "models": {},
            "circuit": "closed",
            "limit": None,
            "in_flight": 0,
            "queued": 0,
        },
        "refusal": None,
        "quota": {},
    }
    assert (await client.call("broker.status")).result["accounts"] == [account]


async def test_accounts_tell_what_is_held_back_refused_and_left(door, client):
    limited = Failure(
        ErrorClass.TEMPORARY, "rate_limited", "slow down", "Wait", "https://github.com", 42.0
    )
    door.broker.views = [a_view(), a_view(name="work", default=False)]
    door.proxy.pacing_view = PacingView(
        cooldown_in=41.5,
        models={"gpt-5": 9.5},
        circuit="half_open",
        limit=3,
        in_flight=2,
        queued=7,
        reason=limited,
    )
    door.proxy.refusals = {"work": (limited, 12.5)}
    door.proxy.quotas = {"work": {"chat": QuotaSnapshot(300, 29.5, 0.0, False, 1_900_000_000)}}
    default, work = (await client.call("account.list")).result["accounts"]
    error = {
        "class": 7,
        "code": "rate_limited",
        "message": "slow down",
        "hint": "Wait",
        "url": "https://github.com",
        "retry_after": 42.0,
    }
    assert default["pacing"] == {
        "cooldown_in": 41.5,
        "models": {"gpt-5": 9.5},
        "circuit": "half_open",
        "limit": 3,
        "in_flight": 2,
        "queued": 7,
        "reason": error,
    }
    assert (default["refusal"], default["quota"]) == (None, {})
    assert work["refusal"] == {**error, "ago": 12.5}
    assert work["quota"] == {
        "chat": {
            "entitlement": 300,
            "percent_remaining": 29.5,
            "overage": 0.0,
            "overage_permitted": False,
            "resets_at": 1_900_000_000,
        }
    }


# -- models -----------------------------------------------------------------------------------


async def test_models_are_listed_as_github_lists_them(door, client):
    door.proxy.catalogue = [{"id": "gpt-4.1", "capabilities": {"limits": {"n": 1}}, "x": None}]
    door.proxy.models_age = 2.5
    answer = await client.call("models.list", account="work")
    assert answer.result == {"account": "work", "models": door.proxy.catalogue, "age": 2.5}
    assert (await client.call("models.list", fresh=True)).result["account"] == "default"
    assert door.proxy.models_asked == ["work", None]
    assert door.proxy.models_wanted_fresh == [False, True]
    for params in ({"account": 7}, {"fresh": "yes"}):
        assert (await client.call("models.list", **params)).error.code == "bad_params"


async def test_an_old_list_of_models_says_why_it_is_old(door, client):
    door.proxy.models_age = 900.0
    door.proxy.models_failure = Failure(ErrorClass.TEMPORARY, "upstream_429", "slow down", "Wait")
    found = (await client.call("models.list")).result
    assert found["models"] == door.proxy.catalogue
    assert found["error"] == {
        "class": 7,
        "code": "upstream_429",
        "message": "slow down",
        "hint": "Wait",
    }


async def test_a_models_terms_are_accepted_for_who_says_which(door, client):
    answer = await client.call("models.enable", model="claude", account="work")
    assert answer.result == {"account": "work", "model": "claude", "state": "enabled"}
    for params in ({}, {"model": None}, {"model": 7}, {"model": "m", "account": 7}):
        assert (await client.call("models.enable", **params)).error.code == "bad_params"
    assert door.proxy.enabled == [("work", "claude")]


async def test_accepting_terms_needs_more_than_asking_does(tmp_path, caplog):
    async with Door(tmp_path / "s") as door:
        await door.server.serve(door.socket, "http")
        client = await door.knock()
        assert (await client.call("models.list")).error is None
        answer = await client.call("models.enable", model="claude")
        assert (answer.error.error_class, answer.error.code) == (
            ErrorClass.DENIED,
            "scope_too_low",
        )
        assert door.proxy.enabled == []


async def test_what_messagepack_cannot_say_is_a_defect_that_is_told(door, client):
    door.proxy.catalogue = [{"id": "gpt-4.1", "limit": 2**70}]
    answer = await client.call("models.list")
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.INTERNAL, "internal_error")
    assert (await client.call("token.get")).error is None


# -- status -----------------------------------------------------------------------------------


async def test_status_joins_the_broker_and_what_the_daemon_adds(client):
    status = (await client.call("broker.status")).result
    assert status["version"] == "1.2.3"
    assert status["summary"] == "signed in as octocat"
    assert status["store"] == {"kind": "memory"}
    assert status["simulated"] is False
    assert status["pid"] > 0
    assert status["uptime"] >= 0
    assert status["accounts"][0]["login"] == "octocat"


async def test_no_answer_but_that_of_token_get_and_watch_holds_a_token(client):
    for method in ("broker.hello", "broker.status", "broker.refresh", "account.list"):
        assert CANARY not in repr((await client.call(method)).result)


async def test_a_token_lent_twice_is_one_record_and_a_total_at_close(door, client, caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    for _ in range(3):
        await client.call("token.get")
    door.broker.lease_answer = a_lease(token_id="ffffffff")
    await client.call("token.get")
    client.close()
    await door.server.drain(1)
    told = [(r.message, r.TOKEN_FP, getattr(r, "COUNT", None)) for r in caplog.records]
    assert told == [
        ("token granted", "0a1b2c3d", None),
        ("token lent", "0a1b2c3d", 3),
        ("token granted", "ffffffff", None),
        ("token lent", "ffffffff", 1),
    ]
    assert CANARY not in caplog.text
