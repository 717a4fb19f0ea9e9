"""What is asked of everything that forwards completions, and what is read off it.

Six kinds of traffic: small JSON answers, a long request, streams as fast as they come (burst), a
few streams at a human pace (first), many of them (paced), as many as a busy machine may ever have
(many). All go to the same stand-in for Copilot.
CPU time runs from the first request to the last answer, on connections that are warm: the
generator reads the clocks itself.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bench.harness import Cell, Column, Group, Sample


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.harness import Figure, Results
    from bench.servers import Server
    from bench.stage import Stage


__all__ = [
    "DIRECT",
    "RAW",
    "Kind",
    "Row",
    "Traffic",
    "answers",
    "busiest",
    "free_port",
    "note_added",
]

DIRECT = "direct"
RAW = "asyncio forwarder"
BIG = 104_000
"""Characters of a prompt that carries a repository's files."""
BURST_EVENTS = 200
FIRST_EVENTS = 10
PACE_MS = 10
STREAMS = 200
SMOKE_STREAMS = 20
SPREAD_MS = 100
"""The many begin within this time, one after the other."""
BEGINNING_MS = 200
"""After this time all of them should run."""
MANY_STREAMS_PATIENCE = 15
"""Seconds that streams have to end, beyond their own length."""

MANY_STREAMS = 1000
MANY_PACE_MS = 50
MANY_SPREAD_MS = 1000

WARM_UP = "bench-paced-6-25"
"""What every connection does first: long enough that all are open at once, as they will be."""
MANY_WARM_UP = "bench-paced-30-50"

CPU = Column("cpu_us", "CPU us/request")
EVENT = Column("cpu_us", "CPU us/event")
GENERATOR = Column("generator_core", "generator", ratio=False)
ALONE_COLUMNS = (
    CPU,
    Column("p50_us", "p50 us", ratio=False),
    Column("added_us", "added p50"),
    Column("p99_us", "p99 us", ratio=False),
    GENERATOR,
)
CLOSED_LOOP_COLUMNS = (
    CPU,
    Column("p50_us", "p50 us"),
    Column("p99_us", "p99 us", ratio=False),
    Column("ops_s", "requests/s", ratio=False),
    GENERATOR,
)
BURST_COLUMNS = (
    EVENT,
    Column("first_event_p50_us", "first event us", ratio=False),
    Column("ops_s", "events/s", ratio=False),
    GENERATOR,
)
FIRST_COLUMNS = (
    Column("added_first_us", "added to first"),
    Column("first_event_p50_us", "first event us", ratio=False),
    Column("event_p50_us", "event us", ratio=False),
    Column("added_event_us", "added"),
    Column("cpu_us", "CPU us/stream"),
)
PACED_COLUMNS = (
    EVENT,
    Column("first_event_p50_us", "first event us", ratio=False),
    Column("event_p50_us", "event p50 us", ratio=False),
    Column("event_p99_us", "event p99 us", ratio=False),
    Column("completed", "completed", ratio=False),
    Column("server_core", "core", ratio=False),
)
MANY_COLUMNS = (
    Column("server_core", "core"),
    Column("event_p50_us", "event p50 us", ratio=False),
    Column("event_p99_us", "event p99 us", ratio=False),
    Column("completed", "completed", ratio=False),
    Column("kb_each", "KB each", ratio=False),
    GENERATOR,
)


@dataclass(frozen=True)
class Kind:
    """One kind of traffic; its name begins the names of its groups."""

    name: str
    title: str
    columns: tuple[Column, ...]
    model: str
    """What tells the stand-in how to answer, see load.c."""
    connections: int
    padding: int = 0
    options: tuple[str, ...] = ()
    counts_events: bool = False
    drain: int = 5
    seconds: float = 0.0
    """How long requests are made; 0: as long as the stage's scale says."""
    warm: str = WARM_UP
    weighs: bool = False
    """Whether the memory that each connection takes is read as well."""


@dataclass(frozen=True)
class Row:
    """Something that forwards, or what it forwards to."""

    name: str
    server: Server
    to: str
    """As load.c writes addresses."""
    is_rpc: bool = False
    is_ours: bool = False
    host: str = "127.0.0.1"
    """What HTTP requests name as Host."""
    key: str = field(default="none", repr=False)
    """What they show as key."""


def free_port() -> int:
    """Return a TCP port on loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def answers(address: str | tuple[str, int]) -> bool:
    """Tell whether somebody listens there: a Unix socket's path, or host and port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


