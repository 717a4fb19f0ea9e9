"""The HTTP socket until its door exists: who may come in gets 503, who may not gets nothing."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import resource
import socket
import sys
from pathlib import Path

import pytest

from brokerd.core.access import Rule
from brokerd.gate import Gate
from brokerd.gateway.unavailable import (
    ACCEPT_PAUSE,
    ACCEPTS_PER_TURN,
    CONNECTIONS,
    HEAD_MAX,
    UnavailableDoor,
)
from brokerd.host.peers.peercred import peer_of
from fakes.rpc_door import PATIENCE, until


TESTS = Path(__file__).parents[1]


@pytest.fixture
def listening(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "http.sock"))
        listening.listen(256)
        listening.setblocking(False)
        yield listening


@pytest.fixture
async def door(listening):
    door = UnavailableDoor(Gate(), peer_of)
    await door.serve(listening)
    yield door
    door.close()


async def connect(listening):
    return await asyncio.open_unix_connection(listening.getsockname())


def knock(listening) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(listening.getsockname())
    client.setblocking(False)
    return client


async def answer(reader) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await reader.read()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /v1/x HTTP/1.1\r\n\r\n" + b"x" * 500_000,
        b"x" * (HEAD_MAX + 1),
    ],
    ids=["get", "post", "long-body", "no-head"],
)
async def test_every_request_is_answered_503_with_a_way_out(door, listening, request_bytes):
    reader, writer = await connect(listening)
    writer.write(request_bytes)
    head, _, body = (await answer(reader)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Connection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert "copilot-cred get" in json.loads(body)["error"]["message"]
    writer.close()
    await until(lambda: door.connections == 0)


async def test_a_head_in_pieces_is_answered_at_its_end(door, listening):
    reader, writer = await connect(listening)
    for byte in b"GET / HTTP/1.1\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await until(lambda: door.connections == 1)
    assert b" 503 " in await answer(reader)
    writer.close()


async def test_a_stranger_gets_not_a_byte(listening):
    gate = Gate(own_uid=4_000_000_000)
    door = UnavailableDoor(gate, peer_of)
    reader, writer = await connect(listening)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await door.serve(listening)
    with pytest.raises(ConnectionResetError):  # closed with the request unread
        await answer(reader)
    assert gate.connections == 0
    writer.close()
    door.close()


async def test_silence_is_not_waited_for_for_ever(listening):
    door = UnavailableDoor(Gate(), peer_of, timeout=0.05)
    await door.serve(listening)
    reader, writer = await connect(listening)
    assert await answer(reader) == b""
    writer.close()
    door.close()


async def test_who_goes_on_sending_is_not_listened_to_for_ever(listening):
    door = UnavailableDoor(Gate(), peer_of, timeout=0.05)
    await door.serve(listening)
    reader, writer = await connect(listening)
    writer.write(b"POST / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()
    writer.close()
    await until(lambda: door.connections == 0)
    door.close()
    with contextlib.suppress(ConnectionError):
        await answer(reader)


async def test_a_crowd_of_silent_ones_keeps_nobody_out(door, listening):
    crowd = [await connect(listening) for _ in range(CONNECTIONS + 10)]
    reader, writer = await connect(listening)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert b" 503 " in await answer(reader)
    for _, each in [*crowd, (reader, writer)]:
        each.close()


async def test_a_crowd_that_comes_at_once_is_never_more_than_the_bound(listening):
    """The oldest ones go as the others come, not some turns later."""
    crowd = [knock(listening) for _ in range(2 * CONNECTIONS)]
    gate = Gate()
    door = UnavailableDoor(gate, peer_of)
    await door.serve(listening)
    seen = []
    async with asyncio.timeout(PATIENCE):
        while not seen or crowd[CONNECTIONS - 1].fileno() >= 0:
            await asyncio.sleep(0)
            seen.append(gate.connections)
            with contextlib.suppress(BlockingIOError):
                if crowd[CONNECTIONS - 1].recv(1) == b"":
                    crowd[CONNECTIONS - 1].close()
    assert max(seen) == door.connections == CONNECTIONS
    assert seen[0] <= ACCEPTS_PER_TURN
    door.close()
    assert gate.connections == 0
    for client in crowd:
        client.close()


async def test_a_descriptor_that_is_sent_along_is_not_taken(door, listening):
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, 83, 1)  # SO_PASSRIGHTS: the kernel's own bar
    client = knock(listening)
    await until(lambda: door.connections == 1)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    rights = array.array("i", [client.fileno()] * 100)
    client.sendmsg([b"GET / HTTP/1.1\r\n\r\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    await until(lambda: door.connections == 0)
    assert len(list(Path("/proc/self/fd").iterdir())) < open_before
    assert client.recv(100) == b""
    client.close()


async def test_new_rules_that_let_somebody_in_no_more_close_the_connection(listening):
    own = os.getuid()
    gate = Gate([Rule(uid=own)], own_uid=own + 1)
    door = UnavailableDoor(gate, peer_of)
    await door.serve(listening)
    client = knock(listening)
    await until(lambda: door.connections == 1)
    gate.regrant([])
    assert door.connections == gate.connections == 0
    assert client.recv(100) == b""
    client.close()
    door.close()


async def test_closing_leaves_the_listening_socket_to_its_owner(door, listening):
    assert list(door.listeners) == ["http"]
    door.close()
    door.close()
    assert list(door.listeners) == []
    assert listening.fileno() >= 0
    again = UnavailableDoor(Gate(), peer_of)
    await again.serve(listening)
    reader, writer = await connect(listening)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert b" 503 " in await answer(reader)
    writer.close()
    again.close()


# -- as a process that may open few files ------------------------------------------------------


@contextlib.asynccontextmanager
async def door_process(path: Path, *arguments: str):
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, str(path), *arguments,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"ready\n"
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_without_file_descriptors_the_oldest_make_room(tmp_path):
    path = tmp_path / "http.sock"
    async with door_process(path, "40") as process:
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(60)]
        for client in crowd:
            client.connect(str(path))
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b" 503 " in await reader.read()
        assert crowd[0].recv(1) == b""
        assert b"accepting paused" in await process.stderr.readline()
        writer.close()
        for client in crowd:
            client.close()


async def test_where_nobody_can_make_room_it_waits_and_does_not_spin(tmp_path):
    """It has opened all files that it may before anybody comes."""
    path = tmp_path / "http.sock"
    async with door_process(path, "40", "full") as process:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert b"accepting paused" in await process.stderr.readline()
            before = _cpu_seconds(process.pid)
            assert b"accepting paused" in await process.stderr.readline()  # the next try
            assert _cpu_seconds(process.pid) - before < ACCEPT_PAUSE / 2
            process.kill()
            _, more = await process.communicate()
            assert more.count(b"\n") <= 1, more.decode()


def _cpu_seconds(pid: int) -> float:
    """User and system time (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _serve(path: str, *, full: bool) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(256)
        await UnavailableDoor(Gate(), peer_of).serve(listening)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        taken = []
        with contextlib.suppress(OSError):
            while full:
                taken.append(os.dup(1))
        await asyncio.Event().wait()


if __name__ == "__main__":
    count = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    asyncio.run(_serve(sys.argv[1], full="full" in sys.argv))
