"""A stop finishes what is in flight, refuses what comes later, and says so."""

from __future__ import annotations

import asyncio

from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import ConnectionEnded, ResponseReceived, StreamEnd
from fakes.rpc_door import PATIENCE, Door, WireClient, until


async def test_what_is_in_flight_ends_and_what_is_new_is_refused(tmp_path):
    async with Door(tmp_path / "s") as door:
        client, idle = await door.knock(), await door.knock()
        await idle.call("broker.hello")
        door.broker.may_answer.clear()
        await client.ask("token.get")
        await until(lambda: door.broker.waiting == 1)
        drain = asyncio.create_task(door.server.drain(PATIENCE))
        await asyncio.sleep(0)
        refused = await idle.call("token.get")
        assert refused.error.error_class is ErrorClass.TEMPORARY
        assert refused.error.code == "shutting_down"
        assert refused.error.retry_after > 0
        door.broker.may_answer.set()
        answer = await client.event()
        assert isinstance(answer, ResponseReceived)
        assert answer.error is None
        await drain
        assert isinstance(await client.event(), ConnectionEnded)
        assert isinstance(await idle.event(), ConnectionEnded)


async def test_streams_end_with_a_readable_error(tmp_path):
    async with Door(tmp_path / "s") as door:
        watcher, person = await door.knock(), await door.knock()
        await watcher.call("token.watch")
        await person.call("account.login")
        await door.server.drain(PATIENCE)
        for client in (watcher, person):
            end = await client.event()
            assert isinstance(end, StreamEnd)
            assert end.error.code == "shutting_down"
            assert "systemctl" in end.error.hint
            assert isinstance(await client.event(), ConnectionEnded)
        assert door.broker.watch_left.is_set()
        assert door.broker.login_left.is_set()


async def test_what_never_ends_is_told_so_when_time_is_up(tmp_path):
    async with Door(tmp_path / "s") as door:
        client = await door.knock()
        door.broker.may_answer.clear()
        await client.ask("token.get")
        await until(lambda: door.broker.waiting == 1)
        await door.server.drain(0.01)
        answer = await client.event()
        assert isinstance(answer, ResponseReceived)
        assert answer.error.code == "shutting_down"


async def test_who_asked_before_the_stop_is_answered(tmp_path):
    """The request lies in the socket, not yet read, when the stop comes."""
    async with Door(tmp_path / "s") as door:
        client = await door.knock()
        await client.call("broker.hello")
        client.wire.send_request("token.get", {})
        client.socket.send(client.wire.data_to_send())
        await door.server.drain(PATIENCE)
        answer = await client.event()
        assert isinstance(answer, ResponseReceived)
        assert answer.error is None


async def test_who_has_just_connected_is_served_once(tmp_path):
    async with Door(tmp_path / "s") as door:
        client = await door.knock()
        await until(lambda: door.server.connections == 1)
        drain = asyncio.create_task(door.server.drain(PATIENCE))
        await asyncio.sleep(0)
        assert (await client.call("token.get")).error is None
        await drain


async def test_newcomers_wait_in_the_queue_for_the_next_broker(tmp_path):
    """What a restart with socket activation is: same listening socket, another server."""
    async with Door(tmp_path / "one") as door:
        await door.server.drain(PATIENCE)
        late = WireClient(tmp_path / "one")
        await late.ask("token.get")
        await door.server.serve(door.socket)
        answer = await late.event()
        assert isinstance(answer, ResponseReceived)
        assert answer.error is None
        late.close()


async def test_nothing_to_do_is_done_at_once(tmp_path):
    async with Door(tmp_path / "s") as door:
        clients = [await door.knock() for _ in range(5)]
        for client in clients:
            await client.call("broker.hello")
        async with asyncio.timeout(PATIENCE):
            await door.server.drain(1000)
        assert door.server.connections == 0