class Traffic:
    """The kinds at the stage's scale, and how a row is put through one."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._origin = stage.upstream
        self._at_rest: dict[int, float] = {}
        """Process → bytes before anything was asked of it."""

    @cached_property
    def direct(self) -> Row:
        """Return the stand-in for Copilot itself; its own CPU stands in the table."""
        address = self._origin.removeprefix("http://")
        return Row(DIRECT, self._stage.servers["upstream"], f"tcp:{address}")

    @cached_property
    def events(self) -> int:
        """Events of a paced stream: it outlasts its beginning by two closed-loop turns."""
        return int((BEGINNING_MS + self._stage.scale.seconds * 2000) / PACE_MS)

    def json(self, connections: int) -> Kind:
        """Small JSON answers."""
        title = f"1 KB of JSON, {connections} at a time"
        columns = ALONE_COLUMNS if connections == 1 else CLOSED_LOOP_COLUMNS
        return Kind(f"json-{connections}", title, columns, "bench-json", connections)

    def big(self) -> Kind:
        """Return one long request at a time."""
        title = "a request of 104 KB, JSON answer"
        return Kind("big", title, ALONE_COLUMNS, "bench-json", 1, BIG)

    def burst(self, *, bare: bool = False) -> Kind:
        """Streams whose events come at once; bare ones lack what a repair adds to each event."""
        name = "bare" if bare else "burst"
        lacking = " that lack `object`" if bare else ""
        return Kind(
            name,
            f"streams of {BURST_EVENTS} events{lacking} at once, 16 at a time",
            BURST_COLUMNS,
            f"bench-{name}-{BURST_EVENTS}",
            16,
            options=(f"events={BURST_EVENTS}",),
            counts_events=True,
        )

    def first(self) -> Kind:
        """Short streams at a human pace: when is there something to read."""
        return Kind(
            "first",
            f"streams of an event each {PACE_MS} ms, 4 at a time",
            FIRST_COLUMNS,
            f"bench-paced-{FIRST_EVENTS}-{PACE_MS}",
            4,
            options=(f"events={FIRST_EVENTS}", f"spread={PACE_MS}"),
        )

    def paced(self) -> Kind:
        """Return many streams at a human pace, all at once, each connection one.

        CPU time is taken while all of them run: an event's cost without its request's.
        """
        streams = SMOKE_STREAMS if self._stage.is_smoke else STREAMS
        return Kind(
            "paced",
            f"{streams} streams of an event each {PACE_MS} ms",
            PACED_COLUMNS,
            f"bench-paced-{self.events}-{PACE_MS}",
            streams,
            options=(
                f"events={self.events}",
                f"spread={SPREAD_MS}",
                f"from={BEGINNING_MS}",
                f"until={self.events * PACE_MS}",
                "each=1",
            ),
            counts_events=True,
            drain=MANY_STREAMS_PATIENCE,
        )

    def many(self) -> Kind:
        """Return a thousand streams at the pace of a model, each connection one.

        Memory is the highest that was seen, less what there was at rest, before anything was asked.
        """
        if self._stage.is_smoke:
            streams, spread, beginning, window = SMOKE_STREAMS, SPREAD_MS, BEGINNING_MS, 200
        else:
            streams, spread, beginning, window = MANY_STREAMS, MANY_SPREAD_MS, 1500, 1500
        until = beginning + window
        events = until // MANY_PACE_MS
        return Kind(
            "many",
            f"{streams} streams of an event each {MANY_PACE_MS} ms",
            MANY_COLUMNS,
            f"bench-paced-{events}-{MANY_PACE_MS}",
            streams,
            options=(
                f"events={events}",
                f"spread={spread}",
                f"from={beginning}",
                f"until={until}",
                "each=1",
            ),
            counts_events=True,
            drain=MANY_STREAMS_PATIENCE,
            seconds=until / 1000,
            warm=WARM_UP if self._stage.is_smoke else MANY_WARM_UP,
            weighs=True,
        )

    def group(self, part: str, kind: Kind, rows: Sequence[Row]) -> Group:
        """Return all rows under one kind of traffic."""

        def cell(row: Row) -> Cell:
            return Cell(row.name, lambda: self.sample(row, kind), is_ours=row.is_ours)

        if kind.weighs:
            for row in rows:
                self._at_rest.setdefault(row.server.pid, row.server.resident())
        cells = tuple(cell(row) for row in rows)
        return Group(f"{part}-{kind.name}", kind.title, RAW, kind.columns, cells)

    def sample(self, row: Row, kind: Kind) -> Sample:
        """Put a row through it once."""
        stage = self._stage
        words = [*self.words(row, kind), f"cpu={','.join(map(str, row.server.pids()))}"]
        if row.name != DIRECT:
            words.append(f"beside={stage.servers['upstream'].pid}")
        if kind.weighs:
            row.server.forget_peak()
        seen = stage.sample(row.server, *words)
        more = dict(seen.more)
        if kind.weighs:
            grown = row.server.resident(peak=True) - self._at_rest[row.server.pid]
            more["kb_each"] = grown / kind.connections / 1024
        cpu, wall = more["server_cpu_s"], more["window_s"]
        beside = cpu if row.name == DIRECT else more["beside_cpu_s"]
        more["generator_core"] = (more["generator_cpu_s"] + beside) / wall
        more["server_core"] = cpu / wall
        more["completed"] = seen.ops / max(1, seen.ops + more["unfinished"])
        more["lost"] = 100 * (1 - more["completed"])
        ops = int(more["window_events"]) if kind.counts_events else seen.ops
        return Sample(ops, wall, cpu, more)

    def words(self, row: Row, kind: Kind) -> list[str]:
        """Return what the generator is told."""
        stage = self._stage
        options = [*kind.options, f"warm={self._file(row, kind.warm, 0)}"]
        request = self._file(row, kind.model, kind.padding)
        streams = kind.model != "bench-json"
        return [
            *(["rpc", f"stream={int(streams)}"] if row.is_rpc else ["http"]),
            f"{'body' if row.is_rpc else 'request'}={request}",
            f"to={row.to}",
            f"connections={kind.connections}",
            f"seconds={kind.seconds or stage.scale.seconds}",
            f"drain={kind.drain}",
            *options,
        ]

    def _file(self, row: Row, model: str, padding: int) -> Path:
        """Write the body that asks for it, before it an HTTP head where one is needed."""
        whose = "" if row.is_rpc else f"-{row.host}-{row.key != 'none'}".replace(":", "-")
        path = self._stage.folder / f"{model}-{padding}{whose}"
        if not path.exists():
            prompt = "Say hello. " + "lorem ipsum " * (padding // 12)
            asked = {
                "model": model,
                "stream": model != "bench-json",
                "messages": [{"role": "user", "content": prompt}],
            }
            body = json.dumps(asked, separators=(",", ":")).encode()
            head = (
                f"POST /chat/completions HTTP/1.1\r\nhost: {row.host}\r\naccept: */*\r\n"
                f"content-type: application/json\r\nauthorization: Bearer {row.key}\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            path.write_bytes(body if row.is_rpc else head.encode() + body)
        return path


ADDED = {
    "added_us": "p50_us",
    "added_first_us": "first_event_p50_us",
    "added_event_us": "event_p50_us",
}
"""What a proxy adds → the metric whose direct value is taken away."""


def note_added(results: Results, part: str) -> None:
    """Add to each sample what it took longer than direct did in the same pass."""
    for group, rows in results.samples.items():
        if not group.startswith(f"{part}-") or DIRECT not in rows:
            continue
        for row, samples in rows.items():
            if row != DIRECT:
                rows[row] = [
                    _with_added(sample, direct)
                    for sample, direct in zip(samples, rows[DIRECT], strict=False)
                ]


def _with_added(sample: Sample | None, direct: Sample | None) -> Sample | None:
    if sample is None or direct is None:
        return sample
    added = {
        key: sample.more[metric] - direct.more[metric]
        for key, metric in ADDED.items()
        if metric in sample.more and metric in direct.more
    }
    return replace(sample, more={**sample.more, **added})


def busiest(results: Results, part: str) -> list[str]:
    """Say for each group whether the generator could have been the bottleneck.

    The generator and the stand-in share a core. Where raw is near 1 there, its operations a second
    are a bound of the bench; CPU per operation is not touched by that.
    """
    lines = []
    for group, rows in results.samples.items():
        if not group.startswith(f"{part}-") or not {DIRECT, RAW} <= rows.keys():
            continue
        core = results.figure(group, RAW, "generator_core")
        more: Figure | None = results.ratio("ops_s", (group, DIRECT), (group, RAW))
        if core is not None and more is not None:
            lines.append(
                f"{group}: before {RAW} the generator's core was {core.median:.0%} busy; "
                f"without a proxy {more.median:.1f} x as many a second went through"
            )
    return lines
