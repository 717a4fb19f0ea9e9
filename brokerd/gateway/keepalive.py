"""A word now and then on streams that are silent, so that nobody on the way takes them for dead.

One timer for all streams, which runs out once there is no stream: an idle broker does not wake up.
To cancel it with the last stream, and set it with the next, would cost more than all else here.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["COMMENT", "Keepalive", "Quiet"]

COMMENT: Final = b": keepalive\n\n"
"""A comment of an event stream, which every reader leaves out (WHATWG HTML §9.2.6)."""

LOOKS: Final = 3
"""How often streams are looked at within the time that one may be silent."""


class Quiet(Protocol):
    """A stream."""

    last_sent: float
    """When something was sent last (CLOCK_MONOTONIC, seconds)."""

    def keep_alive(self) -> None:
        """Send a comment, if the last byte sent was the end of an event."""
        ...


class Keepalive:
    """Looks after streams from `watch` to `forget`."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """`seconds`: how long a stream may be silent; 0: as long as it likes."""
        self._seconds = seconds
        self._streams: set[Quiet] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stream: Quiet) -> None:
        """Look after it."""
        self._streams.add(stream)
        if self._timer is None:
            self._set_timer()

    def forget(self, stream: Quiet) -> None:
        """Look after it no more; twice is no error."""
        self._streams.discard(stream)

    def _set_timer(self) -> None:
        seconds = self._seconds()
        if seconds > 0:
            self._timer = asyncio.get_running_loop().call_later(seconds / LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._streams:
            return
        self._set_timer()
        since = monotonic() - self._seconds() * (LOOKS - 1) / LOOKS
        for stream in list(self._streams):
            if stream.last_sent <= since:
                stream.keep_alive()
