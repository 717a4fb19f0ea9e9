"""A deadline that moves with nearly every read, on a timer that is seldom set anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Alarm"]


class Alarm:
    """Calls `ring` once the deadline has passed, unless it was moved or cleared meanwhile."""

    __slots__ = ("_at", "_loop", "_ring", "_timer")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a deadline."""
        return self._at is not None

    def set(self, seconds: float) -> None:
        """Move the deadline to that long from now."""
        self._at = at = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > at:
            self._stop_timer()
            self._timer = self._loop.call_at(at, self._look)

    def clear(self) -> None:
        """Have no deadline; the timer may run on."""
        self._at = None

    def stop(self) -> None:
        """Ring no more, and let go of who was to be called."""
        self._at = None
        self._stop_timer()
        self._ring = lambda: None

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._at > self._loop.time():
            self._timer = self._loop.call_at(self._at, self._look)
        else:
            self._at = None
            self._ring()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
