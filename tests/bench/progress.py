"""How far it has got: a bar on a terminal (with rich), a line now and then elsewhere."""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Self


if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


__all__ = ["Bar", "Lines", "choose"]

EVERY = 10.0
"""Seconds between two lines."""


class Lines:
    """Plain lines on stderr, at most one each ten seconds."""

    def __init__(self) -> None:
        self._total = self._done = 0
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def begin(self, total: int) -> None:
        """Note how many turns there will be."""
        self._total = total

    def step(self, what: str) -> None:
        """Note that a turn begins."""
        self._done += 1
        if time.monotonic() - self._said_at > EVERY:
            self._said_at = time.monotonic()
            count = f"{self._done}/{self._total} " if self._done <= self._total else ""
            self.say(f"{count}{what}")

    def finish(self) -> None:
        """Note that all is measured."""


class Bar:
    """A rich progress bar on stderr."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def begin(self, total: int) -> None:
        """Show the bar."""
        self._task = self._bar.add_task("", total=total)

    def step(self, what: str) -> None:
        """Move on by one."""
        if self._task is not None:
            advance = 0 if self._bar.finished else 1  # the idle window comes after all turns
            self._bar.update(self._task, advance=advance, description=what)

    def finish(self) -> None:
        """Take the bar away before the tables come."""
        self._bar.stop()


def choose() -> Lines | Bar:
    """Return a bar where it can be seen."""
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}", markup=False),
            )
            return Bar(Progress(*columns, console=Console(stderr=True), transient=True))
    return Lines()
