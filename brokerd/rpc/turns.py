"""Whose turn it is, among callers who have asked for more than is answered at once.

A loop that gives each of five hundred busy callers a share in every round takes a second for one,
and who has just one question waits for several. So callers with more to say stand in one line, and
only as many are served in a round as fit into a slice of time. Who asks little is served at once,
unless too many do in the same round: those stand in a line of their own, which goes first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["SLICE", "Turns"]

SLICE = 0.002
"""Seconds of a round of the loop that are for those in the line, and as many for those who are
served at once; whoever is served when they are over is served to the end of its share."""


class Turns:
    """Two lines; in each it is first come, first served, and nobody stands in them twice."""

    def __init__(self) -> None:
        self._first: OrderedDict[object, Callable[[], None]] = OrderedDict()
        self._then: OrderedDict[object, Callable[[], None]] = OrderedDict()
        self._due = False
        self._left = SLICE
        """Of this round, for those who are served at once."""

    @property
    def has_time(self) -> bool:
        """Whether somebody may be served at once."""
        return self._left > 0

    def used(self, seconds: float) -> None:
        """Take so much from this round."""
        self._left -= seconds
        self._go_on()  # the next round has its own

    def join(self, who: object, turn: Callable[[], None], *, first: bool = False) -> None:
        """Call `turn` when it is the turn of `who`, which then may join again.

        `first`: it was not served at once, and goes before those who were and have more to say.
        """
        (self._first if first else self._then).setdefault(who, turn)
        self._go_on()

    def leave(self, who: object) -> None:
        """Step out of the line; nothing if it does not stand there."""
        self._first.pop(who, None)
        self._then.pop(who, None)

    def _go_on(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._due = False
        self._left = SLICE
        end = asyncio.get_running_loop().time() + SLICE
        self._serve_line(self._first, end)
        self._serve_line(self._then, end)  # one at least: the others do not starve it
        if self._first or self._then:
            self._go_on()

    def _serve_line(self, line: OrderedDict[object, Callable[[], None]], end: float) -> None:
        clock = asyncio.get_running_loop().time
        for _ in range(len(line)):  # who joins again is for the next round
            if not line:
                return
            _, turn = line.popitem(last=False)
            turn()
            if clock() >= end:
                return
