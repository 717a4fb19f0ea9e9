"""Bind the loopback TCP sockets of the HTTP door: the configured one, and one for each run.

A port has no owner before it is bound: whoever comes first has it. So that it is taken is nothing
that could be mended here, and no reason to do without the Unix sockets: whoever calls goes on.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final, NoReturn

from brokerd.core.loopback import address_of, host_and_port
from brokerd.errors import ErrorClass, Failure
from brokerd.host.listeners import BACKLOG, ListenError


__all__ = ["bind_run", "bind_tcp"]

RUN_HOST: Final = "127.0.0.1"
"""Where runs are served: every tool can reach it, whatever it makes of IPv6."""

_RESTART = "systemctl --user restart copilot-broker"


def bind_tcp(address: str) -> socket.socket:
    """Return a non-blocking socket that listens on `address`, as `[http] tcp` has it.

    What it accepts sends small pieces at once (tcp(7): TCP_NODELAY is inherited). Raises
    ListenError: the port is taken, or not for us, or there is no such address here; and ValueError
    for an address that is not on loopback.
    """
    host, port = host_and_port(address)
    try:
        return _listen(host, port)
    except OSError as error:
        _fail(address, port, error)


def bind_run() -> tuple[socket.socket, str]:
    """Return a socket as `bind_tcp` does, on a port that the kernel chose, and its address.

    Raises OSError where there is none left.
    """
    sock = _listen(RUN_HOST, 0)
    return sock, address_of(*sock.getsockname())


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        sock = socket.socket(family, socket.SOCK_STREAM)  # closed in children, PEP 446
        undo.callback(sock.close)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not port:  # before the next line: with it the kernel may choose one that others have
            sock.bind((host, port))
        # Connections of the daemon before, which are over but not yet forgotten, are no
        # reason to wait; another listener still is one (socket(7)). Never SO_REUSEPORT: with
        # that, others could share the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
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
