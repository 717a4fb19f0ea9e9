"""The daemon's own door and its own client of upstream, with nothing decided between them.

Who asks, for what, whether it may, with which token, what it cost: none of it is asked. What is
left is reading and writing HTTP on both sides within the daemon's bounds; the daemon cannot take
less.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING

from bench.candidates.shell import arguments
from brokerd.core.completions import UpstreamCall
from brokerd.gate import Gate
from brokerd.gateway.door import HttpDoor
from brokerd.gateway.messages import Reply
from brokerd.host.peers.peercred import peer_of
from brokerd.sockets.rounds import RoundLoop
from brokerd.upstream.copilot import Copilot
from brokerd.upstream.hosts import UpstreamSettings


if TYPE_CHECKING:
    from brokerd import ports
    from brokerd.errors import BrokerError, Failure
    from brokerd.gate import Caller
    from brokerd.gateway.messages import Head, Outlet, Request


SAID = {"x-request-id": "0c62a3a5-5a1c-4b9e-8d8d-0f6f3c1b7a55", "x-initiator": "user"}
"""What the daemon says of a turn besides; made once here."""


class Undecided:
    """`Handler` that sends on whatever it gets."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._copilot = Copilot(UpstreamSettings(copilot=base))

    def refuses(self, head: Head, caller: Caller) -> bool:
        """Refuse nobody."""
        return False

    def begin(self, request: Request, outlet: Outlet, caller: Caller) -> Onward:
        """Send it on."""
        call = UpstreamCall(
            "github.com", self._base, "token", "/chat/completions", request.body, SAID
        )
        onward = Onward(outlet)
        if self._copilot.begin(call, onward.arrived) is None:
            onward.task = asyncio.get_running_loop().create_task(self._dial(call, onward))
        return onward

    async def _dial(self, call: UpstreamCall, onward: Onward) -> None:
        onward.arrived(await self._copilot.open(call))


class Onward:
    """`Work` of one request and `ports.Receiver` of its answer."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._reply: ports.Reply | None = None
        self.data = outlet.send
        self.task: asyncio.Task[None] | None = None

    def arrived(self, reply: ports.Reply | BrokerError) -> None:
        """Pass the answer on, whole where it is."""
        assert not isinstance(reply, BaseException)
        headers = dict(reply.headers)
        headers.pop("content-length", None)
        body = reply.take_whole()
        if body is not None:
            self._outlet.reply(Reply(reply.status, headers, body))
            return
        self._reply = reply
        self._outlet.start(reply.status, headers)
        reply.stream_to(self)

    def ended(self, failure: Failure | None) -> None:
        """End the answer as upstream did."""
        if failure is None:
            self._outlet.end()
        else:
            self._outlet.cut()

    def go_on(self) -> None:
        """See `Work.go_on`; nobody was told to pause."""

    def close(self) -> None:
        """See `Work.close`."""
        if self._reply is not None:
            self._reply.close()


async def serve() -> None:
    """Listen until SIGTERM."""
    path, port = arguments()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1024)
        door = HttpDoor(Gate(), Undecided(f"http://127.0.0.1:{port}"))
        await door.serve(listening, "http", peer_of)
        await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=RoundLoop) as runner:
        runner.run(serve())
