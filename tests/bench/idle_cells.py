"""What every server costs while nobody asks: memory, wake-ups, CPU time, over one window.

Daemons of ours that have done what they are for (a login, an exchange, a token, a completion): one
without a session bus, one that serves HTTP by TCP too and was asked that way, one whose login rests
in a real keyring. The floors are fresh too; peers
and the daemon of the other tables are as those left them. All servers of the run are up, so PSS splits what Python processes share among all of them; USS is what would be freed, RSS the upper
bound.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import ours, peers, token_cells
from bench.harness import Cell, Column, Figure, Goal, Group, Part, Sample
from bench.servers import ServerError
from bench.traffic import Row, Traffic, free_port


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.harness import Progress, Results
    from bench.servers import Server
    from bench.stage import Stage


__all__ = ["prepare"]

GROUP = "idle"
FLOOR = "asyncio+msgpack"
WITHOUT_BUS = "copilot-broker, no D-Bus"
WITH_HTTP = "copilot-broker, no D-Bus, HTTP used"
WITH_BUS = "copilot-broker, keyring"
LOADED = "copilot-broker, the one measured above"
PEERS = ("ssh-agent", "git credential-cache", "gnome-keyring", "copilot-api")
SETTLE = 2.0
"""Seconds after the last request before the window opens: what was under way has ended."""
MINUTE = 60
"""Seconds below which a window says nothing about wake-ups."""
KIB = 1024
MB = 1e6
COLUMNS = (
    Column("pss_mb", "PSS MB"),
    Column("uss_mb", "USS MB"),
    Column("rss_mb", "RSS MB", ratio=False),
    Column("threads", "threads", ratio=False),
    Column("switches", "switches/min", ratio=False),
    Column("cpu_hour", "CPU s/h", ratio=False),
)
COMPLETION = b'{"model":"bench-json","messages":[{"role":"user","content":"hello"}]}'


@dataclass(frozen=True)
class Usage:
    """Counters of one server's tree at one moment."""

    at: float
    cpu: float
    switches: int

    @classmethod
    def of(cls, server: Server) -> Usage:
        """Read them."""
        counts = (_switches(pid) for pid in server.pids())
        return cls(time.monotonic(), server.cpu(), sum(counts))


def prepare(stage: Stage) -> Part:
    """Start daemons of ours and use them once; find the others."""
    plain = _used(stage, WITHOUT_BUS)
    served = _used(stage, WITH_HTTP, tcp=f"127.0.0.1:{free_port()}")
    _used_over_http(stage, served)
    daemons = {WITHOUT_BUS: plain.server, WITH_HTTP: served.server}
    if not stage.is_smoke:
        peers.ssh_agent(stage)
        peers.git_cache(stage)
        if keyring := peers.keyring(stage):
            address = keyring.environ["DBUS_SESSION_BUS_ADDRESS"]
            try:
                daemons[WITH_BUS] = _used(
                    stage, WITH_BUS, store="secret-service", DBUS_SESSION_BUS_ADDRESS=address
                ).server
            except ServerError as error:
                stage.skip(WITH_BUS, str(error))
    others = {row: stage.servers[row] for row in PEERS if row in stage.servers}
    others |= token_cells.fresh_floors(stage, plain)
    if stage.broker is not None:
        others[LOADED] = stage.broker.server

    def watch(results: Results, progress: Progress) -> None:
        for row, sample in _window(stage, {**daemons, **others}, progress):
            results.add(GROUP, row, sample)

    rows = tuple(Cell(name, lambda: Sample(0, 0, 0), is_ours=True) for name in daemons)
    group = Group(GROUP, f"{stage.scale.idle:.0f} s without a request", FLOOR, COLUMNS, rows)
    return Part((group,), _goals(stage), watch, takes_turns=False)


def _used(
    stage: Stage, name: str, *, store: str = "memory", tcp: str = "", **environ: str
) -> ours.Broker:
    broker = ours.start(stage, name, upstream=stage.upstream, store=store, tcp=tcp, **environ)
    token_cells.learn(broker.socket, token_cells.token_request())
    body = stage.folder / "completion.json"
    body.write_bytes(COMPLETION)
    words = ("rpc", f"to=unix:{broker.socket}", f"body={body}", "each=1")
    try:
        stage.sample(broker.server, *words)
    except ServerError as error:
        stage.notes.append(f"{name} idles without having completed anything: {error}")
    return broker


