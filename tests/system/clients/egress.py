"""Runs a program so that every address it turns to is known, whatever it and its children are."""

from __future__ import annotations

import ipaddress
import re


__all__ = ["arguments", "loopback", "names", "outside", "watched"]

_CALLS = "connect,sendto,sendmsg,sendmmsg,execve"
_ADDRESS = re.compile(
    r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"'
)
_NAMES = 53
"""The port of DNS; a resolver may well listen on loopback."""
_LABEL = r"\\(?:[0-7]{1,3}|[tnvfr])[a-z0-9_-]+"
_QUESTION = re.compile(rf"((?:{_LABEL})+)\\0\\0(?:\\1|\\34)")
"""A name and its end, type A or AAAA (RFC 1035 section 4.1.2), as strace shows bytes."""


def watched(record: str, *command: str, text: int = 0) -> list[str]:
    """Return the command line that runs `command` and writes to `record` what it turns to.

    `text`: so many bytes of what it sends, and of each argument of the programs that it runs.
    """
    quiet = ["-qq", "-s", str(text), "-e", "signal=none"]
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


def loopback(record: str) -> set[int]:
    """Return the ports on this machine that were turned to."""
    found = {(match[2], int(match[1])) for match in _ADDRESS.finditer(record)}
    return {port for host, port in found if not _is_outside(host, port)}


def names(record: str) -> set[str]:
    """Return the names that were asked for; needs 200 bytes of what was sent."""
    labels = (re.findall(_LABEL, match[1]) for match in _QUESTION.finditer(record))
    return {".".join(re.sub(r"^\\(?:[0-7]+|.)", "", each) for each in found) for found in labels}


def arguments(record: str) -> str:
    """Return the lines that show with which arguments programs were run."""
    return "\n".join(line for line in record.splitlines() if "execve(" in line)


def _is_outside(host: str, port: int) -> bool:
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return port == _NAMES or not (mapped or address).is_loopback
