"""The HTTP socket until its door exists: who may come in gets 503, who may not gets nothing."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from brokerd.gate import Gate
from brokerd.gateway.unavailable import CONNECTIONS, HEAD_MAX, UnavailableDoor
from brokerd.host.peercred import peer_of
from fakes.rpc_door import PATIENCE


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
    await asyncio.sleep(0)


async def connect(listening):
    return await asyncio.open_unix_connection(listening.getsockname())


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


async def test_a_stranger_gets_not_a_byte(listening):
    door = UnavailableDoor(Gate(own_uid=4_000_000_000), peer_of)
    reader, writer = await connect(listening)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await door.serve(listening)
    with pytest.raises(ConnectionResetError):  # closed with the request unread
        await answer(reader)
    writer.close()
    door.close()
    await asyncio.sleep(0)


async def test_silence_is_not_waited_for_for_ever(listening):
    door = UnavailableDoor(Gate(), peer_of, timeout=0.05)
    await door.serve(listening)
    reader, writer = await connect(listening)
    assert await answer(reader) == b""
    writer.close()
    door.close()


async def test_a_crowd_of_silent_ones_keeps_nobody_out(door, listening):
    crowd = [await connect(listening) for _ in range(CONNECTIONS + 10)]
    reader, writer = await connect(listening)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert b" 503 " in await answer(reader)
    for _, each in [*crowd, (reader, writer)]:
        each.close()


async def test_closing_leaves_the_listening_socket_to_its_owner(door, listening):
    door.close()
    door.close()
    assert listening.fileno() >= 0
    again = UnavailableDoor(Gate(), peer_of)
    await again.serve(listening)
    reader, writer = await connect(listening)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert b" 503 " in await answer(reader)
    writer.close()
    again.close()
    await asyncio.sleep(0)
