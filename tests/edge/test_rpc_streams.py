"""Streams: login progress and watch, credit, cancelling, and callers that leave."""

from __future__ import annotations

import asyncio
import logging

import pytest

from brokerd.broker import LoginSucceeded, LoginWaiting, UserCodeIssued, WatchState
from brokerd.errors import Failure
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import ResponseReceived, StreamData, StreamEnd
from copilot_broker.wire.limits import STREAM_WINDOW
from fakes.broker import CANARY, a_lease, a_view, signed_out
from fakes.rpc_door import Door, until


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        yield door


@pytest.fixture
async def client(door):
    return await door.knock()


async def test_login_streams_code_countdown_and_outcome(door, client):
    for step in (
        UserCodeIssued("ABCD-1234", "https://github.com/login/device", 899.0, 5.0),
        LoginWaiting(894.0),
        LoginWaiting(889.0, "GitHub asks us to slow down: look at this machine's clock"),
        LoginSucceeded(a_view()),
        None,
    ):
        door.broker.steps.put_nowait(step)
    assert (await client.call("account.login")).result == {"stream": 1, "status": 0, "headers": {}}
    chunks = [(await client.event()).chunk for _ in range(4)]
    assert chunks[0] == {
        "event": "user_code",
        "user_code": "ABCD-1234",
        "verification_uri": "https://github.com/login/device",
        "expires_in": 899.0,
        "interval": 5.0,
        "app": "Some Editor",
        "notice": "unofficial",
        "client": "editor",
        "means": ["It may read your address."],
    }
    assert chunks[1] == {"event": "waiting", "expires_in": 894.0}
    assert chunks[2] == {
        "event": "waiting",
        "expires_in": 889.0,
        "advice": "GitHub asks us to slow down: look at this machine's clock",
    }
    assert chunks[3]["event"] == "done"
    assert chunks[3]["account"] == vars(a_view())
    assert await client.event() == StreamEnd(1, None)


async def test_a_failed_login_ends_its_stream_with_the_reason(door, client):
    door.broker.steps.put_nowait(signed_out())
    await client.call("account.login")
    end = await client.event()
    assert isinstance(end, StreamEnd)
    assert end.error.error_class is ErrorClass.LOGIN_REQUIRED


async def test_a_login_keeps_nobody_waiting(door, client):
    await client.call("account.login")
    assert (await client.call("token.get")).error is None
    assert (await (await door.knock()).call("token.get")).error is None


async def test_a_login_is_cancelled_when_its_caller_leaves(door, client):
    await client.call("account.login")
    await until(lambda: door.broker.login_request is not None)
    client.close()
    async with asyncio.timeout(10):
        await door.broker.login_left.wait()


async def test_a_login_is_cancelled_when_its_caller_says_so(door, client):
    stream = (await client.call("account.login")).result["stream"]
    await until(lambda: door.broker.login_request is not None)
    client.wire.cancel_stream(stream)
    await client.flush()
    assert await client.event() == StreamEnd(stream, None)
    async with asyncio.timeout(10):
        await door.broker.login_left.wait()
    assert (await client.call("token.get")).error is None


async def test_a_login_whose_receiver_gives_no_credit_is_cancelled_too(door, client):
    """Cancelled between two steps: the broker's generator is not running then."""
    await client.call("account.login")
    for _ in range(20_000):
        door.broker.steps.put_nowait(LoginWaiting(1.0))
    await until(lambda: door.broker.steps.qsize() < 20_000)
    await until(lambda: door.server.buffered == 0 or door.server.buffered > 32_000)
    client.close()
    async with asyncio.timeout(10):
        await door.broker.login_left.wait()


async def test_a_given_token_reaches_the_broker_and_no_answer(door, client):
    door.broker.steps.put_nowait(LoginSucceeded(a_view()))
    door.broker.steps.put_nowait(None)
    await client.call("account.login", token="gho_canarycanary")
    events = [await client.event(), await client.event()]
    assert door.broker.login_request.token == "gho_canarycanary"
    assert "gho_canary" not in repr([event.chunk for event in events[:1]])


async def test_a_login_asks_for_the_scopes_it_was_told(door, client):
    await client.call("account.login", scope="read:user user:email")
    await until(lambda: door.broker.login_request is not None)
    assert door.broker.login_request.scope == "read:user user:email"


@pytest.mark.parametrize("name", ["account", "scope", "token"])
async def test_a_login_with_senseless_params_never_begins(door, client, name):
    answer = await client.call("account.login", **{name: [1]})
    assert answer.error.code == "bad_params"
    assert door.broker.login_request is None


