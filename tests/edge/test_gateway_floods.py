"""Who floods the HTTP door keeps nobody waiting for long, at neither door."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from dataclasses import replace

import pytest

from brokerd.host.confinement.file_limit import raise_file_limit
from brokerd.host.peers.peercred import peer_of
from brokerd.sockets.channel import Channel
from brokerd.sockets.turns import SLICE, Turns
from copilot_broker.wire import connection
from copilot_broker.wire.messages import Request, encode
from fakes import rpc_door
from fakes.http_door import GET, PATIENCE, OpenDoor
from fakes.rpc_door import until


WORK = b"GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHARE = 600
"""Of a flood, what is served while somebody else waits: a slice or two, and time is short where
the machine is busy. Each volley is of more than a thousand."""
HALF_BODY = b"POST /whole HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n"


@pytest.fixture
def many_files():
    """Room for both ends of 500 connections, also where a shell's soft limit is 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_file_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def served(monkeypatch):
    """A list of all reads and messages of the RPC door that were served."""
    found = []
    receive, decode = Channel.receive, connection.decode
    monkeypatch.setattr(
        Channel, "receive", lambda self, size: (found.append(size), receive(self, size))[1]
    )
    monkeypatch.setattr(
        connection, "decode", lambda data, **more: (found.append(0), decode(data, **more))[1]
    )
    return found


@pytest.fixture
async def doors(tmp_path):
    """Both, with one line before them; each connection is of a process of its own."""
    pids = iter(range(1, 1_000_000))

    def peers(sock):
        return replace(peer_of(sock), pid=next(pids))

    turns = Turns()
    async with (
        rpc_door.Door(tmp_path / "rpc", peers=peers, turns=turns) as rpc,
        OpenDoor(tmp_path / "http", peers=peers, turns=turns) as http,
    ):
        yield rpc, http


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /who", HALF_BODY + b"x" * 100, WORK],
    ids=["idle", "half-head", "half-body", "waiting"],
)
async def test_five_hundred_who_sit_there_keep_nobody_waiting(many_files, tmp_path, said):
    async with OpenDoor(tmp_path / "http") as door:
        for _ in range(500):
            await door.knock().send(said)
        assert (await door.knock().ask()).status == 200
        assert door.door.connections == 501


async def shovel(client, data: bytes) -> None:
    """Send for ever, and read what comes back."""

    async def drop() -> None:
        while await client.read():
            client.received.clear()

    async def send() -> None:
        while True:
            await client.send(data)

    with contextlib.suppress(ConnectionError):
        await asyncio.gather(drop(), send())


@pytest.mark.parametrize(
    "data",
    [GET * 300, HALF_BODY + b"x" * 30_000_000],
    ids=["requests", "bodies"],
)
async def test_a_flood_at_the_http_door_leaves_the_rpc_door_its_turns(doors, served, data):
    rpc, http = doors
    caller = await rpc.knock()
    assert (await caller.call("token.get")).error is None
    floods = [asyncio.create_task(shovel(http.knock(), data)) for _ in range(4)]
    await until(lambda: http.handler.requests)
    waits = []
    for _ in range(20):
        before = len(served) + len(http.handler.requests)
        assert (await caller.call("token.get")).error is None
        waits.append(len(served) + len(http.handler.requests) - before)
    for flood in floods:
        flood.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    assert sorted(waits)[len(waits) // 2] < SHARE, waits


async def test_a_flood_at_the_rpc_door_leaves_the_http_door_its_turns(doors, served):
    rpc, http = doors
    vandal, client = await rpc.knock(), http.knock()
    frames = b"".join(encode(Request(each, "broker.status", [{}])) for each in range(5000))

    async def shovel_frames() -> None:
        loop = asyncio.get_running_loop()
        reading = asyncio.create_task(_drop(vandal.socket))
        try:
            while True:
                await loop.sock_sendall(vandal.socket, frames)
        finally:
            reading.cancel()

    flood = asyncio.create_task(shovel_frames())
    waits = []
    for _ in range(20):
        before = len(served)
        assert (await client.ask()).status == 200
        waits.append(len(served) - before)
    flood.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await flood
    assert sorted(waits)[len(waits) // 2] < SHARE, waits


async def _drop(sock) -> None:
    while await asyncio.get_running_loop().sock_recv(sock, 65536):
        pass


async def test_a_crowd_at_one_door_is_served_in_turns_with_who_stands_at_the_other(tmp_path):
    turns = Turns()
    async with (
        rpc_door.Door(tmp_path / "rpc", turns=turns) as rpc,
        OpenDoor(
            tmp_path / "http", turns=turns, peers=lambda sock: replace(peer_of(sock), pid=666)
        ) as http,
    ):
        caller = await rpc.knock()
        assert (await caller.call("token.get")).error is None
        begin = http.handler.begin

        def dear(*request):
            end = time.monotonic() + SLICE
            while time.monotonic() < end:
                pass
            return begin(*request)

        http.handler.begin = dear
        crowd = [http.knock() for _ in range(60)]
        await until(lambda: http.door.connections == 60)
        for client in crowd:
            client.socket.send(GET)
        assert (await caller.call("token.get")).error is None
        assert len(http.handler.requests) < 20
        for client in crowd:
            assert (await client.answer()).status == 200


async def test_one_process_with_many_busy_connections_waits_for_itself(tmp_path):
    pids = iter([1, *[666] * 100])

    def peers(sock):
        return replace(peer_of(sock), pid=next(pids))

    async with OpenDoor(tmp_path / "http", peers=peers) as door:
        lone = door.knock()
        assert (await lone.ask()).status == 200
        crowd = [door.knock() for _ in range(50)]
        for client in crowd:
            await client.send(GET * 20)
        await lone.send(GET)
        async with asyncio.timeout(PATIENCE):
            assert (await lone.answer()).status == 200
        assert len(door.handler.requests) < 50 * 20
        for client in crowd:
            for _ in range(20):
                assert (await client.answer()).status == 200


async def test_those_who_never_read_are_held_to_little_and_block_nobody(doors):
    _, http = doors
    for count in range(50):
        await http.knock().send(WORK)
        work = await http.work(count + 1)
        work.outlet.start(200, {})
        while work.outlet.send(b"x" * 20_000):
            pass
    assert http.door.buffered < 50 * 100_000
    assert (await http.knock().ask()).status == 200


async def test_those_who_were_turned_away_are_few_and_soon_gone(doors):
    _, http = doors
    for _ in range(60):
        client = http.knock()
        await client.send(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
        assert (await client.answer()).status == 413
    assert http.door.connections == 0
    assert len(http.door._farewells) <= 32
    http.door.close()
    assert len(http.door._farewells) == 0
