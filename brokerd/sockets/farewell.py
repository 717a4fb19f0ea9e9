"""Closes connections whose last words must arrive, though what they send is not read any more.

Where unread bytes lie in a socket that is closed, the kernel resets the connection, and our answer
may be lost before it was read (RFC 9112 §9.6). So our half is closed first; what still comes is
dropped until they close theirs, for a short while.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final


__all__ = ["Farewells"]

PATIENCE: Final = 2.0
"""Seconds that each has to read its answer and to close."""

MOST: Final = 32
"""At once; then the oldest one is closed. They are not counted as connections any more."""

DROPPED: Final = 64 * 1024
"""Bytes dropped of one before others have their turn."""


class Farewells:
    """Those of one door."""

    def __init__(self) -> None:
        self._leaving: dict[socket.socket, asyncio.TimerHandle] = {}
        self._bin = bytearray()

    def __len__(self) -> int:
        return len(self._leaving)

    def take(self, sock: socket.socket) -> None:
        """Close it when it can be: a non-blocking socket to which everything has been written."""
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        if len(self._leaving) >= MOST:
            self._close(next(iter(self._leaving)))
        if not self._bin:
            self._bin = bytearray(DROPPED)
        loop = asyncio.get_running_loop()
        self._leaving[sock] = loop.call_later(PATIENCE, self._close, sock)
        loop.add_reader(sock, self._drop, sock)

    def close(self) -> None:
        """Close all of them now."""
        for sock in list(self._leaving):
            self._close(sock)

    def _drop(self, sock: socket.socket) -> None:
        try:
            # Descriptors that come along are dropped by the kernel (recvmsg(2)).
            if sock.recv_into(self._bin):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        timer = self._leaving.pop(sock, None)
        if timer is None:
            return
        timer.cancel()
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()
        if not self._leaving:
            self._bin = bytearray()
