"""Ask the kernel whose the other end of a loopback connection is: its table of sockets says it.

TCP has no SO_PEERCRED, but both ends are sockets of this machine, and /proc/net/tcp has a row with
the uid of each (proc(5), <net/ipv4/tcp_ipv4.c>). The row of the other end has its addresses the
other way round. Only an open connection counts: a row whose socket was closed has uid 0, which is
not root's. While our end is open, nobody else gets an open connection between the same addresses,
so the row is that of whoever connected. No row, no peer: that is what packets look like that a
router was made to let in from elsewhere (route_localnet).

It says nothing of the process; so of the peer all but uid and group stay unknown.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import struct
from functools import lru_cache

from brokerd.core.peer import Peer


__all__ = ["TABLE_MAX", "peer_of_tcp"]

TABLE_MAX = 16 * 1024 * 1024
"""Bytes of one table that are read: over 100,000 sockets, and as long as anybody should wait."""

_ESTABLISHED = 1
"""TCP_ESTABLISHED of <net/tcp_states.h>."""

_CHUNK = 64 * 1024
"""Bytes asked for at once; the kernel gives about a page."""

_PASSES = 2
"""A row can be missed where others of its hash bucket go away between two reads."""

_FIELDS = 10
"""Fields of a row up to the inode: sl, local, remote, st, queues, timer, retrnsmt, uid, timeout,
inode."""

_UID, _INODE = 7, 9

_USERS_KEPT = 64
"""Users whose primary group is remembered: the name service may be slow, and is asked by uid."""


def peer_of_tcp(sock: socket.socket, *, proc: str = "/proc") -> Peer:
    """Return the peer of a TCP connection that was accepted on loopback.

    The group is the primary one of that user, and our own where it is ours. Reads a bounded number
    of bytes, none of them from the connection; takes as long as the table is: a millisecond for
    its empty places, and about half a microsecond a socket of the machine. Raises OSError when
    there is no row (ENOTCONN, or EFBIG where the table is longer than what is read), and for a
    user whom nobody knows (ENOENT).
    """
    needles = _needles(sock.getpeername(), sock.getsockname())
    for _ in range(_PASSES):
        if not _is_open(sock):  # whoever comes and goes shall not have us read tables
            break
        for table, needle in needles:
            uid = _uid_of(f"{proc}/net/{table}", needle)
            if uid is not None:
                return Peer(pid=0, uid=uid, gid=_primary_group(uid), weak=True)
    raise OSError(errno.ENOTCONN, "no open connection on this machine has these addresses")


def _needles(peer: tuple[str, int], own: tuple[str, int]) -> list[tuple[str, bytes]]:
    """Return where to look and for what: `local remote state` as the kernel writes them.

    An IPv4 connection may be one of an IPv6 socket (RFC 4291 §2.5.5.2, as Java makes them).
    """
    (peer_host, peer_port), (own_host, own_port) = peer[:2], own[:2]
    six = ":" in peer_host
    found = []
    for table in ("tcp6",) if six else ("tcp", "tcp6"):
        ends = []
        for host, port in ((peer_host, peer_port), (own_host, own_port)):
            family, text = socket.AF_INET, host
            if table == "tcp6":
                family, text = socket.AF_INET6, host if six else f"::ffff:{host}"
            raw = socket.inet_pton(family, text)
            words = struct.unpack(f"={len(raw) // 4}I", raw)  # printed as numbers of this machine
            ends.append("".join(f"{word:08X}" for word in words) + f":{port:04X}")
        found.append((table, f" {ends[0]} {ends[1]} {_ESTABLISHED:02X} ".encode()))
    return found


def _is_open(sock: socket.socket) -> bool:
    """Whether no end has closed its direction: the first byte of `struct tcp_info`, tcp(7)."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def _uid_of(path: str, needle: bytes) -> int | None:
    """Return the uid of the row with `needle` whose socket somebody has; None without one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # no IPv6 in this kernel
        return None
    try:
        rest, size = b"", 0
        while chunk := os.read(fd, _CHUNK):
            size += len(chunk)
            if size > TABLE_MAX:
                raise OSError(errno.EFBIG, "too many sockets to find one", path)
            rest += chunk
            at = rest.find(needle)
            if at >= 0 and (end := rest.find(b"\n", at)) >= 0:
                row = rest[rest.rfind(b"\n", 0, at) + 1 : end].split(None, _FIELDS)
                return int(row[_UID]) if row[_INODE] != b"0" else None
            rest = rest[rest.rfind(b"\n") + 1 :]  # what was begun of a row
        return None
    finally:
        os.close(fd)


def _primary_group(uid: int) -> int:
    return os.getegid() if uid == os.geteuid() else _group_of(uid)


@lru_cache(maxsize=_USERS_KEPT)
def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise OSError(errno.ENOENT, f"nobody knows the user {uid}") from None
