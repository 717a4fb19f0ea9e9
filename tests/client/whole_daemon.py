"""The whole daemon as a process of its own, with the simulated GitHub and Copilot behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from brokerd.simulator import Simulator
from copilot_broker import AsyncClient


COMMAND = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from brokerd.cli import main; sys.exit(main())",
]
PATIENCE = 60
CHAT = "/chat/completions"


class WholeDaemon:
    """A home of its own; `copilot` is the simulator, `said` what the daemon wrote on stderr.

    `config` is more for config.toml: tables besides `urls`, `store` and `log`.
    """

    def __init__(self, folder: Path, copilot: Simulator, config: str = "") -> None:
        self.folder = folder
        self.copilot = copilot
        self.config = config
        self.said = ""
        self.path = folder / "run/copilot-broker/broker.sock"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "COPILOT_BROKER_CONFIG": str(folder / "config.toml"),
        }

    async def sign_in(self) -> None:
        async with AsyncClient(self.path) as client:
            assert [chunk async for chunk in client.login()][-1]["event"] == "done"

    @property
    def completions(self) -> list:
        """The simulator's records of what was asked."""
        return [request for request in self.copilot.world.requests if request.path == CHAT]

    async def until(self, condition) -> None:
        """Wait for what the simulator, in this loop, will see."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    async def _listen(self, stderr, ready: asyncio.Event) -> None:
        async for line in stderr:
            self.said += line.decode()
            if " ready " in self.said:
                ready.set()
        ready.set()

    @contextlib.asynccontextmanager
    async def running(self):
        urls = "".join(f'{name} = "{self.copilot.url}"\n' for name in ("login", "api", "copilot"))
        more = '[store]\nkind = "file"\n[log]\nlevel = "debug"\n'
        (self.folder / "config.toml").write_text(f"[urls]\n{urls}{more}{self.config}")
        process = await asyncio.create_subprocess_exec(
            *COMMAND, env=self.env, stderr=asyncio.subprocess.PIPE
        )
        ready = asyncio.Event()
        listening = asyncio.create_task(self._listen(process.stderr, ready))
        try:
            async with asyncio.timeout(PATIENCE):
                await ready.wait()
            assert " ready " in self.said, self.said
            yield self
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(PATIENCE):
                await listening
                await process.wait()


@contextlib.asynccontextmanager
async def whole_daemon(config: str = ""):
    """`async with whole_daemon() as daemon: await daemon.sign_in() …`."""
    with tempfile.TemporaryDirectory(prefix="cb-") as name:  # short: sun_path holds 107 bytes
        (Path(name) / "run").mkdir(mode=0o700)
        async with (
            Simulator(auto_approve=True, device_interval=0.1) as copilot,
            WholeDaemon(Path(name), copilot, config).running() as daemon,
        ):
            yield daemon
