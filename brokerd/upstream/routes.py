"""Which way leads to an origin: straight there, or through a proxy.

A proxy comes from `[network] proxy`, else from HTTPS_PROXY or ALL_PROXY; NO_PROXY holds for all of
them, and loopback is never asked through a proxy. Both HTTP clients go the way that is said here.
"""

from __future__ import annotations

import contextlib
import re
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.upstream.hosts import DEFAULT_PORTS
from brokerd.upstream.network_errors import PROXY_HINT


__all__ = ["Proxy", "Route", "route_to"]

PROXY_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that opens tunnels (RFC 9110 §9.3.6)."""

    url: str = field(repr=False)
    """As it was configured, with a scheme; may hold a password."""
    host: str
    port: int
    tls: bool
    """Whether the proxy itself is spoken to in TLS."""
    authorization: str | None = field(repr=False)
    """Value of Proxy-Authorization (RFC 7617)."""


@dataclass(frozen=True)
class Route:
    """The way to one origin."""

    origin: str
    host: str
    """Without the brackets of an IPv6 address."""
    port: int
    tls: bool
    proxy: Proxy | None

    @property
    def authority(self) -> str:
        """`host:port`, as CONNECT wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def route_to(origin: str, configured_proxy: str | None) -> Route:
    """Return the way to an origin (as `hosts.origin_of` returns it).

    Raises PermanentError (USAGE) when the way leads through a proxy that cannot be used.
    """
    parts = urlsplit(origin)
    host = parts.hostname or ""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    url = _proxy_url(parts.scheme, host, port, configured_proxy)
    proxy = None if url is None else _parse(url)
    return Route(origin, host, port, parts.scheme == "https", proxy)


def _proxy_url(scheme: str, host: str, port: int, configured: str | None) -> str | None:
    if _is_loopback(host):
        return None
    # Read anew for each origin, not for each connection: a process's environment does not change.
    environment = getproxies()
    url = configured or environment.get(scheme) or environment.get("all")
    if not url:
        return None
    spared = environment.get("no", "")
    if any(each.strip() == "*" for each in spared.split(",")):
        return None
    shown = host if ":" in host else f"{host}:{port}"
    if proxy_bypass(shown, {"no": spared}):
        return None
    return url if "://" in url else f"http://{url}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse(url: str) -> Proxy:
    proxy = None
    with contextlib.suppress(ValueError):  # it would quote the address and its password
        proxy = _proxy(url, urlsplit(url))
    if proxy is None:
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "proxy_unusable",
                "the proxy's address cannot be used (http:// and https:// can)",
                PROXY_HINT,
            )
        )
    return proxy


def _proxy(url: str, parts: SplitResult) -> Proxy | None:
    host = parts.hostname
    if parts.scheme not in DEFAULT_PORTS or not host or not PROXY_HOST.fullmatch(host):
        return None
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode()
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return Proxy(url, host, port, parts.scheme == "https", authorization)
