"""Ask the kernel who connected: uid first, then a hold on the very process.

Order matters (SPIRE, polkit): take the pidfd, read the cgroup by number, and only then poll the
pidfd. If the process still lives, the number was its own all the while, so what was read is too.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from pathlib import Path

from brokerd.core.peer import Peer


__all__ = ["SO_PEERPIDFD", "PidFd", "peer_of"]

SO_PEERPIDFD = 77
"""<asm-generic/socket.h>, Linux 6.5; Python's socket module does not name it."""

_UCRED = struct.Struct("3i")
"""`struct ucred {pid, uid, gid}` (unix(7))."""

_CGROUP_MAX = 16 * 1024
"""Bytes of /proc/PID/cgroup that are read: one line a hierarchy, paths up to PATH_MAX."""

_UNIT_SUFFIXES = (".service", ".scope", ".socket")


class PidFd:
    """A pidfd (pidfd_open(2)) that closes once; it becomes readable when the process ends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll: select.poll | None = None
        """Made once: a busy caller's process is looked at before each token."""

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self._fd

    def is_alive(self) -> bool:
        """Poll without waiting: readable means ended. A closed one counts as ended."""
        if self._fd < 0:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLIN)
        return not self._poll.poll(0)

    def close(self) -> None:
        """Close it; twice is no error."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def peer_of(sock: socket.socket) -> Peer:
    """Return the peer of a connected AF_UNIX socket.

    Reads nothing from the connection. Of a socket that is not connected, or not a Unix one, the
    kernel says uid 4294967295, which is nobody's. Raises OSError when it says nothing. The result
    holds a file descriptor: close it with the connection.
    """
    # pid and gid_t differ in sign only; uid 4294967294 and the like must not come out negative.
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    uid, gid = uid & 0xFFFFFFFF, gid & 0xFFFFFFFF
    pidfd, weak, gone = _hold(sock, pid)
    unit = ""
    if pidfd is not None:
        unit = _unit_of(pid)
        if not pidfd.is_alive():  # what was read may be somebody else's
            unit = ""
    return Peer(pid=pid, uid=uid, gid=gid, pidfd=pidfd, weak=weak, unit=unit, gone=gone)


def _hold(sock: socket.socket, pid: int) -> tuple[PidFd | None, bool, bool]:
    """(pidfd, weak, gone): the kernel's own pidfd, else one opened by number."""
    try:
        return PidFd(sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)), False, False
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENODATA):
            return None, False, True  # 6.5 to 6.15 say so of a process that is reaped already
        if error.errno != errno.ENOPROTOOPT:
            return None, True, False  # EMFILE and the like: the uid still stands
    return _hold_by_number(pid)


def _hold_by_number(pid: int) -> tuple[PidFd | None, bool, bool]:
    """Before Linux 6.5: a pidfd of whoever has the number now."""
    if pid <= 0:  # a process outside our pid namespace
        return None, True, False
    try:
        return PidFd(os.pidfd_open(pid)), True, False
    except ProcessLookupError:
        return None, True, True
    except OSError:  # no pidfd_open, or a filter forbids it
        return None, True, False


def _unit_of(pid: int) -> str:
    """Return the innermost systemd unit in the process' cgroup path; "" if there is none."""
    try:
        with Path(f"/proc/{pid}/cgroup").open("rb") as file:
            lines = file.read(_CGROUP_MAX).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    # cgroup v2 is the line `0::/path`; on a hybrid machine systemd's is `1:name=systemd:/path`.
    for prefix in ("0::", "1:name=systemd:"):
        for line in lines:
            if line.startswith(prefix):
                for part in reversed(line.removeprefix(prefix).split("/")):
                    if part.endswith(_UNIT_SUFFIXES):
                        return part
    return ""
