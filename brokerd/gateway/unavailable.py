"""The HTTP door while there is none: admits as every door does, then answers 503 and closes.

It parses nothing but the end of the request's head (RFC 9112 §2.1), so that a client which sends
first and reads afterwards gets an answer rather than a reset.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, cast

from brokerd.errors import BrokerError


if TYPE_CHECKING:
    import socket

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
    """Serves a listening socket that others own."""

    def __init__(self, gate: Gate, peer_of: PeerOf, *, timeout: float = TIMEOUT) -> None:
        self._gate = gate
        self._peer_of = peer_of
        self._timeout = timeout
        self._servers: list[asyncio.Server] = []
        self._open: dict[_Visitor, None] = {}

    async def serve(self, sock: socket.socket, listener: str = "http") -> None:
        """Start accepting; returns at once. `listener` is the name its rights come from."""
        loop = asyncio.get_running_loop()
        # Not create_unix_server: from Python 3.13 on its close() deletes the socket's file.
        self._servers.append(
            await loop.create_server(lambda: _Visitor(self, listener), sock=sock.dup())
        )

    def close(self) -> None:
        """Stop accepting and close every connection; closing twice is no error."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for visitor in list(self._open):
            visitor.abort()

    def admit(self, visitor: _Visitor, transport: asyncio.Transport, listener: str) -> Caller:
        """Raise BrokerError or OSError unless it may come in; make room for it."""
        sock = cast("socket.socket", transport.get_extra_info("socket"))
        peer = self._peer_of(sock)
        try:
            caller = self._gate.admit(peer, listener)
        except BrokerError:
            peer.close()
            raise
        if len(self._open) >= CONNECTIONS:
            next(iter(self._open)).abort()
        self._open[visitor] = None
        return caller

    def leave(self, visitor: _Visitor) -> None:
        """Forget it."""
        self._open.pop(visitor, None)

    @property
    def timeout(self) -> float:
        """Seconds that a connection may last."""
        return self._timeout


class _Visitor(asyncio.Protocol):
    """One connection; asyncio reads nothing before `connection_made` has returned."""

    def __init__(self, door: UnavailableDoor, listener: str) -> None:
        self._door = door
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._caller: Caller | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = bytearray()
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Decide before a byte is read."""
        self._transport = cast("asyncio.Transport", transport)
        try:
            self._caller = self._door.admit(self, self._transport, self._listener)
            self._caller.check("http.request")
        except OSError as error:
            log.warning("peer unknown", extra={"LISTENER": self._listener, "REASON": str(error)})
            self._transport.abort()
        except BrokerError:
            self._transport.abort()
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._door.timeout, self.abort)

    def data_received(self, data: bytes) -> None:
        """Answer at the end of the head; what follows is read and dropped."""
        if self._answered or self._transport is None:
            return
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > HEAD_MAX:
            self._answered = True
            self._head.clear()
            self._transport.write(_ANSWER)
            self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Let go."""
        if self._timer is not None:
            self._timer.cancel()
        if self._caller is not None:
            self._caller.close()
        self._door.leave(self)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
