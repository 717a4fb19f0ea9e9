"""No file descriptors come in: a real SCM_RIGHTS message, refused at its sender."""

from __future__ import annotations

import os
import socket

import pytest

from brokerd.host.listeners import bind_own
from brokerd.host.peers.descriptors import SO_PASSRIGHTS, refuse_descriptors


def kernel_can() -> bool:
    a, b = socket.socketpair()
    with a, b:
        try:
            a.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS)
        except OSError:
            return False
        return True


needs_passrights = pytest.mark.skipif(not kernel_can(), reason="needs Linux 6.16")


def send_one(client: socket.socket) -> None:
    with open(os.devnull) as file:  # noqa: PTH123 - a descriptor is all that is wanted
        socket.send_fds(client, [b"x"], [file.fileno()])


@needs_passrights
def test_descriptors_are_refused_before_and_after_the_connection_is_accepted(tmp_path):
    path = tmp_path / "copilot-broker" / "broker.sock"
    with bind_own(path) as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with pytest.raises(PermissionError):
            send_one(client)
        accepted, _ = listening.accept()
        with accepted:
            with pytest.raises(PermissionError):
                send_one(client)
            client.sendall(b"words")  # they come through as ever
            assert accepted.recv(10) == b"words"


@needs_passrights
def test_without_it_the_same_message_arrives():
    """The control to the test above."""
    a, b = socket.socketpair()
    with a, b:
        send_one(a)
        _, received, _, _ = socket.recv_fds(b, 10, 1)
        assert len(received) == 1
        os.close(received[0])


@needs_passrights
def test_it_says_whether_the_kernel_can():
    a, b = socket.socketpair()
    with a, b:
        assert refuse_descriptors(a)
        assert refuse_descriptors(a)
        assert a.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS) == 0
    with socket.socket(socket.AF_INET) as inet:
        assert not refuse_descriptors(inet)


def test_an_older_kernel_is_no_error(monkeypatch):
    monkeypatch.setattr("brokerd.host.peers.descriptors.SO_PASSRIGHTS", 9999)
    a, b = socket.socketpair()
    with a, b:
        assert not refuse_descriptors(a)
