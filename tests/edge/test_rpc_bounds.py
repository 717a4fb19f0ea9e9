"""No caller can make the door hold, run or wait for more than its bounds, nor keep it from others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from dataclasses import replace

import pytest

from brokerd.broker import WatchState
from brokerd.host.confinement.file_limit import raise_file_limit
from brokerd.host.peers.peercred import peer_of
from brokerd.rpc.session import ANSWERS_HIGH, OUT_HIGH, RECV_CHUNK
from brokerd.sockets.crowd import OF_ONE_PROCESS
from brokerd.sockets.files import HTTP_CONNECTIONS, MIN_CONNECTIONS, shares_of
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import ConnectionEnded, ResponseReceived, StreamData
from copilot_broker.wire.limits import CONNECTIONS, MAX_FRAME, REQUESTS_IN_FLIGHT, Limits
from fakes.broker import CANARY, a_lease
from fakes.rpc_door import PATIENCE, Door, until


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        yield door


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xc1\xc1\xc1\xc1",
        b"\x00",
        b"\xc6\x40\x00\x00\x00",  # a binary of 1 GB
        b"\x94\x00\x01\xc6\x40\x00\x00\x00",  # the same where the method belongs
        b"\x94\x00\x01\xa9token.get\x91\xdf\xff\xff\xff\xff",  # a map of 4294967295 entries
        b"\x91" * 200_000,
        b"\x94\x00\x01\xa9token.get" + b"\x91" * 200_000,
        b"\x94\x00\x01\xa9token.get\x91\x81\xa1k\xdd\x00\x03\x00\x00" + b"\x90" * 200_000,
    ],
    ids=[
        "http",
        "never-used",
        "number",
        "1GB",
        "1GB-method",
        "map",
        "deep",
        "deep-params",
        "wide",
    ],
)
async def test_garbage_closes_its_connection_and_no_other(door, garbage, caplog):
    bystander, vandal = await door.knock(), await door.knock()
    with contextlib.suppress(
        BrokenPipeError, ConnectionResetError
    ):  # closed before all is written
        await vandal.send(garbage)
    assert await vandal.is_closed()
    assert (await bystander.call("token.get")).error is None
    assert "protocol breached" in caplog.messages
    assert door.server.connections == 1


async def test_what_was_asked_before_the_garbage_is_begun_and_then_dropped(door):
    client = await door.knock()
    door.broker.may_answer.clear()
    await client.ask("token.get")
    await until(lambda: door.broker.waiting == 1)
    await client.send(b"\xc1")
    assert await client.is_closed()
    await until(lambda: door.broker.waiting == 0)


async def test_a_half_frame_is_given_its_time_and_then_closed(tmp_path):
    async with Door(tmp_path / "s", limits=Limits(frame_timeout=0.05)) as door:
        slow, idle = await door.knock(), await door.knock()
        await idle.call("token.get")
        await slow.send(b"\x94\x00\x01\xa9tok")
        assert await slow.is_closed()
        assert (await idle.call("token.get")).error is None  # idle is free


async def test_a_frame_in_pieces_is_one_frame(door):
    client = await door.knock()
    client.wire.send_request("token.get", {})
    for byte in client.wire.data_to_send():
        await client.send(bytes([byte]))
    assert isinstance(await client.event(), ResponseReceived)


@pytest.fixture
def many_files():
    """Room for both ends of 500 connections, also where a shell's soft limit is 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_file_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_five_hundred_silent_connections_keep_nobody_waiting(many_files, door):
    silent = [await door.knock() for _ in range(500)]
    for client in silent[::2]:
        await client.send(b"\x94\x00")
    last = await door.knock()
    async with asyncio.timeout(PATIENCE):
        assert (await last.call("token.get")).result["token"] == CANARY
    assert door.server.connections == 501


