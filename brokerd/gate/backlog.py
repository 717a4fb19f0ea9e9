"""Records that may wait a little: those of connections that have ended.

A process with thousands of connections ends, and each of these leaves a total. Written all at once
they would keep everybody else waiting for seconds. So a round of the loop writes a few of them and
the others stand in a queue, in their order; what is left at a stop is written then. Grants and
denials never wait: they are in the log before anything is answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["PER_ROUND", "WAITING_MAX", "Backlog"]

PER_ROUND: Final = 4
"""Records written in one round of the loop; each takes some tenths of a millisecond."""

WAITING_MAX: Final = 16_384
"""Records that wait at most, as many as there can be connections; for one more the oldest is
written at once."""


class Backlog:
    """The queue of one gate. Without a running loop there is no queue."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._left = PER_ROUND
        """Of this round."""
        self._due = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, write: Callable[[], None]) -> None:
        """Call `write` now, if nothing waits and this round has room for it, else when it can."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.catch_up()
            write()
            return
        self._go_on(loop)
        if not self._waiting and self._left:
            self._left -= 1
            write()
            return
        self._waiting.append(write)
        if len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()()

    def catch_up(self) -> None:
        """Write all that waits."""
        while self._waiting:
            self._waiting.popleft()()

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._due:
            self._due = True
            loop.call_soon(self._serve, loop)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        self._left = PER_ROUND
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
        if self._left < PER_ROUND:
            self._go_on(loop)  # the next round has its own
