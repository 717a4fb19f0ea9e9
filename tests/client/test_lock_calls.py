"""lock and unlock: both clients ask the same, and a slow unlock holds up no other call."""

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
    Locked,
    Temporary,
)
from copilot_broker.calls import UNLOCK_TIMEOUT, Patience
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo


KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])
LOCKED = ErrorInfo(ErrorClass.LOCKED, "broker_locked", "the broker is locked")
WRONG = ErrorInfo(ErrorClass.DENIED, "wrong_passphrase", "this is not the passphrase")


def refusing(error):
    def handler(_):
        raise Refuse(error)

    return handler


async def ask(kind, path, name, *given, timeout=PATIENCE):
    """Call a method of either client."""
    client = kind(path, timeout=timeout)
    try:
        answer = getattr(client, name)(*given)
        return await answer if inspect.isawaitable(answer) else answer
    finally:
        await client.aclose() if isinstance(client, AsyncClient) else client.close()


@KINDS
@pytest.mark.parametrize("name", ["lock", "unlock"])
@pytest.mark.parametrize("changed", [True, False])
async def test_each_asks_what_it_says(tmp_path, kind, name, changed):
    method = f"broker.{name}"
    with SmallBroker(tmp_path / "run", {method: lambda _: {"changed": changed}}) as broker:
        assert await ask(kind, broker.path, name) is changed
        assert await ask(kind, broker.path, name, "a passphrase") is changed
    asked = [params for asked, params in broker.asked if asked == method]
    assert asked == [{}, {"passphrase": "a passphrase"}]


@KINDS
async def test_refusals_are_the_exceptions_of_their_class(tmp_path, kind):
    handlers = {"broker.unlock": refusing(WRONG), "token.get": refusing(LOCKED)}
    with SmallBroker(tmp_path / "run", handlers) as broker:
        with pytest.raises(Denied, match="wrong_passphrase"):
            await ask(kind, broker.path, "unlock", "x")
        with pytest.raises(Locked, match="broker_locked"):
            await ask(kind, broker.path, "token")


@KINDS
async def test_neither_is_sent_twice(tmp_path, kind):
    def leave(_):
        raise HangUp

    handlers = {"broker.lock": leave, "broker.unlock": leave}
    with SmallBroker(tmp_path / "run", handlers) as broker:
        for name in ("lock", "unlock"):
            with pytest.raises(BrokerUnreachable):
                await ask(kind, broker.path, name)
    assert broker.methods().count("broker.lock") == 1
    assert broker.methods().count("broker.unlock") == 1


@KINDS
@pytest.mark.parametrize("name", ["lock", "unlock"])
async def test_an_answer_that_is_no_map_is_the_brokers_fault(tmp_path, kind, name):
    with (
        SmallBroker(tmp_path / "run", {f"broker.{name}": lambda _: [1]}) as broker,
        pytest.raises(InternalError, match="is no map"),
    ):
        await ask(kind, broker.path, name)


@KINDS
async def test_a_slow_unlock_holds_up_no_other_call(tmp_path, kind):
    asked, go_on = threading.Event(), threading.Event()

    def slow(_):
        asked.set()
        assert go_on.wait(PATIENCE)
        raise Refuse(WRONG)

    handlers = {"broker.unlock": slow, "broker.status": lambda _: {"locked": True}}
    with SmallBroker(tmp_path / "run", handlers) as broker:
        client = kind(broker.path, timeout=PATIENCE)
        try:
            if isinstance(client, AsyncClient):
                unlocking = asyncio.create_task(client.unlock("x"))
                await asyncio.to_thread(asked.wait, PATIENCE)
                assert (await client.status())["locked"]
            else:
                unlocking = asyncio.create_task(asyncio.to_thread(client.unlock, "x"))
                await asyncio.to_thread(asked.wait, PATIENCE)
                assert (await asyncio.to_thread(client.status))["locked"]
            assert not unlocking.done()
            go_on.set()
            with pytest.raises(Denied):
                await unlocking
        finally:
            go_on.set()
            await client.aclose() if isinstance(client, AsyncClient) else client.close()


@KINDS
async def test_a_timeout_of_the_clients_own_holds(tmp_path, kind):
    go_on = threading.Event()

    def slow(_):
        assert go_on.wait(PATIENCE)
        return {}

    with SmallBroker(tmp_path / "run", {"broker.unlock": slow}) as broker:
        with pytest.raises(Temporary):
            await ask(kind, broker.path, "unlock", timeout=0.05)
        go_on.set()


def test_without_one_the_slowest_answer_is_waited_for():
    assert UNLOCK_TIMEOUT > 10.0
    assert Patience.for_unlock(None) == Patience(UNLOCK_TIMEOUT, UNLOCK_TIMEOUT, greet=False)
