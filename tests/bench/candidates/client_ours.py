"""Client: the one that the daemon has, `brokerd.upstream`, behind the same bare server.

Against `client_httptools` it adds what a real one needs: the head filtered and rendered, identity
headers, the allow-list, timeouts, back pressure, a bounded pool that knows a stale connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bench.candidates import shell
from brokerd.core.completions import UpstreamCall
from brokerd.upstream.copilot import Copilot
from brokerd.upstream.hosts import UpstreamSettings


if TYPE_CHECKING:
    from brokerd.errors import Failure
    from brokerd.ports import Reply


class Onward:
    """Passes a reply's body to the caller; a full caller would pause it."""

    def __init__(self, caller: shell.Caller, reply: Reply) -> None:
        self.data = caller.data
        self._caller = caller
        self._reply = reply

    def ended(self, failure: Failure | None) -> None:
        """End the answer as upstream did."""
        self._reply.close()
        if failure is None:
            self._caller.end()
        else:
            self._caller.cut()


async def start(port: int) -> Any:
    """Return what forwards."""
    base = f"http://127.0.0.1:{port}"
    copilot = Copilot(UpstreamSettings(copilot=base))
    tasks: set[asyncio.Task[None]] = set()

    async def forward(caller: shell.Caller, body: bytes) -> None:
        call = UpstreamCall("github.com", base, "token", "/chat/completions", body, {})
        reply = await copilot.open(call)
        length = reply.headers.get("content-length")
        kind = reply.headers["content-type"].encode()
        caller.head(reply.status, kind, length.encode() if length else None)
        reply.stream_to(Onward(caller, reply))

    def ask(caller: shell.Caller, body: bytes) -> None:
        task = asyncio.get_running_loop().create_task(forward(caller, body))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return ask


if __name__ == "__main__":
    shell.serve(start)