async def test_watch_tells_the_full_state_and_each_change(door, client, caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    failure = signed_out().failure
    door.broker.states.put_nowait(WatchState("default", "token", a_lease()))
    door.broker.states.put_nowait(WatchState("default", "login_required", None, failure))
    await client.call("token.watch", account="default")
    first, second = (await client.event()).chunk, (await client.event()).chunk
    assert first["event"] == "token"
    assert first["token"] == CANARY
    assert first["headers"] == {"Editor-Version": "copilot-broker/1.2.3"}
    assert second["event"] == "login_required"
    assert second["error"]["class"] == int(ErrorClass.LOGIN_REQUIRED)
    assert "token" not in second
    assert caplog.messages.count("token granted") == 1


async def test_watch_shows_no_github_token(door, client, caplog):
    lease = a_lease(is_direct=True)
    failure = signed_out().failure
    for state in (
        WatchState("default", "token", lease),
        WatchState("default", "cooldown", lease, failure),
        WatchState("default", "login_required", None, failure),
        WatchState("default", "token", a_lease(token="tid=exchanged")),
    ):
        door.broker.states.put_nowait(state)
    await client.call("token.watch")
    chunks = [(await client.event()).chunk for _ in range(4)]
    for chunk in chunks[:2]:
        assert set(chunk) == {"event", "account", "error"}
        assert (chunk["event"], chunk["account"]) == ("failed", "default")
        assert (chunk["error"]["class"], chunk["error"]["code"]) == (5, "direct_mode")
    assert chunks[2]["event"] == "login_required"
    assert chunks[3]["token"] == "tid=exchanged"
    assert CANARY.encode() not in client.received
    assert caplog.messages == ["operation denied", "token granted"]
    door.server.close()
    assert caplog.messages == [
        "operation denied",
        "token granted",
        "operation denied",
        "token lent",
    ]


async def test_watch_tells_of_a_cool_down_beside_the_token(door, client):
    limited = Failure(ErrorClass.TEMPORARY, "rate_limited", "slow down", "Wait", retry_after=9.0)
    lease = a_lease(cooldown_until=1_900_000_009)
    door.broker.states.put_nowait(WatchState("default", "cooldown", lease, limited))
    await client.call("token.watch")
    chunk = (await client.event()).chunk
    assert (chunk["event"], chunk["token"]) == ("cooldown", CANARY)
    assert (chunk["cooldown_until"], chunk["error"]["retry_after"]) == (1_900_000_009, 9.0)


async def test_a_watch_without_credit_stops_and_goes_on_with_it(door, client):
    """Nothing is lent to a stream whose receiver is behind; others are served beside it."""
    lease = a_lease(token=CANARY + "x" * 4096)
    count = 200  # far more than the window of 256 KiB
    for _ in range(count):
        door.broker.states.put_nowait(WatchState("default", "token", lease))
    stream = (await client.call("token.watch")).result["stream"]
    asked = await client.ask("token.get")
    costs, seq = [], 0
    while not isinstance(event := await client.event(), ResponseReceived):
        assert event.seq == seq
        seq += 1
        costs.append(event.cost)
    assert event.msgid == asked  # served although the stream is far behind
    while sum(costs) < STREAM_WINDOW:
        event = await client.event()
        assert event.seq == seq
        seq += 1
        costs.append(event.cost)
    assert seq < count
    assert door.broker.states.qsize() >= count - seq - 1
    client.wire.grant_credit(stream, sum(costs))
    await client.flush()
    while seq < count:
        event = await client.event()
        assert isinstance(event, StreamData)
        assert event.seq == seq
        seq += 1
        client.wire.grant_credit(stream, event.cost)
        await client.flush()


async def test_leaving_ends_the_watch_inside_the_broker(door, client):
    await client.call("token.watch")
    await until(lambda: ("watch", None) in door.broker.calls)
    client.close()
    async with asyncio.timeout(10):
        await door.broker.watch_left.wait()


async def test_neovim_style_wrapping_is_honoured(door, client):
    await client.call("broker.hello", notify=["nvim_exec_lua", ["return ..."]])
    door.broker.states.put_nowait(WatchState("default", "token", a_lease()))
    door.broker.states.put_nowait(signed_out())
    await client.call("token.watch")
    await client.call("token.get")
    while b"stream.end" not in client.received:
        await client.read()
    assert client.received.count(b"nvim_exec_lua") == 2
