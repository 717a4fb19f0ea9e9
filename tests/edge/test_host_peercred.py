"""Peers as the kernel tells them: who connected, whether they live, and what we may believe."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, PermanentError
from brokerd.host.confinement import landlock
from brokerd.host.peers import peercred
from brokerd.host.peers.labels import labels_of
from brokerd.host.peers.peercred import SO_PEERPIDFD, peer_by_pid, peer_of
from brokerd.host.peers.pidfd import PidFd, ProcessInfo


def kernel_has_peerpidfd() -> bool:
    a, b = socket.socketpair()
    with a, b:
        try:
            os.close(a.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        except OSError:
            return False
        return True


needs_peerpidfd = pytest.mark.skipif(not kernel_has_peerpidfd(), reason="needs Linux 6.5")


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    with a, b:
        yield a, b


@pytest.fixture
def child(tmp_path):
    """(process, our end of its connection): a process that connects, then waits to be told."""
    path = tmp_path / "s"
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.send(b'x'); sys.stdin.readline()"
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE
        )
        with process:
            sock, _ = server.accept()
            with sock:
                yield process, sock
            process.kill()


def test_who_it_is(child):
    process, sock = child
    peer = peer_of(sock)
    try:
        assert (peer.pid, peer.uid, peer.gid) == (process.pid, os.getuid(), os.getgid())
        assert peer.is_alive()
        assert peer.weak is not kernel_has_peerpidfd()
        assert not os.get_inheritable(peer.pidfd.fileno())
    finally:
        peer.close()


def test_nothing_is_read_from_the_connection(child):
    _, sock = child
    peer_of(sock).close()
    sock.settimeout(30)
    assert sock.recv(10) == b"x"


def test_it_is_gone_when_the_process_ends(child):
    process, sock = child
    peer = peer_of(sock)
    process.communicate(b"go\n", timeout=30)
    assert not peer.is_alive()
    peer.close()
    peer.close()
    assert not peer.is_alive()
    assert peer.pidfd.fileno() == -1


@needs_peerpidfd
def test_a_peer_that_ended_before_we_asked_is_gone(child):
    process, sock = child
    process.communicate(b"go\n", timeout=30)  # reaped: its number is free again
    peer = peer_of(sock)
    assert not peer.is_alive()
    assert peer.unit == ""
    peer.close()


class ToldReaped:
    """A connection on Linux 6.5 to 6.15, whose peer was reaped before we asked."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number

    def getsockopt(self, level, option, *size):
        if option == SO_PEERPIDFD:
            raise OSError(self.number, os.strerror(self.number))
        return self.sock.getsockopt(level, option, *size)


@pytest.mark.parametrize("number", [errno.ESRCH, errno.EINVAL])
def test_the_kernel_says_that_the_peer_is_reaped(child, number):
    process, sock = child
    peer = peer_of(ToldReaped(sock, number))
    assert peer.pid == process.pid
    assert peer.uid == os.getuid()
    assert peer.pidfd is None  # never one opened by number: somebody else may have it
    assert not peer.weak
    assert not peer.is_alive()


def test_an_older_kernel_gives_a_weak_identity(child, monkeypatch):
    process, sock = child
    monkeypatch.setattr(peercred, "SO_PEERPIDFD", 9999)  # ENOPROTOOPT, as before Linux 6.5
    peer = peer_of(sock)
    assert peer.weak
    assert peer.is_alive()
    process.communicate(b"go\n", timeout=30)
    assert not peer.is_alive()
    peer.close()
    late = peer_of(sock)
    assert late.weak
    assert late.pid == process.pid
    assert not late.is_alive()


def test_no_pidfds_at_all(child, monkeypatch):
    _, sock = child

    def refuse(_pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(peercred, "SO_PEERPIDFD", 9999)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    peer = peer_of(sock)
    assert (peer.weak, peer.pidfd, peer.unit) == (True, None, "")
    assert peer.is_alive()  # the uid still stands; nothing else is known
    peer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_another_uid(tmp_path):
    path = tmp_path / "s"
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "sys.stdin.readline()"
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(30)
        path.chmod(0o666)
        for parent in path.parents:
            if parent.stat().st_mode & 0o005 != 0o005:
                parent.chmod(parent.stat().st_mode | 0o055)
        process = subprocess.Popen(
            [
                *("/usr/bin/setpriv", "--reuid=4294967", "--regid=12345", "--clear-groups"),
                *("/usr/bin/python3", "-c", program, str(path)),
            ],
            stdin=subprocess.PIPE,
        )
        with process:
            sock, _ = server.accept()
            with sock:
                peer = peer_of(sock)
                assert (peer.uid, peer.gid) == (4294967, 12345)
                peer.close()
            process.communicate(b"go\n", timeout=30)


def test_descriptors_do_not_leak(pair):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        peer_of(pair[0]).close()
        peer_of(pair[0])  # forgotten: closed by its finalizer
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_only_unix_sockets_have_peers():
    with socket.socket(socket.AF_UNIX) as lonely:
        peer = peer_of(lonely)
        assert peer.uid not in (os.getuid(), 0)  # an unconnected one is nobody's
        peer.close()
    with socket.socket(socket.AF_INET) as inet:
        peer = peer_of(inet)
        assert peer.uid not in (os.getuid(), 0)
        peer.close()


def test_what_is_told_of_the_peer(child):
    process, sock = child
    peer = peer_of(sock)
    assert peer.comm == Path(f"/proc/{process.pid}/comm").read_text().strip() != ""
    assert peer.exe == str(Path(f"/proc/{process.pid}/exe").readlink())
    assert peer.sandbox != ""  # the cgroup can always be read
    peer.close()


def test_who_has_a_number_now(child):
    process, sock = child
    connected, asked = peer_of(sock), peer_by_pid(process.pid)
    assert (asked.weak, asked.is_alive()) == (True, True)
    assert asked == dataclasses.replace(connected, weak=True)
    process.communicate(b"go\n", timeout=30)
    assert not asked.is_alive()
    asked.close()
    connected.close()


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**31 - 1, 2**70])
def test_nobody_has_that_number(pid):
    with pytest.raises(PermanentError, match=f"No process with pid {pid} runs here") as caught:
        peer_by_pid(pid)
    assert caught.value.failure.code == "no_such_process"
    assert caught.value.failure.error_class is ErrorClass.USAGE


