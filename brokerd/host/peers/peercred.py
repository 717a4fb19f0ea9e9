"""Ask the kernel who connected: uid first, then a hold on the very process.

Order matters (SPIRE, polkit): take the pidfd, read by number what there is to read, and only then
poll the pidfd. If the process still lives, the number was its own all the while, so what was read
is too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from pathlib import Path

from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.host.peers.labels import Labels, labels_of, peer_label, process_label
from brokerd.host.peers.pidfd import PidFd, info_of


__all__ = ["SO_PEERPIDFD", "peer_by_pid", "peer_of"]

SO_PEERPIDFD = 77
"""<asm-generic/socket.h>, Linux 6.5; Python's socket module does not name it."""

_UCRED = struct.Struct("3i")
"""`struct ucred {pid, uid, gid}` (unix(7))."""

_STATUS_MAX = 16 * 1024
"""Bytes of /proc/PID/status that are read; the ids stand near its start."""


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
    labels = Labels() if pidfd is None else _labels(pidfd, pid, uid, peer_label(sock))
    return _peer(pid, uid, gid, pidfd, labels, weak=weak, gone=gone)


def peer_by_pid(pid: int) -> Peer:
    """Return the process that has this number now, as if it had connected; for explanations.

    Its identity is weak. The result holds a file descriptor: close it. Raises PermanentError
    (USAGE, `no_such_process`), and OSError when the kernel has no pidfds or no descriptor left.
    """
    try:
        pidfd = PidFd(os.pidfd_open(pid))
    except (ProcessLookupError, OverflowError):
        raise _no_such_process(pid) from None
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # below 1; a thread's number
            raise
        raise _no_such_process(pid) from None
    with contextlib.ExitStack() as undo:
        undo.callback(pidfd.close)
        uid, gid = _ids_of(pid)
        labels = _labels(pidfd, pid, uid, process_label(pid))
        _refuse_if_ended(pidfd, pid)
        undo.pop_all()
    return _peer(pid, uid, gid, pidfd, labels, weak=True, gone=False)


def _peer(
    pid: int, uid: int, gid: int, pidfd: PidFd | None, labels: Labels, *, weak: bool, gone: bool
) -> Peer:
    return Peer(
        pid=pid,
        uid=uid,
        gid=gid,
        pidfd=pidfd,
        weak=weak,
        unit=labels.unit,
        label=labels.label,
        sandbox=labels.sandbox,
        comm=labels.comm,
        exe=labels.exe,
        gone=gone,
    )


def _labels(pidfd: PidFd, pid: int, uid: int, label: str) -> Labels:
    """Read what is told of the process behind `pidfd`; nothing if it may be somebody else's.

    Nothing either when it has another number here or another uid by now: a label that is unknown
    takes away what any rule about such labels takes away.
    """
    info = info_of(pidfd)
    if info is not None and not info.is_of(pid, uid):
        return Labels()
    labels = labels_of(pid, label)
    return labels if pidfd.is_alive() else Labels()


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


def _ids_of(pid: int) -> tuple[int, int]:
    """Return the effective uid and gid of a process by number (proc(5), status)."""
    try:
        with Path(f"/proc/{pid}/status").open("rb") as file:
            lines = file.read(_STATUS_MAX).splitlines()
        ids = {line[:4]: int(line.split()[2]) for line in lines if line[:4] in (b"Uid:", b"Gid:")}
        return ids[b"Uid:"], ids[b"Gid:"]
    except (OSError, LookupError, ValueError):
        raise _no_such_process(pid) from None


def _refuse_if_ended(pidfd: PidFd, pid: int) -> None:
    if not pidfd.is_alive():
        raise _no_such_process(pid)


def _no_such_process(pid: int) -> PermanentError:
    return PermanentError(
        Failure(
            ErrorClass.USAGE,
            "no_such_process",
            f"No process with pid {pid} runs here",
            "See which do: ps -u $USER",
        )
    )
