"""`python tests/bench`: measure copilot-broker beside floors and peers, print the ratios.

Exit status: 0 when it has measured, also when a goal is missed (1 then with --check); 2 for a
cell that failed or something that could not be built.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any


TESTS = str(Path(__file__).resolve().parents[1])
if __package__ in (None, ""):  # `python tests/bench` puts that folder first; the name is `bench`
    sys.path[:] = [TESTS, *(entry for entry in sys.path if entry != f"{TESTS}/bench")]

from bench import harness, progress, table  # noqa: E402  # needs the line above
from bench.install import InstallError  # noqa: E402
from bench.servers import ServerError  # noqa: E402
from bench.stage import FULL, QUICK, SMOKE, Stage  # noqa: E402


if TYPE_CHECKING:
    from collections.abc import Sequence


PARTS = {
    "cli": "cli_cells",
    "token": "token_cells",
    "proxy": "proxy_cells",
    "http": "http_cells",
    "idle": "idle_cells",
}
"""First word of the groups' names → the file with `prepare(stage) -> Part`."""
ON_REQUEST = {"path": "path_cells", "floods": "flood_cells"}
"""Likewise, those that only `--only` measures."""
GENERATOR_LIMIT = 0.95
"""Share of its core above which a generator is as slow as what it measures."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = _arguments(argv)
    scale = SMOKE if options.smoke else QUICK if options.quick else FULL
    seed = random.randrange(1 << 16) if options.seed is None else options.seed
    since = time.monotonic()
    shown = progress.choose()
    with shown, Stage(scale, shown.say, keep=options.keep) as stage:
        about = _about(stage, seed)
        shown.say(" | ".join(f"{key} {value}" for key, value in about.items()))
        try:
            parts = _parts(options.only, stage)
        except (InstallError, ServerError) as error:
            shown.say(f"cannot measure: {error}")
            return 2
        groups = [group for part in parts for group in part.groups]
        measured = [
            group
            for part in parts
            for group in part.groups
            if part.takes_turns and group.cells and _wanted(group.name, options.only)
        ]
        shown.begin(harness.turns(measured, scale.rounds))
        results = harness.measure(
            measured, rounds=scale.rounds, rng=random.Random(seed), progress=shown
        )
        for part in parts:
            if part.afterwards is not None:
                part.afterwards(results, shown)
        shown.finish()
        goals = [goal for part in parts for goal in part.goals]
        missed = _report(groups, goals, results, stage)
        each = ", ".join(f"{name} {seconds:.0f}" for name, seconds in results.seconds.items())
        print(f"\n{time.monotonic() - since:.0f} s in all ({each}); load average {_load()}")
        if options.keep:
            print(f"kept: {stage.folder}")
        if options.json is not None:
            about["seconds"] = round(time.monotonic() - since)
            found = table.as_json(groups, goals, results, {**about, "skipped": stage.skipped})
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    if results.failed:
        return 2
    return 1 if missed and options.check else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, coarser")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="groups, or beginnings of names"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--seed", type=int, help="of the shuffling (default: a new one, printed)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with servers' logs")
    parser.add_argument("--smoke", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _wanted(group: str, only: Sequence[str]) -> bool:
    return not only or any(group.startswith(name) for name in only)


def _parts(only: Sequence[str], stage: Stage) -> list[harness.Part]:
    names = {name.partition("-")[0] for name in only} or PARTS.keys()
    parts = []
    for name, module in (PARTS | ON_REQUEST).items():
        if name in names and (Path(__file__).parent / f"{module}.py").exists():
            stage.say(f"getting ready: {name}")
            parts.append(importlib.import_module(f"bench.{module}").prepare(stage))
    return parts


def _report(
    groups: Sequence[harness.Group],
    goals: Sequence[harness.Goal],
    results: harness.Results,
    stage: Stage,
) -> int:
    for group in groups:
        if results.rows(group.name):
            table.show(*table.group_table(group, results))
    title, headings, lines, missed = table.goal_table(goals, results)
    if lines:
        table.show(title, headings, lines)
    print()
    for note in [*_generator_notes(results), *stage.notes]:
        print(note)
    for name, reason in stage.skipped.items():
        print(f"left out: {name}: {reason}")
    for (group, row), why in results.failed.items():
        print(f"FAILED: {group}: {row}: {why}")
    return missed


def _generator_notes(results: harness.Results) -> list[str]:
    """Say how busy the generator's own core was: below all of it, the server set the pace."""
    shares = {
        f"{group}: {row}": figure.median
        for group in results.samples
        for row in results.rows(group)
        if (figure := results.figure(group, row, "generator_core")) is not None
    }
    if not shares:
        return []
    busiest = max(shares, key=shares.__getitem__)
    notes = [f"the load generator used at most {shares[busiest]:.0%} of its core ({busiest})"]
    limited = [name for name, share in shares.items() if share > GENERATOR_LIMIT]
    if limited:
        notes.append(f"its own limit, not the server's, is the rate of: {'; '.join(limited)}")
    return notes


def _about(stage: Stage, seed: int) -> dict[str, Any]:
    cores = stage.cores
    pinned = f"server {cores.server}, generator {cores.generator}"
    return {
        "scale": stage.scale.name,
        "seed": seed,
        "cores": "not pinned: only one" if cores.server is None else pinned,
        "kernel": platform.release(),
        "load average": _load(),
    }


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stop the servers
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
