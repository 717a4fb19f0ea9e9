"""Room for connections: a login shell permits 1024 files, which would evict idle clients early."""

from __future__ import annotations

import resource


__all__ = ["FILES", "raise_file_limit"]

FILES = 65_536
"""What the unit asks for (LimitNOFILE=): two files a connection, and some for the rest."""


def raise_file_limit() -> int:
    """Raise the soft RLIMIT_NOFILE towards `FILES`, as far as the hard one permits (getrlimit(2)).

    Returns the limit that holds; never lowers it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return FILES
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return soft
