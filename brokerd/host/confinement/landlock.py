"""Give up all of the machine that the daemon does not need, for good (landlock(7)).

Three layers, each as far as the kernel has it: files (ABI 1), TCP ports (ABI 4), signals and
abstract sockets (ABI 6). What is handled is refused unless a rule permits it; no rule permits to
execute anything. A domain holds for the thread that makes it and for all it starts later, so there
may be no other thread yet.

Unlike a user namespace it costs nothing of what keeps others out of our memory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from brokerd.core.checks import Check, Verdict


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.reach import Reach


__all__ = ["FILES", "LAYERS", "NEWEST_ABI", "PORTS", "SCOPE", "abi", "apply", "handled", "missing"]

FILES, PORTS, SCOPE = "landlock", "landlock-ports", "landlock-scope"
LAYERS: Final = (FILES, PORTS, SCOPE)
"""Names of the checks."""

NEWEST_ABI: Final = 7
"""The newest one that was tried out; a newer kernel offers this one too."""

# The same on every architecture but alpha and mips (include/uapi/asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_OTHER_NUMBERS: Final = ("alpha", "mips")

_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH, _NET_PORT = 1, 2  # enum landlock_rule_type
_PR_SET_NO_NEW_PRIVS: Final = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK = 1 << 6, 1 << 7, 1 << 8, 1 << 9
MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
SCOPE_ABSTRACT, SCOPE_SIGNAL = 1 << 0, 1 << 1

_ALL_OF_ABI_1: Final = (1 << 13) - 1
_FILE_RIGHTS: Final = {1: _ALL_OF_ABI_1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
"""What each ABI brought."""
_PORT_RIGHTS: Final = {4: BIND_TCP | CONNECT_TCP}
_SCOPES: Final = {6: SCOPE_ABSTRACT | SCOPE_SIGNAL}

_READING: Final = READ_FILE | READ_DIR
_WRITING: Final = _READING | WRITE_FILE | TRUNCATE | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK
_OF_A_FILE: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The kernel refuses a rule that gives a file the rights of a folder."""


def handled(version: int) -> tuple[int, int, int]:
    """Return what a kernel of this ABI is asked to refuse: file rights, TCP rights, scopes."""
    known = min(version, NEWEST_ABI)
    files, ports, scopes = (
        sum(rights for since, rights in table.items() if since <= known)
        for table in (_FILE_RIGHTS, _PORT_RIGHTS, _SCOPES)
    )
    return files, ports, scopes


def abi() -> int:
    """Ask the kernel for its ABI. Raises OSError: ENOSYS (not built in), EOPNOTSUPP (off)."""
    return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)


def apply(reach: Reach) -> list[Check]:
    """Confine this thread, and what it starts, to `reach`; one check for each of `LAYERS`.

    Never raises: a machine that refuses it still gets a broker. Of the paths, those that are not
    there are left out.
    """
    try:
        version = abi()
        _restrict(reach, version)
        threads = sum(1 for _ in os.scandir("/proc/self/task"))
    except OSError as error:
        return missing(error)
    found = _checks(version)
    if threads > 1:
        told = f"{threads - 1} threads began before it was in force"
        return [Check(each.name, Verdict.WARNING, told, _REPORT) for each in found]
    return found


_REPORT: Final = "Start the daemon anew: systemctl --user restart copilot-broker"
_NEWER: Final = "Install a newer kernel; to see this one's: uname -r"


def missing(error: OSError) -> list[Check]:
    """Say for each layer why there is none of it."""
    why, mend = {
        errno.ENOSYS: ("this kernel is built without Landlock", _NEWER),
        errno.EOPNOTSUPP: (
            "Landlock is switched off at boot",
            "Add landlock to lsm= of the kernel's command line: cat /proc/cmdline",
        ),
        errno.EPERM: (
            "the unit's SystemCallFilter= or a container's filter refuses Landlock's calls",
            "Have both filters permit landlock_*; the unit's: systemctl --user cat copilot-broker",
        ),
    }.get(error.errno or 0, (f"Landlock failed: {error.strerror or error}", _NEWER))
    return [Check(name, Verdict.WARNING, why, mend) for name in LAYERS]


def _checks(version: int) -> list[Check]:
    _, ports, scopes = handled(version)
    checks = [Check(FILES, Verdict.OK, f"only listed files are within reach (ABI {version})")]
    for name, rights, told in (
        (PORTS, ports, "only listed TCP ports are within reach"),
        (SCOPE, scopes, "other processes get no signals from here"),
    ):
        checks.append(
            Check(name, Verdict.OK, told)
            if rights
            else Check(name, Verdict.WARNING, f"this kernel's Landlock is ABI {version}", _NEWER)
        )
    return checks


def _restrict(reach: Reach, version: int) -> None:
    files, ports, scopes = handled(version)
    if reach.abstract_sockets:
        scopes &= ~SCOPE_ABSTRACT
    ruleset = _ruleset(version, files, ports, scopes)
    try:
        for paths, rights in ((reach.readable, _READING), (reach.writable, _WRITING)):
            for path in paths:
                with suppress(OSError):  # not there, or not for us: then there is nothing to open
                    _permit_path(ruleset, path, rights & files)
        if ports:
            for port in reach.connect_ports:
                _permit_port(ruleset, port, CONNECT_TCP)
            for port in reach.bind_ports:
                _permit_port(ruleset, port, BIND_TCP)
        _no_new_privileges()
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), 0)
    finally:
        os.close(ruleset)


def _ruleset(version: int, *rights: int) -> int:
    """Make an empty one; struct landlock_ruleset_attr grew by ABI."""
    fields = 3 if version >= min(_SCOPES) else 2 if version >= min(_PORT_RIGHTS) else 1
    attributes = struct.pack(f"={fields}Q", *rights[:fields])
    return _syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)


def _permit_path(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, fd)  # packed: struct landlock_path_beneath_attr
        _syscall(_ADD_RULE, ctypes.c_int(ruleset), _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def _permit_port(ruleset: int, port: int, rights: int) -> None:
    rule = struct.pack("=QQ", rights, port)
    _syscall(_ADD_RULE, ctypes.c_int(ruleset), _NET_PORT, rule, 0)


def _no_new_privileges() -> None:
    """Without it only root may confine itself (landlock_restrict_self(2))."""
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    _called(_libc().prctl, _PR_SET_NO_NEW_PRIVS, one, zero, zero, zero)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    if os.uname().machine.startswith(_OTHER_NUMBERS):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _called(_libc().syscall, ctypes.c_long(number), *arguments)


def _called(function: Callable[..., int], *arguments: object) -> int:
    result = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
