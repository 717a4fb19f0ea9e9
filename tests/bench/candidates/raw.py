"""The floor: bytes go from socket to socket as they come; nothing is parsed."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any


class Side(asyncio.Protocol):
    """One end of a pair; what it reads its other end writes, and a full one pauses its other."""

    def __init__(self, other: Side | None = None) -> None:
        self.other = other
        self.transport: Any = None
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has come before there was a connection."""
        self.transport = transport
        if self.other is None:
            loop = asyncio.get_running_loop()
            self.other = Side(self)
            connecting = loop.create_connection(lambda: self.other, "127.0.0.1", PORT)
            self.task = loop.create_task(connecting)
        transport.writelines(self.waiting)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.other.transport is None:
            self.other.waiting.append(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        """Let the other side wait."""
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other side go on."""
        self.other.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """Close both."""
        if self.other.transport is not None:
            self.other.transport.close()


async def main(path: str) -> None:
    """Listen on a Unix socket, or on `tcp:PORT`, until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if path.startswith("tcp:"):
        server = await loop.create_server(Side, "127.0.0.1", int(path[4:]), backlog=1024)
    else:
        server = await loop.create_unix_server(Side, path, backlog=1024)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    PORT = int(sys.argv[2])
    asyncio.run(main(sys.argv[1]))
