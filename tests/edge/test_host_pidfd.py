"""A hold on a process, and the kernel's own word on what is behind it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import subprocess
import sys

import pytest

from brokerd.host.peers.pidfd import PidFd, ProcessInfo, info_of


def kernel_has_info() -> bool:
    held = PidFd(os.pidfd_open(os.getpid()))
    try:
        return info_of(held) is not None
    finally:
        held.close()


needs_info = pytest.mark.skipif(not kernel_has_info(), reason="needs Linux 6.13")


@pytest.fixture
def own():
    held = PidFd(os.pidfd_open(os.getpid()))
    yield held
    held.close()


@needs_info
def test_the_kernel_tells_of_ourselves(own):
    info = info_of(own)
    assert info == ProcessInfo(os.getpid(), os.getresuid())
    assert info.is_of(os.getpid(), os.getuid())
    assert not info.is_of(os.getpid() + 1, os.getuid())
    assert not info.is_of(os.getpid(), os.getuid() + 1)


@needs_info
def test_a_reaped_process_is_nobody_at_all():
    pid = os.posix_spawn("/bin/true", ["true"], {})
    held = PidFd(os.pidfd_open(pid))
    ended = select.poll()
    ended.register(held.fileno(), select.POLLIN)
    assert ended.poll(30_000)
    assert not held.is_alive()
    assert info_of(held).is_of(pid, os.getuid())  # it keeps its number until it is reaped
    os.waitpid(pid, 0)
    assert not info_of(held).is_of(pid, os.getuid())
    held.close()


NEW_NAMESPACE = ("/usr/bin/unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

IN_NEW_NAMESPACE = """
import json, socket, sys
from brokerd.host.peers.peercred import peer_of
from brokerd.host.peers.pidfd import info_of
with socket.socket(fileno=int(sys.argv[1])) as sock:
    peer = peer_of(sock)
print(json.dumps({
    "pid": peer.pid, "uid": peer.uid, "weak": peer.weak, "alive": peer.is_alive(),
    "comm": peer.comm, "sandbox": peer.sandbox, "number": info_of(peer.pidfd).pid,
}))
"""


@needs_info
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a pid namespace")
def test_a_process_outside_our_pid_namespace_has_no_number_here():
    """Its pid is 0 there, the hold on it is real, and nothing is read by number."""
    a, b = socket.socketpair()
    with a, b:
        done = subprocess.run(
            [*NEW_NAMESPACE, sys.executable, "-c", IN_NEW_NAMESPACE, str(a.fileno())],
            pass_fds=[a.fileno()],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    assert json.loads(done.stdout) == {
        "pid": 0,
        "uid": 0,
        "weak": False,
        "alive": True,
        "comm": "",
        "sandbox": "",
        "number": 0,
    }


def test_zero_is_no_number_of_anybodys():
    assert not ProcessInfo(0, (0, 0, 0)).is_of(0, 0)


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL, errno.EPERM])
def test_a_kernel_without_the_question(own, monkeypatch, number):
    monkeypatch.setattr(fcntl, "ioctl", failing(number))
    assert info_of(own) is None


@pytest.mark.parametrize("number", [errno.ESRCH, errno.EREMOTE])
def test_a_process_that_is_gone_or_elsewhere_has_no_number(own, monkeypatch, number):
    monkeypatch.setattr(fcntl, "ioctl", failing(number))
    assert not info_of(own).is_of(os.getpid(), os.getuid())


def test_a_kernel_that_leaves_the_ids_out(own, monkeypatch):
    def fill_in(_fd, _request, asked):
        asked[:8] = (1).to_bytes(8, sys.byteorder)

    monkeypatch.setattr(fcntl, "ioctl", fill_in)
    assert info_of(own) is None


def failing(number):
    def ioctl(*_):
        raise OSError(number, os.strerror(number))

    return ioctl
