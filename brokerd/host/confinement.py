"""Close the doors into our own memory, before a secret is in it.

A process of the same uid may read another one's memory unless that one is not dumpable
(prctl(2), ptrace(2)): then /proc/PID/mem, ptrace, process_vm_readv and pidfd_getfd are refused and
no core is written, not even through a pipe. In a user namespace of our own none of it would hold.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
from pathlib import Path


__all__ = ["before_secrets"]

log = logging.getLogger(__name__)

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
"""<linux/prctl.h>"""

_WHOLE_MAP = ["0", "0", "4294967295"]
"""/proc/PID/uid_map of a process in the first user namespace (user_namespaces(7))."""

UMASK = 0o077
"""Files of ours are nobody else's."""


def before_secrets() -> list[str]:
    """Confine this process and return what holds, for the log; what does not is warned about.

    Call it first thing, while single-threaded. Never raises: a machine that refuses a layer still
    gets a broker, and a line that says so.
    """
    holds = []
    os.umask(UMASK)
    holds.append("umask 077")
    if _forbid_dumps():
        holds.append("not dumpable")
    else:
        log.warning("memory stays readable by your other processes: prctl refused dumpable 0")
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        holds.append("no core")
    except OSError as error:
        log.warning("core dumps stay allowed", extra={"REASON": str(error)})
    if _own_user_namespace():
        log.warning(
            "in a user namespace: its owner's processes can read this memory;"
            " remove PrivateUsers= and what implies it from the unit"
        )
    else:
        holds.append("no user namespace")
    return holds


def _forbid_dumps() -> bool:
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return False
    zero = ctypes.c_ulong(0)
    prctl(_PR_SET_DUMPABLE, zero, zero, zero, zero)
    return bool(prctl(_PR_GET_DUMPABLE, zero, zero, zero, zero) == 0)


def _own_user_namespace() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text().split() != _WHOLE_MAP
    except OSError:  # no user namespaces in this kernel, or no /proc
        return False
