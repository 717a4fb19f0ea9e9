"""The simulator's server: one loopback address that is GitHub and Copilot at once.

`Simulator` lives in the caller's event loop, `SimulatorThread` in a thread of its own, for who has
no loop yet or must not share one (`copilot-brokerd --simulate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from brokerd.simulator.connections import Connections
from brokerd.simulator.control import ControlRoutes
from brokerd.simulator.copilot import CopilotRoutes
from brokerd.simulator.front import Front
from brokerd.simulator.github import GitHubRoutes
from brokerd.simulator.login import LoginRoutes
from brokerd.simulator.settings import Settings
from brokerd.simulator.world import World


if TYPE_CHECKING:
    from brokerd.simulator.clock import Clock


__all__ = ["Simulator", "SimulatorThread", "listening_socket"]

HOST = "127.0.0.1"  # never anything else: it signs everybody in
# A fault's body may be what a test calls far too big.
MAX_CONTROL_BODY = 64 * 1024 * 1024
START_TIMEOUT = 10.0


def listening_socket() -> socket.socket:
    """Take a free port now, for a simulator that is started when none may be taken any more."""
    return socket.create_server((HOST, 0))


class Simulator:
    """GitHub for one test or demo; keyword arguments are `Settings`.

    `async with Simulator(auto_approve=True) as simulator: simulator.url`

    `clock`: the time it lives by, this machine's by default. Delays within an answer are real time
    in any case. `bound`: listen on this socket instead of `port`, and close it at the end.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        bound: socket.socket | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.world = World(Settings(**settings), clock)
        self.url = ""
        self._port = port
        self._bound = bound
        self._login = LoginRoutes(self.world)
        self._github = GitHubRoutes(self.world)
        self._runner: web.AppRunner | None = None
        self._connections = Connections()

    async def start(self, port: int | None = None) -> None:
        """Listen; port 0 takes a free one. OSError when the port is taken."""
        self._connections = Connections()
        front = Front(self.world, self._connections)
        app = web.Application(middlewares=[front.middleware()], client_max_size=MAX_CONTROL_BODY)
        self._login.add_to(app)
        self._github.add_to(app)
        CopilotRoutes(self.world).add_to(app)
        ControlRoutes(self.world).add_to(app)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        self._connections.watch(self._runner.server)
        bound, self._bound = self._bound, None
        site: web.BaseSite
        if bound is None:
            site = web.TCPSite(self._runner, HOST, self._port if port is None else port)
        else:
            site = web.SockSite(self._runner, bound)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = self._login.base_url = self._github.base_url = f"http://{HOST}:{self._port}"

    async def close(self) -> None:
        """Stop listening; a later `start` takes the same port again."""
        self._connections.end_waits()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class SimulatorThread:
    """A simulator in a thread of its own.

    `with SimulatorThread(auto_approve=True) as simulator: simulator.url`
    """

    def __init__(
        self,
        *,
        port: int = 0,
        bound: socket.socket | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.url = ""
        self._port = port
        self._bound = bound
        self._clock = clock
        self._settings = settings
        self._thread = threading.Thread(target=self._main, name="simulator", daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Listen before returning; raises what went wrong."""
        self._thread.start()
        if not self._started.wait(START_TIMEOUT):
            raise TimeoutError("the simulator did not start")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop listening and end the thread; twice is no error."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(START_TIMEOUT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with Simulator(
            port=self._port, bound=self._bound, clock=self._clock, **self._settings
        ) as simulator:
            self.url = simulator.url
            self._started.set()
            await self._stop.wait()
