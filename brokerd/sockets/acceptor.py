"""Lets newcomers in at a door's listening sockets; who may stay is for the door to say.

A newcomer that hung up meanwhile is dropped unseen. Where the machine has no file or memory left,
accepting pauses rather than spins: who waits stays in the socket's queue, so the loop would find
it readable for ever.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brokerd.sockets.crowd import Crowd


__all__ = ["ACCEPTS_PER_TURN", "ACCEPT_PAUSE", "Acceptor"]

log = logging.getLogger(__name__)

ACCEPTS_PER_TURN = 16
"""Newcomers let in before those inside have their turn."""

ACCEPT_PAUSE = 1.0
"""Seconds without accepting when the machine has no file or memory left; a connection that closes
ends the pause at once."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept(2) says when the machine, not the newcomer, is at fault."""


class Acceptor:
    """Accepts at several listening sockets, each with a name; they stay their owner's."""

    def __init__(self, crowd: Crowd[Any], admit: Callable[[socket.socket, str], None]) -> None:
        """`crowd` are those inside; `admit` closes a newcomer's non-blocking socket or keeps it.

        It is told the name of the listening socket besides.
        """
        self._crowd = crowd
        self._admit = admit
        self._hung_up = select.poll()
        self._listeners: dict[socket.socket, str] = {}
        self.paused = False
        """Nothing is accepted until somebody leaves, or some time has passed."""
        self._warn_again_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def listeners(self) -> Iterable[str]:
        """Names of the sockets."""
        return self._listeners.values()

    @property
    def waits_for_room(self) -> bool:
        """Paused till somebody may be sent away, and not for some time."""
        return self.paused and self._timer is None

    def serve(self, sock: socket.socket, listener: str) -> None:
        """Start accepting; `listener` is the name its rights come from (`core.access`)."""
        sock.setblocking(False)
        self._listeners[sock] = listener
        if not self.paused:
            asyncio.get_running_loop().add_reader(sock, self._on_newcomer, sock)

    def end(self, sock: socket.socket) -> None:
        """Accept no more at that one; where nothing was accepted that is no error."""
        if self._listeners.pop(sock, None) is not None and not self.paused:
            asyncio.get_running_loop().remove_reader(sock)

    def stop(self) -> None:
        """Leave newcomers in the queues, for whoever serves next; stopping twice is no error."""
        if self._listeners:
            self._pause(None)
            self._listeners.clear()
        self.resume()  # only forgets the timer now

    def resume(self) -> None:
        """Accept again, if paused: there is room."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.paused:
            self.paused = False
            for sock in self._listeners:
                asyncio.get_running_loop().add_reader(sock, self._on_newcomer, sock)

    def _on_newcomer(self, listening: socket.socket) -> None:
        crowd = self._crowd
        # Who is at the other end of a TCP connection is looked up in a table of the whole machine.
        is_tcp = listening.family != socket.AF_UNIX
        for _ in range(1 if is_tcp else ACCEPTS_PER_TURN):
            if not crowd.make_room():
                self._pause(None)
                return
            try:
                sock, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._on_failed(error)
                return
            if self._has_hung_up(sock):  # in a storm most have: not worth a look at their process
                sock.close()
            else:
                sock.setblocking(False)
                self._admit(sock, self._listeners[listening])
            if crowd.is_full:
                return  # whether another one waits is for the loop to say

    def _has_hung_up(self, sock: socket.socket) -> bool:
        """Whether nobody is there any more who could read an answer (poll(2), POLLHUP)."""
        poll = self._hung_up
        poll.register(sock, 0)
        try:
            return bool(poll.poll(0))
        finally:
            poll.unregister(sock)

    def _on_failed(self, error: OSError) -> None:
        """Pause, never spin; where the machine has run out of something, let one idle go."""
        now = asyncio.get_running_loop().time()
        if now >= self._warn_again_at:  # a flood of newcomers is no flood of lines
            self._warn_again_at = now + ACCEPT_PAUSE
            extra = {"REASON": error.strerror, "COUNT": len(self._crowd)}
            log.warning("accepting paused", extra=extra)
        self._pause(ACCEPT_PAUSE)
        if error.errno in _EXHAUSTED:
            self._crowd.evict("no_files_left")

    def _pause(self, seconds: float | None) -> None:
        """Leave newcomers in the queue until somebody leaves or, if told, so much time passes."""
        self.paused = True
        loop = asyncio.get_running_loop()
        for sock in self._listeners:
            loop.remove_reader(sock)
        if seconds is not None and self._timer is None:
            self._timer = loop.call_later(seconds, self.resume)
