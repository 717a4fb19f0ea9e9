"""A hold on a process, and the same process found again: never whoever has its number next."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, PermanentError
from brokerd.host.peers.peercred import peer_by_pid, peer_of
from brokerd.host.processes import find_process, hold_process


@pytest.fixture
def child():
    """A process that ends when its stdin does."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_a_hold_outlives_the_connection_and_ends_with_the_process(child):
    peer = peer_by_pid(child.pid)
    pidfd, process = hold_process(peer)
    peer.close()
    assert pidfd.is_alive()
    assert not os.get_inheritable(pidfd.fileno())
    assert process.pid == child.pid
    found = find_process(process)
    assert found is not None
    ended(child)
    assert not pidfd.is_alive()
    assert not found.is_alive()
    assert find_process(process) is None
    pidfd.close()
    found.close()


@pytest.mark.parametrize(
    "change", [{"started": 1}, {"boot": "x"}, {"pid": 0}, {"pid": -1}, {"pid": 2**40}], ids=str
)
def test_who_differs_in_anything_is_another_one(child, change):
    peer = peer_by_pid(child.pid)
    pidfd, process = hold_process(peer)
    pidfd.close()
    peer.close()
    assert find_process(replace(process, **change)) is None


@pytest.mark.parametrize("name", ["a) R 1 1", ") S (", "x y"])
def test_a_name_with_brackets_does_not_move_its_start_time(name):
    source = "open('/proc/self/comm', 'w').write(__import__('sys').argv[1]); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-uc", source, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as named:
        assert named.stdout is not None
        named.stdout.readline()
        peer = peer_by_pid(named.pid)
        pidfd, process = hold_process(peer)
        peer.close()
        pidfd.close()
        fields = Path(f"/proc/{named.pid}/stat").read_text().rpartition(")")[2].split()
        assert process.started == int(fields[19]) > 1
        named.communicate(b"\n")


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        (Peer(pid=0, uid=os.getuid(), gid=0), "another pid namespace"),
        (Peer(pid=os.getpid(), uid=os.getuid(), gid=0), "cannot be told for sure"),
    ],
    ids=["another namespace", "no pidfd"],
)
def test_who_cannot_be_watched_is_refused(peer, words):
    with pytest.raises(PermanentError) as caught:
        hold_process(peer)
    failure = caught.value.failure
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "process_unknown")
    assert words in failure.message
    assert "copilot-cred get --model" in failure.hint


def test_a_process_that_has_ended_meanwhile_is_refused_and_nothing_stays_open(child):
    peer = peer_by_pid(child.pid)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted
    ended(child)
    with pytest.raises(PermanentError) as caught:
        hold_process(peer)
    assert caught.value.failure.code == "process_unknown"
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    peer.close()


def test_a_thread_connects_for_its_process(tmp_path):
    with socket.socket(socket.AF_UNIX) as door, socket.socket(socket.AF_UNIX) as client:
        door.bind(str(tmp_path / "s"))
        door.listen()
        thread = threading.Thread(target=client.connect, args=(str(tmp_path / "s"),))
        thread.start()
        accepted, _ = door.accept()
        thread.join()
        with accepted:
            peer = peer_of(accepted)
            pidfd, process = hold_process(peer)
            assert process.pid == os.getpid()
            assert pidfd.is_alive(), "the thread is over, the process is not"
            pidfd.close()
            peer.close()


HANDS_ON = """
import socket, sys
with socket.socket(socket.AF_UNIX) as s, socket.socket(fileno=int(sys.argv[2])) as heir:
    s.connect(sys.argv[1])
    socket.send_fds(heir, [b"x"], [s.fileno()])
    sys.stdin.readline()
"""


def test_who_was_handed_a_connection_is_not_who_counts(tmp_path):
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as door, ours, theirs:
        door.bind(str(tmp_path / "s"))
        door.listen()
        command = [sys.executable, "-c", HANDS_ON, str(tmp_path / "s"), str(theirs.fileno())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()]) as first:
            accepted, _ = door.accept()
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
            with accepted, socket.socket(fileno=fds[0]):  # the test holds it now
                peer = peer_of(accepted)
                pidfd, process = hold_process(peer)
                assert process.pid == first.pid
                first.communicate(b"\n")
                assert not pidfd.is_alive()
                pidfd.close()
                peer.close()
