"""Client: httptools (llhttp) under an asyncio Protocol; idle connections in a list, newest first.

Push all the way: one callback a read, no task and no await per request or event.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import httptools

from bench.candidates import shell


HEAD = (
    b"POST /chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
COPIED = 64 * 1024
"""A shorter body is copied behind its head, to be one write."""


class Receiver(Protocol):
    """Who takes an answer."""

    def head(self, status: int, kind: bytes, length: bytes | None) -> None:
        """Begin."""

    def data(self, chunk: bytes) -> None:
        """Take a piece."""

    def end(self) -> None:
        """Know that it is whole."""

    def cut(self) -> None:
        """Know that it never will be."""


class Connection(asyncio.Protocol):
    """One kept connection to upstream."""

    def __init__(self, idle: list[Connection]) -> None:
        self._idle = idle
        self._transport: Any = None
        self._receiver: Receiver | None = None
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it."""
        self._transport = transport

    def ask(self, head: bytes, body: bytes, receiver: Receiver) -> None:
        """Send a request."""
        self._receiver = receiver
        self._headers.clear()
        self._parser = httptools.HttpResponseParser(self)
        if len(body) < COPIED:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def data_received(self, data: bytes) -> None:
        """Parse a read; what it held of the body goes on in one piece."""
        receiver = self._receiver
        self._parser.feed_data(data)
        if self._pieces and receiver is not None:
            receiver.data(b"".join(self._pieces))
            self._pieces.clear()
        if self._receiver is None and receiver is not None:
            self._idle.append(self)
            receiver.end()

    def connection_lost(self, _: Exception | None) -> None:
        """Tell who waits for an answer."""
        if self in self._idle:
            self._idle.remove(self)
        if self._receiver is not None:
            self._receiver.cut()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Pass the head on."""
        kind = self._headers.get(b"content-type", b"")
        length = self._headers.get(b"content-length")
        self._receiver.head(self._parser.get_status_code(), kind, length)

    def on_body(self, body: bytes) -> None:
        """Keep a piece for the end of the read."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Be free again."""
        self._receiver = None


class Client:
    """Asks upstream over kept connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, receiver: Receiver, body: bytes) -> None:
        """Send a completion; the receiver is told what comes."""
        head = HEAD % len(body)
        if self._idle:
            self._idle.pop().ask(head, body, receiver)
        else:
            task = asyncio.get_running_loop().create_task(self._connect(head, body, receiver))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, head: bytes, body: bytes, receiver: Receiver) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._idle), "127.0.0.1", self._port
        )
        connection.ask(head, body, receiver)


async def start(port: int) -> Any:
    """Return what forwards."""
    return Client(port).ask


if __name__ == "__main__":
    shell.serve(start)
