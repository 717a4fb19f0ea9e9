"""Talk to the service manager, if one started us: readiness, status line, watchdog, sockets.

Everything here is a no-op without one (sd_notify(3), sd_listen_fds(3)), also where systemd-python
is not installed while the manager speaks to us: then a warning says what is missing.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any

from brokerd.host.peers.descriptors import refuse_descriptors


if TYPE_CHECKING:
    from collections.abc import Container


__all__ = ["STATUS_MAX", "ServiceManager"]

log = logging.getLogger(__name__)

STATUS_MAX = 300
"""Characters of a status line: it is one line of `systemctl status`."""

_LISTENER_NAME = re.compile(r"[a-z0-9-]{1,64}")
"""What a socket may be called (FileDescriptorName=): rules, logs and commands repeat it."""


class ServiceManager:
    """The manager that started this process, or nobody."""

    def __init__(self) -> None:
        self._daemon = _import_systemd()
        self._last_status = ""

    @property
    def present(self) -> bool:
        """Whether a manager waits for our word (Type=notify)."""
        return self._daemon is not None and bool(os.environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        """Say that we serve; also ends a reload."""
        self._last_status = _one_line(status)
        self._notify(f"READY=1\nSTATUS={self._last_status}")

    def status(self, text: str) -> None:
        """Set the line that `systemctl --user status` shows; saying the same twice is free."""
        line = _one_line(text)
        if line != self._last_status:
            self._last_status = line
            self._notify(f"STATUS={line}")

    def reloading(self) -> None:
        """Say that the configuration is being re-read; `ready` must follow."""
        # Type=notify-reload (systemd 253) wants the time with it; older ones ignore the field.
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def stopping(self, status: str = "stopping") -> None:
        """Say that we are going down."""
        self._last_status = _one_line(status)
        self._notify(f"STOPPING=1\nSTATUS={self._last_status}")

    def ping(self) -> None:
        """Pet the watchdog; call it from the loop that serves, or it proves nothing."""
        self._notify("WATCHDOG=1")

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between pings: half of what the manager allows; None if it does not watch us."""
        try:
            usec = int(os.environ.get("WATCHDOG_USEC", ""))
            pid = int(os.environ.get("WATCHDOG_PID") or os.getpid())
        except ValueError:
            return None
        if not self.present or usec <= 0 or pid != os.getpid():
            return None
        return usec / 1e6 / 2

    def adopted_sockets(self) -> dict[str, socket.socket]:
        """Take the listening sockets the manager opened for us, by FileDescriptorName=.

        All of them, however many: which are known is for the caller to say. Non-blocking,
        close-on-exec, and no descriptors come in through them. Can be asked once: the variables
        are removed, so that no child takes the sockets for its own. Later sockets of the same
        name, ones that do not listen and ones whose name is not of 1 to 64 small letters, digits
        and dashes are closed with a warning.
        """
        if self._daemon is None:
            return {}
        adopted: dict[str, socket.socket] = {}
        for fd, name in sorted(self._listen_fds().items()):
            sock = _listening_socket(fd)
            reason = _useless(name, sock, adopted)
            if sock is None or reason:
                log.warning(
                    "adopted descriptor is of no use", extra={"FD_NAME": name, "REASON": reason}
                )
                if sock is not None:
                    sock.close()
                continue
            refuse_descriptors(sock)
            adopted[name] = sock
        return adopted

    def _listen_fds(self) -> dict[int, str]:
        try:
            found: dict[int, str] = self._daemon.listen_fds_with_names(unset_environment=True)
        except OSError as error:  # a mangled LISTEN_FDS
            log.warning("cannot adopt sockets", extra={"REASON": str(error)})
            return {}
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # libsystemd removed them behind Python's back
        return found

    def _notify(self, text: str) -> None:
        if not self.present:
            return
        try:
            self._daemon.notify(text)
        except OSError as error:
            log.debug("cannot notify the service manager", extra={"REASON": str(error)})


def _import_systemd() -> Any:
    """Import it where a manager speaks to us: in a terminal nobody pays for it."""
    if not (os.environ.get("NOTIFY_SOCKET") or os.environ.get("LISTEN_FDS")):
        return None
    try:
        import systemd.daemon  # noqa: PLC0415 (lazy: absent on a bare machine)
    except ImportError:
        log.warning(
            "a service manager started us but systemd-python is missing:"
            " install python3-systemd or pip install 'copilot-broker[daemon]'"
        )
        return None
    return systemd.daemon


def _one_line(text: str) -> str:
    """Fold to one line: a line feed would start a new assignment in sd_notify's protocol."""
    return " ".join(text.split())[:STATUS_MAX]


def _useless(name: str, sock: socket.socket | None, adopted: Container[str]) -> str:
    """Say why it cannot be served; "" if it can."""
    if sock is None:
        return "no listening Unix socket"
    if name in adopted:
        return "another one has that name"
    if not _LISTENER_NAME.fullmatch(name):
        return "name is not of a-z, 0-9 and -: set FileDescriptorName= in its unit"
    return ""


def _listening_socket(fd: int) -> socket.socket | None:
    """Return the listening Unix stream socket behind `fd`; else None, with `fd` closed."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    sock.setblocking(False)
    sock.set_inheritable(False)
    if (
        sock.family == socket.AF_UNIX
        and sock.type == socket.SOCK_STREAM
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        return sock
    sock.close()
    return None
