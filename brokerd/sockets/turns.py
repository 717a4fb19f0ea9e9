"""Whose turn it is, among callers who have asked for more than is answered at once.

A loop that gives each of five hundred busy callers a share in every round takes a second for one,
and who has just one question waits for several. So callers with more to say stand in one line, and
only as many are served in a round as fit into a slice of time. Who asks little is served at once,
unless too many do in the same round: those stand in a line of their own, which goes first.

Who is to be closed stands in a third one with a slice of its own: of a process that ends, all
connections end in the same round.

In each line it is one connection of each process after the other: who opens five hundred of them
waits for itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["SLICE", "Turns"]

SLICE = 0.002
"""Seconds of a round of the loop that are for those in the line, and as many for those who are
served at once; whoever is served when they are over is served to the end of its share."""


class _Line:
    """Process after process, in each it is first come, first served; nobody stands in it twice."""

    def __init__(self) -> None:
        self._process: dict[object, int] = {}
        """Who stands in it → whose it is."""
        self._waiting: OrderedDict[int, OrderedDict[object, Callable[[], None]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._process)

    def join(self, who: object, turn: Callable[[], None], of: int) -> None:
        if who not in self._process:
            self._process[who] = of
            self._waiting.setdefault(of, OrderedDict())[who] = turn

    def leave(self, who: object) -> None:
        of = self._process.pop(who, None)
        if of is not None:
            own = self._waiting[of]
            del own[who]
            if not own:
                del self._waiting[of]

    def serve(self, end: float, clock: Callable[[], float]) -> None:
        """Serve one at least, till `end` on the clock; who joins meanwhile waits for a round."""
        waiting = self._waiting
        for _ in range(len(self._process)):
            if not waiting:
                return
            of = next(iter(waiting))
            own = waiting[of]
            who, turn = own.popitem(last=False)
            del self._process[who]
            if own:
                waiting.move_to_end(of)
            else:
                del waiting[of]
            turn()
            if clock() >= end:
                return


class Turns:
    """Those who were not served at once, and those who have more to say."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """`clock` gives seconds."""
        self.clock = clock
        self._first = _Line()
        self._then = _Line()
        self._ending = _Line()
        self._loop: asyncio.AbstractEventLoop | None = None
        """Asked for once: to ask is a system call."""
        self._due = False
        self.left = SLICE
        """Seconds for those who are served at once; at 0 and below nobody more is."""

    def used(self, seconds: float) -> None:
        """Take so much of what is for those who are served at once.

        It is renewed in the round after it was used up. To do so in every round would have the
        loop look for events once more each time.
        """
        self.left -= seconds
        if self.left <= 0:
            self._go_on()

    def join(
        self, who: object, turn: Callable[[], None], *, of: int = 0, first: bool = False
    ) -> None:
        """Call `turn` when it is the turn of `who`, which then may join again.

        `of` is the process that it belongs to. `first`: it was not served at once, and goes
        before those who were and have more to say.
        """
        (self._first if first else self._then).join(who, turn, of)
        self._go_on()

    def leave(self, who: object) -> None:
        """Step out of the line; nothing if it does not stand there."""
        if self._first:
            self._first.leave(who)
        if self._then:
            self._then.leave(who)

    def end(self, who: object, turn: Callable[[], None], *, of: int = 0) -> None:
        """Call `turn`, which closes `who`, when it is its turn; out of this line nobody steps."""
        self.leave(who)
        self._ending.join(who, turn, of)
        self._go_on()

    def _go_on(self) -> None:
        if not self._due:
            self._due = True
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.get_running_loop()
            loop.call_soon(self._serve)

    def _serve(self) -> None:
        self._due = False
        self.left = SLICE
        clock = self.clock
        end = clock() + SLICE
        self._first.serve(end, clock)
        self._then.serve(end, clock)  # one at least: the others do not starve it
        if self._ending:
            self._ending.serve(clock() + SLICE, clock)
        if self._first or self._then or self._ending:
            self._go_on()
