"""The simulator's connections: numbered, and each tells at once when its client has left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from aiohttp import web


__all__ = ["Connection", "Connections"]

# socket(7): linger on, for zero seconds: close() sends RST.
RST_ON_CLOSE = struct.pack("ii", 1, 0)
FLUSH_STEP = 0.005


class Connection:
    """One client's connection, as long as it lasts."""

    def __init__(self, number: int, transport: asyncio.Transport) -> None:
        self.number = number
        self.transport = transport
        self.gone = False
        """The client left, or the simulator is closing."""
        self._waiter: asyncio.Future[None] | None = None
        self._draining = False

    async def pause(self, seconds: float) -> None:
        """Wait, but not past the connection's end."""
        if seconds <= 0 or self.gone:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def drain(self, request: web.Request) -> None:
        """Wait for room in the send buffer."""
        self._draining = True
        try:
            with contextlib.suppress(OSError):  # gone: everybody looks at `gone` next
                await request.writer.drain()
        finally:
            self._draining = False

    async def drop(self, *, hard: bool) -> None:
        """Close once everything written has left; with RST when `hard`."""
        while self.transport.get_write_buffer_size() and not self.gone:
            await self.pause(FLUSH_STEP)
        if hard and not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        self.transport.abort()

    def lose(self) -> None:
        """Tell whoever waits that it's over."""
        self.gone = True
        if self._draining:
            self.transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connections:
    """All open connections of one server, by aiohttp's protocol object."""

    def __init__(self) -> None:
        self._open: dict[Any, Connection] = {}
        self._count = 0

    def watch(self, server: Any) -> None:
        """Hear of each connection that `server` (a `web.Server`) makes and loses."""
        made, lost = server.connection_made, server.connection_lost

        def connection_made(protocol: Any, transport: asyncio.Transport) -> None:
            self._count += 1
            self._open[protocol] = Connection(self._count, transport)
            made(protocol, transport)

        def connection_lost(protocol: Any, exc: BaseException | None = None) -> None:
            self._open.pop(protocol).lose()
            lost(protocol, exc)

        server.connection_made, server.connection_lost = connection_made, connection_lost

    def of(self, request: web.Request) -> Connection | None:
        """Tell whose connection a request came by; None when it has ended already."""
        return self._open.get(request.protocol)

    def end_waits(self) -> None:
        """End every pause and every stuck write: the simulator closes."""
        for each in list(self._open.values()):
            each.lose()
