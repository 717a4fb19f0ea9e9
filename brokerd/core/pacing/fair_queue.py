"""Who has to wait takes turns: process by process, and in order within a process.

So a tool with a hundred requests holds up another's single one by one request, not by a hundred.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Generic, TypeVar


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["MAX_WAIT", "MAX_WAITING", "FairQueue"]

MAX_WAITING = 256
"""Requests; each holds its body in memory meanwhile."""

MAX_WAIT = 30.0
"""Seconds; as long as editors wait for the head of an answer."""

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Waiters by the process they are for."""

    __slots__ = ("_by_peer", "_size")

    def __init__(self) -> None:
        self._by_peer: OrderedDict[int, deque[T]] = OrderedDict()
        """In the order of their turns; none is empty."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All who wait, in no order that matters; of a copy, so they may leave meanwhile."""
        return iter([waiter for waiters in self._by_peer.values() for waiter in waiters])

    def put(self, peer: int, waiter: T) -> None:
        """Line up behind those of the same process; ask for the length before."""
        self._by_peer.setdefault(peer, deque()).append(waiter)
        self._size += 1

    def take(self) -> T:
        """Return whose turn it is; the process then is the last in the round. Not when empty."""
        peer, waiters = self._by_peer.popitem(last=False)
        waiter = waiters.popleft()
        self._size -= 1
        if waiters:
            self._by_peer[peer] = waiters
        return waiter

    def remove(self, peer: int, waiter: T) -> bool:
        """Let one leave that does not want any more; False when it is not here."""
        waiters = self._by_peer.get(peer)
        if waiters is None or waiter not in waiters:
            return False
        waiters.remove(waiter)
        self._size -= 1
        if not waiters:
            del self._by_peer[peer]
        return True
