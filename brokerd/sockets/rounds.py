"""What is done at the end of a round of the event loop, before it waits for the next events.

A busy round serves several callers. Who writes to each of them at once wakes the process at the
other end each time, and that costs more than the write: so what a round has to say is said at its
end, in one go. Nobody waits longer for that than for `AT_ONCE` others, and nobody at all where a
round has just one to serve.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary


if TYPE_CHECKING:
    from collections.abc import Callable

    Late = Callable[[], bool]
    """Does what was put off. True: it has called into the loop, which must not sleep now."""


__all__ = ["ROOM", "RoundLoop", "Rounds", "rounds_of"]

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""So many are put off together; then it is done in the middle of a round."""

ROOM: Final = 1024 * 1024
"""Bytes that may be put off together."""


class Rounds:
    """What is put off in this round."""

    __slots__ = ("_first", "_then", "is_alone", "room")

    def __init__(self) -> None:
        self._first: list[Late] = []
        self._then: list[Late] = []
        self.room = ROOM
        """Bytes that may still be put off; who does takes them."""
        self.is_alone = False
        """Whether this round has one event and nothing else: then nothing need be put off."""

    def first(self, late: Late) -> None:
        """Have it called before all that is put off by `then`: what has to be known by then."""
        self._first.append(late)
        self._wake()

    def then(self, late: Late) -> None:
        """Have it called at the end of this round."""
        self._then.append(late)
        if len(self._then) >= AT_ONCE:
            self.run()
        elif len(self._then) == 1:
            self._wake()

    def run_first(self) -> bool:
        """Do now what goes before the rest; for who cannot wait."""
        return _call(self._first) if self._first else False

    def run(self) -> bool:
        """Do all of it; return whether the loop has something to do at once.

        That is what was called into it, and what was put off by what was put off.
        """
        self.room = ROOM
        called = self.run_first()
        if self._then:
            called = _call(self._then) or called
        return called or bool(self._then or self._first)

    def _wake(self) -> None:
        """See to it that `run` is called: our own loop does so by itself."""


class _SoonRounds(Rounds):
    """Those of a loop that is not ours: what is put off is done in its next round."""

    __slots__ = ("_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._handle: asyncio.Handle | None = None

    def run(self) -> bool:
        self._handle = None
        return super().run()

    def _wake(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_soon(self.run)


class _RoundSelector(selectors.EpollSelector):
    """The loop asks it for events when a round is over."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = Rounds()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        rounds = self.rounds
        if rounds.run():
            timeout = 0
        events = super().select(timeout)
        rounds.is_alone = timeout != 0 and len(events) == 1
        return events


class RoundLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with an end to each round."""

    def __init__(self) -> None:
        selector = _RoundSelector()
        super().__init__(selector)
        self.rounds = selector.rounds


_soon: WeakKeyDictionary[asyncio.AbstractEventLoop, Rounds] = WeakKeyDictionary()


def rounds_of(loop: asyncio.AbstractEventLoop) -> Rounds:
    """Return what is put off in a loop, be it ours or another."""
    if isinstance(loop, RoundLoop):
        return loop.rounds
    rounds = _soon.get(loop)
    if rounds is None:
        rounds = _soon[loop] = _SoonRounds(loop)
    return rounds


def _call(late: list[Late]) -> bool:
    """Call and forget them all; one that raises is a defect, and does not keep the others back."""
    called = False
    due = late.copy()
    late.clear()
    for each in due:
        try:
            called = each() or called
        except Exception:
            log.exception("not done at the end of a round")
            called = True
    return called
