"""`broker.lock`, `broker.unlock` over a real socket: one passphrase a connection, and admin only."""

from __future__ import annotations

import asyncio
import logging

import pytest

from brokerd.broker.locking import WRONG
from brokerd.core.access import Rule, Scope
from brokerd.errors import ErrorClass, PermanentError
from brokerd.gate import Gate
from copilot_broker.wire.connection import ResponseReceived
from fakes.rpc_door import Door, until


PASSPHRASE = "canary passphrase"


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        yield door


async def test_answers_say_whether_something_changed(door):
    client = await door.knock()
    for changed in (True, False):
        answer = await client.call("broker.lock", passphrase=PASSPHRASE)
        assert answer.result == {"locked": True, "changed": changed}
    assert (await client.call("broker.status")).result["locked"] is True
    for changed in (True, False):
        door.broker.unlock_answer = changed
        answer = await client.call("broker.unlock", passphrase=None)
        assert answer.result == {"locked": False, "changed": changed}
    assert (await client.call("broker.status")).result["locked"] is False
    assert door.broker.calls == [("lock", PASSPHRASE)] * 2 + [("unlock", None)] * 2


@pytest.mark.parametrize("method", ["broker.lock", "broker.unlock"])
@pytest.mark.parametrize("passphrase", [7, ["a"], b"bytes"])
async def test_a_passphrase_is_text(door, method, passphrase):
    client = await door.knock()
    error = (await client.call(method, passphrase=passphrase)).error
    assert (error.error_class, error.code) == (ErrorClass.USAGE, "bad_params")
    assert door.broker.calls == []


async def test_one_passphrase_is_tried_at_a_time_on_a_connection(door):
    door.broker.may_answer.clear()
    door.broker.unlock_answer = PermanentError(WRONG)
    client, other = await door.knock(), await door.knock()
    first = await client.ask("broker.unlock", passphrase=PASSPHRASE)
    await until(lambda: door.broker.calls)
    refused = await client.call("broker.unlock", passphrase=PASSPHRASE)
    assert refused.error.code == "unlock_pending"
    assert (await client.call("broker.status")).error is None, (
        "the same caller may ask other things"
    )
    assert (await other.call("broker.status")).error is None
    second = await other.ask("broker.unlock", passphrase=PASSPHRASE)
    await until(lambda: len(door.broker.calls) == 2)
    door.broker.may_answer.set()
    for each, msgid in ((client, first), (other, second)):
        event = await each.event()
        assert isinstance(event, ResponseReceived)
        assert (event.msgid, event.error.code) == (msgid, "wrong_passphrase")
    assert (await client.call("broker.unlock")).error.code == "wrong_passphrase"


async def test_who_gives_up_may_try_again(door):
    door.broker.may_answer.clear()
    client = await door.knock()
    msgid = await client.ask("broker.unlock", passphrase=PASSPHRASE)
    await until(lambda: door.broker.calls)
    client.wire.cancel_request(msgid)
    await client.flush()
    assert (await client.event()).error is not None
    door.broker.may_answer.set()
    assert (await client.call("broker.unlock")).error is None


@pytest.mark.parametrize("method", ["broker.lock", "broker.unlock"])
async def test_it_takes_admin(tmp_path, method):
    rule = Rule(scope=Scope.TOKEN)
    async with Door(tmp_path / "t", gate=Gate([rule])) as door:
        client = await door.knock()
        error = (await client.call(method)).error
        assert (error.error_class, error.code) == (ErrorClass.DENIED, "scope_too_low")
        assert door.broker.calls == []


async def test_no_passphrase_is_written_down(door, caplog):
    caplog.set_level(logging.DEBUG)
    client = await door.knock()
    await client.call("broker.lock", passphrase=PASSPHRASE)
    door.broker.unlock_answer = PermanentError(WRONG)
    assert PASSPHRASE not in str((await client.call("broker.unlock", passphrase=PASSPHRASE)).error)
    await asyncio.sleep(0)
    assert caplog.records
    assert all(PASSPHRASE not in str(vars(record)) for record in caplog.records)
