"""The benchmark's machinery works; what it measures is no test's business."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import servers
from bench.harness import Cell, Column, Figure, Goal, Group, Results, Sample, measure, turns
from bench.stage import SMOKE, Stage
from bench.table import goal_table, group_table, number


ROOT = Path(__file__).resolve().parents[1]


class Steps:
    def __init__(self) -> None:
        self.taken: list[str] = []

    def step(self, what: str) -> None:
        self.taken.append(what)


def cells(*costs: tuple[str, float]) -> tuple[Cell, ...]:
    return tuple(Cell(name, lambda cpu=cpu: Sample(10, 1.0, cpu)) for name, cpu in costs)


def group(*costs: tuple[str, float], passes: int = 1) -> Group:
    return Group("g", "a group", "floor", (Column("cpu_us", "CPU us"),), cells(*costs), passes)


def run(*groups: Group, rounds: int = 1, seed: int = 0) -> tuple[Results, list[str]]:
    steps = Steps()
    found = measure(list(groups), rounds=rounds, rng=random.Random(seed), progress=steps)
    return found, steps.taken


def test_every_cell_takes_its_turns_in_every_pass() -> None:
    measured = group(("floor", 1.0), ("ours", 2.0), passes=3)
    results, taken = run(measured, rounds=5)
    assert len(taken) == turns([measured], 5) == 30
    assert [len(results.values("g", row, "cpu_us")) for row in ("floor", "ours")] == [15, 15]


def test_one_seed_gives_one_order() -> None:
    names = group(*((str(each), 1.0) for each in range(6)))
    orders = {tuple(run(names, seed=seed)[1]) for seed in (1, 1, 2)}
    assert len(orders) == 2


def test_ratios_are_taken_pass_by_pass() -> None:
    results = Results()
    for cpu in (1.0, 100.0):  # a neighbour steals from both in the second pass
        results.add("g", "floor", Sample(1, 1.0, cpu))
        results.add("g", "ours", Sample(1, 1.0, 3 * cpu))
    assert results.ratio("cpu_us", ("g", "ours"), ("g", "floor")) == Figure(3.0, 3.0, 3.0)


def test_cell_that_fails_is_left_out_and_named() -> None:
    def fail() -> Sample:
        raise RuntimeError("gone")

    broken = Group("g", "", "floor", (), (*cells(("floor", 1.0)), Cell("broken", fail)))
    results, _ = run(broken, rounds=3)
    assert results.failed == {("g", "broken"): "RuntimeError: gone"}
    assert results.rows("g") == ["floor"]


@pytest.mark.parametrize(("limit", "verdict", "missed"), [(2.0, "met", 0), (1.9, "MISSED", 1)])
def test_goal_is_met_up_to_its_limit(limit: float, verdict: str, missed: int) -> None:
    results, _ = run(group(("floor", 1.0), ("ours", 2.0)))
    goal = Goal("g", limit, lambda seen: seen.ratio("cpu_us", ("g", "ours"), ("g", "floor")))
    unknown = Goal("u", limit, lambda seen: seen.figure("g", "nobody", "cpu_us"))
    *_, lines, count = goal_table([goal, unknown], results)
    assert [line[-1] for line in lines] == [verdict, "not measured"]
    assert count == missed


def test_table_has_the_cheapest_first() -> None:
    measured = group(("floor", 2.0), ("ours", 4.0), ("peer", 1.0))
    results, _ = run(measured)
    title, headings, lines = group_table(measured, results)
    assert (title, headings) == ("g: a group (x = floor)", ["", "CPU us", "x floor"])
    assert [line[0].strip() for line in lines] == ["peer", "floor", "ours"]
    assert [line[2] for line in lines] == ["0.500", "1.00", "2.00"]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.01234, "0.012"), (1.234, "1.23"), (12345.6, "12,346")]
)
def test_number_has_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


BURNING = """
import signal, subprocess, sys, time
if sys.argv[1:]:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
while time.process_time() < 0.1:
    pass