async def test_the_seventeenth_request_in_flight_is_refused_and_the_sixteen_are_served(door):
    client = await door.knock()
    door.broker.may_answer.clear()
    msgids = {await client.ask("token.get") for _ in range(REQUESTS_IN_FLIGHT)}
    refused = await client.call("token.get")
    assert refused.error.error_class is ErrorClass.TEMPORARY
    assert refused.error.code == "too_many_requests"
    assert refused.error.retry_after > 0
    assert door.broker.waiting == REQUESTS_IN_FLIGHT
    door.broker.may_answer.set()
    answers = [await client.event() for _ in msgids]
    assert {answer.msgid for answer in answers} == msgids
    assert all(answer.error is None for answer in answers)
    assert (await client.call("token.get")).error is None


async def test_a_stream_counts_as_in_flight_until_its_end(door):
    client = await door.knock()
    streams = [(await client.call("token.watch")).result["stream"] for _ in range(16)]
    assert (await client.call("token.get")).error.code == "too_many_requests"
    client.wire.cancel_stream(streams[0])
    await client.flush()
    await client.event()
    assert (await client.call("token.get")).error is None


async def test_a_client_that_never_reads_is_read_no_further_and_loses_nothing(door):
    client = await door.knock()
    sent, rest = await _flood(client)
    assert door.server.buffered < ANSWERS_HIGH + RECV_CHUNK + 64 * 1024
    bystander = await door.knock()
    assert (await bystander.call("token.get")).error is None
    # Now it reads: every request that was taken whole has its answer.
    sending = asyncio.create_task(client.send(rest))
    for _ in range(sent):
        assert isinstance(await client.event(), ResponseReceived)
    await sending
    await until(lambda: door.server.buffered == 0)


async def _flood(client) -> tuple[int, bytes]:
    """Send requests until the kernel takes no more; returns how many and what is left of the last."""
    sent = refused = 0
    pending = b""
    while refused < 500:
        if not pending:
            client.wire.send_request("broker.status", {})
            pending = client.wire.data_to_send()
            sent += 1
            assert sent < 20_000, "the door reads without end"
        try:
            pending = pending[client.socket.send(pending) :]
            refused = 0
            await asyncio.sleep(0)  # one at a time, so that each is read by itself
        except BlockingIOError:
            refused += 1
            await asyncio.sleep(0)
    return sent, pending


async def test_streams_to_a_client_that_never_reads_wait_with_the_broker(door):
    """Eight windows of credit are open, yet no more is held than for one answer."""
    client = await door.knock()
    for _ in range(8):
        await client.call("token.watch")
    lease = a_lease(token=CANARY + "x" * 4096)
    for _ in range(1000):
        door.broker.states.put_nowait(WatchState("default", "token", lease))
    highest = 0
    for _ in range(3000):
        await asyncio.sleep(0)
        highest = max(highest, door.server.buffered)
    assert OUT_HIGH <= highest < OUT_HIGH + 8 * 1024
    assert door.broker.states.qsize() > 0


async def test_too_much_in_all_buffers_costs_the_greediest_its_connection(tmp_path, caplog):
    async with Door(tmp_path / "s", buffers=200_000) as door:
        modest, greedy = await door.knock(), await door.knock()
        await modest.send(_half_frame(1_000))
        await greedy.send(_half_frame(150_000))
        await until(lambda: door.server.buffered >= 151_000)
        newcomer = await door.knock()
        await newcomer.send(_half_frame(60_000))
        assert await greedy.is_closed()
        assert "connection dropped" in caplog.messages
        await until(lambda: door.server.connections == 2)
        assert (await (await door.knock()).call("token.get")).error is None


def _half_frame(size: int) -> bytes:
    assert size < MAX_FRAME
    head = b"\x94\x00\x01\xa9token.get\x91\x81\xa1k\xda" + (65535).to_bytes(2, "big")
    if size > 60_000:
        head = b"\x94\x00\x01\xa9token.get\x91\x81\xa1k\xdb" + (250_000).to_bytes(4, "big")
    return head + b"x" * (size - len(head))


