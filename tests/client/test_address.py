"""P9: a client finds its broker's socket and trusts nothing else that stands in its place."""

from __future__ import annotations

import os
import posix
import socket
import threading

import pytest

from copilot_broker.wire.address import (
    NoBroker,
    check_path,
    check_peer,
    connect,
    connect_once,
    socket_path,
)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "copilot-broker"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def listener(folder):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "broker.sock"))
        sock.listen(1)
        yield sock


def refusal(path, uid=None) -> NoBroker:
    with pytest.raises(NoBroker) as caught:
        connect_once(str(path), uid)
    return caught.value


def test_the_variable_wins_and_has_no_fallback(tmp_path):
    env = {"COPILOT_BROKER_SOCKET": "/x/y.sock", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert socket_path(env) == "/x/y.sock"
    assert refusal("/x/y.sock").code == "not_running"


def test_runtime_directory_is_next():
    assert (
        socket_path({"XDG_RUNTIME_DIR": "/run/user/7"}) == "/run/user/7/copilot-broker/broker.sock"
    )


def test_without_a_runtime_directory_the_hint_starts_the_socket(monkeypatch):
    monkeypatch.setattr(posix, "getuid", lambda: 4_000_000_001)  # a uid without a session
    with pytest.raises(NoBroker) as caught:
        socket_path({})
    assert caught.value.code == "no_runtime_dir"
    assert caught.value.hint.endswith("systemctl --user start copilot-broker.socket")


def test_nothing_there_is_not_running(folder):
    found = refusal(folder / "broker.sock")
    assert found.code == "not_running"
    assert found.hint.endswith("systemctl --user start copilot-broker.socket")


def test_dead_socket_is_not_running(folder, listener):
    listener.close()
    assert refusal(folder / "broker.sock").code == "not_running"


def test_own_socket_is_connected_to(folder, listener):
    sock = connect(str(folder / "broker.sock"), 1.0)
    sock.close()


def test_regular_file_is_refused(folder):
    (folder / "broker.sock").write_text("")
    assert refusal(folder / "broker.sock").code == "untrusted_socket"


def test_symbolic_link_to_a_socket_is_refused(folder, listener):
    (folder / "link.sock").symlink_to(folder / "broker.sock")
    assert "not a socket" in refusal(folder / "link.sock").message


def test_symlinked_parent_is_refused(tmp_path, folder, listener):
    (tmp_path / "other").symlink_to(folder)
    assert "link" in refusal(tmp_path / "other" / "broker.sock").message


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o777, 0o1777])
def test_folder_open_to_others_is_refused(folder, listener, mode):
    folder.chmod(mode)
    assert "open to others" in refusal(folder / "broker.sock").message


def test_folder_of_another_uid_is_refused(folder, listener):
    assert "belongs to uid" in refusal(folder / "broker.sock", uid=os.getuid() + 1).message


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_decoy_socket_of_another_uid_is_refused(folder, listener):
    os.chown(folder / "broker.sock", 65534, 65534)
    assert "belongs to uid 65534" in refusal(folder / "broker.sock").message


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_listener_of_another_uid_is_refused_before_a_byte_is_sent(folder):
    """The path looks right in every way; the kernel still knows who called listen(2)."""
    path = folder / "broker.sock"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        sock.listen(1)
        os._exit(0)
    os.waitpid(child, 0)
    with sock:
        assert "the listener belongs to uid 65534" in refusal(path).message
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.recv(1) == b""


def test_check_peer_compares_the_uid():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        check_peer(ours)
        with pytest.raises(NoBroker, match="listener belongs to uid"):
            check_peer(ours, os.getuid() + 1)


def test_check_path_needs_no_slash(folder, listener, monkeypatch):
    monkeypatch.chdir(folder)
    check_path("broker.sock")


def test_too_long_a_path_says_so(folder):
    deep = folder / ("d" * 100)
    deep.mkdir(mode=0o700)
    path = deep / "broker.sock"
    here = os.open(deep, os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"/proc/self/fd/{here}/broker.sock")
            assert refusal(path).code == "not_running"
    finally:
        os.close(here)


def fill(path) -> list:
    """Connect until the listener's queue is full."""
    waiting = []
    try:
        while True:
            waiting.append(connect_once(str(path)))
    except BlockingIOError:
        assert waiting
    return waiting


def test_full_queue_is_waited_for(folder, listener):
    waiting = fill(folder / "broker.sock")
    accepted = []
    helper = threading.Timer(0.05, lambda: accepted.extend(listener.accept()[0] for _ in waiting))
    helper.start()
    late = connect(str(folder / "broker.sock"), 10.0)
    helper.join()
    for sock in (late, *waiting, *accepted):
        sock.close()


def test_full_queue_is_not_waited_for_for_ever(folder, listener):
    waiting = fill(folder / "broker.sock")
    with pytest.raises(BlockingIOError):
        connect(str(folder / "broker.sock"), 0.05)
    for sock in waiting:
        sock.close()
