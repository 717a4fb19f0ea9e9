"""A token over the Unix socket: ours, two floors under it, ssh-agent beside it.

Every server gets the smallest request that makes it give what it keeps, and its whole answer is
waited for: `token.get`, "request identities" of one key, `get` of one password. The floors send
what our daemon sent. The generator knows an answer's end by its length, learnt from a first one.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench import ours, peers
from bench.harness import Cell, Column, Goal, Group, Part, Sample
from bench.servers import ServerError


if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Figure, Results
    from bench.servers import Server
    from bench.stage import Stage


__all__ = ["OURS", "Door", "fresh_floors", "learn", "prepare", "token_door", "token_request"]

ROOT = Path(__file__).resolve().parents[2]
OURS = ours.NAME
MSGPACK = "asyncio+msgpack"
BYTES = "asyncio"
SSH_AGENT = "ssh-agent"
QUIET = 0.3
"""Seconds of silence that end a first answer."""
COLUMNS = (
    Column("cpu_us", "CPU us"),
    Column("p50_us", "p50 us"),
    Column("p99_us", "p99 us", ratio=False),
    Column("ops_s", "gets/s", ratio=False),
    Column("generator_core", "generator", ratio=False),
)
CONNECTIONS = (1, 8, 64)
BESIDE = "token-beside"
QUIET_ROW = f"{OURS}, quiet"
BESIDE_ROW = f"{OURS}, beside streams"
STREAMS = 200
SMOKE_STREAMS = 10
PACED = b'{"model":"bench-paced-3000-10","stream":true,"messages":[]}'
"""Events for longer than anybody listens."""
BEGINNING = 0.6
"""Seconds until all streams run; half of it they begin, one after the other."""
MARGIN = 0.2
"""Seconds that they outlast the gets."""
SSH_REQUEST_IDENTITIES = struct.pack(">IB", 1, 11)
"""One byte of payload, SSH_AGENTC_REQUEST_IDENTITIES (draft-ietf-sshm-ssh-agent, 3.5)."""


@dataclass(frozen=True)
class Door:
    """Where a server is asked, with what, and how long its answer is."""

    name: str
    server: Server
    path: Path
    request: Path
    reply: int
    """Bytes of an answer; 0: it ends with the connection."""
    answer: Path | None = None
    """Holds one, for the floors."""
    reconnects_only: bool = False

    def sample(self, stage: Stage, *, connections: int, reconnect: bool = False) -> Sample:
        """Ask for a while; CPU time is taken from the first request to the last answer."""
        words = [
            "rtt",
            f"to=unix:{self.path}",
            f"request={self.request}",
            f"reply={self.reply or 'eof'}",
            f"connections={connections}",
            f"seconds={stage.scale.seconds}",
            f"cpu={','.join(map(str, self.server.pids()))}",
        ]
        # kept connections are opened, and used once, before it begins
        words.append("reconnect=1" if reconnect else f"warm={self.request}")
        seen = stage.sample(self.server, *words)
        cpu, wall = seen.more["server_cpu_s"], seen.more["window_s"]
        busy = {"generator_core": seen.more["generator_cpu_s"] / wall, "server_core": cpu / wall}
        return Sample(seen.ops, wall, cpu, {**seen.more, **busy})


def prepare(stage: Stage) -> Part:
    """Start all servers."""
    broker = ours.shared(stage)
    doors = [token_door(stage, broker)]
    doors += _floors(stage, broker)
    if not stage.is_smoke:
        doors += _peers(stage)
    groups = [_group(stage, doors, connections) for connections in CONNECTIONS]
    groups.append(_group(stage, doors, 8, reconnect=True))
    groups.append(_beside_streams(stage, broker, doors))
    return Part(tuple(groups), _goals())


def token_request() -> bytes:
    """Return the request that `copilot-cred get` sends."""
    sys.path.insert(0, str(ROOT / "client"))
    try:
        from copilot_broker.wire.mini import encode_get
    finally:
        sys.path.remove(str(ROOT / "client"))
    return bytes(encode_get())


def token_door(stage: Stage, broker: ours.Broker) -> Door:
    """Return the door of a running broker."""
    request = _file(stage, f"{broker.server.name}.request", token_request())
    reply = learn(broker.socket, request.read_bytes())
    answer = _file(stage, f"{broker.server.name}.reply", reply)
    return Door(broker.server.name, broker.server, broker.socket, request, len(reply), answer)


def learn(path: Path, request: bytes) -> bytes:
    """Ask once and return the whole answer. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(request)
        reply = sock.recv(1 << 16)
        sock.settimeout(QUIET)
        while True:
            try:
                more = sock.recv(1 << 16)
            except TimeoutError:
                return reply
            if not more:
                return reply
            reply += more


def _file(stage: Stage, name: str, content: bytes) -> Path:
    path = stage.folder / name.replace(" ", "-")
    path.write_bytes(content)
    return path


def _floors(stage: Stage, broker: ours.Broker) -> list[Door]:
    """Start both floors; they answer as this broker did."""
    model = token_door(stage, broker)
    doors = []
    for name in (BYTES, MSGPACK):
        path = stage.folder / f"{name}.sock"
        server = _floor(stage, name, name, path, model)
        doors.append(Door(name, server, path, model.request, model.reply))
    return doors


