"""How many connections fit under the file limit, and which door has how many of them."""

from __future__ import annotations

import resource
import sys
from typing import NamedTuple


__all__ = ["HTTP_CONNECTIONS", "MIN_CONNECTIONS", "Shares", "shares_now", "shares_of"]

HTTP_CONNECTIONS = 4096
"""Open ones at the HTTP door at most: more streams than any person's tools have at once."""

MIN_CONNECTIONS = 8
"""Even under an absurd file limit some callers are served, at the expense of the reserve."""

RESERVED_FILES = 64
"""File descriptors kept back from connections: for stores, the journal, who is leaving."""

FILES_PER_CONNECTION = 3
"""Its socket, the pidfd of its process, and a socket to upstream for its completion."""


class Shares(NamedTuple):
    """Connections of each door: neither can take the other's."""

    rpc: int
    http: int


def shares_of(files: int) -> Shares:
    """Divide what fits under a RLIMIT_NOFILE of `files`; where it is scarce, by half."""
    if files == resource.RLIM_INFINITY:
        return Shares(sys.maxsize, HTTP_CONNECTIONS)
    room = (files - RESERVED_FILES) // FILES_PER_CONNECTION
    http = max(MIN_CONNECTIONS, min(HTTP_CONNECTIONS, room // 2))
    return Shares(max(MIN_CONNECTIONS, room - http), http)


def shares_now() -> Shares:
    """Divide what fits under the limit that holds now."""
    return shares_of(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
