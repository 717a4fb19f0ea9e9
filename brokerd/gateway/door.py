"""The HTTP door: accepts connections, closes those that may not be, and keeps all within bounds.

The order for a newcomer is: accept → peer credentials → gate → only then is its socket read. On a
Unix socket who may not come in gets nothing; over TCP, where clients take that for a fault of the
network, a bare 403.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Final

from brokerd.core.access.scopes import HTTP_RUN
from brokerd.core.loopback import address_of
from brokerd.errors import BrokerError
from brokerd.gateway.known_heads import KnownHeads
from brokerd.gateway.session import Session, SessionLimits
from brokerd.sockets.farewell import Farewells
from brokerd.sockets.files import shares_now
from brokerd.sockets.hall import Hall
from brokerd.sockets.turns import Turns


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.peer import PeerOf
    from brokerd.gate import Gate
    from brokerd.gateway.messages import Handler


__all__ = ["HttpDoor"]

log = logging.getLogger(__name__)

LINGER: Final = 0.5
"""Seconds that a stopping broker waits for clients who just connected, and for last bytes."""

TOTAL_BUFFERS: Final = 128 * 1024 * 1024
"""Bytes, of all connections together: four of the largest requests."""

FORBIDDEN: Final = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HttpDoor(Hall[Session]):
    """Serves `handler` on listening sockets that others own. One event loop, no threads."""

    def __init__(
        self,
        gate: Gate,
        handler: Handler,
        *,
        turns: Turns | None = None,
        limits: SessionLimits | None = None,
        connections: int | None = None,
        buffers: int = TOTAL_BUFFERS,
    ) -> None:
        """Prepare; nothing is accepted before `serve`.

        `turns` is the line in which this door's busy clients wait together with those of others.
        `limits`, `connections` and `buffers` (bytes) lower the bounds, for tests.
        """
        most = shares_now().http if connections is None else connections
        super().__init__(most, buffers)
        self._gate = gate
        self._handler = handler
        self._turns = turns or Turns()
        self._limits = limits or SessionLimits()
        self._peer_of: dict[str, PeerOf] = {}
        self._heads = KnownHeads()
        self._farewells = Farewells()

    @property
    def listeners(self) -> Iterable[str]:
        """Names of the sockets that it serves."""
        return self._acceptor.listeners

    async def serve(self, sock: socket.socket, listener: str, peer_of: PeerOf) -> None:
        """Start accepting on a listening socket, which stays the caller's; returns at once.

        `listener` is the name its rights come from (`core.access`); `peer_of` asks the kernel who
        is at the other end of a connection that came through it.
        """
        self._peer_of[listener] = peer_of
        self._acceptor.serve(sock, listener)

    def end(self, sock: socket.socket) -> None:
        """Serve a listening socket no longer; who came through it stays. Once is enough."""
        self._acceptor.end(sock)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a cancellation
        """Let what is under way end, answer what has arrived, then close every connection.

        Newcomers stay in the listening socket's queue, where the next broker finds them. What
        takes longer than `timeout` seconds is cut.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout
        self._acceptor.stop()
        for session in self._crowd:
            session.start_leaving()
        await self._crowd.all_settled(min(give_up_at, loop.time() + LINGER))
        for session in self._crowd:
            session.stop_lingering()
        await self._crowd.all_settled(give_up_at)
        self.close()

    def close(self) -> None:
        """Stop accepting and close every connection now; closing twice is no error."""
        self._acceptor.stop()
        for session in self._crowd:
            session.close("stopped")
        self._farewells.close()
        self._gate.catch_up()

    # -- newcomers ----------------------------------------------------------------------------

    def _admit(self, sock: socket.socket, listener: str) -> None:
        """Close it before a byte is read, or make it a session."""
        is_tcp = sock.family != socket.AF_UNIX
        try:
            at = address_of(*sock.getsockname()) if listener == HTTP_RUN else ""
            peer = self._peer_of[listener](sock)
        except OSError as error:
            log.warning("peer unknown", extra={"LISTENER": listener, "REASON": str(error)})
            self._turn_away(sock, is_tcp=is_tcp)
            return
        try:
            caller = self._gate.admit(peer, listener, at)
        except BrokerError:  # the gate has written it down
            peer.close()
            self._turn_away(sock, is_tcp=is_tcp)
            return
        try:
            caller.check("http.request")
        except BrokerError:
            caller.close()
            self._turn_away(sock, is_tcp=is_tcp)
            return
        if is_tcp:  # an event is written when it comes, however small
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._crowd.add(
            Session(
                sock,
                caller,
                self._handler,
                self,
                turns=self._turns,
                limits=self._limits,
                heads=self._heads,
            )
        )

    def _turn_away(self, sock: socket.socket, *, is_tcp: bool) -> None:
        if is_tcp:
            with contextlib.suppress(OSError):
                sock.send(FORBIDDEN)  # the first bytes of all: a socket has room for them
                self._farewells.take(sock)
                return
        sock.close()

    # -- what sessions tell -------------------------------------------------------------------

    def session_left(self, sock: socket.socket) -> None:
        """See that its last word arrives."""
        self._farewells.take(sock)
