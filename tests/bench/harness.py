"""Cells, shuffled and repeated; figures with their spread; ratios within one run.

A cell is one thing measured once; its turn gives a Sample. Cells that are compared with each other
form a group. In every round all groups take their turn in a new order, and so do the cells of a
group, so that what a noisy neighbour steals is stolen from everybody alike. A ratio is taken
between samples of the same pass, which lie a second apart, never between two runs.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol


if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Mapping


__all__ = [
    "Cell",
    "Column",
    "Figure",
    "Goal",
    "Group",
    "Part",
    "Progress",
    "Results",
    "Sample",
    "measure",
]

MICRO = 1e6


@dataclass(frozen=True)
class Sample:
    """What one turn of a cell cost."""

    ops: int
    """Operations done: gets, requests, events, runs of a command."""
    wall: float
    """Seconds it took."""
    cpu: float
    """CPU seconds of the measured processes, with all that they started."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Whatever else was seen, by key: `p50_us`, `first_event_us`, `pss_mb`…"""

    def metric(self, key: str) -> float | None:
        """Return one metric: `cpu_us` and `wall_us` per operation, `ops_s`, or one of `more`."""
        if key in self.more:
            return self.more[key]
        if key == "ops_s":
            return self.ops / self.wall if self.wall else None
        if not self.ops:
            return None
        match key:
            case "cpu_us":
                return self.cpu / self.ops * MICRO
            case "wall_us":
                return self.wall / self.ops * MICRO
        return None


@dataclass(frozen=True)
class Cell:
    """One row of a group: its name in the table, and how it takes its turn."""

    name: str
    run: Callable[[], Sample]
    is_ours: bool = False
    """Shown in the table as the one that it is all about."""


@dataclass(frozen=True)
class Column:
    """One metric in the table of a group."""

    key: str
    """As `Sample.metric` knows it."""
    title: str
    scale: float = 1.0
    """What it is multiplied with for the eye: 1e-3 shows `cpu_us` in ms."""
    ratio: bool = True
    """Show its ratio to the floor beside it."""


@dataclass(frozen=True)
class Group:
    """Cells that are compared with each other."""

    name: str
    """What `--only` knows it by: `token-8`."""
    title: str
    floor: str
    """The row that the ratios are to."""
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    passes: int = 1
    """How often all its cells take their turn in one round."""


@dataclass(frozen=True)
class Figure:
    """A median and what it lies between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure | None:
        """Return the figure of some values; None when there are none."""
        all_of_them = sorted(values)
        if not all_of_them:
            return None
        return cls(statistics.median(all_of_them), all_of_them[0], all_of_them[-1])


@dataclass(frozen=True)
class Goal:
    """Something that must hold, and how it is read from the results."""

    text: str
    limit: float
    """At most this."""
    figure: Callable[[Results], Figure | None]
    """None: not measured in this run."""


@dataclass(frozen=True)
class Part:
    """What one file of cells brings: returned by its `prepare(stage)`, its servers up."""

    groups: tuple[Group, ...]
    goals: tuple[Goal, ...] = ()
    afterwards: Callable[[Results, Progress], None] | None = None
    """Called once when all rounds are over, to add samples of its own."""
    takes_turns: bool = True
    """False: its groups are only tables for what `afterwards` sees."""


class Results:
    """All samples of a run: group → row → one sample a pass."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, list[Sample | None]]] = {}
        self.failed: dict[tuple[str, str], str] = {}
        """(group, row) → what went wrong; such a cell takes no further turns."""
        self.seconds: dict[str, float] = {}
        """Group → how long all its turns took."""

    def add(self, group: str, row: str, sample: Sample | None) -> None:
        """Note what a turn gave; None keeps the passes in step when it gave nothing."""
        self.samples.setdefault(group, {}).setdefault(row, []).append(sample)

    def rows(self, group: str) -> list[str]:
        """Return the rows of a group that have a sample."""
        rows = self.samples.get(group, {})
        return [row for row, samples in rows.items() if any(samples)]

    def values(self, group: str, row: str, key: str) -> list[float | None]:
        """Return one metric, pass by pass."""
        samples = self.samples.get(group, {}).get(row, [])
        return [None if sample is None else sample.metric(key) for sample in samples]

    def figure(self, group: str, row: str, key: str) -> Figure | None:
        """Return the median of a metric over all passes; None when it was not measured."""
        return Figure.of(value for value in self.values(group, row, key) if value is not None)

    def ratio(self, key: str, over: tuple[str, str], under: tuple[str, str]) -> Figure | None:
        """Return the median ratio of a metric between two (group, row), pass by pass."""
        pairs = zip(self.values(*over, key), self.values(*under, key), strict=False)
        return Figure.of(a / b for a, b in pairs if a is not None and b)


class Progress(Protocol):
    """Who is told how far it has got."""

    def step(self, what: str) -> None:
        """Note that a turn begins."""


def measure(
    groups: list[Group], *, rounds: int, rng: random.Random, progress: Progress
) -> Results:
    """Let every cell take its turns; a cell that fails is left out from then on."""
    results = Results()
    for group in groups:
        for cell in group.cells:
            results.samples.setdefault(group.name, {})[cell.name] = []
    for group, cell in _turns(groups, rounds, rng):
        progress.step(f"{group.name}: {cell.name}")
        since = time.monotonic()
        if (group.name, cell.name) in results.failed:
            results.add(group.name, cell.name, None)
            continue
        try:
            results.add(group.name, cell.name, cell.run())
        except Exception as error:  # one cell must not take the others with it
            results.failed[group.name, cell.name] = f"{type(error).__name__}: {error}"
            results.add(group.name, cell.name, None)
        took = results.seconds.get(group.name, 0.0) + time.monotonic() - since
        results.seconds[group.name] = took
    return results


def turns(groups: list[Group], rounds: int) -> int:
    """Count the turns that `measure` will make."""
    return rounds * sum(group.passes * len(group.cells) for group in groups)


def _turns(groups: list[Group], rounds: int, rng: random.Random) -> Iterator[tuple[Group, Cell]]:
    for _ in range(rounds):
        for group in rng.sample(groups, len(groups)):
            for _ in range(group.passes):
                for cell in rng.sample(group.cells, len(group.cells)):
                    yield group, cell
