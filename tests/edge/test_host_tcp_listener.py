"""The loopback socket of the HTTP door: bound as it should be, or a sentence that helps."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from brokerd.errors import ErrorClass, PermanentError
from brokerd.host.listeners import ListenError
from brokerd.host.tcp_listener import bind_tcp


HAS_IPV6 = os.path.exists("/proc/net/if_inet6")  # noqa: PTH110
needs_ipv6 = pytest.mark.skipif(
    not HAS_IPV6 and not os.environ.get("CI"), reason="needs a kernel with IPv6"
)


def free_port(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.8.7", pytest.param("[::1]", marks=needs_ipv6)]
)
def test_it_listens_there_and_nowhere_else(host):
    bare = host.strip("[]")
    port = free_port(bare)
    with bind_tcp(f"{host}:{port}") as sock:
        assert sock.getsockname()[:2] == (bare, port)
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        with socket.create_connection((bare, port), timeout=30):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=30).close()


@needs_ipv6
def test_ipv6_is_ipv6_alone():
    port = free_port("::1")
    with bind_tcp(f"[::1]:{port}") as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_nobody_may_share_it_and_small_pieces_go_out_at_once():
    port = free_port()
    with bind_tcp(f"127.0.0.1:{port}") as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for host in ("127.0.0.1", "0.0.0.0"):
                with pytest.raises(OSError, match="in use"):
                    thief.bind((host, port))
        sock.setblocking(True)
        sock.settimeout(30)
        with socket.create_connection(("127.0.0.1", port), timeout=30):
            accepted, _ = sock.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_the_next_daemon_has_the_port_at_once():
    port = free_port()
    with bind_tcp(f"127.0.0.1:{port}") as sock:
        sock.settimeout(30)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            accepted, _ = sock.accept()
            accepted.close()  # we close first: the connection stays in TIME_WAIT
            assert client.recv(1) == b""
    bind_tcp(f"127.0.0.1:{port}").close()


def refusal(address) -> ListenError:
    with pytest.raises(ListenError) as caught:
        bind_tcp(address).close()
    assert isinstance(caught.value, PermanentError)
    assert caught.value.failure.error_class is ErrorClass.USAGE
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken(host):
    with socket.create_server((host, 0)) as other:
        port = other.getsockname()[1]
        failure = refusal(f"127.0.0.1:{port}").failure
    assert failure.code == "tcp_port_busy"
    assert failure.message == (
        f"HTTP is not served on 127.0.0.1:{port}: port {port} is taken by another program"
    )
    assert failure.hint.startswith(
        f"See by which: ss -ltnp 'sport = :{port}'; then run: systemctl"
    )


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.EACCES, "tcp_port_denied", "ip_unprivileged_port_start"),
        (errno.EPERM, "tcp_port_denied", "not for you"),
        (errno.EADDRNOTAVAIL, "tcp_unusable", "ip address show dev lo"),
        (errno.EAFNOSUPPORT, "tcp_unusable", "cannot be bound"),
    ],
)
def test_what_else_can_go_wrong(monkeypatch, number, code, words):
    class Refusing(socket.socket):
        def bind(self, address):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refusing)
    error = refusal("127.0.0.1:4141")  # and what it had opened is closed
    assert error.failure.code == code
    assert words in str(error)
    assert os.strerror(number) in str(error)


@pytest.mark.parametrize("address", ["", "0.0.0.0:4141", "localhost:4141", "127.0.0.1:0"])
def test_other_addresses_are_never_bound(address):
    with pytest.raises(ValueError):
        bind_tcp(address)
