"""The real RPC door on a real Unix socket over a fake broker, and a real wire client to knock.

As a program (`python -m fakes.rpc_door SOCKET [NOFILE]`) it is that door in a process of its own,
for tests that measure or starve a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import sys
from pathlib import Path
from typing import Self

from brokerd.gate import Gate
from brokerd.host.peers.peercred import peer_of
from brokerd.rpc.server import RpcServer
from brokerd.views import LoginRequest
from copilot_broker.wire.connection import Connection, ConnectionEnded, ResponseReceived, Role
from fakes.broker import FakeBroker
from fakes.proxy import FakeProxy


__all__ = ["ABOUT_APP", "PATIENCE", "Door", "WireClient", "until"]

PATIENCE = 20.0
"""Seconds before a wait counts as hanging: generous, as machines may be busy."""


async def until(condition) -> None:
    """Let the loop turn until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


ABOUT_APP = {
    "app": "Some Editor",
    "notice": "unofficial",
    "client": "editor",
    "means": ["It may read your address."],
}


class Door:
    """`async with Door(path) as door`; `options` go to RpcServer."""

    def __init__(self, path: Path, *, gate: Gate | None = None, peers=peer_of, **options) -> None:
        self.path = path
        self.broker = FakeBroker()
        self.proxy = FakeProxy()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(1024)
        self.server = RpcServer(
            self.broker,
            gate or Gate(),
            peers,
            proxy=self.proxy,
            version="1.2.3",
            headers_for_client=lambda: {"Editor-Version": "copilot-broker/1.2.3"},
            login_request=lambda params: LoginRequest(
                client_id="Iv1.0000",
                token=params.get("token"),
                scope=params.get("scope") or "",
            ),
            extra_status=lambda: {"simulated": False, "store": {"kind": "memory"}},
            about_app=lambda request: ABOUT_APP,
            **options,
        )
        self._clients: list[WireClient] = []

    async def __aenter__(self) -> Self:
        await self.server.serve(self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        await self.server.drain(0)
        self.socket.close()

    async def knock(self) -> WireClient:
        client = WireClient(self.path)
        self._clients.append(client)
        return client


class WireClient:
    """`copilot_broker.wire` over a socket, bytes and all in the test's hands."""

    def __init__(self, path: Path | None = None, sock: socket.socket | None = None) -> None:
        self.socket = sock or socket.socket(socket.AF_UNIX)
        if path is not None:
            self.socket.connect(str(path))
        self.socket.setblocking(False)
        self.wire = Connection(Role.CLIENT)
        self.received = bytearray()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def ask(self, method: str, **params) -> int:
        msgid = self.wire.send_request(method, params)
        await self.flush()
        return msgid

    async def flush(self) -> None:
        await self.send(self.wire.data_to_send())

    async def event(self):
        """The next event; ConnectionEnded once the server has closed."""
        while (event := self.wire.next_event()) is None:
            try:
                await self.read()
            except ConnectionResetError:
                return ConnectionEnded()
        return event

    async def read(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            data = await loop.sock_recv(self.socket, 65536)
        self.received += data
        self.wire.receive_data(data, loop.time())

    async def call(self, method: str, **params) -> ResponseReceived:
        msgid = await self.ask(method, **params)
        event = await self.event()
        assert isinstance(event, ResponseReceived), event
        assert event.msgid == msgid
        return event

    async def is_closed(self) -> bool:
        """Wait for the next event: is it the end?"""
        return isinstance(await self.event(), ConnectionEnded)

    def close(self) -> None:
        self.socket.close()


async def _serve(path: Path) -> None:
    async with Door(path, connections=10_000):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    if len(sys.argv) > 2:
        count = int(sys.argv[2])
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    asyncio.run(_serve(Path(sys.argv[1])))
