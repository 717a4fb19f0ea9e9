"""Runs a program so that every address it turns to is known, whatever it and its children are."""

from __future__ import annotations

import ipaddress
import re


__all__ = ["outside", "watched"]

_CALLS = "connect,sendto,sendmsg,sendmmsg"
_ADDRESS = re.compile(
    r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"'
)
_NAMES = 53
"""The port of DNS; a resolver may well listen on loopback."""


def watched(record: str, *command: str) -> list[str]:
    """Return the command line that runs `command` and writes to `record` what it turns to."""
    quiet = ["-qq", "-s", "0", "-e", "signal=none"]
    return [
        "strace",
        "-f",
        "--seccomp-bpf",
        *quiet,
        "-e",
        f"trace={_CALLS}",
        "-o",
        record,
        *command,
    ]


def outside(record: str) -> list[str]:
    """Return those of a record's addresses that are not this machine's, and questions for names."""
    found = {(match[2], int(match[1])) for match in _ADDRESS.finditer(record)}
    return [f"{host}:{port}" for host, port in sorted(found) if _is_outside(host, port)]


def _is_outside(host: str, port: int) -> bool:
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return port == _NAMES or not (mapped or address).is_loopback
