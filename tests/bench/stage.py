"""What the cells stand on: cores, a private folder, the installed product, running servers.

One Stage lives as long as the run. A part of the benchmark asks it for what it needs (`start`,
`load`, `install`) and tells it what it has to leave out (`skip`). Closing it stops every server in
reverse order and removes the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench import install, servers
from bench.harness import Sample


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench import ours


__all__ = ["FULL", "QUICK", "SMOKE", "Cores", "Scale", "Stage"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GENERATOR_PATIENCE = 120.0
"""Seconds that one run of the generator may take."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    name: str
    rounds: int
    """Turns of every group."""
    seconds: float
    """Length of one turn of a closed-loop cell."""
    passes: int
    """Runs of every command in one round."""
    idle: float
    """Seconds of the idle window; 0 = left out."""


FULL = Scale("full", rounds=7, seconds=0.5, passes=6, idle=75)
QUICK = Scale("quick", rounds=3, seconds=0.12, passes=4, idle=5)
SMOKE = Scale("smoke", rounds=1, seconds=0.05, passes=1, idle=1)


@dataclass(frozen=True)
class Cores:
    """Servers run on one core, the generators and what stands for GitHub on another."""

    server: int | None
    generator: int | None

    @classmethod
    def choose(cls) -> Self:
        """Take the first two cores; None when there is only one, and nothing is pinned."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1]) if len(usable) > 1 else cls(None, None)


class Stage:
    """See the module's docstring."""

    def __init__(self, scale: Scale, say: Callable[[str], None], *, keep: bool = False) -> None:
        self.scale = scale
        self.say = say
        self.cores = Cores.choose()
        self.skipped: dict[str, str] = {}
        """What was left out → why."""
        self.servers: dict[str, servers.Server] = {}
        """All running servers by name."""
        self.broker: ours.Broker | None = None
        """The daemon that all loaded cells measure: `ours.shared`."""
        self.peers: dict[str, Any] = {}
        """What `peers` has started, by name."""
        self.notes: list[str] = []
        """Sentences for below the tables: checks of the measurement itself."""
        self.folder = Path(tempfile.mkdtemp(prefix="cb-bench-"))  # short: sun_path holds 108 bytes
        self._stack = contextlib.ExitStack()
        if not keep:
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_smoke(self) -> bool:
        """Ours and the floors only, from the running interpreter: does the machinery work."""
        return self.scale.name == "smoke"

    @cached_property
    def installed(self) -> install.Installed:
        """The product as a user has it; in a smoke run the running environment."""
        return install.running() if self.is_smoke else install.from_checkout(ROOT, self.say)

    @property
    def python(self) -> Path:
        """The interpreter that floors run on: the one that the daemon runs on."""
        return self.installed.python

    @cached_property
    def package_paths(self) -> list[str]:
        """Where that interpreter finds packages, for one that starts with -IS."""
        code = "import sys; print(*sys.path, sep='\\n')"
        argv = [str(self.python), "-I", "-c", code]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
        return [path for path in done.stdout.splitlines() if "-packages" in path]

    @cached_property
    def load(self) -> Path:
        """The compiled load generator and stand-in upstream (load.c)."""
        return install.compiled(ROOT, HERE / "load.c", self.say)

    @cached_property
    def upstream(self) -> str:
        """The origin of what stands for Copilot: load.c's, on the generator's core."""
        log = self.folder / "upstream.log"
        self.start(
            "upstream",
            [self.load, "upstream", "listen=tcp:127.0.0.1:0"],
            ready=lambda: "}" in log.read_text(),
            generator_core=True,
        )
        return f"http://127.0.0.1:{json.loads(log.read_text())['port']}"

    def private(self, name: str) -> Path:
        """Return a new folder, 0700."""
        folder = self.folder / name
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def environ(self, home: Path, **more: str) -> dict[str, str]:
        """Return a clean environment in which nothing of the person's own is found."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "LANG": "C.UTF-8",
            **more,
        }

    def skip(self, name: str, reason: str) -> None:
        """Leave something out, with the reason that is printed."""
        self.skipped[name] = reason

    def has(self, name: str, program: str, package: str) -> bool:
        """Tell whether a peer's program is here; if not it is skipped, naming Debian's package."""
        if shutil.which(program):
            return True
        self.skip(name, f"{program} is missing: apt-get install {package}")
        return False

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        ready: Callable[[], object],
        env: Mapping[str, str] | None = None,
        generator_core: bool = False,
        stdin: bytes | None = None,
    ) -> servers.Server:
        """Start a server that lives as long as the run. Raises ServerError."""
        core = self.cores.generator if generator_core else self.cores.server
        server = servers.start(
            name,
            argv,
            ready=ready,
            log=self.folder / f"{name.replace('/', '-').replace(' ', '-')}.log",
            env=self.environ(self.folder) if env is None else env,
            core=core,
            stdin=stdin,
        )
        self._stack.callback(server.stop)
        self.servers[name] = server
        return server

    def generate(self, *words: str) -> dict[str, float]:
        """Run the load generator on its core to its end; return the figures that it prints."""
        with self.generating(*words) as seen:
            pass
        return seen

    @contextlib.contextmanager
    def generating(self, *words: str) -> Iterator[dict[str, float]]:
        """Run the load generator on its core beside the block; its figures are there afterwards."""
        with servers.on_core(self.cores.generator):
            process = subprocess.Popen(
                [str(self.load), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        seen: dict[str, float] = {}
        try:
            yield seen
            out, err = process.communicate(timeout=GENERATOR_PATIENCE)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        if process.returncode:
            raise servers.ServerError(f"the generator says: {err.strip()}")
        seen.update(json.loads(out))

    def sample(self, server: servers.Server, *words: str) -> Sample:
        """Let the generator loose on a server; return what it saw and the CPU of the server's tree.

        Adds `generator_core` (the share of its core that the generator was busy) and `server_core`.
        An operation that failed makes the sample worthless: ServerError.
        """
        before = server.cpu()
        seen = self.generate(*words)
        cpu = server.cpu() - before
        if server.process.poll() is not None:
            raise servers.ServerError(f"{server.name} has ended: {server.said()}")
        if seen["errors"]:
            raise servers.ServerError(f"{server.name}: {seen['errors']:.0f} operations failed")
        wall = seen["wall_s"]
        cores = {"generator_core": seen["generator_cpu_s"] / wall, "server_core": cpu / wall}
        return Sample(int(seen["ops"]), wall, cpu, {**seen, **cores})
