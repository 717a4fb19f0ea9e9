"""What both doors are: those inside, the way in, and what connections tell of themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from brokerd.sockets.acceptor import Acceptor
from brokerd.sockets.crowd import Crowd, Member


if TYPE_CHECKING:
    import socket


__all__ = ["Guest", "Hall"]


class Guest(Member, Protocol):
    """One connection, as the hall knows it."""

    @property
    def idle(self) -> bool:
        """Whether nothing of it is being answered."""
        ...


G = TypeVar("G", bound=Guest)


class Hall(ABC, Generic[G]):
    """See the module's docstring."""

    def __init__(self, most: int, buffers: int) -> None:
        """`most` connections, with `buffers` bytes together."""
        self._crowd: Crowd[G] = Crowd(most, buffers)
        self.session_held = self._crowd.tell_held
        """Told by a session: so many bytes are kept for it now. Keeps the sum within its bound."""
        self._acceptor = Acceptor(self._crowd, self._admit)

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._crowd)

    @property
    def buffered(self) -> int:
        """Bytes held for all of them together."""
        return self._crowd.held

    @abstractmethod
    def _admit(self, sock: socket.socket, listener: str) -> None:
        """Close a newcomer's non-blocking socket before a byte is read, or let it in."""

    # -- what sessions tell -------------------------------------------------------------------

    def session_moved(self, session: G) -> None:
        """Keep the order of last words; what it has said keeps it from being evicted no more."""
        self._crowd.moved(session)
        if self._acceptor.paused:
            self.session_idle(session)

    def session_idle(self, session: G) -> None:
        """One more that may be evicted, or one less to wait for."""
        self._crowd.changed()
        if self._acceptor.paused and self._acceptor.waits_for_room and session.idle:
            self._acceptor.resume()

    def session_closed(self, session: G) -> None:
        """Forget it."""
        self._crowd.leave(session)
        if self._acceptor.paused:
            self._acceptor.resume()
