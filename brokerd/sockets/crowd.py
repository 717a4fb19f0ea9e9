"""The open connections of one door, in the order of their last word, and what bounds them.

Where there are too many, or no file descriptor is left, the oldest one goes that may. But before
anybody else it is the process that holds most, if it holds very many: busy ones too, or it could
lock all others out with requests that never end. Where all buffers together grow too large, the
connection that holds most goes, whoever was the last to add a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["OF_ONE_PROCESS", "Crowd", "Member"]

log = logging.getLogger(__name__)

OF_ONE_PROCESS = 64
"""Connections of one process that it keeps where others want in; busy agents have a dozen."""


class Member(Protocol):
    """One connection."""

    @property
    def process(self) -> int:
        """The number of the process that connected."""
        ...

    @property
    def may_be_evicted(self) -> bool:
        """Whether nobody misses much if it goes."""
        ...

    @property
    def settled(self) -> bool:
        """Whether nothing is under way."""
        ...

    def close(self, reason: str) -> None:
        """End it now; it then leaves the crowd. `reason` is for the log."""
        ...


M = TypeVar("M", bound=Member)


class Crowd(Generic[M]):
    """See the module's docstring."""

    def __init__(self, most: int, buffers: int) -> None:
        """`most` connections, with `buffers` bytes together."""
        self._most = most
        self._buffers = buffers
        self._held: OrderedDict[M, int] = OrderedDict()
        """Oldest word first, with the bytes that each holds."""
        self._held_total = 0
        self._of_process: Counter[int] = Counter()
        """How many connections each process has, by its number."""
        self._changed = asyncio.Event()
        self._is_awaited = False
        """Whether anybody waits for all to settle."""

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[M]:
        """Go through them as they are now; whoever is met may leave."""
        return iter(list(self._held))

    @property
    def held(self) -> int:
        """Bytes held for all of them together."""
        return self._held_total

    @property
    def is_full(self) -> bool:
        """Whether one more would need somebody to leave."""
        return len(self._held) >= self._most

    def add(self, member: M) -> None:
        """Let one in; it is the youngest."""
        self._held[member] = 0
        self._of_process[member.process] += 1

    def moved(self, member: M) -> None:
        """Keep the order of last words."""
        self._held.move_to_end(member)

    def leave(self, member: M) -> None:
        """Forget it."""
        self._held_total -= self._held.pop(member, 0)
        self._of_process[member.process] -= 1
        if not self._of_process[member.process]:
            del self._of_process[member.process]
        self.changed()

    def tell_held(self, member: M, held: int) -> None:
        """Keep the sum, and the sum within its bound; `held` is in bytes."""
        before = self._held.get(member)
        if before is None:
            return
        self._held_total += held - before
        self._held[member] = held
        while self._held_total > self._buffers:
            greediest = max(self._held, key=self._held.__getitem__)
            extra = {"REASON": "buffers_full", "COUNT": self._held[greediest]}
            log.warning("connection dropped", extra=extra)
            greediest.close("buffers_full")

    def make_room(self) -> bool:
        """Whether one more fits; the oldest that may go is sent away for it."""
        return not self.is_full or self.evict("too_many_connections")

    def evict(self, reason: str) -> bool:
        """Close the oldest connection that may be; False when there is none.

        Where one process has more than its share, close the oldest of that one, busy or not.
        """
        process, count = max(self._of_process.items(), key=itemgetter(1), default=(0, 0))
        is_greedy = count > OF_ONE_PROCESS
        for member in self._held:
            if member.process == process if is_greedy else member.may_be_evicted:
                member.close(reason)
                return True
        return False

    def changed(self) -> None:
        """Look anew whether all have settled."""
        if self._is_awaited:
            self._changed.set()

    async def all_settled(self, until: float) -> None:
        """Wait for every connection to settle, at most till then (loop time)."""
        self._is_awaited = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while not all(member.settled for member in self._held):
                    self._changed.clear()
                    await self._changed.wait()