def _used_over_http(stage: Stage, broker: ours.Broker) -> None:
    """Ask for an answer in one piece and for a stream, each by socket and by TCP."""
    traffic = Traffic(stage)
    kinds = [replace(kind, connections=1) for kind in (traffic.json(1), traffic.burst())]
    key = ours.key(stage, broker)
    for row in (
        Row(WITH_HTTP, broker.server, f"unix:{broker.http}", host="localhost"),
        Row(WITH_HTTP, broker.server, f"tcp:{broker.tcp}", host=broker.tcp, key=key),
    ):
        for kind in kinds:
            stage.sample(broker.server, *traffic.words(row, kind), "each=1")


def _window(
    stage: Stage, watched: dict[str, Server], progress: Progress
) -> Iterable[tuple[str, Sample]]:
    time.sleep(min(SETTLE, stage.scale.idle))
    before = {name: Usage.of(server) for name, server in watched.items()}
    end = time.monotonic() + stage.scale.idle
    while (left := end - time.monotonic()) > 0:
        progress.step(f"idle: {left:.0f} s left")
        time.sleep(min(left, 5))
    after = {name: Usage.of(server) for name, server in watched.items()}
    for name, server in watched.items():
        if server.process.poll() is not None:
            stage.notes.append(f"{name} has ended by itself: {server.said()}")
            continue
        seconds = after[name].at - before[name].at
        cpu = after[name].cpu - before[name].cpu
        switches = after[name].switches - before[name].switches
        more = {
            "switches": switches * 60 / seconds,
            "cpu_hour": cpu * 3600 / seconds,
            "threads": sum(len(list(_tasks(pid))) for pid in server.pids()),
            **_memory(server),
        }
        if "pss_mb" not in more:
            stage.notes.append(f"{name}: its PSS may be read by root only")
        yield name, Sample(0, seconds, cpu, more)


def _tasks(pid: int) -> Iterable[Path]:
    return Path(f"/proc/{pid}/task").glob("*")


def _switches(pid: int) -> int:
    total = 0
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            found = re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
            total += sum(map(int, found))
    return total


def _memory(server: Server) -> dict[str, float]:
    """Return RSS, and PSS and USS where we may read them: our daemon lets nobody but root."""
    totals: dict[str, float] = {}
    for pid in server.pids():
        rollup = _read(f"/proc/{pid}/smaps_rollup")
        if rollup is None:
            status = Path(f"/proc/{pid}/status").read_text()
            sizes = {"rss_mb": re.findall(r"VmRSS:\s+(\d+)", status)}
        else:
            sizes = {
                "rss_mb": re.findall(r"^Rss:\s+(\d+)", rollup, re.MULTILINE),
                "pss_mb": re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE),
                "uss_mb": re.findall(r"^Private_\w+:\s+(\d+)", rollup, re.MULTILINE),
            }
        for key, values in sizes.items():
            totals[key] = totals.get(key, 0) + sum(map(int, values)) * KIB / MB
    return totals


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except PermissionError:
        if shutil.which("sudo") is None:
            return None
        argv = ["sudo", "-n", "cat", path]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None


def _goals(stage: Stage) -> tuple[Goal, ...]:
    def of(row: str, key: str) -> Callable[[Results], Figure | None]:
        is_short = key == "switches" and stage.scale.idle < MINUTE
        return lambda results: None if is_short else results.figure(GROUP, row, key)

    def more(results: Results) -> Figure | None:
        used, plain = of(WITH_HTTP, "pss_mb")(results), of(WITHOUT_BUS, "pss_mb")(results)
        if used is None or plain is None:
            return None
        return Figure.of([used.median - plain.median])

    return (
        # 26 for the daemon, and 4 for the HTTP door that it keeps open.
        Goal(f"{WITHOUT_BUS}: idle PSS, MB", 30, of(WITHOUT_BUS, "pss_mb")),
        Goal(f"{WITH_BUS}: idle PSS, MB", 40, of(WITH_BUS, "pss_mb")),
        Goal("the HTTP door in use, by TCP too: more idle PSS, MB", 4, more),
        Goal(f"{WITHOUT_BUS}: context switches a minute", 4, of(WITHOUT_BUS, "switches")),
        Goal(f"{WITH_BUS}: context switches a minute", 4, of(WITH_BUS, "switches")),
    )
