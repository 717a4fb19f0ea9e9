"""The bare server before each client candidate: finds heads and lengths, frames chunks, no more.

A client candidate gives `serve` a function that takes (caller, body) and answers with
`caller.head`, `caller.data` and `caller.end`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Forward = Callable[["Caller", bytes], object]
    Start = Callable[[int], Awaitable[Forward]]


__all__ = ["Caller", "arguments", "serve"]

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Caller(asyncio.Protocol):
    """One caller's connection; one request at a time, as the load generator does."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._pieces: list[bytes] = []
        self._have = self._wanted = 0
        self._chunked = False
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Forward a request once it is whole."""
        self._pieces.append(data)
        self._have += len(data)
        if self._have < self._wanted:
            return
        data = b"".join(self._pieces)
        head = data.find(HEAD_END) + len(HEAD_END)
        if head < len(HEAD_END):
            return
        at = data.find(LENGTH, 0, head) + len(LENGTH)
        self._wanted = head + int(data[at : data.find(b"\r", at)])
        if len(data) >= self._wanted:
            self._pieces.clear()
            self._have = self._wanted = 0
            self._forward(self, data[head:])

    def head(self, status: int, kind: bytes, length: bytes | None) -> None:
        """Begin the answer; without a length it is sent in chunks."""
        self._chunked = length is None
        framing = b"transfer-encoding: chunked" if length is None else LENGTH + length
        self._transport.write(
            b"HTTP/1.1 %d OK\r\ncontent-type: %b\r\n%b\r\n\r\n" % (status, kind, framing)
        )

    def data(self, chunk: bytes) -> None:
        """Pass on what one read of upstream brought."""
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        self._transport.write(chunk)

    def end(self) -> None:
        """End the answer."""
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Close without an end: upstream has died."""
        self._transport.abort()


def arguments() -> tuple[str, int]:
    """Return the socket to listen on and the fake Copilot's port."""
    return sys.argv[1], int(sys.argv[2])


def serve(start: Start, caller: type[Caller] = Caller) -> None:
    """Listen; end on SIGTERM. `start` takes upstream's port."""
    asyncio.run(_serve(start, caller))


async def _serve(start: Start, caller: type[Caller]) -> None:
    path, port = arguments()
    forward = await start(port)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_unix_server(lambda: caller(forward), path, backlog=1024)
    await stop.wait()
    server.close()