def test_a_process_that_ends_while_we_look_is_nobody(child, monkeypatch):
    process, _ = child
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(peercred, "labels_of", then(process, labels_of))
    with pytest.raises(PermanentError, match="No process with pid"):
        peer_by_pid(process.pid)
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1  # the pipe to it is closed


def then(process, function):
    """The same function, and right after it the process has ended and its number is free."""

    def read_and_ended(*arguments):
        result = function(*arguments)
        process.communicate(b"go\n", timeout=30)
        return result

    return read_and_ended


def test_what_was_read_of_a_process_that_ended_meanwhile_is_thrown_away(child, monkeypatch):
    process, sock = child
    monkeypatch.setattr(peercred, "labels_of", then(process, labels_of))
    peer = peer_of(sock)
    assert told(peer) == NOTHING
    assert not peer.is_alive()
    peer.close()


CONFINED = """
import json, socket, sys
from brokerd.core.reach import Reach
from brokerd.host.confinement import landlock
from brokerd.host.peers.peercred import peer_of
from brokerd.host.peers.pidfd import info_of
confined = all(check.holds for check in landlock.apply(Reach(readable=frozenset(["/proc"])))[:1])
with socket.socket(fileno=int(sys.argv[1])) as sock:
    peer = peer_of(sock)
info = info_of(peer.pidfd) if peer.pidfd else None
print(json.dumps(
    [peer.unit, peer.sandbox, peer.comm, peer.exe, info is None or info.pid, confined]))
"""


def has_landlock() -> bool:
    try:
        return landlock.abi() >= 1
    except OSError:  # a container's filter, or a kernel without
        return False


def test_behind_landlock_all_but_the_programs_path_is_told(child):
    process, sock = child
    free = peer_of(sock)
    free.close()
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, str(sock.fileno())],
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    unit, sandbox, comm, exe, number, confined = json.loads(done.stdout)
    assert (unit, sandbox, comm) == (free.unit, free.sandbox, free.comm)
    assert confined is has_landlock()
    assert free.exe == str(Path(f"/proc/{process.pid}/exe").readlink())
    assert exe == ("" if confined else free.exe)
    assert number in (True, process.pid)


NOTHING = ("", "", "", "", "")


def told(peer) -> tuple[str, ...]:
    return (peer.unit, peer.label, peer.sandbox, peer.comm, peer.exe)


@pytest.mark.parametrize(
    "info",
    [
        ProcessInfo(0, (-1, -1, -1)),  # outside our pid namespace
        ProcessInfo(1, (os.getuid(),) * 3),  # another number
        "another uid",
    ],
)
def test_no_labels_of_a_process_that_the_kernel_does_not_confirm(child, monkeypatch, info):
    process, sock = child
    if info == "another uid":
        info = ProcessInfo(process.pid, (os.getuid() + 1,) * 3)
    monkeypatch.setattr(peercred, "info_of", lambda _pidfd: info)
    peer = peer_of(sock)
    assert told(peer) == NOTHING
    assert peer.is_alive()  # it stays the peer, and is held
    peer.close()


def test_a_kernel_without_the_question_tells_labels_all_the_same(child, monkeypatch):
    _, sock = child
    monkeypatch.setattr(peercred, "info_of", lambda _pidfd: None)
    peer = peer_of(sock)
    assert peer.comm
    peer.close()


def test_a_peer_is_a_value():
    one = Peer(1, 2, 3)
    assert one == Peer(1, 2, 3)
    assert one.weak
    assert one.is_alive()
    assert not Peer(1, 2, 3, gone=True).is_alive()
    with PidFdOf(os.getpid()) as handle:
        assert Peer(1, 2, 3, handle) == one
        assert "pidfd" not in repr(Peer(1, 2, 3, handle))


class PidFdOf:
    def __init__(self, pid):
        self.handle = PidFd(os.pidfd_open(pid))

    def __enter__(self):
        return self.handle

    def __exit__(self, *_):
        self.handle.close()