async def test_the_oldest_idle_connection_makes_room(tmp_path):
    async with Door(tmp_path / "s", connections=3) as door:
        watcher, oldest, younger = [await door.knock() for _ in range(3)]
        await watcher.call("token.watch")
        await oldest.call("token.get")
        await younger.call("token.get")
        newcomer = await door.knock()
        assert (await newcomer.call("token.get")).error is None
        assert await oldest.is_closed()
        assert (await younger.call("token.get")).error is None
        assert door.server.connections == 3


async def test_a_word_makes_a_connection_young_again(tmp_path):
    async with Door(tmp_path / "s", connections=2) as door:
        first, second = await door.knock(), await door.knock()
        await first.call("token.get")
        await second.call("token.get")
        await first.call("token.get")
        assert (await (await door.knock()).call("token.get")).error is None
        assert await second.is_closed()


async def test_where_nobody_is_idle_a_newcomer_waits_for_somebody_to_be(tmp_path):
    async with Door(tmp_path / "s", connections=1) as door:
        door.broker.may_answer.clear()
        busy = await door.knock()
        await busy.ask("token.get")
        await until(lambda: door.broker.waiting == 1)
        newcomer = await door.knock()
        await newcomer.ask("broker.status")
        await until(lambda: door.server._acceptor.paused)
        assert door.server.connections == 1
        door.broker.may_answer.set()
        assert isinstance(await busy.event(), ResponseReceived)
        assert isinstance(await newcomer.event(), ResponseReceived)


async def test_a_process_that_keeps_very_many_busy_locks_nobody_out(tmp_path):
    numbers = iter([1, 2, *[666] * 200])

    def peers(sock):
        return replace(peer_of(sock), pid=next(numbers))

    async with Door(tmp_path / "s", connections=OF_ONE_PROCESS + 5, peers=peers) as door:
        watcher, idle = await door.knock(), await door.knock()
        await watcher.call("token.watch")
        await idle.call("token.get")
        greedy = []
        for _ in range(OF_ONE_PROCESS + 10):
            greedy.append(await door.knock())
            assert (await greedy[-1].call("token.watch")).error is None
        assert all([await each.is_closed() for each in greedy[:7]])
        numbers = iter([3])
        assert (await (await door.knock()).call("token.get")).error is None
        assert (await idle.call("token.get")).error is None
        door.broker.states.put_nowait(WatchState("default", "token", a_lease()))
        assert isinstance(await watcher.event(), StreamData)
        assert door.server.connections == OF_ONE_PROCESS + 5


async def test_a_request_in_flight_ends_with_its_caller(door):
    client = await door.knock()
    door.broker.may_answer.clear()
    await client.ask("token.get")
    await until(lambda: door.broker.waiting == 1)
    client.close()
    await until(lambda: door.broker.waiting == 0 and door.server.connections == 0)


async def test_closing_says_why_in_the_log(door, caplog):
    caplog.set_level(logging.DEBUG, "brokerd.rpc")
    client = await door.knock()
    await client.call("token.get")
    client.close()
    await until(lambda: door.server.connections == 0)
    assert [r.REASON for r in caplog.records if r.message == "connection closed"] == [
        "end_of_file"
    ]


async def test_the_client_sees_the_end_when_the_door_closes(door):
    client = await door.knock()
    await client.call("token.get")
    door.server.close()
    door.server.close()
    assert isinstance(await client.event(), ConnectionEnded)


@pytest.mark.parametrize(
    ("files", "rpc", "http"),
    [
        (65536, CONNECTIONS, HTTP_CONNECTIONS),
        (-1, CONNECTIONS, HTTP_CONNECTIONS),
        (1024, 160, 160),
        (16, MIN_CONNECTIONS, MIN_CONNECTIONS),
    ],
)
def test_the_bounds_leave_files_for_everybody_else(files, rpc, http):
    shares = shares_of(files)
    assert (min(CONNECTIONS, shares.rpc), shares.http) == (rpc, http)
