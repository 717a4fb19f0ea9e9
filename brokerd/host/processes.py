"""A hold on a process that outlives its connection, and the same process found again later.

A pidfd is a hold on the very process, but only as long as this daemon lives. What is written down
for the next one is number, start time and boot id, which together are no other process' (proc(5)).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from brokerd.core.passing import Process
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.host.peers.pidfd import PidFd, info_of


if TYPE_CHECKING:
    from brokerd.core.peer import Peer


__all__ = ["find_process", "hold_process"]

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

_START_TIME: Final = 19
"""Place of `starttime` among the fields after the process' name (proc(5), stat: the 22nd)."""


def hold_process(peer: Peer) -> tuple[PidFd, Process]:
    """Return a hold of our own on the process that connected, and how to find it again.

    Who was handed the connection by it does not count: the kernel names the one that connected.
    Raises PermanentError DENIED `process_unknown` where that process cannot be told for sure or
    has no number here, and TransientError where no descriptor is left.
    """
    if peer.pid <= 0 or peer.pidfd is None or peer.pidfd.fileno() < 0:
        raise PermanentError(_unknown(peer.pid))
    try:
        pidfd = PidFd(os.dup(peer.pidfd.fileno()))
    except OSError as error:
        raise TransientError(_no_descriptor(error)) from error
    process = _process(peer.pid)
    info = info_of(pidfd)
    # Alive after its files were read: the number was its own all the while.
    is_it = (info is None or info.is_of(peer.pid, peer.uid)) and pidfd.is_alive()
    if process is None or not is_it:
        pidfd.close()
        raise PermanentError(_unknown(peer.pid))
    return pidfd, process


def find_process(process: Process) -> PidFd | None:
    """Return a hold on that very process; None if it has ended, or nobody can tell."""
    try:
        pidfd = PidFd(os.pidfd_open(process.pid))
    except (OSError, OverflowError):
        return None
    if _process(process.pid) == process and pidfd.is_alive():
        return pidfd
    pidfd.close()
    return None


def _process(pid: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        boot = Path(_BOOT_ID).read_text().strip()
        # The name is in brackets, and may have some itself.
        started = int(stat.rpartition(b")")[2].split()[_START_TIME])
    except (OSError, ValueError, IndexError):
        return None
    return Process(pid, started, boot)


def _unknown(pid: int) -> Failure:
    why = (
        "the process that asks is in a container, or another pid namespace, and has no number here"
        if pid <= 0
        else f"process {pid} cannot be told for sure from here"
    )
    return Failure(
        ErrorClass.DENIED,
        "process_unknown",
        f"{why}, so nobody could see when it ends",
        "Start it beside the broker, or give it a key: copilot-cred get --model MODEL",
    )


def _no_descriptor(error: OSError) -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "run_failed",
        f"the run cannot be watched: {error.strerror or error}",
        "See what the broker holds: copilot-cred doctor",
        retry_after=1.0,
    )
