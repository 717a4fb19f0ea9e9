"""Connections to upstream by origin: the one used last is used next, idle ones soon close.

Everything here is O(1) in the number of connections: idle ones wait in the order of their age, and
a lost one leaves by its key. An idle daemon has no timer: there is one only while a connection is
idle.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.upstream.dial import dial
from brokerd.upstream.h1 import Connection, StreamTimeouts
from brokerd.upstream.reply import upstream_failure
from brokerd.upstream.routes import route_to


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.upstream.routes import Route
    from brokerd.upstream.tls import Trust


__all__ = ["MAX_CONNECTIONS", "Pool"]

MAX_IDLE = 30.0
"""Seconds, suspend included: a connection from before a suspend looks alive, and a request sent on
a dead one is lost. Shorter than what servers and proxies keep."""

MAX_CONNECTIONS = 1024
"""The doors' own bounds come first; this one keeps file descriptors for everything else."""

BUSY_RETRY_AFTER = 1.0


_boottime = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class _Way:
    """One origin: how to get there, and who is there already."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.idle: OrderedDict[Connection, float] = OrderedDict()  # since when; oldest first


class Pool:
    """Keeps connections; `h1.Keeper` of them."""

    def __init__(
        self,
        *,
        proxy: str | None,
        trust: Trust,
        timeouts: StreamTimeouts,
        clock: Callable[[], float] = _boottime,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._proxy = proxy
        self._trust = trust
        self._timeouts = timeouts
        self._clock = clock
        self._max_connections = max_connections
        self._ways: dict[str, _Way] = {}
        self._connections: set[Connection] = set()
        self._opening = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._nothing_left: asyncio.Future[None] | None = None

    def take(self, origin: str) -> Connection | None:
        """Return an idle connection that upstream has not closed, None when there is none."""
        way = self._ways.get(origin)
        if way is None or not way.idle:
            return None
        now = self._clock()
        while way.idle:
            connection, since = way.idle.popitem()
            if now - since < MAX_IDLE and connection.usable:
                return connection
            connection.cut()
        return None

    async def connect(self, origin: str) -> Connection:
        """Make a connection; TransientError when it cannot be, or when there are too many."""
        way = self._ways.get(origin)
        if way is None:
            way = self._ways[origin] = _Way(route_to(origin, self._proxy))
        if len(self._connections) + self._opening >= self._max_connections:
            self._make_room()
        self._opening += 1
        try:
            connection = await dial(
                way.route,
                lambda: Connection(origin, self._timeouts, self),
                self._trust,
                patience=self._timeouts.connect,
            )
            if not connection.is_open:  # it is gone already, and `lost` was told
                text = f"{origin} closed the connection before a request"
                raise TransientError(upstream_failure("upstream_cut", text))
            self._connections.add(connection)
        finally:
            self._opening -= 1
            self._tell_if_nothing_is_left()
        return connection

    def keep(self, connection: Connection) -> bool:
        """Take a connection back after an exchange; False: it is not wanted."""
        if self._closing:
            return False
        self._ways[connection.origin].idle[connection] = self._clock()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MAX_IDLE, self._sweep)
        return True

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._ways[connection.origin].idle.pop(connection, None)
        self._tell_if_nothing_is_left()

    async def aclose(self, patience: float) -> None:
        """Close idle connections now, the others when they are done or after `patience` seconds.

        A request made meanwhile gets a connection of its own.
        """
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for way in self._ways.values():
            self._drop(way, len(way.idle))
        try:
            await self._wait_for_the_last(patience)
        finally:
            for connection in list(self._connections):
                connection.abandon()
        await self._wait_for_the_last(1.0)  # a turn of the loop, in which sockets are closed

    async def _wait_for_the_last(self, patience: float) -> None:
        if not self._connections and not self._opening:
            return
        self._nothing_left = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._nothing_left], timeout=patience)

    def _tell_if_nothing_is_left(self) -> None:
        waiter = self._nothing_left
        if waiter is None or self._connections or self._opening:
            return
        if not waiter.done():
            waiter.set_result(None)

    def _make_room(self) -> None:
        """Close the oldest idle connection to somewhere else, or refuse."""
        for way in self._ways.values():
            if way.idle:
                self._drop(way, 1)
                return
        raise TransientError(
            Failure(
                ErrorClass.TEMPORARY,
                "upstream_busy",
                f"{self._max_connections} requests to Copilot are under way",
                "Ask again when some are done: copilot-cred status",
                retry_after=BUSY_RETRY_AFTER,
            )
        )

    def _drop(self, way: _Way, count: int) -> None:
        for _ in range(count):
            connection, _since = way.idle.popitem(last=False)
            connection.cut()

    def _sweep(self) -> None:
        """Close what has been idle for too long, and come again when the next one has."""
        self._timer = None
        now = self._clock()
        waits = []
        for way in self._ways.values():
            while way.idle:
                since = next(iter(way.idle.values()))
                if now - since < MAX_IDLE:
                    waits.append(since + MAX_IDLE - now)
                    break
                self._drop(way, 1)
        if waits:
            self._timer = asyncio.get_running_loop().call_later(min(waits), self._sweep)
