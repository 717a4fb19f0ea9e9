"""GitHub's real names, led to a simulator: a proxy that tunnels, and TLS where the tunnel ends.

A daemon that has this as `network.proxy` and its authority as `network.ca_file` believes that it
talks to github.com, api.business.githubcopilot.com or a tenant's hosts, and nothing is looked up:
names that are not GitHub's are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import trustme

from brokerd.simulator.places import NOWHERE, place_of


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


__all__ = ["RealNames", "RealNamesThread"]

LOOPBACK = "127.0.0.1"
SECONDS = 10
PIECE = 65536
GONE = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError)


class RealNames:
    """`async with RealNames(simulator.url, tmp_path) as names: names.url, names.ca_file`."""

    def __init__(self, simulator_url: str, folder: Path, *, refuse: int | None = None) -> None:
        self.url = ""
        """Of the proxy."""
        self.ca_file = folder / "real-names.pem"
        self.asked: list[str] = []
        """Every authority a tunnel was wanted to, in order, refused ones too."""
        self.refuse = refuse
        """A status (407, 502, …) for every CONNECT instead of a tunnel; None = tunnel."""
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        self.ca_file.chmod(0o644)
        self._simulator = urlsplit(simulator_url).port
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._servers: list[asyncio.Server] = []
        self._busy: set[asyncio.Task[None]] = set()
        self._tls_port = 0

    async def start(self) -> None:
        """Listen on loopback."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = self._choose
        ends = await asyncio.start_server(self._end_of_tunnel, LOOPBACK, 0, ssl=context)
        self._tls_port = ends.sockets[0].getsockname()[1]
        proxy = await asyncio.start_server(self._proxy, LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{proxy.sockets[0].getsockname()[1]}"
        self._servers = [ends, proxy]

    async def close(self) -> None:
        """Stop listening and end every tunnel."""
        for server in self._servers:
            server.close()
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _choose(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        if name is None or place_of(name) is NOWHERE:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        if name not in self._contexts:
            context = self._contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._authority.issue_cert(name).configure_cert(context)
        tls.context = self._contexts[name]
        return None

    async def _proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._watched(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            method, authority, _ = head.decode("latin-1").split(" ", 2)
            if method != "CONNECT":
                await _say(writer, 405)
                return
            self.asked.append(authority)
            name, _, port = authority.rpartition(":")
            if self.refuse is not None or port != "443" or place_of(name) is NOWHERE:
                await _say(writer, self.refuse or 502)
                return
            onward = await asyncio.open_connection(LOOPBACK, self._tls_port)
            with self._watched(onward[1]):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _join((reader, writer), onward)

    async def _end_of_tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with self._watched(writer):
            onward = await asyncio.open_connection(LOOPBACK, self._simulator)
            with self._watched(onward[1]):
                await _join((reader, writer), onward)

    @contextlib.contextmanager
    def _watched(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Close `writer` at the end, however it comes; with RST if the other side had one."""
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        try:
            yield
        except GONE:
            writer.transport.abort()
        except asyncio.CancelledError:  # the proxy closes
            writer.transport.abort()
            raise
        finally:
            writer.close()


async def _say(writer: asyncio.StreamWriter, status: int) -> None:
    more = 'Proxy-Authenticate: Basic realm="x"\r\n' if status == 407 else ""
    writer.write(f"HTTP/1.1 {status} Refused\r\n{more}Content-Length: 0\r\n\r\n".encode())
    await writer.drain()


async def _join(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Carry bytes both ways until one side has no more; what it said is all delivered."""
    ways = [
        asyncio.ensure_future(_carry(one[0], other[1])),
        asyncio.ensure_future(_carry(other[0], one[1])),
    ]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in ways:
            each.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()


class RealNamesThread:
    """The same in a thread of its own: `with RealNamesThread(github.url, folder) as names:`."""

    def __init__(self, simulator_url: str, folder: Path, *, refuse: int | None = None) -> None:
        self._names = RealNames(simulator_url, folder, refuse=refuse)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="real names")

    def __enter__(self) -> RealNames:
        """Listen; what is returned may be read and `refuse` be set from here."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._names.start(), self._loop).result(SECONDS)
        return self._names

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._names.close(), self._loop).result(SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()
