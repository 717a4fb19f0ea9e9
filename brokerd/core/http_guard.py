"""Whether a request may be looked at at all: it is from a program here, and meant for us.

A web page can make the browser of this very user send requests to loopback, and pass the check of
uids doing so. It cannot choose what the browser says of them: an origin, the name that it looked
up as Host (DNS rebinding), where the request comes from, and no JSON without asking first (Fetch
standard, CORS protocol). A proxy passes on what others send, and says so too. All of these get the
same bare answer, whatever they asked for.

This runs for every request: it looks at the head alone, and at each header once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from brokerd.core.loopback import address_of, host_and_port


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["SOCKET_HOSTS", "hosts_of", "refuse"]

SOCKET_HOSTS: Final = frozenset({"localhost", "copilot-broker", ""})
"""What clients of a Unix socket say as Host; "" is none at all, as HTTP/1.0 may have it."""

_HTTP_PORT: Final = 80
"""Left out of Host, being the default (RFC 9110 §7.2)."""

_OWN_SITES: Final = ("none", "same-origin")
"""Sec-Fetch-Site of what a person typed, and of a page that we had served; `cross-site` and
`same-site` are other pages. Node sends none of it, only Sec-Fetch-Mode."""

_FOREIGN: Final = {
    "origin": "origin",
    "referer": "referer",
    "forwarded": "forwarded",
    "via": "forwarded",
    "x-real-ip": "forwarded",
    "x-client-ip": "forwarded",
    "x-cluster-client-ip": "forwarded",
    "x-original-forwarded-for": "forwarded",
    "x-original-host": "forwarded",
    "x-original-url": "forwarded",
    "x-rewrite-url": "forwarded",
    "true-client-ip": "forwarded",
    "cf-connecting-ip": "forwarded",
    "fastly-client-ip": "forwarded",
    "access-control-request-method": "origin",
    "access-control-request-headers": "origin",
    "access-control-request-private-network": "origin",
}
"""Headers that no program here sends of itself, whatever their value, and what is told of them."""

_FORWARDED: Final = "x-forwarded"
"""How the rest of a proxy's headers begin."""

_ADDRESSES_KEPT: Final = 256
"""Addresses whose names are remembered: more than there can be runs, and each is asked about with
every request."""

_NO_BODY: Final = ("GET", "HEAD")

_JSON: Final = re.compile(r"application/json[ \t]*(?:;[\t -+\x2d-~]*)?", re.IGNORECASE)
"""With parameters in ASCII. Two values, joined by a comma, are none."""


def refuse(
    method: str, headers: Mapping[str, str], hosts: frozenset[str], *, has_body: bool
) -> str | None:
    """Return why a request gets no answer but a bare 403, one word for the log; None: it may pass.

    `headers` have lower-case names, and of several equal ones the values joined by ", "; `hosts`
    is what `hosts_of` says of the listener. The words: `host`, `origin`, `referer`, `cross_site`,
    `forwarded`, `content_type`.
    """
    if headers.get("host", "") not in hosts:
        return "host"
    for name in headers:
        if name in _FOREIGN:
            return _FOREIGN[name]
        if name.startswith(_FORWARDED):
            return "forwarded"
    if headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        return "cross_site"
    if has_body or method not in _NO_BODY:
        kind = headers.get("content-type", "")
        if kind != "application/json" and not _JSON.fullmatch(kind):
            return "content_type"
    return None


@lru_cache(maxsize=_ADDRESSES_KEPT)
def hosts_of(address: str) -> frozenset[str]:
    """Return what Host may say on a listener, byte for byte.

    `address` is that of `[http] tcp`, or "" or a path for a Unix socket. Other spellings of the
    same address are refused, names above all: no name is ours. Raises ValueError.
    """
    if not address or address.startswith("/"):
        return SOCKET_HOSTS
    host, port = host_and_port(address)
    own = address_of(host, port)
    if port != _HTTP_PORT:
        return frozenset({own})
    return frozenset({own, own.removesuffix(f":{port}")})
