"""Close the doors into our own memory and out to the machine, before a secret is in it.

A process of the same uid may read another one's memory unless that one is not dumpable
(prctl(2), ptrace(2)): then /proc/PID/mem, ptrace, process_vm_readv and pidfd_getfd are refused and
no core is written, not even through a pipe. In a user namespace of our own none of it would hold.

`before_secrets` and `confine` put in force what a process can for itself; `effective` asks the
kernel, at any time, what holds now: that and what the unit adds.
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from brokerd.core.checks import Check, Verdict
from brokerd.host.confinement import landlock
from brokerd.host.confinement.file_limit import FILES
from brokerd.host.confinement.probe import landlock_in_force


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.reach import Reach


__all__ = ["before_secrets", "confine", "effective", "from_outside"]

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
"""<linux/prctl.h>"""

_WHOLE_MAP: Final = ["0", "0", "4294967295"]
"""/proc/PID/uid_map of a process in the first user namespace (user_namespaces(7))."""

_SECCOMP_FILTER: Final = "2"
"""`Seccomp:` of /proc/PID/status, proc(5)."""

UMASK: Final = 0o077
"""Files of ours are nobody else's."""

_START_UNIT = "Let the service manager start it: systemctl --user start copilot-broker.socket"
_LOOK_AT_UNIT = "Look for what changes the unit: systemctl --user cat copilot-broker"
_RESTART = "Start it anew: systemctl --user restart copilot-broker"


def before_secrets() -> list[Check]:
    """Confine this process as far as no configuration is needed; say how it went.

    Call it first thing, while single-threaded. Never raises: a machine that refuses a layer still
    gets a broker, and a line that says so.
    """
    os.environ.pop("SSLKEYLOGFILE", None)  # ssl would write what decrypts our connections there
    _set_umask()
    _forbid_dumps()
    _forbid_cores()
    _forbid_new_privileges()
    status = _status()
    return [
        _umask(status),
        _not_dumpable(),
        _no_core(),
        _no_user_namespace(),
        _no_new_privileges(status),
    ]


def confine(reach: Reach) -> list[Check]:
    """Give up all of the machine outside of `reach`; single-threaded still. Never raises."""
    return landlock.apply(reach)


def from_outside() -> list[Check]:
    """Say what the service manager and the machine put in force around this process."""
    status = _status()
    return [_seccomp(status), _no_capabilities(status), _no_swap(status)]


def effective(reach: Reach | None = None) -> list[Check]:
    """Ask the kernel what is in force now, one check a layer; milliseconds, never raises.

    `reach` is what `confine` was given: without it no port is tried.
    """
    status = _status()
    return [
        _umask(status),
        _not_dumpable(),
        _no_core(),
        _no_user_namespace(),
        _no_new_privileges(status),
        *landlock_in_force(reach),
        *from_outside(),
        _file_limit(),
    ]


def _set_umask() -> None:
    os.umask(UMASK)


def _forbid_dumps() -> None:
    _prctl(_PR_SET_DUMPABLE, 0)


def _forbid_cores() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        return  # what holds is asked afterwards


def _forbid_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> int:
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return -1
    zero = ctypes.c_ulong(0)
    return int(prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def _status() -> Mapping[str, str]:
    """Return /proc/self/status; empty without a /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _check(name: str, problem: str, told: str, mend: str, verdict: Verdict) -> Check:
    if problem:
        return Check(name, verdict, problem, mend)
    return Check(name, Verdict.OK, told)


def _umask(status: Mapping[str, str]) -> Check:
    found = status.get("Umask", "unknown")
    problem = "" if found == f"{UMASK:04o}" else f"the file mode mask is {found}, not 0077"
    told = "new files are ours alone"
    return _check("umask", problem, told, _RESTART, Verdict.WARNING)


def _not_dumpable() -> Check:
    held = _prctl(_PR_GET_DUMPABLE, 0) == 0
    problem = "" if held else "memory stays readable by your other processes (prctl refused)"
    told = "your other processes cannot read this memory"
    return _check("not-dumpable", problem, told, _RESTART, Verdict.ERROR)


def _no_core() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    problem = "" if soft == 0 else "core dumps stay allowed"
    return _check("no-core", problem, "a crash leaves no memory behind", _RESTART, Verdict.ERROR)


def _no_user_namespace() -> Check:
    try:
        held = Path("/proc/self/uid_map").read_text().split() == _WHOLE_MAP
    except OSError:  # no user namespaces in this kernel, or no /proc
        held = True
    problem = "" if held else "in a user namespace: its owner's processes can read this memory"
    mend = (
        "Remove PrivateUsers= and what implies it from the unit:"
        " systemctl --user edit --full copilot-broker"
    )
    told = "in no user namespace of its own"
    return _check("no-user-namespace", problem, told, mend, Verdict.ERROR)


def _no_new_privileges(status: Mapping[str, str]) -> Check:
    held = status.get("NoNewPrivs") == "1"
    problem = "" if held else "a program it starts could gain rights"
    told = "nothing it starts gains rights"
    return _check("no-new-privileges", problem, told, _RESTART, Verdict.WARNING)


def _seccomp(status: Mapping[str, str]) -> Check:
    held = status.get("Seccomp") == _SECCOMP_FILTER
    by_manager = "INVOCATION_ID" in os.environ and "NOTIFY_SOCKET" in os.environ
    problem = "all system calls are open to it"
    mend = _LOOK_AT_UNIT if by_manager else _START_UNIT
    told = "system calls are filtered"
    return _check("seccomp", "" if held else problem, told, mend, Verdict.WARNING)


def _no_capabilities(status: Mapping[str, str]) -> Check:
    found = status.get("CapEff", "unknown")
    problem = "" if not found.strip("0") else f"it has root's capabilities ({found})"
    told = "no capabilities"
    return _check("no-capabilities", problem, told, _START_UNIT, Verdict.WARNING)


def _no_swap(status: Mapping[str, str]) -> Check:
    """MemorySwapMax=0, or a machine without swap; what is swapped already counts against it."""
    swapped = status.get("VmSwap", "0 kB").split()[0]
    try:
        cgroup = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        held = Path("/sys/fs/cgroup", cgroup, "memory.swap.max").read_text().strip() == "0"
    except OSError:  # cgroup v1, or none of our own
        held = False
    try:
        has_swap = len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        has_swap = False
    problem, told = "", "its memory is never swapped out"
    if swapped != "0":
        problem = f"{swapped} kB of its memory are swapped out"
    elif has_swap and not held:
        problem = "its memory may be swapped out"
    elif not held:
        told = "this machine has no swap"
    mend = "Take the limit back: systemctl --user set-property copilot-broker MemorySwapMax=0"
    return _check("no-swap", problem, told, mend, Verdict.WARNING)


def _file_limit() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    short = soft != resource.RLIM_INFINITY and soft < FILES
    problem = f"only {soft} files may be open, of {FILES} asked for" if short else ""
    mend = (
        f"Your user manager may have no more: put LimitNOFILE={FILES} below [Service], then sign "
        "in to the machine anew: sudo systemctl edit user@.service"
    )
    told = f"{FILES} files may be open"
    return _check("file-limit", problem, told, mend, Verdict.WARNING)
