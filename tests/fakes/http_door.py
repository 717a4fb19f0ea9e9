"""The real HTTP door on real sockets before a handler in the test's hands, and a client to knock.

As a program (`python -m fakes.http_door SOCKET NOFILE [full]`) it is that door in a process that
may open few files; `full`: it has opened all of them before anybody comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from brokerd.gate import Gate
from brokerd.gateway.door import HttpDoor
from brokerd.gateway.messages import Outlet, Reply, Request
from brokerd.host.peers.peercred import peer_of


__all__ = ["GET", "PATIENCE", "Answer", "FakeHandler", "FakeWork", "HttpClient", "OpenDoor"]

PATIENCE = 20.0
"""Seconds before a wait counts as hanging: generous, as machines may be busy."""

GET = b"GET /whole HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class FakeWork:
    """A request that the test answers."""

    request: Request
    outlet: Outlet
    closed: int = 0
    went_on: int = 0

    def go_on(self) -> None:
        self.went_on += 1

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeHandler:
    """`/whole` is answered with the body's length, `/defect` raises, `/bare` is refused.

    For all else the test finds a `FakeWork`.
    """

    requests: list[Request] = field(default_factory=list)
    works: list[FakeWork] = field(default_factory=list)

    def refuses(self, head, caller):
        return "origin" in head.headers

    def begin(self, request, outlet, caller):
        self.requests.append(request)
        match request.head.path:
            case "/whole":
                headers = {"content-type": "application/json"}
                outlet.reply(Reply(200, headers, b"%d" % len(request.body)))
            case "/bare":
                outlet.reply(Reply(403, {"connection": "close"}))
            case "/defect":
                raise ValueError
            case _:
                work = FakeWork(request, outlet)
                self.works.append(work)
                return work
        return None


class OpenDoor:
    """`async with OpenDoor(path) as door`; `options` go to HttpDoor."""

    def __init__(
        self,
        path: Path,
        *,
        gate: Gate | None = None,
        handler=None,
        peers=peer_of,
        tcp: bool = False,
        **options,
    ) -> None:
        self.gate = gate or Gate()
        self.handler = handler or FakeHandler()
        self.door = HttpDoor(self.gate, self.handler, **options)
        self._peers = peers
        self.socket = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self.socket.bind(("127.0.0.1", 0) if tcp else str(path))
        self.socket.listen(1024)
        self._clients: list[HttpClient] = []

    async def __aenter__(self) -> Self:
        await self.door.serve(self.socket, "http", self._peers)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        await self.door.drain(0)
        self.socket.close()
        assert self.gate.connections == 0
        assert self.door.buffered == 0

    def knock(self) -> HttpClient:
        client = HttpClient(self.socket.family, self.socket.getsockname())
        self._clients.append(client)
        return client

    async def work(self, count: int = 1) -> FakeWork:
        """The newest request, once there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.handler.works) < count:
                await asyncio.sleep(0)
        return self.handler.works[-1]


@dataclass
class Answer:
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines)


class HttpClient:
    """Bytes and all in the test's hands."""

    def __init__(self, family: int, address) -> None:
        self.socket = socket.socket(family)
        self.socket.connect(address)
        self.socket.setblocking(False)
        self.received = bytearray()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        self.received += data
        return bool(data)

    async def take(self, count: int) -> bytes:
        while len(self.received) < count:
            assert await self.read(), bytes(self.received)
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    async def until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            assert await self.read(), bytes(self.received)
        return await self.take(self.received.index(mark) + len(mark))

    async def answer(self, *, is_head: bool = False) -> Answer:
        """The next answer, by its framing."""
        answer = Answer((await self.until(b"\r\n\r\n"))[:-4], b"")
        headers = answer.headers
        if is_head or answer.status in (100, 204, 304):
            return answer
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.until(b"\r\n"), 16):
                answer.body += (await self.take(size + 2))[:-2]
            assert await self.take(2) == b"\r\n"
        elif "content-length" in headers:
            answer.body = await self.take(int(headers["content-length"]))
        else:
            answer.body = await self.rest()
        return answer

    async def ask(self, request: bytes = GET) -> Answer:
        await self.send(request)
        return await self.answer()

    async def rest(self) -> bytes:
        """All there is until they close."""
        with contextlib.suppress(ConnectionResetError):
            while await self.read():
                pass
        return bytes(self.received)

    async def is_closed(self) -> bool:
        return await self.rest() == b""

    def close(self) -> None:
        self.socket.close()


async def _serve(path: Path, *, is_full: bool) -> None:
    async with OpenDoor(path):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        with contextlib.suppress(OSError):
            while is_full:
                os.dup(1)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    count = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    asyncio.run(_serve(Path(sys.argv[1]), is_full="full" in sys.argv))
