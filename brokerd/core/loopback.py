"""An address on this machine's loopback as it is written: `127.0.0.1:4141` or `[::1]:4141`.

Literal addresses only. A name would be looked up, and whoever answers the look-up would say where
we listen; and of a name nobody could tell whether a request that names it was meant for us.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final


__all__ = ["LOOPBACK_6", "address_of", "host_and_port"]

LOOPBACK_6: Final = "::1"
"""The one loopback address of IPv6 (RFC 4291 §2.5.3); of IPv4 all of 127.0.0.0/8 is."""

_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15})):([1-9][0-9]{0,4})")
_PORT_MAX: Final = 65535


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two, the host in its canonical form and without brackets.

    Raises ValueError for all that is no literal loopback address with a port from 1 to 65535.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError("not ADDRESS:PORT")
    six, four, digits = found.groups()
    host = IPv4Address(four) if six is None else IPv6Address(six)
    port = int(digits)
    is_ours = host.is_loopback if six is None else str(host) == LOOPBACK_6
    if not is_ours:
        raise ValueError("not on loopback")
    if port > _PORT_MAX:
        raise ValueError("no such port")
    return str(host), port


def address_of(host: str, port: int) -> str:
    """Return the two as one, as `host_and_port` takes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
