"""The asyncio client: the same answers and errors as the blocking one, many at once."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from client.small_broker import PATIENCE, HangUp, Refuse, SmallBroker
from copilot_broker import (
    AsyncClient,
    BrokerUnreachable,
    Client,
    Denied,
    InternalError,
    LoginRequired,
    Temporary,
)
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo


RESULT = {
    "token": "tid=canary",
    "expires_at": 1_800_000_000,
    "expires_in": 1500,
    "api_base": "https://x",
    "account": "default",
    "token_id": "0123abcd",
}


def test_both_clients_have_the_same_methods_and_parameters():
    def public(kind):
        return {
            name: str(inspect.signature(member).replace(return_annotation=None))
            for name, member in vars(kind).items()
            if not name.startswith("_") and inspect.isfunction(member)
        }

    blocking, asyncio_ = public(Client), public(AsyncClient)
    blocking["aclose"] = blocking.pop("close")
    assert blocking == asyncio_
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


async def test_token_and_status(tmp_path):
    handlers = {"token.get": lambda _: RESULT, "broker.status": lambda _: {"pid": 1}}
    with SmallBroker(tmp_path / "run", handlers) as broker:
        async with AsyncClient(broker.path, name="editor") as client:
            token = await client.token(min_valid=5)
            assert token.token == "tid=canary"
            assert await client.status() == {"pid": 1}
            assert (await client.hello())["protocol"] == 1
    assert broker.asked[:2] == [
        ("broker.hello", {"protocol": 1, "client": "editor"}),
        ("token.get", {"min_valid": 5.0}),
    ]
    assert broker.connections == 1


async def test_many_calls_at_once_share_a_connection(tmp_path):
    with SmallBroker(tmp_path / "run", {"token.get": lambda _: RESULT}) as broker:
        async with AsyncClient(broker.path, timeout=PATIENCE) as client:
            assert len(await asyncio.gather(*(client.token() for _ in range(100)))) == 100
        assert broker.connections == 1


async def test_errors_have_their_exceptions(tmp_path):
    def refuse(_):
        raise Refuse(ErrorInfo(ErrorClass.LOGIN_REQUIRED, "signed_out", "nobody is signed in"))

    with SmallBroker(tmp_path / "run", {"token.get": refuse}) as broker:
        async with AsyncClient(broker.path) as client:
            for _ in range(2):
                with pytest.raises(LoginRequired):
                    await client.token()
        assert broker.connections == 1


async def test_no_broker_is_unreachable(tmp_path):
    with pytest.raises(BrokerUnreachable, match="systemctl --user start"):
        await AsyncClient(tmp_path / "none.sock").token()


async def test_restarted_broker_is_asked_again(tmp_path):
    left = []

    def leave_twice(_):
        left.append(1)
        if len(left) < 3:
            raise HangUp
        return RESULT

    with SmallBroker(
        tmp_path / "run", {"token.get": leave_twice, "account.use": leave_twice}
    ) as broker:
        async with AsyncClient(broker.path) as client:
            await client.token()
            assert broker.connections == 3
            left.clear()
            with pytest.raises(BrokerUnreachable, match="connection_lost"):
                await client.use("a")
            assert left == [1]


async def test_deadline_bounds_a_call_and_the_late_answer_is_dropped(tmp_path):
    release = threading.Event()

    def slow(_):
        release.wait(PATIENCE)
        return {}

    with SmallBroker(
        tmp_path / "run", {"broker.status": slow, "token.get": lambda _: RESULT}
    ) as broker:
        async with AsyncClient(broker.path, timeout=0.1) as client:
            with pytest.raises(Temporary, match="timeout"):
                await client.status()
            release.set()
            client._timeout = PATIENCE
            assert await client.token()
        assert broker.connections == 1


async def test_stream_yields_chunks_and_raises_its_end(tmp_path):
    def login(_):
        yield {"event": "user_code"}
        yield b"x" * 300_000
        yield b"y"
        raise Refuse(ErrorInfo(ErrorClass.DENIED, "access_denied", "refused"))

    with SmallBroker(tmp_path / "run", {"account.login": login}) as broker:
        found = []
        async with AsyncClient(broker.path) as client:
            stream = client.login("work", host="h")
            found.extend([await anext(stream) for _ in range(3)])
            with pytest.raises(Denied):
                await anext(stream)
            assert [chunk async for chunk in stream] == []
        assert [len(chunk) for chunk in found] == [1, 300_000, 1]
        assert broker.asked == [("account.login", {"account": "work", "host": "h"})]


async def test_closing_the_client_ends_a_waiting_stream(tmp_path):
    go = threading.Event()
    first = asyncio.Event()
    found = []

    def watch(_):
        yield {"n": 1}
        go.wait(PATIENCE)

    async def follow(client) -> None:
        async for chunk in client.watch():
            found.append(chunk)
            first.set()
        found.append("ended")

    with SmallBroker(tmp_path / "run", {"token.watch": watch}) as broker:
        async with AsyncClient(broker.path) as client:
            task = asyncio.create_task(follow(client))
            await asyncio.wait_for(first.wait(), PATIENCE)
        await asyncio.wait_for(task, PATIENCE)
        go.set()
    assert found == [{"n": 1}, "ended"]


async def test_cancelled_stream_hangs_up(tmp_path):
    go = threading.Event()

    def watch(_):
        yield {"n": 1}
        go.wait(PATIENCE)

    with SmallBroker(tmp_path / "run", {"token.watch": watch}) as broker:
        client = AsyncClient(broker.path)
        stream = client.watch()
        assert await anext(stream) == {"n": 1}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        go.set()
        assert await asyncio.to_thread(broker.gone.acquire, timeout=PATIENCE)


async def test_what_does_not_stream_is_named(tmp_path):
    with SmallBroker(tmp_path / "run", {"token.get": lambda _: RESULT}) as broker:
        async with AsyncClient(broker.path) as client:
            with pytest.raises(InternalError, match="does not stream"):
                await anext(client.open_stream("token.get"))