def fresh_floors(stage: Stage, broker: ours.Broker) -> dict[str, Server]:
    """Start both again, for those who want to see them unused."""
    model = token_door(stage, broker)
    return {
        name: _floor(stage, name, f"{name} idle", stage.folder / f"{name}-idle.sock", model)
        for name in (BYTES, MSGPACK)
    }


def _floor(stage: Stage, kind: str, name: str, path: Path, model: Door) -> Server:
    script = Path(__file__).with_name("floors.py")
    assert model.answer is not None
    argv = [stage.python, "-IS", script, kind, path, model.request, model.answer]
    return stage.start(name, [*argv, *stage.package_paths], ready=path.exists)


def _peers(stage: Stage) -> list[Door]:
    doors = []
    if agent := peers.ssh_agent(stage):
        request = _file(stage, "ssh.request", SSH_REQUEST_IDENTITIES)
        reply = learn(agent.socket, SSH_REQUEST_IDENTITIES)
        doors.append(Door(SSH_AGENT, agent.server, agent.socket, request, len(reply)))
    if cache := peers.git_cache(stage):
        request = _file(stage, "git.request", cache.request)
        reconnects = Door(
            "git credential-cache", cache.server, cache.socket, request, 0, reconnects_only=True
        )
        doors.append(reconnects)
    return doors


def _group(stage: Stage, doors: list[Door], connections: int, *, reconnect: bool = False) -> Group:
    def cell(door: Door) -> Cell:
        def run() -> Sample:
            return door.sample(stage, connections=connections, reconnect=reconnect)

        return Cell(door.name, run, is_ours=door.name == OURS)

    kept = f"{connections} kept connection{'s' * (connections > 1)}"
    return Group(
        f"token-connect-{connections}" if reconnect else f"token-{connections}",
        f"a connection for each get, {connections} at a time" if reconnect else kept,
        MSGPACK,
        COLUMNS,
        tuple(cell(door) for door in doors if reconnect or not door.reconnects_only),
    )


def _beside_streams(stage: Stage, broker: ours.Broker, doors: list[Door]) -> Group:
    """Compare gets from a quiet daemon with gets while it forwards streams.

    Both generators and the upstream share a core, which alone makes gets slower. The floor, asked
    while as many streams run past every proxy, shows by how much.
    """
    streams = SMOKE_STREAMS if stage.is_smoke else STREAMS
    body = _file(stage, "paced.json", PACED)
    url = urlsplit(stage.upstream)
    head = f"POST /chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(PACED)}\r\n\r\n"
    request = _file(stage, "paced.http", head.encode() + PACED)
    through = ("rpc", f"to=unix:{broker.socket}", f"body={body}", "stream=1")
    past = ("http", f"to=tcp:{url.netloc}", f"request={request}")
    length = BEGINNING + stage.scale.seconds + MARGIN
    more = (f"connections={streams}", f"seconds={length}", f"spread={BEGINNING * 500:.0f}")
    found = {door.name: door for door in doors}

    def cell(name: str, door: Door, load: tuple[str, ...] = ()) -> Cell:
        def run() -> Sample:
            if not load:
                return door.sample(stage, connections=1)
            with stage.generating(*load, *more) as seen:
                time.sleep(BEGINNING)
                sample = door.sample(stage, connections=1)
            if seen["errors"] or not seen["events"]:
                raise ServerError(f"{seen['errors']:.0f} of {streams} streams failed")
            events = {"events_s": seen["events"] / seen["wall_s"]}
            return Sample(sample.ops, sample.wall, sample.cpu, {**sample.more, **events})

        return Cell(name, run, is_ours=door.name == OURS)

    return Group(
        BESIDE,
        f"1 kept connection, quiet and beside {streams} streams with an event each 10 ms",
        QUIET_ROW,
        (
            Column("p50_us", "p50 us"),
            Column("p99_us", "p99 us"),
            Column("ops_s", "gets/s", ratio=False),
            Column("events_s", "events/s", ratio=False),
        ),
        (
            cell(QUIET_ROW, found[OURS]),
            cell(BESIDE_ROW, found[OURS], through),
            cell(f"{MSGPACK}, quiet", found[MSGPACK]),
            cell(f"{MSGPACK}, {streams} streams past it", found[MSGPACK], past),
        ),
    )


def _goals() -> tuple[Goal, ...]:
    def worst(under: str) -> Callable[[Results], Figure | None]:
        """Judge all numbers of connections by the one that does worst."""

        def figure(results: Results) -> Figure | None:
            groups = [f"token-{connections}" for connections in CONNECTIONS]
            ratios = [results.ratio("cpu_us", (name, OURS), (name, under)) for name in groups]
            return max(filter(None, ratios), key=lambda ratio: ratio.median, default=None)

        return figure

    def beside(results: Results) -> Figure | None:
        return results.ratio("p50_us", (BESIDE, BESIDE_ROW), (BESIDE, QUIET_ROW))

    numbers = "worst of 1, 8, 64 connections"
    return (
        Goal(f"a token, CPU / {MSGPACK}, {numbers}", 1.5, worst(MSGPACK)),
        Goal(f"a token, CPU / {SSH_AGENT}, {numbers}", 1.5, worst(SSH_AGENT)),
        Goal(f"a token beside {STREAMS} streams, p50 / quiet", 1.5, beside),
    )
