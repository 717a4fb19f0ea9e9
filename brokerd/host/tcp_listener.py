"""Bind the loopback TCP socket of the HTTP door, where the configuration asks for one.

A port has no owner before it is bound: whoever comes first has it. So that it is taken is nothing
that could be mended here, and no reason to do without the Unix sockets: whoever calls goes on.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import NoReturn

from brokerd.core.loopback import host_and_port
from brokerd.errors import ErrorClass, Failure
from brokerd.host.listeners import BACKLOG, ListenError


__all__ = ["bind_tcp"]

_RESTART = "systemctl --user restart copilot-broker"


def bind_tcp(address: str) -> socket.socket:
    """Return a non-blocking socket that listens on `address`, as `[http] tcp` has it.

    What it accepts sends small pieces at once (tcp(7): TCP_NODELAY is inherited). Raises
    ListenError: the port is taken, or not for us, or there is no such address here; and ValueError
    for an address that is not on loopback.
    """
    host, port = host_and_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)  # closed in children, PEP 446
            undo.callback(sock.close)
            # Connections of the daemon before, which are over but not yet forgotten, are no
            # reason to wait; another listener still is one (socket(7)). Never SO_REUSEPORT: with
            # that, others could share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            _fail(address, port, error)
        undo.pop_all()
        return sock


def _fail(address: str, port: int, error: OSError) -> NoReturn:
    if error.errno == errno.EADDRINUSE:
        code, why = "tcp_port_busy", f"port {port} is taken by another program"
        hint = f"See by which: ss -ltnp 'sport = :{port}'; then run: {_RESTART}"
    elif error.errno in (errno.EACCES, errno.EPERM):
        code, why = "tcp_port_denied", f"port {port} is not for you to use ({error.strerror})"
        hint = (
            "Set another port in [http] tcp, at least that of:"
            f" sysctl net.ipv4.ip_unprivileged_port_start; then run: {_RESTART}"
        )
    else:
        code, why = "tcp_unusable", f"the address cannot be bound ({error.strerror or error})"
        hint = f"See which addresses there are: ip address show dev lo; then run: {_RESTART}"
    message = f"HTTP is not served on {address}: {why}"
    raise ListenError(Failure(ErrorClass.USAGE, code, message, hint)) from error
