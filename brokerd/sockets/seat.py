"""One connection's place in a door: its channel, its turns, and the process at the other end.

Both doors' sessions are one. Whatever else they speak, they wait in the same line, and they die
with the process that opened them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from brokerd.sockets.channel import Channel


if TYPE_CHECKING:
    import socket

    from brokerd.core.peer import Peer
    from brokerd.sockets.turns import Turns


__all__ = ["Holder", "Seat"]


class Holder(Protocol):
    """The door, as far as it bounds what all its connections keep together."""

    def session_held(self, session: Any, held: int) -> None:
        """Note that so many bytes are kept for it now, both directions."""


class Seat(ABC):
    """See the module's docstring; for an admitted, non-blocking socket.

    Nothing is read before `_channel.read_on`.
    """

    __slots__ = (
        "_channel", "_ending", "_held_before", "_is_read", "_loop", "_owner", "_pidfd",
        "_postponed", "_since", "_turns", "closed", "process",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, peer: Peer, turns: Turns, owner: Holder) -> None:
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._turns = turns
        self._channel = Channel(
            sock,
            on_readable=self._on_readable,
            on_writable=self._on_writable,
            on_behind=self._on_behind,
            on_lost=self._on_lost,
        )
        self._postponed = self._ending = self._is_read = False
        self._owner = owner
        self._held_before = 0
        self.closed = False
        """It is over; nothing can be told any more."""
        self.process = peer.pid
        """The number of the process that connected."""
        self._pidfd = -1 if peer.pidfd is None else peer.pidfd.fileno()
        if self._pidfd >= 0:  # readable once the process has ended (pidfd_open(2))
            self._loop.add_reader(self._pidfd, self._on_peer_gone)

    @abstractmethod
    def close(self, reason: str) -> None:
        """End it now; closing twice is no error. `reason` is for the log."""

    @property
    @abstractmethod
    def held(self) -> int:
        """Bytes kept for this connection, both directions."""

    def tell_held(self) -> None:
        """Tell the door if it has changed; mostly it is nothing, before and after."""
        held = self.held
        if held != self._held_before:
            self._held_before = held
            self._owner.session_held(self, held)

    @abstractmethod
    def _read(self) -> None:
        """Read what has arrived, and serve it."""

    @abstractmethod
    def _on_writable(self) -> None:
        """Go on: some of what waited was written."""

    @abstractmethod
    def _on_behind(self) -> None:
        """Note that the socket takes no more for now; it may be closed already."""

    @abstractmethod
    def _on_lost(self) -> None:
        """Close: the socket is of no more use."""

    def _on_readable(self) -> None:
        """Read and serve it now, if this round has time for one more.

        Else it stands in the line, and is heard no more only when that lasts: most have had their
        turn in the round after, and to tell the kernel twice costs as much as to read.
        """
        if self._is_read:
            self._is_read = False
        elif self._postponed:
            self._channel.read_on(False)
        elif self._turns.left > 0:
            self._read()
        elif not self.closed and self._channel.reading:
            self._postponed = True
            self._turns.join(self, self._read_late, of=self.process, first=True)

    def _read_late(self) -> None:
        self._postponed = False
        channel = self._channel
        self._is_read = channel.reading  # then the loop is about to say so once more
        channel.read_on(True)
        self._read()

    def _on_peer_gone(self) -> None:
        """Close now, if this round has time for one more; until its turn nothing more is heard."""
        if self._turns.left > 0:
            since = self._turns.clock()
            self.close("peer_gone")
            self._turns.used(self._turns.clock() - since)
            return
        self._forget_process()
        self._postponed = False
        self._ending = True
        self._channel.read_on(False)
        self._turns.end(self, partial(self.close, "peer_gone"), of=self.process)

    def _forget_process(self) -> None:
        """Watch it no longer; what is lent still depends on it."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            self._pidfd = -1
