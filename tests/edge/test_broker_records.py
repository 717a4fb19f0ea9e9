"""What the broker writes down: one record for each thing that happened, and none for others."""

import asyncio
from dataclasses import replace

import pytest

from brokerd.broker import LoginRequest
from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.settings import AccountSettings
from fakes.broker_world import REQUEST, World, ask, cancel, collect, failure_of
from fakes.clock import settle
from fakes.github import bad_credentials, permanent, transient


HOURS_8 = 28_800.0
PENDING = NotGranted("authorization_pending")


def minted(trail):
    return len(trail.of("refreshed")) + len(trail.of("refresh-failed"))


async def slowly(clock, seconds):
    """What a checkpoint does that takes its time."""
    await clock.sleep(seconds)


# Refreshes.


async def test_a_refresh_is_one_record_that_tells_all_of_it(world, audit_trail):
    async def slow(name):
        if name == "exchange asked":
            await slowly(world.clock, 0.25)

    world.github.checkpoint = slow
    world.keep_login()
    broker = await world.start()
    await world.clock.advance(1.0)
    lease = await broker.lease(None)
    assert audit_trail.entries == [
        (
            "refreshed",
            {
                "ACCOUNT": "default",
                "TOKEN_FP": lease.token_id,
                "MODE": "exchange",
                "LIFETIME": "1800",
                "LATENCY_USEC": 250_000,
            },
        )
    ]


async def test_the_fingerprint_is_keyed(world, audit_trail):
    world.keep_login(value="gho_same")
    world.settings["default"] = AccountSettings(mode="direct")
    for _ in range(2):
        await world.start()
        await world.stop()
    one, two = audit_trail.of("refreshed")
    assert one["MODE"] == "direct"
    assert one["TOKEN_FP"] != two["TOKEN_FP"], "the same token, another process"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (transient("network_down"), "network_down"),
        (permanent("no_copilot_access"), "no_copilot_access"),
        (bad_credentials(), "bad_credentials"),
        (ZeroDivisionError("defect"), "defect"),
    ],
)
async def test_a_failed_refresh_is_one_record(world, audit_trail, fault, code):
    world.github.faults["exchange"] = [fault]
    world.keep_login()
    await world.start()
    [failed] = audit_trail.of("refresh-failed")
    assert failed == {"ACCOUNT": "default", "ERROR_CODE": code, "LATENCY_USEC": 0}
    assert minted(audit_trail) == world.github.count("exchange") == 1


async def test_an_exchange_that_is_cut_off_is_told_too(ready, audit_trail):
    ready.github.gate = asyncio.Event()
    call = await ask(ready.broker.refresh(None))
    await ready.clock.advance(2.0)
    await ready.broker.logout(None)
    await settle()
    assert audit_trail.of("refresh-failed") == [
        {"ACCOUNT": "default", "ERROR_CODE": "given_up", "LATENCY_USEC": 2_000_000}
    ]
    await failure_of(call)


async def test_both_ways_to_a_token_are_told_where_the_first_is_not_known(world, audit_trail):
    world.github.unexchangeable.add(True)
    world.keep_login()
    await world.start()
    assert audit_trail.names() == ["refresh-failed", "refreshed"]
    assert audit_trail.of("refresh-failed")[0]["ERROR_CODE"] == "exchange_not_found"
    assert audit_trail.of("refreshed")[0]["MODE"] == "direct"


async def test_as_many_records_as_exchanges_whatever_happens(world, audit_trail):
    world.keep_login("home", 1, "gho_one")
    world.keep_login("work", 2, "gho_two")
    faults = [transient(), None, transient("rate_limited", 30.0), None, None]
    world.github.faults["exchange"] = faults * 4
    await world.start()
    for _ in range(12):
        world.clock.suspend(3000.0)
        await world.clock.advance(900.0, rounds=20)
    asked = world.github.count("exchange")
    assert asked > 20
    assert minted(audit_trail) == asked
    assert len(audit_trail.of("refresh-failed")) == 8


async def test_a_dead_login_is_not_asked_about_and_so_not_told_again(world, audit_trail):
    world.github.revoked.add("gho_kept")
    world.keep_login()
    broker = await world.start()
    for _ in range(5):
        await failure_of(broker.lease(None))
        await world.clock.advance(600.0, rounds=8)
    assert audit_trail.of("login-refused") == [
        {"ACCOUNT": "default", "ERROR_CODE": "bad_credentials"}
    ]
    assert minted(audit_trail) == world.github.count("exchange") == 1
    await world.stop()
    await world.start()
    assert len(audit_trail.of("login-refused")) == 1, "known already"


# Prompts and logins.


