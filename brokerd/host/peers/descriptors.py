"""No file descriptors come in: nobody has a reason to send us one.

A descriptor that arrives unread would still be ours to hold: of a file system that hangs when it
is closed, or one of many until there are none left. A kernel that can refuses it at the sender.
"""

from __future__ import annotations

import socket


__all__ = ["SO_PASSRIGHTS", "refuse_descriptors"]

SO_PASSRIGHTS = 83
"""<asm-generic/socket.h>, Linux 6.16; on until it is turned off. Python does not name it."""


def refuse_descriptors(sock: socket.socket) -> bool:
    """Have the kernel refuse SCM_RIGHTS to this Unix socket and all that it accepts (EPERM).

    False where the kernel cannot: then whoever reads must leave no room for any. Connections that
    waited in the queue already keep what they had.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:  # ENOPROTOOPT before 6.16; EOPNOTSUPP: no Unix socket
        return False
    return True
