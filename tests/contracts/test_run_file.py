"""The file of runs: what it holds comes back, and what cannot be understood is none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from brokerd.core.keys import Spent
from brokerd.core.passing import KeptRun, PassingKey, Process
from brokerd.errors import BrokerError
from brokerd.stores.runs import VERSION, RunFile


BOOT = "00000000-0000-4000-8000-000000000000"
PLAIN = PassingKey(
    "run:a", "0" * 64, 1_790_000_000, label="a", at="127.0.0.1:40001", process=Process(7, 8, BOOT)
)
LIMITED = replace(
    PLAIN,
    name="run:b:2",
    digest="1" * 64,
    label="b",
    models=("gpt-*", "o3"),
    account="work",
    requests_per_minute=5,
    budget=1000,
)
RUNS = [KeptRun(PLAIN), KeptRun(LIMITED, Spent(20_000, 17))]


@pytest.fixture
def file(tmp_path):
    return RunFile(tmp_path / "state" / "runs.json")


def test_what_is_saved_comes_back(file, tmp_path):
    assert file.load() == []
    file.save(RUNS)
    path = tmp_path / "state" / "runs.json"
    assert file.load() == RUNS
    assert path.stat().st_mode & 0o777 == 0o600
    file.save([])
    assert not path.exists()
    file.save([])
    assert file.load() == []


def test_more_than_is_read_again_is_not_written(file):
    patterns = tuple(f"{number:03}" + "\N{GRINNING FACE}" * 253 for number in range(100))
    large = replace(LIMITED, models=patterns)
    runs = [replace(each, name=f"run:c:{n + 1}") for n in range(3) for each in (large, PLAIN)]
    assert file.save([KeptRun(key) for key in runs]) == 1
    assert [run.key for run in file.load()] == [*runs[:4], runs[5]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: "{",
        lambda record: "[]",
        lambda record: "[" * 100_000,
        lambda record: {**record, "version": VERSION + 1},
        lambda record: {**record, "runs": {}},
        lambda record: {**record, "runs": [7]},
    ],
)
def test_a_file_that_cannot_be_understood_has_no_runs(file, tmp_path, damage):
    file.save(RUNS)
    path = tmp_path / "state" / "runs.json"
    damaged = damage(json.loads(path.read_text()))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    assert file.load() == []
    file.save(RUNS)
    assert file.load() == RUNS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "ci"),
        ("name", None),
        ("digest", "x"),
        ("label", "a b"),
        ("at", "192.168.0.1:80"),
        ("at", "localhost:80"),
        ("at", 7),
        ("models", "gpt-*"),
        ("models", []),
        ("budget", -1),
        ("requests_per_minute", "5"),
        ("account", "a b"),
        ("process", None),
        ("process", {"pid": 7, "started": 8}),
        ("process", {"pid": "7", "started": 8, "boot": BOOT}),
        ("process", {"pid": 7, "started": 8, "boot": 9}),
    ],
    ids=str,
)
def test_an_unclear_right_is_none(file, tmp_path, name, value):
    file.save(RUNS)
    path = tmp_path / "state" / "runs.json"
    record = json.loads(path.read_text())
    record["runs"][0]["key"][name] = value
    path.write_text(json.dumps(record))
    assert file.load() == []


def test_a_file_that_others_can_read_is_refused(file, tmp_path):
    file.save(RUNS)
    (tmp_path / "state" / "runs.json").chmod(0o644)
    with pytest.raises(BrokerError):
        file.load()