print("burnt", flush=True)
signal.pause()
"""


def test_cpu_time_is_that_of_the_whole_tree() -> None:
    with Stage(SMOKE, print) as stage:
        log = stage.folder / "tree.log"
        argv = [sys.executable, "-c", BURNING, BURNING]
        server = stage.start("tree", argv, ready=lambda: "burnt" in log.read_text())
        servers.wait_until(lambda: log.read_text().count("burnt") == 2)
        assert len(server.pids()) == 2
        assert server.cpu() > 0.2
        assert 0.1 < servers.cpu_of(server.pid) < server.cpu() - 0.1


def test_stage_leaves_nothing_behind() -> None:
    with Stage(SMOKE, print) as stage:
        server = stage.start("naps", ["sleep", "1000"], ready=lambda: True)
        assert stage.folder.is_dir()
    assert server.process.poll() is not None
    assert not stage.folder.exists()


def test_server_that_ends_at_once_is_an_error_with_its_words() -> None:
    with Stage(SMOKE, print) as stage, pytest.raises(servers.ServerError, match="no such luck"):
        stage.start("fails", ["sh", "-c", "echo no such luck; exit 3"], ready=lambda: False)


def test_missing_peer_is_named_with_its_package() -> None:
    with Stage(SMOKE, print) as stage:
        assert not stage.has("a peer", "no-such-program", "its-package")
        assert stage.skipped == {
            "a peer": "no-such-program is missing: apt-get install its-package"
        }


def run_smoke(folder: Path, *more: str) -> dict:
    if shutil.which("cc") is None:
        if os.environ.get("CI"):
            pytest.fail("cc is missing: apt-get install gcc libc6-dev")
        pytest.skip("cc is missing: apt-get install gcc libc6-dev")
    file = folder / "figures.json"
    done = subprocess.run(
        [sys.executable, ROOT / "tests/bench", "--smoke", "--seed", "1", "--json", file, *more],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(json.loads(file.read_text()))


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the whole benchmark finds with few operations, no peers and nothing built but load.c."""
    return run_smoke(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize(
    ("group", "rows"),
    [
        ("cli", {"venv python -I -c pass", "copilot-cred get, wheel", "copilot-cred status"}),
        ("token-1", {"asyncio", "asyncio+msgpack", "copilot-broker"}),
        ("token-8", {"asyncio", "asyncio+msgpack", "copilot-broker"}),
        ("token-64", {"asyncio", "asyncio+msgpack", "copilot-broker"}),
        ("token-connect-8", {"asyncio", "asyncio+msgpack", "copilot-broker"}),
        *(
            (f"http-{kind}", {"direct", "asyncio forwarder", "copilot-broker, HTTP"})
            for kind in ("json-1", "json-64", "first", "paced", "burst", "bare", "many", "big")
        ),
        (
            "http-json-16",
            {
                "asyncio forwarder, TCP",
                "copilot-broker, HTTP by TCP with a key",
                "aiohttp proxy",
            },
        ),
        (
            "idle",
            {
                "asyncio",
                "asyncio+msgpack",
                "copilot-broker, no D-Bus",
                "copilot-broker, no D-Bus, HTTP used",
            },
        ),
    ],
)
def test_group_measures_ours_and_its_floors(figures: dict, group: str, rows: set[str]) -> None:
    assert rows <= figures["groups"][group]["rows"].keys()


def test_every_ratio_is_a_positive_number(figures: dict) -> None:
    ratios = [
        column["ratio"]
        for group in figures["groups"].values()
        for row in group["rows"].values()
        for key, column in row.items()
        if key in ("cpu_us", "p50_us")
    ]
    assert ratios
    for ratio in ratios:
        assert all(math.isfinite(value) and value > 0 for value in ratio.values())


def test_nothing_failed(figures: dict) -> None:
    assert figures["failed"] == {}


def test_streams_through_the_http_door_are_whole_and_weighed(figures: dict) -> None:
    row = figures["groups"]["http-many"]["rows"]["copilot-broker, HTTP"]
    assert row["completed"]["figure"]["median"] == 1
    assert row["event_p50_us"]["figure"]["median"] > 0  # the stamp was where upstream put it
    assert math.isfinite(row["kb_each"]["figure"]["median"])


def test_floods_leave_ours_answering(tmp_path: Path) -> None:
    """Every flood stands, every question is answered, and the daemon is alive afterwards."""
    found = run_smoke(tmp_path, "--only", "floods")
    assert found["failed"] == {}
    kinds = ("quiet", "idle", "files", "half", "deaf", "storm", "garbage", "greedy")
    assert list(found["groups"]) == [f"floods-{kind}" for kind in kinds]
    for kind in kinds:
        rows = found["groups"][f"floods-{kind}"]["rows"]
        assert set(rows) == {"copilot-broker", "copilot-broker, 1024 files"}
        for row in rows.values():
            seen = {key: column["figure"]["median"] for key, column in row.items()}
            assert seen["answered"] == 100
            assert seen.get("restarts", 0) == 0
            assert seen.get("flood_standing", 20) >= 20
