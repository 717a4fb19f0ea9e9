"""The HTTP door while there is none: admits as every door does, then answers 503 and closes.

It parses nothing but the end of the request's head (RFC 9112 §2.1), so that a client which sends
first and reads afterwards gets an answer rather than a reset.

It accepts by itself: asyncio's server goes on asking accept(2) a hundred times when no file
descriptor is left, with a traceback each, and reads as much as there is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from typing import TYPE_CHECKING

from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.peer import PeerOf
    from brokerd.gate import Caller, Gate


__all__ = ["UnavailableDoor"]

log = logging.getLogger(__name__)

HEAD_MAX = 16 * 1024
"""Bytes looked at for the end of the head; common servers allow 8 to 64 KiB."""

TIMEOUT = 10.0
"""Seconds from connect to close, whatever the client does."""

CONNECTIONS = 64
"""At once; then the oldest one goes. Each is answered within milliseconds."""

RECV_CHUNK = 16 * 1024
"""Bytes read of one connection before others have their turn; a long body is in no hurry."""

ACCEPTS_PER_TURN = 16
"""Newcomers let in before those inside have their turn."""

ACCEPT_PAUSE = 1.0
"""Seconds without accepting when the machine has no file or memory left and nobody is here who
could make room."""

_BODY = json.dumps(
    {
        "error": {
            "type": "unavailable",
            "code": "http_door_missing",
            "message": "This version of copilot-broker does not serve HTTP yet. "
            "Get a token instead: copilot-cred get",
        }
    }
).encode()

_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%b"
    % (len(_BODY), _BODY)
)


class UnavailableDoor:
    """Serves listening sockets that others own."""

    def __init__(self, gate: Gate, peer_of: PeerOf, *, timeout: float = TIMEOUT) -> None:
        self._gate = gate
        self._peer_of = peer_of
        self._timeout = timeout
        self._listeners: dict[socket.socket, str] = {}
        self._open: dict[_Visitor, None] = {}
        """Oldest first."""
        self._resuming: dict[socket.socket, asyncio.TimerHandle] = {}
        """Listening sockets on which nothing is accepted for now."""
        self._warn_again_at = 0.0

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open)

    @property
    def listeners(self) -> Iterable[str]:
        """Names of the sockets that it serves."""
        return self._listeners.values()

    async def serve(self, sock: socket.socket, listener: str = "http") -> None:
        """Start accepting; returns at once. `listener` is the name its rights come from."""
        sock.setblocking(False)
        self._listeners[sock] = listener
        self._accept_on(sock)

    def close(self) -> None:
        """Stop accepting and close every connection; closing twice is no error."""
        loop = asyncio.get_running_loop()
        for sock in self._listeners:
            loop.remove_reader(sock)
        self._listeners.clear()
        for timer in self._resuming.values():
            timer.cancel()
        self._resuming.clear()
        for visitor in list(self._open):
            visitor.close()

    def leave(self, visitor: _Visitor) -> None:
        """Forget it; there is room for another one."""
        self._open.pop(visitor, None)
        for listening in list(self._resuming):
            self._accept_on(listening)

    def _accept_on(self, listening: socket.socket) -> None:
        timer = self._resuming.pop(listening, None)
        if timer is not None:
            timer.cancel()
        asyncio.get_running_loop().add_reader(listening, self._on_newcomer, listening)

    def _on_newcomer(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            self._admit(sock, self._listeners[listening])

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Never spin: the newcomer stays in the queue, so it would be readable for ever."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._warn_again_at:  # a flood of newcomers is no flood of lines
            self._warn_again_at = loop.time() + ACCEPT_PAUSE
            extra = {"REASON": error.strerror, "COUNT": len(self._open)}
            log.warning("accepting paused", extra=extra)
        loop.remove_reader(listening)
        self._resuming[listening] = loop.call_later(ACCEPT_PAUSE, self._accept_on, listening)
        self._make_room()

    def _admit(self, sock: socket.socket, listener: str) -> None:
        """Close it before a byte is read, or make it a visitor."""
        sock.setblocking(False)
        try:
            peer = self._peer_of(sock)
        except OSError as error:
            log.warning("peer unknown", extra={"LISTENER": listener, "REASON": str(error)})
            sock.close()
            return
        try:
            caller = self._gate.admit(peer, listener)
        except BrokerError:  # the gate has written it down
            peer.close()
            sock.close()
            return
        try:
            caller.check("http.request")
        except BrokerError:
            caller.close()
            sock.close()
            return
        if len(self._open) >= CONNECTIONS:
            self._make_room()
        self._open[_Visitor(self, sock, caller, self._timeout)] = None

    def _make_room(self) -> None:
        if self._open:
            next(iter(self._open)).close()


class _Visitor:
    """One connection."""

    def __init__(
        self, door: UnavailableDoor, sock: socket.socket, caller: Caller, timeout: float
    ) -> None:
        self._door = door
        self._sock = sock
        self._caller = caller
        self._head = bytearray()
        self._answered = False
        caller.on_revoked = self.close
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._on_readable)
        self._timer = self._loop.call_later(timeout, self.close)

    def close(self) -> None:
        """End it now; closing twice is no error."""
        self._timer.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._caller.close()
        self._door.leave(self)

    def _on_readable(self) -> None:
        """Answer at the end of the head; what follows is read and dropped until they close."""
        try:
            # No room for descriptors: the kernel drops them and says so (recvmsg(2)).
            data, _, flags, _ = self._sock.recvmsg(RECV_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not data or flags & socket.MSG_CTRUNC:
            self.close()
        elif not self._answered:
            self._look_at(data)

    def _look_at(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" not in self._head and len(self._head) <= HEAD_MAX:
            return
        self._answered = True
        self._head.clear()
        try:
            self._sock.send(_ANSWER)  # the first bytes of all: a socket has room for them
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
