"""Make one connection: straight or through a proxy's tunnel, in TLS or plain; or say why not.

A tunnel is CONNECT (RFC 9110 §9.3.6) and then TLS with the origin inside it, whatever the proxy
itself speaks: the proxy sees names and lengths, no credential.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, TypeVar

from brokerd.errors import TransientError
from brokerd.upstream import network_errors


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brokerd.upstream.routes import Proxy, Route
    from brokerd.upstream.tls import Trust


__all__ = ["ConnectError", "ProxyError", "dial"]

Speaker = TypeVar("Speaker", bound=asyncio.BufferedProtocol)

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds until the next address is tried beside a silent one (RFC 8305 §5)."""

MAX_TUNNEL_HEAD = 16 * 1024
"""A proxy's answer to CONNECT is some lines; a page of excuses is cut."""

TLS_GOODBYE = 2.0
"""Seconds for close_notify; nothing depends on it."""

KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""Two minutes until a peer that a suspend or a lost network has taken away counts as gone, without
a timer of ours; it also keeps the way through NAT open while a model thinks (tcp(7))."""


class ConnectError(Exception):
    """No connection; its cause says why. `network_errors` knows it by name."""


class ProxyError(Exception):
    """The proxy opens no tunnel. `network_errors` knows it by name."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
        """What it answered; 0: nothing that can be read."""


async def dial(
    route: Route, make_protocol: Callable[[], Speaker], trust: Trust, *, patience: float
) -> Speaker:
    """Connect within `patience` seconds and return the protocol, connected.

    Raises TransientError, PermanentError for settings that cannot be used.
    """
    try:
        async with asyncio.timeout(patience):
            if route.proxy is None:
                return await _straight(route, make_protocol, trust)
            return await _through(route.proxy, route, make_protocol, trust)
    except (ConnectError, ProxyError, OSError) as error:
        failure = network_errors.describe(
            error,
            route.origin,
            proxied=route.proxy is not None,
            network_hint=network_errors.ASK_AGAIN_HINT,
        )
    raise TransientError(failure)  # out here, so that it carries no other exception


async def _straight(route: Route, make_protocol: Callable[[], Speaker], trust: Trust) -> Speaker:
    with _connecting():
        transport, protocol = await asyncio.get_running_loop().create_connection(
            make_protocol,
            route.host,
            route.port,
            happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY,
            **_tls(trust, route.host, use=route.tls),
        )
    _keep_alive(transport)
    return protocol


async def _through(
    proxy: Proxy, route: Route, make_protocol: Callable[[], Speaker], trust: Trust
) -> Speaker:
    loop = asyncio.get_running_loop()
    context = trust.context()
    with _connecting():
        outer, tunnel = await loop.create_connection(
            _Tunnel,
            proxy.host,
            proxy.port,
            happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY,
            **_tls(trust, proxy.host, use=proxy.tls),
        )
    try:
        _keep_alive(outer)
        await _ask_for_tunnel(outer, tunnel, proxy, route)
        protocol = make_protocol()
        with _connecting():
            inner = await loop.start_tls(
                outer,
                protocol,
                context,
                server_hostname=route.host,
                ssl_shutdown_timeout=TLS_GOODBYE,
            )
        if inner is None:  # gone while we shook hands
            raise ConnectError  # noqa: TRY301 - nothing here catches it
    except BaseException:
        outer.abort()
        raise
    protocol.connection_made(inner)
    return protocol


async def _ask_for_tunnel(
    transport: asyncio.WriteTransport, tunnel: _Tunnel, proxy: Proxy, route: Route
) -> None:
    lines = [f"CONNECT {route.authority} HTTP/1.1", f"Host: {route.authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    transport.write("\r\n".join([*lines, "", ""]).encode("ascii"))
    status = await tunnel.answered
    if not 200 <= status < 300:
        raise ProxyError(status)


def _tls(trust: Trust, host: str, *, use: bool) -> dict[str, Any]:
    if not use:
        return {}
    return {
        "ssl": trust.context(),
        "server_hostname": host,
        "ssl_shutdown_timeout": TLS_GOODBYE,
    }


@contextlib.contextmanager
def _connecting() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectError from error


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    for level, option, value in KEEPALIVE:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)


class _Tunnel(asyncio.Protocol):
    """Waits for the head of a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self._head = b""
        self.answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The status; 0 when there is none."""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._answer(_status_of(self._head))
        elif b"\r\n\r\n" in self._head:
            # What follows is the page of a refusal; the origin does not speak before we do.
            status = _status_of(self._head)
            self._answer(0 if 200 <= status < 300 else status)
        elif len(self._head) > MAX_TUNNEL_HEAD:
            self._answer(0)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._answer(0)

    def _answer(self, status: int) -> None:
        if not self.answered.done():
            self.answered.set_result(status)


def _status_of(head: bytes) -> int:
    """Read the status line (RFC 9112 §4)."""
    version, _, rest = head.partition(b" ")
    status = rest[:3]
    return int(status) if version.startswith(b"HTTP/1.") and status.isdigit() else 0
