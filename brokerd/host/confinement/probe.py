"""Whether Landlock holds, found out by trying what it must refuse; /proc does not tell.

Each attempt is without effect where it is let through: a folder is opened and closed, a file is
made without a name, a connection to our own machine is refused by nobody being there, signal 0 is
no signal (kill(2)).
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from brokerd.core.checks import Check, Verdict
from brokerd.host.confinement.landlock import FILES, LAYERS, PORTS, SCOPE, abi, handled, missing


if TYPE_CHECKING:
    from brokerd.core.reach import Reach


__all__ = ["landlock_in_force"]

_LOOPBACK: Final = "127.0.0.1"
_PORTS_TO_TRY: Final = (9, 1, 7, 19)
"""Discard and its like: nobody listens there today."""

_RESTART: Final = "Start it anew: systemctl --user restart copilot-broker"


def landlock_in_force(reach: Reach | None) -> list[Check]:
    """Return one check for each of `landlock.LAYERS`."""
    try:
        version = abi()
    except OSError as error:
        return missing(error)
    _, ports, scopes = handled(version)
    held = {
        FILES: _files_refused(),
        PORTS: bool(ports) and (reach is None or _port_refused(reach)),
        SCOPE: bool(scopes) and _signal_refused(),
    }
    told = {
        FILES: f"only listed files are within reach (ABI {version})",
        PORTS: "only listed TCP ports are within reach",
        SCOPE: "other processes get no signals from here",
    }
    there = {FILES: True, PORTS: bool(ports), SCOPE: bool(scopes)}
    checks = []
    for name in LAYERS:
        # One domain has all of them, or none.
        if held[name] and held[FILES]:
            checks.append(Check(name, Verdict.OK, told[name]))
        elif not there[name]:
            why = f"this kernel's Landlock is ABI {version}"
            mend = "Install a newer kernel; to see this one's: uname -r"
            checks.append(Check(name, Verdict.WARNING, why, mend))
        else:
            checks.append(Check(name, Verdict.WARNING, _NOT_HELD[name], _RESTART))
    return checks


_NOT_HELD: Final = {
    FILES: "your other files are within its reach",
    PORTS: "every TCP port is within its reach",
    SCOPE: "your other processes can be sent signals from here",
}


def _files_refused() -> bool:
    """Whether home folder and root folder are refused, which permission bits let us see."""
    home = os.environ.get("HOME", "/")
    return all(_refuses(path) for path in {"/", home} if os.access(path, os.R_OK | os.X_OK))


def _refuses(path: str) -> bool:
    """Whether a folder is neither listed nor written to; `access` knows nothing of Landlock."""
    attempts = [os.O_RDONLY | os.O_DIRECTORY]
    if os.access(path, os.W_OK):
        attempts.append(os.O_WRONLY | os.O_TMPFILE)
    for flags in attempts:
        try:
            os.close(os.open(path, flags | os.O_CLOEXEC, 0o600))
        except OSError as error:
            if error.errno == errno.EACCES:
                continue
            if error.errno in (errno.EOPNOTSUPP, errno.EISDIR):  # no unnamed files there
                continue
        return False
    return True


def _port_refused(reach: Reach) -> bool:
    """Landlock refuses before anything is sent."""
    for port in _PORTS_TO_TRY:
        if port not in reach.connect_ports:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                return sock.connect_ex((_LOOPBACK, port)) == errno.EACCES
    return True


def _signal_refused() -> bool:
    """Whether who started us is out of reach; true where it is another user's anyway."""
    try:
        os.kill(os.getppid(), 0)
    except OSError:
        return True
    return os.getppid() == 0  # it is in another pid namespace: that was us ourselves
