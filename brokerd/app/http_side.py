"""The HTTP door and what stands behind it, fitted together; and its TCP listener, where wanted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.core.access.scopes import HTTP, HTTP_RUN, HTTP_TCP
from brokerd.core.http_guard import SOCKET_HOSTS, hosts_of
from brokerd.gateway.catalogue import Catalogue
from brokerd.gateway.collected import Held
from brokerd.gateway.door import HttpDoor
from brokerd.gateway.keepalive import Keepalive
from brokerd.gateway.metrics import Metrics, Sources, client_of
from brokerd.gateway.pages import Pages
from brokerd.gateway.service import Service
from brokerd.gateway.workshop import Workshop
from brokerd.host.listeners import ListenError
from brokerd.host.peers import peercred, tcp
from brokerd.host.tcp_listener import bind_tcp


if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from brokerd.broker import Broker
    from brokerd.core.settings import Config
    from brokerd.errors import Failure
    from brokerd.gate import Gate
    from brokerd.proxy import Proxy
    from brokerd.proxy.outcome import Outcome
    from brokerd.sockets.turns import Turns


__all__ = ["HttpSide"]

log = logging.getLogger(__name__)


class HttpSide:
    """See the module's docstring."""

    def __init__(
        self,
        gate: Gate,
        broker: Broker,
        proxy: Proxy,
        *,
        config: Callable[[], Config],
        version: str,
        turns: Turns,
        rpc_connections: Callable[[], int],
        on_over: Callable[[Outcome], None],
    ) -> None:
        """`config` is the one of the moment; the TCP address is that of the first.

        `on_over` is told what became of each completion.
        """
        self._on_over = on_over
        self._address = config().http.tcp
        self._tcp: socket.socket | None = None
        self.failure: Failure | None = None
        """Why nothing is served by TCP though it should be; None where all is as configured."""
        self._catalogue = Catalogue(proxy)
        sources = Sources(
            accounts=broker.accounts,
            pacing=proxy.pacing,
            exchanges=broker.exchanges,
            connections=lambda: {"rpc": rpc_connections(), "http": self._door.connections},
        )
        metrics = Metrics(proxy.peek_models, sources)
        self._counters = metrics.counters
        shop = Workshop(
            proxy,
            self._catalogue,
            Keepalive(lambda: config().http.keepalive),
            Held(),
            config=config,
            default_account=broker.default_account,
            on_begin=self._counters.begun,
            on_end=self._ended,
        )
        pages = Pages(
            proxy,
            broker,
            metrics,
            config=config,
            is_locked=lambda: broker.is_locked,
            version=version,
        )
        hosts = {HTTP: SOCKET_HOSTS}
        if self._address:
            hosts[HTTP_TCP] = hosts_of(self._address)
        service = Service(gate, shop, pages, hosts=hosts, keyed=frozenset({HTTP_RUN, HTTP_TCP}))
        self._door = HttpDoor(gate, service, turns=turns)

    async def serve(self, sock: socket.socket) -> None:
        """Serve the Unix socket, and TCP where the configuration wants it."""
        await self._door.serve(sock, HTTP, peercred.peer_of)

    async def serve_tcp(self) -> None:
        """Bind the TCP listener, if one is wanted; a port that is taken stops nothing else."""
        if not self._address:
            return
        try:
            self._tcp = bind_tcp(self._address)
        except ListenError as error:
            self.failure = error.failure
            log.error("HTTP not served by TCP", extra={"REASON": str(error)})  # noqa: TRY400
            return
        await self._door.serve(self._tcp, HTTP_TCP, tcp.peer_of_tcp)
        log.info("listening", extra={"SOCKET": self._address})

    async def serve_run(self, sock: socket.socket) -> None:
        """Serve one run at a listening socket, which stays the caller's."""
        await self._door.serve(sock, HTTP_RUN, tcp.peer_of_tcp)

    def end_run(self, sock: socket.socket) -> None:
        """Serve it no longer; who came through it is for the gate to close."""
        self._door.end(sock)

    @property
    def listeners(self) -> list[str]:
        """Names of the sockets that are served."""
        return list(self._door.listeners)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a cancellation
        """Let what is under way end."""
        await self._door.drain(timeout)

    def close(self) -> None:
        """Stop serving; closing twice is no error."""
        self._door.close()
        self._catalogue.close()
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None

    def _ended(self, outcome: Outcome) -> None:
        """Count a completion that is over, whatever came of it."""
        self._on_over(outcome)
        self._counters.ended(
            outcome.path,
            outcome.status,
            account=outcome.account,
            model=outcome.model,
            client=client_of(outcome.caller.peer),
            code=outcome.code,
            seconds=outcome.seconds,
            head_seconds=outcome.head_seconds,
            usage=outcome.usage,
        )
