"""Completions over HTTP: our door with all its checks, beside a byte forwarder and plain proxies.

The door's Unix socket stands beside the forwarder's, its TCP port (with a key) beside the forwarder
by TCP. Guard, gate, list of models, repairs and metrics are on, as they are by default. The aiohttp
proxy has nothing of that: it is what somebody writes who needs one. Our own door and client of
upstream stand there without it too: what they take, no goal can be below.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import copilot_api, ours
from bench.harness import Goal, Part
from bench.path_cells import candidates_python
from bench.proxy_cells import forwarder
from bench.traffic import RAW, Row, Traffic, busiest, free_port, note_added


if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Figure, Progress, Results
    from bench.stage import Stage


__all__ = ["prepare"]

ROOT = Path(__file__).resolve().parents[2]
PART = "http"
OURS = f"{ours.NAME}, HTTP"
OURS_TCP = f"{OURS} by TCP with a key"
RAW_TCP = f"{RAW}, TCP"
AIOHTTP = "aiohttp proxy"
UNDECIDED = "our door, nothing decided"


def prepare(stage: Stage) -> Part:
    """Start all servers."""
    traffic = Traffic(stage)
    broker = ours.shared(stage)
    raw = forwarder(stage, "raw", RAW, stage.python, PART)
    raw_tcp = forwarder(stage, "raw", RAW_TCP, stage.python, PART, port=free_port())
    mine = Row(OURS, broker.server, f"unix:{broker.http}", is_ours=True, host="localhost")
    by_tcp = Row(
        OURS_TCP,
        broker.server,
        f"tcp:{broker.tcp}",
        is_ours=True,
        host=broker.tcp,
        key=ours.key(stage, broker),
    )
    plain = forwarder(stage, "proxy_aiohttp", AIOHTTP, candidates_python(stage), PART)
    undecided = forwarder(stage, "door_ours", UNDECIDED, stage.python, PART)
    rows = [traffic.direct, raw, mine]
    others = [plain, undecided]
    if not stage.is_smoke:
        github = stage.servers[f"{ours.NAME} github"].log.read_text().strip()
        peer = copilot_api.shared(stage, ROOT, github)
        others += [peer] if peer else []
    is_full = stage.scale.name == "full"  # else without what takes long and judges nothing
    everybody = [*rows, raw_tcp, by_tcp, *others]
    most = everybody if is_full else rows
    asked = [
        (traffic.json(16), everybody if is_full else [*rows, raw_tcp, by_tcp, plain, undecided]),
        (traffic.json(64), most),
        (traffic.first(), most if is_full else [*rows, undecided]),
        (traffic.paced(), most),
        (traffic.burst(), most),
        (traffic.burst(bare=True), most),
        (traffic.many(), [*rows, plain] if is_full else rows),
    ]
    if stage.scale.name != "quick":
        asked += [(kind, most) for kind in (traffic.json(1), traffic.big())]
    groups = [traffic.group(PART, kind, found) for kind, found in asked]

    def afterwards(results: Results, _: Progress) -> None:
        note_added(results, PART)
        stage.notes.extend(busiest(results, PART))

    return Part(tuple(groups), _goals(), afterwards)


def _goals() -> tuple[Goal, ...]:
    def held(
        key: str, kind: str, over: str = OURS, under: str = RAW
    ) -> Callable[[Results], Figure | None]:
        group = f"{PART}-{kind}"
        return lambda results: results.ratio(key, (group, over), (group, under))

    def flat(results: Results) -> Figure | None:
        return results.ratio("cpu_us", (f"{PART}-json-64", OURS), (f"{PART}-json-16", OURS))

    def of(key: str) -> Callable[[Results], Figure | None]:
        return lambda results: results.figure(f"{PART}-many", OURS, key)

    def by_tcp(results: Results) -> Figure | None:
        return held("cpu_us", "json-16", OURS_TCP, RAW_TCP)(results)

    return (
        Goal(f"JSON over HTTP, CPU of {RAW}'s, 16 at a time", 3.0, held("cpu_us", "json-16")),
        Goal("the same by TCP with a key", 3.0, by_tcp),
        Goal(f"the same, of the {AIOHTTP}'s", 0.5, held("cpu_us", "json-16", OURS, AIOHTTP)),
        Goal("JSON over HTTP, CPU at 64 of that at 16", 1.2, flat),
        Goal("HTTP: added time to the first event", 2.0, held("added_first_us", "first")),
        Goal("HTTP: a paced event, CPU, 200 streams", 1.5, held("cpu_us", "paced")),
        Goal("HTTP: an event of a burst, CPU", 4.0, held("cpu_us", "burst")),
        Goal("1,000 streams over HTTP: share of the core", 1.6, held("server_core", "many")),
        Goal("1,000 streams over HTTP: not whole, %", 0, of("lost")),
        Goal("1,000 streams over HTTP: KB for each", 40, of("kb_each")),
    )
