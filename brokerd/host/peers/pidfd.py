"""A hold on one process (pidfd_open(2)), and what the kernel says of the process behind it.

A pidfd names the process itself, never whoever gets its number next. PIDFD_GET_INFO answers from
that same hold, with no look at /proc in between (<linux/pidfd.h>, Linux 6.13).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from dataclasses import dataclass


__all__ = ["PidFd", "ProcessInfo", "info_of"]

_INFO = struct.Struct("2Q12I")
"""`struct pidfd_info` as of Linux 6.13: mask, cgroup id; pid, tgid, ppid; real, effective, saved
and file system uid and gid in pairs; one that is kept free."""

_WANTED = 0b11
"""PIDFD_INFO_PID and PIDFD_INFO_CREDS; the kernel sets the bits of what it filled in."""

_ASK = _INFO.pack(_WANTED, *(0,) * 13)

_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""`_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`."""


class PidFd:
    """A pidfd that closes once; it becomes readable when the process ends."""

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


@dataclass(frozen=True)
class ProcessInfo:
    """What the kernel says of the process that a pidfd names."""

    pid: int
    """Its number in our pid namespace; 0: it has none there, or no longer."""
    uids: tuple[int, int, int]
    """Real, effective and saved."""

    def is_of(self, pid: int, uid: int) -> bool:
        """Whether the process has this number here, and runs as that uid."""
        return 0 < self.pid == pid and uid in self.uids


_NOT_OURS = ProcessInfo(0, (-1, -1, -1))


def info_of(pidfd: PidFd) -> ProcessInfo | None:
    """Ask the kernel; None where it has no such question. Needs no right over the process."""
    asked = bytearray(_ASK)
    try:
        fcntl.ioctl(pidfd.fileno(), _GET_INFO, asked)
    except OSError as error:
        # Reaped, or in no pid namespace of ours; ESRCH stood for both in the first versions.
        gone_or_outside = error.errno in (errno.ESRCH, errno.EREMOTE)
        return _NOT_OURS if gone_or_outside else None
    mask, _, _, tgid, _, ruid, _, euid, _, suid, *_ = _INFO.unpack(asked)
    return ProcessInfo(tgid, (ruid, euid, suid)) if mask & _WANTED == _WANTED else None