async def test_a_login_is_a_prompt_its_end_a_token_and_a_sign_in(world, audit_trail):
    world.github.polls = [PENDING]
    broker = await world.start()
    calls = [await ask(collect(broker.login(REQUEST))) for _ in range(3)]
    assert audit_trail.entries == [
        ("prompted", {"ACCOUNT": "default", "HOST": "github.com", "CLIENT": "app"})
    ]
    await world.clock.advance(20.0)
    await asyncio.gather(*calls)
    assert audit_trail.names() == ["prompted", "prompt-ended", "refreshed", "signed-in"]
    [ended] = audit_trail.of("prompt-ended")
    took = ended.pop("LATENCY_USEC")
    assert ended == {"ACCOUNT": "default", "HOST": "github.com", "RESULT": "approved"}
    assert took == 12_000_000, "two polls, six seconds apart"
    assert audit_trail.of("signed-in") == [
        {"ACCOUNT": "default", "HOST": "github.com", "STORE": "memory"}
    ]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("access_denied", "denied"),
        ("expired_token", "expired"),
        ("token_expired", "expired"),
        ("incorrect_device_code", "failed"),
        ("what", "failed"),
    ],
)
async def test_a_prompt_that_fails_says_how(world, audit_trail, answer, result):
    world.github.polls = [PENDING, NotGranted(answer)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(15.0)
    await failure_of(call)
    [ended] = audit_trail.of("prompt-ended")
    assert ended["RESULT"] == result
    assert audit_trail.names() == ["prompted", "prompt-ended"]


async def test_a_prompt_that_nobody_answers_expires_once(world, audit_trail):
    world.github.polls = [PENDING] * 1000
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(1000.0)
    await failure_of(call)
    [ended] = audit_trail.of("prompt-ended")
    assert ended["RESULT"] == "expired"
    assert ended["LATENCY_USEC"] == pytest.approx(900e6, rel=0.01)


@pytest.mark.parametrize("way", ["leave", "logout", "stop"])
async def test_a_prompt_that_is_called_off_is_cancelled_once(world, audit_trail, way):
    world.github.polls = [PENDING] * 100
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(30.0)
    if way == "leave":
        await cancel(call)
    elif way == "logout":
        await broker.logout("default")
        await failure_of(call)
    await world.stop()
    await settle()
    assert [each["RESULT"] for each in audit_trail.of("prompt-ended")] == ["cancelled"]
    assert audit_trail.names() == ["prompted", "prompt-ended"]
    if way == "stop":
        await failure_of(call)


async def test_no_prompt_no_record_of_one(world, audit_trail):
    broker = await world.start()
    await collect(broker.login(LoginRequest(client_id="app", token="gho_given")))
    assert audit_trail.names() == ["refreshed", "signed-in"]


async def test_no_device_code_no_prompt(world, audit_trail):
    world.github.faults["request_device_code"] = [transient()]
    broker = await world.start()
    await failure_of(collect(broker.login(REQUEST)))
    assert audit_trail.names() == []


async def test_a_given_token_that_github_refuses_is_told_once(world, audit_trail):
    world.github.revoked.add("gho_wrong")
    broker = await world.start()
    request = LoginRequest(client_id="app", token="gho_wrong")
    calls = [await ask(collect(broker.login(request))) for _ in range(3)]
    for call in calls:
        await failure_of(call)
    await failure_of(collect(broker.login(request)))
    assert audit_trail.entries == [
        ("login-refused", {"ACCOUNT": "default", "ERROR_CODE": "bad_credentials"})
    ]


async def test_signing_out_and_revoking(ready, audit_trail):
    await ready.broker.logout(None, revoke=True)
    assert audit_trail.entries[1:] == [
        ("login-revoked", {"ACCOUNT": "default", "HOST": "github.com"}),
        ("signed-out", {"ACCOUNT": "default", "HOST": "github.com"}),
    ]


async def test_a_logout_that_fails_is_none(ready, audit_trail):
    ready.github.faults["revoke"] = [transient()]
    await failure_of(ready.broker.logout(None, revoke=True))
    assert audit_trail.names() == ["refreshed"]


async def test_a_renewal_is_told_with_how_long_it_took(audit_trail):
    world = World()
    world.keep_login(value="ghu_kept", life=-100.0)

    async def slow(name):
        if name == "login renewed":
            await slowly(world.clock, 0.5)

    world.github.checkpoint = slow
    await world.start()
    await world.clock.advance(1.0)
    assert audit_trail.of("login-renewed") == [{"ACCOUNT": "default", "LATENCY_USEC": 500_000}]
    assert world.github.count("renew") == 1
    await world.stop()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (transient("network_down"), "network_down"),
        (bad_credentials(), "bad_credentials"),
        (ZeroDivisionError("defect"), "defect"),
    ],
)
async def test_a_failed_renewal_is_one_record(world, audit_trail, fault, code):
    world.github.faults["renew"] = [fault]
    world.keep_login(value="ghu_kept", life=-100.0)
    await world.start()
    assert audit_trail.of("renewal-failed") == [
        {"ACCOUNT": "default", "ERROR_CODE": code, "LATENCY_USEC": 0}
    ]
    assert world.github.count("renew") == 1
    assert "login-renewed" not in audit_trail.names()


async def test_as_many_records_as_renewals_were_asked_for(world, audit_trail):
    world.github.faults["renew"] = [transient(), transient("network_down"), None]
    world.keep_login(value="ghu_kept", life=-100.0)
    await world.start()
    await world.clock.advance(600.0, rounds=20)
    names = audit_trail.names()
    assert (names.count("renewal-failed"), names.count("login-renewed")) == (2, 1)
    assert world.github.count("renew") == 3


async def test_a_login_that_somebody_else_has_renewed_is_not_ours_to_tell(world, audit_trail):
    kept = world.keep_login(value="ghu_kept", life=-100.0)
    newer = replace(kept.token, value="ghu_newer", expires_at=world.clock.wall() + HOURS_8)

    async def swap(name):
        if name == "exchange asked":
            return
        if name == "load asked" and world.store.calls.count("load") == 2:
            world.store.items[kept.key] = replace(kept, token=newer)

    world.store.checkpoint = swap
    await world.start()
    assert audit_trail.names() == ["refreshed"]
    assert world.github.count("renew") == 0
