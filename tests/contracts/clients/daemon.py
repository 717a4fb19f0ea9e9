"""The whole daemon for tests without a loop of their own: it and the simulator live in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from brokerd.simulator import Simulator
from client.whole_daemon import PATIENCE, WholeDaemon


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


__all__ = ["Daemon"]


class Daemon:
    """`with Daemon() as daemon: … daemon.path … daemon.world.queue_faults(…)`."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        self._run = contextlib.AsyncExitStack()
        folder = tempfile.TemporaryDirectory(prefix="cb-")  # short: sun_path holds 107 bytes
        home = Path(self._stack.enter_context(folder))
        (home / "run").mkdir(mode=0o700)
        simulator = Simulator(auto_approve=True, device_interval=0.1)
        copilot = self.soon(self._stack.enter_async_context(simulator))
        self.world = copilot.world
        self._daemon = WholeDaemon(home, copilot)
        self.path = self._daemon.path
        self.start()
        self.soon(self._daemon.sign_in())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
            self.soon(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            self._loop.close()

    def soon(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Have it done in the daemon's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE)

    def start(self) -> None:
        self._daemon.said = ""  # what tells that it is ready
        self.soon(self._run.enter_async_context(self._daemon.running()))

    def stop(self) -> None:
        self.soon(self._run.aclose())

    def change(self, **settings: Any) -> None:
        """Change what the simulated GitHub is like."""
        self.world.settings.change(settings)

    def completions(self) -> list[Any]:
        """Return what the simulator has been asked to complete."""
        return self._daemon.completions

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the simulator will see."""
        self.soon(self._daemon.until(condition))
