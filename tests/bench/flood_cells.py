"""Who still answers an honest client while another one misbehaves, and in what time.

Only on request (`--only floods`): it takes a quarter of an hour. Every server is asked as its own
clients ask it, over a connection of its own and by its own command, while one flood after the other
stands (flooder.py). Servers and floods alternate in a new order in each round, and percentiles are
over all questions of all rounds, unanswered ones included: where they reach a percentile, there is
none.

A login shell permits 1,024 files, and that is what every server is started with. Ours raises that
as far as it may; a second one of ours may not.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from bench import honest, ours, peers
from bench.harness import Cell, Column, Figure, Goal, Group, Part, Sample
from bench.servers import ServerError, file_limit, on_core
from bench.token_cells import SSH_REQUEST_IDENTITIES, learn, token_request


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bench.harness import Progress, Results
    from bench.servers import Server
    from bench.stage import Scale, Stage


__all__ = ["prepare"]

GROUP = "floods"
OURS = ours.NAME
OURS_LIMITED = f"{OURS}, 1024 files"
QUIET = "quiet"
FILES = 1024
"""The soft limit of a login shell (systemd-system.conf(5), DefaultLimitNOFILE)."""
DEADLINE = 5.0
"""Seconds that a client waits; then it goes without."""
GOAL_MS = 20.0
BLOCK = 100
"""Requests that a flood sends at once, and few enough for msgids of one byte."""
PATIENCE = 30.0
"""Seconds that a helper has for what takes it a moment."""
KIB = 1024


@dataclass(frozen=True)
class Kind:
    """One flood."""

    name: str
    title: str
    word: str = ""
    """As flooder.py knows it; empty: none."""
    connections: int = 1


@dataclass(frozen=True)
class Extent:
    """How often is asked in one turn."""

    asks: int
    commands: int
    pause: float
    """Seconds between two questions: a flood is seen at many moments."""
    crowd: float = 1.0
    """Share of the connections."""

    @classmethod
    def of(cls, scale: Scale) -> Extent:
        """Return what fits."""
        match scale.name:
            case "full":
                return cls(asks=150, commands=4, pause=0.005)
            case "quick":
                return cls(asks=120, commands=2, pause=0.004)
        return cls(asks=5, commands=1, pause=0.001, crowd=0.04)


def _kinds(crowd: float) -> list[Kind]:
    some, many = int(500 * crowd), int(1100 * crowd)
    return [
        Kind(QUIET, "nobody else is there"),
        Kind("idle", f"{some} connections say nothing", "idle", some),
        Kind("files", f"{many:,} say nothing, more than 1,024 files allow", "idle", many),
        Kind("half", f"{some} connections begin a request and say no more", "half", some),
        Kind("deaf", f"{some} connections ask again and again and never read", "deaf", some),
        Kind("storm", "connections come and go as fast as one process can", "storm"),
        Kind("garbage", "as many come, send garbage and go", "garbage"),
        Kind("greedy", "one connection asks without a pause, and reads", "greedy"),
    ]


@dataclass(frozen=True)
class Target:
    """A running server, how it is asked, and with what it is flooded."""

    servers: tuple[Server, ...]
    """All that a client needs: a keyring is worth nothing without its bus."""
    socket: Path
    honest: tuple[str | Path, ...]
    """Words for honest.py."""
    command: tuple[str, ...]
    environ: Mapping[str, str]
    request: Callable[[int], bytes]
    """number → one whole request."""
    stdin: bytes = b""
    hello: bytes = b""
    once: bool = False
    """One request a connection."""

    def files(self, stage: Stage) -> list[Path]:
        """Return the files that flooder.py wants."""
        first = self.request(0)
        block = first if self.once else b"".join(map(self.request, range(BLOCK)))
        return [_file(stage, data) for data in (self.hello, block, first[: len(first) // 2])]

    def memory(self) -> float:
        """Return the resident MB of them all, which everybody may read (proc(5), status)."""
        kib = 0
        for pid in (pid for server in self.servers for pid in server.pids()):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                kib += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return kib * KIB / 1e6


@dataclass
class Pool:
    """What all turns of one server under one flood have seen; an unanswered question is infinite."""

    asks: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    flood: list[Mapping[str, float]] = field(default_factory=list)
    grown: float = 0.0
    restarts: int = 0

    def figures(self) -> dict[str, float]:
        """Return the figures of the table; what is infinite is left out."""
        answered = sum(map(math.isfinite, self.asks))
        found = {
            "p99_ms": _rank(self.asks, 0.99),
            "p50_ms": _rank(self.asks, 0.5),
            "worst_ms": max(self.asks),
            "answered": 100 * answered / len(self.asks),
            "asked": float(len(self.asks)),
            "command_p50_ms": _rank(self.commands, 0.5),
            "command_worst_ms": max(self.commands),
            "after_ms": max(self.after),
            "restarts": float(self.restarts),
            "grown_mb": self.grown,
        }
        for key in {key for turn in self.flood for key in turn}:
            found[f"flood_{key}"] = _rank([turn[key] for turn in self.flood if key in turn], 0.5)
        return {key: value for key, value in found.items() if math.isfinite(value)}


class Row:
    """One server in every table; started anew when a flood has ended it."""

    def __init__(self, name: str, start: Callable[[str], Target | None]) -> None:
        self.name = name
        self._start = start
        self._starts = 0
        self._target: Target | None = None
        self.pools: dict[str, Pool] = {}

    def target(self) -> Target | None:
        """Return it, running; None when it will not start."""
        if self._target is None:
            self._starts += 1
            with file_limit(FILES):
                self._target = self._start(f"-floods-{self._starts}")
        return self._target

    def give_up(self) -> None:
        """Start another one the next time."""
        if self._target is not None:
            for server in self._target.servers:
                server.stop()
        self._target = None

    @property
    def is_ours(self) -> bool:
        """Whether it is a daemon of ours."""
        return self.name.startswith(OURS)


def prepare(stage: Stage) -> Part:
    """Start all servers."""
    extent = Extent.of(stage.scale)
    kinds = _kinds(extent.crowd)
    rows = [row for row in _rows(stage) if row.target() is not None]
    groups = tuple(_group(stage, kind, rows, extent) for kind in kinds)

    def pool(results: Results, _: Progress) -> None:
        for kind in kinds:
            for row in rows:
                _pooled(results, kind, row)

    stage.notes.append(
        f"floods: {DEADLINE:.0f} s are no answer; asked over a fresh connection each time, with"
        " copilot_broker.Client, ssh-agent's protocol, git's, D-Bus (OpenSession, SearchItems,"
        " GetSecret); the floods of gnome-keyring are connections of its bus"
    )
    return Part(groups, tuple(map(_goal, kinds)), pool)


# -- the servers ------------------------------------------------------------------------------


def _rows(stage: Stage) -> Iterable[Row]:
    yield Row(OURS, lambda which: _broker(stage, OURS + which))
    limit = ("prlimit", f"--nofile={FILES}:{FILES}")
    if stage.has(OURS_LIMITED, limit[0], "util-linux"):
        yield Row(OURS_LIMITED, lambda which: _broker(stage, OURS_LIMITED + which, limit))
    if stage.is_smoke:
        return
    yield Row("ssh-agent", lambda which: _ssh_agent(stage, which))
    yield Row("git credential-cache", lambda which: _git_cache(stage, which))
    yield Row("gnome-keyring", lambda which: _keyring(stage, which))


def _broker(stage: Stage, name: str, before: tuple[str, ...] = ()) -> Target:
    broker = ours.start(stage, name, before=before)
    request = token_request()
    assert request[:3] == b"\x94\0\0"
    return Target(
        (broker.server,),
        broker.socket,
        ("broker", broker.socket, str(DEADLINE)),
        (str(stage.installed.launcher or stage.installed.cred), "get"),
        broker.environ,
        lambda number: request[:2] + bytes([number]) + request[3:],
    )


def _ssh_agent(stage: Stage, which: str) -> Target | None:
    agent = peers.ssh_agent(stage, which)
    return agent and _peer(stage, agent, SSH_REQUEST_IDENTITIES)


def _git_cache(stage: Stage, which: str) -> Target | None:
    cache = peers.git_cache(stage, which)
    return cache and _peer(stage, cache, cache.request, once=True)


def _peer(stage: Stage, peer: peers.Peer, request: bytes, *, once: bool = False) -> Target:
    files = [_file(stage, request), _file(stage, learn(peer.socket, request))]
    return Target(
        (peer.server,),
        peer.socket,
        ("bytes", peer.socket, str(DEADLINE), *files),
        peer.command,
        peer.environ,
        lambda _: request,
        peer.stdin,
        once=once,
    )


def _keyring(stage: Stage, which: str) -> Target | None:
    keyring = peers.keyring(stage, which)
    if keyring is None:
        return None
    secret = _file(stage, peers.SECRET.encode())
    return Target(
        (keyring.server, keyring.bus),
        keyring.socket,
        ("keyring", keyring.socket, str(DEADLINE), secret),
        keyring.command,
        keyring.environ,
        lambda number: honest.bus_question(number + 2),
        hello=honest.bus_hello(),
    )


def _file(stage: Stage, content: bytes) -> Path:
    path = stage.folder / f"{len(list(stage.folder.glob('*.bytes')))}.bytes"
    path.write_bytes(content)
    return path


# -- one turn ---------------------------------------------------------------------------------


class Helper:
    """honest.py or flooder.py as a process that says a line for each line."""

    def __init__(self, stage: Stage, python: Path, script: str, *words: str | Path) -> None:
        argv = [str(python), "-s", Path(__file__).with_name(script), *words]
        self.log = stage.folder / f"{script}.log"
        with self.log.open("ab") as log, on_core(stage.cores.generator):
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=stage.environ(stage.folder),
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _open(pipe).close()

    def hear(self) -> str:
        """Return its next line."""
        line = _open(self.process.stdout).readline().strip()
        if not line:
            raise ServerError(f"a helper has ended: {self.log.read_text()[-600:]}")
        return line

    def tell(self, line: str) -> str:
        """Say something, and return what it answers."""
        pipe = _open(self.process.stdin)
        pipe.write(line + "\n")
        pipe.flush()
        return self.hear()

    def end(self) -> str:
        """Return its last words, once it is gone with all its connections."""
        _open(self.process.stdin).close()
        said = self.hear()
        self.process.wait(PATIENCE)
        return said


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _turn(stage: Stage, kind: Kind, row: Row, extent: Extent) -> Sample:
    target = row.target()
    if target is None:
        raise ServerError("it does not start again")
    pool = row.pools.setdefault(kind.name, Pool())
    since, cpu = time.monotonic(), _cpu(target)
    python = stage.installed.client_python
    with Helper(stage, python, "honest.py", *target.honest) as client:
        if client.hear() != "ready":
            row.give_up()
            raise ServerError(
                f"it does not answer before the flood: {client.log.read_text()[-600:]}"
            )
        memory = target.memory()
        with _flooding(stage, kind, target) as flood:
            took = json.loads(client.tell(f"{extent.asks} {extent.pause}"))
            pool.asks += [math.inf if each is None else each for each in took]
            pool.commands += _commands(stage, target, extent.commands)
            pool.grown = max(pool.grown, target.memory() - memory)
        pool.flood.append(flood)
        (after,) = json.loads(client.tell("1 0"))
    ended = any(server.process.poll() is not None for server in target.servers)
    if ended or after is None:
        row.give_up()
        pool.restarts += 1
    pool.after.append(math.inf if after is None else after)
    return Sample(len(took), time.monotonic() - since, _cpu(target) - cpu)


def _cpu(target: Target) -> float:
    return sum(server.cpu() for server in target.servers)


@contextlib.contextmanager
def _flooding(stage: Stage, kind: Kind, target: Target) -> Iterator[dict[str, float]]:
    """Let it stand for the block; how it went is there afterwards."""
    seen: dict[str, float] = {}
    if not kind.word:
        yield seen
        return
    words = [kind.word, target.socket, str(kind.connections), *target.files(stage)]
    words += ["once"] * target.once
    with Helper(stage, Path(sys.executable), "flooder.py", *words) as flood:
        flood.hear()
        yield seen
        seen.update(json.loads(flood.end()))


def _commands(stage: Stage, target: Target, times: int) -> list[float]:
    """Run the whole command so often, till it fails; return milliseconds."""
    took: list[float] = []
    while len(took) < times and math.inf not in took:
        since = time.perf_counter()
        with on_core(stage.cores.generator):
            process = subprocess.Popen(
                target.command,
                env=dict(target.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            process.communicate(target.stdin, timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        ms = (time.perf_counter() - since) * 1e3
        took.append(math.inf if process.returncode else ms)
    return took


# -- tables -----------------------------------------------------------------------------------


def _group(stage: Stage, kind: Kind, rows: list[Row], extent: Extent) -> Group:
    columns = [
        Column("p99_ms", "p99 ms", ratio=False),
        Column("p50_ms", "p50 ms", ratio=False),
        Column("worst_ms", "worst ms", ratio=False),
        Column("answered", "answered %", ratio=False),
        Column("asked", "of", ratio=False),
        Column("command_p50_ms", "command p50 ms", ratio=False),
        Column("command_worst_ms", "worst ms", ratio=False),
    ]
    if kind.word:
        columns.insert(1, Column("p99_x", "x quiet", ratio=False))
        columns += [
            Column("after_ms", "then ms", ratio=False),
            Column("restarts", "restarts", ratio=False),
            Column("grown_mb", "more MB", ratio=False),
        ]
    if kind.connections > 1:
        columns.append(Column("flood_standing", "standing", ratio=False))
    elif kind.word:
        columns.append(Column("flood_rate_s", "a second", ratio=False))

    def cell(row: Row) -> Cell:
        return Cell(row.name, lambda: _turn(stage, kind, row, extent), is_ours=row.is_ours)

    name = f"{GROUP}-{kind.name}"
    return Group(name, kind.title, "the same, quiet", tuple(columns), tuple(map(cell, rows)))


def _pooled(results: Results, kind: Kind, row: Row) -> None:
    """Put one sample of all turns in place of theirs."""
    name = f"{GROUP}-{kind.name}"
    samples = [sample for sample in results.samples.get(name, {}).get(row.name, []) if sample]
    if not samples:
        return
    figures = row.pools[kind.name].figures()
    quiet = row.pools.get(QUIET)
    if quiet is not None and "p99_ms" in figures:
        figures["p99_x"] = figures["p99_ms"] / _rank(quiet.asks, 0.99)
    ops, wall, cpu = (sum(values) for values in zip(*map(_costs, samples), strict=True))
    results.samples[name][row.name] = [Sample(int(ops), wall, cpu, figures)]


def _costs(sample: Sample) -> tuple[float, float, float]:
    return sample.ops, sample.wall, sample.cpu


def _rank(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _goal(kind: Kind) -> Goal:
    """Judge the worse of our two; no percentile is the deadline at least."""

    def figure(results: Results) -> Figure | None:
        name = f"{GROUP}-{kind.name}"
        found = []
        for row in (OURS, OURS_LIMITED):
            p99 = results.figure(name, row, "p99_ms")
            if p99 is None and results.figure(name, row, "asked") is not None:
                p99 = Figure(DEADLINE * 1e3, DEADLINE * 1e3, DEADLINE * 1e3)
            found.append(p99)
        return max(filter(None, found), key=lambda each: each.median, default=None)

    return Goal(f"get p99 in ms while {kind.title}", GOAL_MS, figure)
