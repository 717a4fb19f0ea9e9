"""Completions: ours over RPC, a bare byte forwarder under it, `copilot-api` beside it.

The floor's door is a Unix socket, as ours is. It knows nothing of HTTP; ours asks the gate, leases
the token, reads the last turn, renders a head, parses the answer and frames it in MessagePack.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import copilot_api, ours
from bench.harness import Goal, Part
from bench.servers import file_limit
from bench.traffic import RAW, Row, Traffic, answers, busiest, free_port, note_added


if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Figure, Progress, Results
    from bench.stage import Stage


__all__ = ["forwarder", "prepare"]

ROOT = Path(__file__).resolve().parents[2]
OURS = ours.NAME
PART = "proxy"
FILES = 4096
"""Files that a candidate may open: a thousand streams are two thousand. Ours raises its own."""


def prepare(stage: Stage) -> Part:
    """Start all servers."""
    traffic = Traffic(stage)
    broker = ours.shared(stage)
    raw = forwarder(stage, "raw", RAW, stage.python, PART)
    raw_tcp = forwarder(stage, "raw", f"{RAW}, TCP", stage.python, PART, port=free_port())
    mine = Row(OURS, broker.server, f"unix:{broker.socket}", is_rpc=True, is_ours=True)
    rows = [traffic.direct, raw, mine]
    everybody = rows
    if not stage.is_smoke:
        github = stage.servers[f"{OURS} github"].log.read_text().strip()
        peer = copilot_api.shared(stage, ROOT, github)
        everybody = [*rows, *([peer] if peer else [])]
    is_quick = stage.scale.name == "quick"  # then without what takes long and judges nothing
    asked = [
        (traffic.json(16), [*everybody, raw_tcp]),
        (traffic.json(64), rows if is_quick else everybody),
        (traffic.first(), everybody),
        (traffic.paced(), rows if is_quick else everybody),
    ]
    if not is_quick:
        asked += [(kind, everybody) for kind in (traffic.json(1), traffic.big(), traffic.burst())]
    groups = [traffic.group(PART, kind, found) for kind, found in asked]

    def afterwards(results: Results, _: Progress) -> None:
        note_added(results, PART)
        stage.notes.extend(busiest(results, PART))

    return Part(tuple(groups), _goals(), afterwards)


def forwarder(
    stage: Stage, module: str, name: str, python: Path, part: str, *, port: int | None = None
) -> Row:
    """Start one of the candidates for a part, on the interpreter given. Raises ServerError.

    Its door is a Unix socket; with a `port` it is that one (the byte forwarder can).
    """
    path = stage.folder / f"{part}-{module}.sock"
    door = str(path) if port is None else f"tcp:{port}"
    paths = f"{ROOT}/tests:{ROOT}:{ROOT}/client"
    upstream_port = stage.upstream.rpartition(":")[2]
    argv = [python, "-P", "-m", f"bench.candidates.{module}", door, upstream_port]
    env = stage.environ(stage.folder, PYTHONPATH=paths)
    address = str(path) if port is None else ("127.0.0.1", port)
    with file_limit(FILES):
        server = stage.start(
            f"{part} {module} {port or ''}".strip(), argv, ready=lambda: answers(address), env=env
        )
    return Row(name, server, f"unix:{path}" if port is None else f"tcp:127.0.0.1:{port}")


def _goals() -> tuple[Goal, ...]:
    def held(key: str, kind: str) -> Callable[[Results], Figure | None]:
        group = f"{PART}-{kind}"
        return lambda results: results.ratio(key, (group, OURS), (group, RAW))

    def flat(results: Results) -> Figure | None:
        return results.ratio("cpu_us", (f"{PART}-json-64", OURS), (f"{PART}-json-16", OURS))

    return (
        Goal(f"JSON over RPC, CPU of {RAW}'s, 16 at a time", 3.0, held("cpu_us", "json-16")),
        Goal("JSON over RPC, CPU at 64 of that at 16", 1.2, flat),
        Goal(f"added time to the first event, of {RAW}'s", 2.0, held("added_first_us", "first")),
        Goal(f"a paced event, CPU of {RAW}'s, 200 streams", 1.5, held("cpu_us", "paced")),
    )
