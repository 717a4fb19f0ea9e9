"""An HTTP/1.1 origin that answers with the very bytes a test wants, and a proxy that tunnels."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from dataclasses import dataclass, field

import trustme


__all__ = ["PATIENCE", "Authority", "Collector", "Exchange", "Origin", "TunnelProxy", "chunked"]

PATIENCE = 20
"""Seconds that a test waits for what must come."""
GONE = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)


class Authority:
    """A private authority: its file for clients, contexts for servers."""

    def __init__(self, folder):
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def server_context(self, *names):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def chunked(*pieces):
    """Frame them (RFC 9112 §7.1), without the last chunk."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


@dataclass
class Exchange:
    """One request as it came, and the way to answer it."""

    connection: int
    line: str
    headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""
    client_left: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name):
        values = [value for each, value in self.headers if each.lower() == name.lower()]
        return values[0] if len(values) == 1 else values or None

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body=b"{}", status="200 OK", headers=()):
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
        await self.send("\r\n".join(lines).encode() + body)

    def shut(self):
        """End the connection this very moment, behind the event loop's back."""
        sock = self.writer.get_extra_info("socket")
        with socket.socket(fileno=socket.dup(sock.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)

    def reset(self):
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def wait_until_client_leaves(self):
        try:
            while await self.reader.read(65536):
                pass
        except GONE:
            pass
        self.client_left.set()


class Origin:
    """Serves `answer(exchange)` for each request; a connection goes on until one side ends it."""

    def __init__(self, answer=Exchange.answer, *, context=None, wants_body=True):
        self.answer = answer
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.open = 0
        self.arrived = asyncio.Event()
        """Set with every request; clear it to wait for the next."""
        self.protocols: list[str | None] = []
        self._context = context
        self._wants_body = wants_body
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._context, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "http" if self._context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        for _ in range(20):  # who is being accepted would be lost half-way
            await asyncio.sleep(0)
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while self._writers:
                await asyncio.sleep(0)

    async def exchange(self):
        """Wait for the next request."""
        async with asyncio.timeout(PATIENCE):
            await self.arrived.wait()
        self.arrived.clear()
        return self.exchanges[-1]

    async def _serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        number = self.connections
        tls = writer.get_extra_info("ssl_object")
        self.protocols.append(None if tls is None else tls.selected_alpn_protocol())
        try:
            while not writer.is_closing():
                exchange = await self._receive(number, reader, writer)
                self.exchanges.append(exchange)
                self.arrived.set()
                await self.answer(exchange)
        except GONE:
            pass
        finally:
            self.open -= 1
            writer.transport.abort()
            self._writers.discard(writer)

    async def _receive(self, number, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = [tuple(each.split(": ", 1)) for each in lines]
        exchange = Exchange(number, line, headers, reader, writer)
        length = int(exchange.header("content-length") or 0)
        if self._wants_body:
            exchange.body = await reader.readexactly(length)
        return exchange


class TunnelProxy:
    """Sends every tunnel to one port, whatever name it is asked for; or refuses."""

    def __init__(self, to_port=0, *, refusal=None, context=None):
        self.asked: list[list[str]] = []
        self._to_port = to_port
        self._refusal = refusal
        self._context = context
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.url = f"{'http' if self._context is None else 'https'}://{self.address}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        other = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.decode().removesuffix("\r\n\r\n").split("\r\n"))
            if self._refusal is not None:
                writer.write(self._refusal)
                await writer.drain()
                return
            far_reader, other = await asyncio.open_connection("127.0.0.1", self._to_port)
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
            await asyncio.gather(_copy(reader, other), _copy(far_reader, writer))
        except GONE:
            pass
        finally:
            writer.transport.abort()
            if other is not None:
                other.transport.abort()


async def _copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionError("one side is gone")


class Collector:
    """ports.Receiver that keeps what it is given."""

    def __init__(self, on_data=None):
        self.chunks: list[bytes] = []
        self.endings: list = []
        self.over = asyncio.Event()
        self.got_some = asyncio.Event()
        self._on_data = on_data

    def data(self, chunk):
        assert type(chunk) is bytes
        assert chunk
        assert not self.endings
        self.chunks.append(chunk)
        self.got_some.set()
        if self._on_data is not None:
            self._on_data(chunk)

    def ended(self, failure):
        self.endings.append(failure)
        self.over.set()

    @property
    def body(self):
        return b"".join(self.chunks)

    async def whole(self):
        """Wait for the end; return body and failure."""
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()
        assert len(self.endings) == 1
        return self.body, self.endings[0]
