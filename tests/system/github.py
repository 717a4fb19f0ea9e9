"""The simulator in a thread of the test run, its memory within reach of the tests."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from brokerd.host.confinement.file_limit import raise_file_limit
from brokerd.simulator import Simulator
from brokerd.simulator.settings import Settings


if TYPE_CHECKING:
    from brokerd.simulator.world import World


EXCHANGE = "/copilot_internal/v2/token"
POLL = "/login/oauth/access_token"
IDENTITY = "/user"


class GitHub:
    """A GitHub on loopback; sessions share the machine's network, so their daemons reach it."""

    def __init__(self, **settings: Any) -> None:
        self._simulator = Simulator(**settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="github")

    def __enter__(self) -> Self:
        raise_file_limit()  # a thousand streams are a thousand files here, and shells permit 1024
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._simulator.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._simulator.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return self._simulator.url

    @property
    def world(self) -> World:
        return self._simulator.world

    def asked(self, path: str) -> int:
        """Count the requests for `path` so far."""
        return sum(request.path == path for request in list(self.world.requests))

    def forget(self, **settings: Any) -> None:
        """Start anew: no grants, faults, requests or accepted terms; these settings."""
        self.world.reset()
        self.world.copilot.accepted.clear()
        defaults = {"auto_approve": True, "device_interval": 0.05, "token_lifetime": 1800}
        self.world.settings.change(asdict(Settings()) | defaults | settings)
