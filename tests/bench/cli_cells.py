"""One command, start to end: `copilot-cred` as installed, the interpreter under it, peers beside it.

A turn is one run of one command: its CPU time is what the kernel charged to it (wait4(2)), its wall
time is seen from outside. Output goes nowhere; that there is some was checked before. The floor is
the interpreter of the plain virtual environment that the wheel is in: where the system's packages
are seen too, what the distribution hooks into every start would hide what is ours.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import ours, peers
from bench.harness import Cell, Column, Goal, Group, Part, Sample
from bench.servers import ServerError, on_core


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.harness import Figure, Results
    from bench.stage import Stage


__all__ = ["prepare"]

GROUP = "cli"
FLOOR = "venv python -I -c pass"
WHEEL = "copilot-cred get, wheel"
LAUNCHER = "copilot-cred get, launcher"
STATUS = "copilot-cred status"
TO_MS = 1e-3
COLUMNS = (Column("cpu_us", "CPU ms", TO_MS), Column("wall_us", "wall ms", TO_MS))


@dataclass(frozen=True)
class Command:
    """A command line, its environment, what it reads."""

    name: str
    argv: tuple[str, ...]
    environ: dict[str, str]
    stdin: bytes = b""
    is_silent: bool = False
    """It prints nothing; every other one has to."""


def prepare(stage: Stage) -> Part:
    """Try every command once."""
    commands = [*_interpreters(stage), *_ours(stage)]
    cells = [_cell(stage, command) for command in commands]
    for command in [] if stage.is_smoke else _peers(stage):
        try:
            cells.append(_cell(stage, command))
        except ServerError as error:
            stage.skip(command.name, str(error))
    group = Group(GROUP, "one run of a command", FLOOR, COLUMNS, tuple(cells), stage.scale.passes)
    return Part((group,), _goals(stage))


def _interpreters(stage: Stage) -> list[Command]:
    environ = stage.environ(stage.folder)
    client, python = str(stage.installed.client_python), str(stage.python)
    lines = {
        FLOOR: (client, "-I"),
        "venv python -c pass": (client,),
        "venv python -IS -c pass": (client, "-IS"),
        "set-up's venv python -I -c pass": (python, "-I"),
    }
    return [
        Command(name, (*argv, "-c", "pass"), environ, is_silent=True)
        for name, argv in lines.items()
    ]


def _ours(stage: Stage) -> list[Command]:
    environ = ours.shared(stage).environ
    cred, launcher = str(stage.installed.cred), stage.installed.launcher
    commands = [Command(WHEEL, (cred, "get"), environ)]
    if launcher is None:
        stage.skip(LAUNCHER, "this environment was not installed by packaging/set-up")
    else:
        commands.append(Command(LAUNCHER, (str(launcher), "get"), environ))
    return [*commands, Command(STATUS, (str(launcher or cred), "status"), environ)]


def _peers(stage: Stage) -> list[Command]:
    commands = []
    if agent := peers.ssh_agent(stage):
        commands.append(Command(" ".join(agent.command), agent.command, agent.environ))
    if cache := peers.git_cache(stage):
        commands.append(
            Command("git credential-cache get", cache.command, cache.environ, cache.stdin)
        )
    if keyring := peers.keyring(stage):
        commands.append(Command("secret-tool lookup", keyring.command, keyring.environ))
    if found := peers.gh(stage):
        environ, argv = found
        commands.append(Command(" ".join(argv), argv, environ))
    return commands


def _cell(stage: Stage, command: Command) -> Cell:
    done = subprocess.run(
        command.argv,
        env=command.environ,
        input=command.stdin,
        capture_output=True,
        timeout=30,
        check=False,
    )
    if done.returncode or bool(done.stdout) is command.is_silent:
        raise ServerError(f"{command.name}: exit {done.returncode}, {done.stderr.decode()!r}")
    stdin = stage.folder / f"{len(list(stage.folder.glob('*.stdin')))}.stdin"
    stdin.write_bytes(command.stdin)
    program = _found(command.argv[0], command.environ["PATH"])
    argv = [program, *command.argv[1:]]

    def run() -> Sample:
        with on_core(stage.cores.generator):
            return _run(argv, command.environ, str(stdin))

    return Cell(command.name, run, is_ours=command.name.startswith("copilot-cred"))


def _found(program: str, path: str) -> str:
    """Return the whole path, so that looking for it is in nobody's time."""
    for folder in path.split(":"):
        if os.access(f"{folder}/{program}", os.X_OK):
            return f"{folder}/{program}"
    return program


def _run(argv: Sequence[str], environ: dict[str, str], stdin: str) -> Sample:
    files = [
        (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    since = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, environ, file_actions=files)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - since
    if status:
        raise ServerError(f"{argv[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return Sample(1, wall, usage.ru_utime + usage.ru_stime)


def _goals(stage: Stage) -> tuple[Goal, ...]:
    def over_floor(row: str) -> Callable[[Results], Figure | None]:
        return lambda results: results.ratio("cpu_us", (GROUP, row), (GROUP, FLOOR))

    return (
        Goal(f"{WHEEL}: CPU / {FLOOR}", 1.35, over_floor(WHEEL)),
        Goal(f"{LAUNCHER}: CPU / {FLOOR}", 1.15, over_floor(LAUNCHER)),
    )
