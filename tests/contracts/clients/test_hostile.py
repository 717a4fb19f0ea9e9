"""Whoever answers may be no broker, or a bad one: all clients look first, and bound what they take."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgpack
import pytest

from contracts.clients.driving import PATIENCE


HELLO = {"protocol": 1}
NOBODY = 65534
"""A uid that is not ours."""


class Raw:
    """Takes the first request of each connection and answers with bytes; keeps what it heard."""

    def __init__(self, folder: Path, answer: bytes, *, then: str = "wait", slowly: bool = False):
        self.path = folder / "broker.sock"
        self.heard = b""
        self.connections = 0
        self._answer = answer
        self._then = then
        self._slowly = slowly
        self._over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(8)
        self._peers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for sock in (self._listener, *self._peers):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self):
        while not self._over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._peers.append(sock)
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock):
        with sock, contextlib.suppress(OSError):
            sock.settimeout(PATIENCE)
            self.heard += sock.recv(65536)
            for piece in self._pieces():
                sock.sendall(piece)
            if self._then == "hang_up":
                return
            if self._then == "half_close":
                sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass

    def _pieces(self):
        if not self._slowly:
            return [self._answer]
        return (self._answer[at : at + 1] for at in range(len(self._answer)))


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="cb-") as name:
        yield Path(name)


def answer(result: object, msgid: int = 0) -> bytes:
    return msgpack.packb([1, msgid, None, result])


BREACHES = {
    "text": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not_a_message"),
    "a map": (b"\x80", "not_a_message"),
    "an array of nothing": (b"\x90", "not_a_message"),
    "a number as method": (msgpack.packb([2, 7, [{}]]), "not_a_message"),
    "a msgid out of range": (msgpack.packb([1, 1 << 32, None, {}]), "not_a_message"),
    "a kind of its own": (msgpack.packb([3, 0, None, {}]), "not_a_message"),
    "a request": (msgpack.packb([0, 0, "token.get", [{}]]), "wrong_direction"),
    "an extension type": (msgpack.packb([1, 0, None, msgpack.ExtType(1, b"x")]), "bad_type"),
    "a byte that is no type": (b"\x94\x01\x00\xc0\xc1", "bad_type"),
    "a claim of a gigabyte": (b"\x94\x01\x00\xc0\xc6\x40\x00\x00\x00", "frame_too_large"),
    "a claim of two billion values": (b"\x94\x01\x00\xc0\xdd\x7f\xff\xff\xff", "too_many_items"),
    "a million empty arrays": (
        b"\x94\x01\x00\xc0\xdd\x00\x0f\x00\x00" + b"\x90" * 1000,
        "too_many_items",
    ),
    "a tower": (b"\x94\x01\x00\xc0" + b"\x91" * 64 + b"\xc0", "too_deep"),
    "an answer to what was not asked": (answer({}, 77), "unknown_msgid"),
    "news of no stream": (msgpack.packb([2, "stream.data", [{"stream": 9}]]), "unknown_stream"),
    "keys that are no text": (b"\x94\x01\x00\xc0\x81\x01\x01", "not_a_message"),
    "text that is not UTF-8": (b"\x94\x01\x00\xc0\x81\xa1a\xa2\xff\xfe", "not_a_message"),
}


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", BREACHES)
def test_what_is_no_broker_is_named(client, lacks, folder, name, slowly):
    data, code = BREACHES[name]
    if {"text that is not UTF-8": "utf8", "keys that are no text": "strict_keys"}.get(
        name
    ) in lacks:
        return
    with Raw(folder, data, slowly=slowly) as server:
        client.open(server.path, timeout=PATIENCE)
        error = client.refused("status")
        assert (error["class"], error["code"]) == (1, code)
        assert "systemctl --user status" in error["hint"]
        assert server.connections == 1  # what speaks something else is not asked again


LOST = {
    "hangs up": (b"", "hang_up"),
    "hangs up inside a message": (answer({"a": 1})[:-1], "hang_up"),
    "half closes": (b"", "half_close"),
    "half closes inside a message": (answer({"a": 1})[:-1], "half_close"),
}


@pytest.mark.parametrize("name", LOST)
def test_who_leaves_without_an_answer_is_named(client, folder, name):
    data, then = LOST[name]
    with Raw(folder, data, then=then) as server:
        client.open(server.path, timeout=PATIENCE)
        error = client.refused("use", "work")
        assert (error["class"], error["code"]) == (3, "connection_lost")
        assert server.connections == 1


def test_an_answer_byte_by_byte_is_an_answer(client, folder):
    result = {"pid": 7, "text": "grüße 😀", "of": [1.5, -1, None, True, 2**40]}
    with Raw(folder, answer(result), slowly=True) as server:
        client.open(server.path)
        assert client.call("status") == result


def test_an_answer_then_garbage_is_an_answer_first(client, folder):
    with Raw(folder, answer({"pid": 7}) + b"\xc1") as server:
        client.open(server.path)
        assert client.call("status") == {"pid": 7}


def test_an_answer_of_megabytes_is_taken(client, folder):
    result = {"text": "x" * (8 << 20)}
    with Raw(folder, answer(result)) as server:
        client.open(server.path, timeout=PATIENCE)
        assert client.call("status") == result


@pytest.mark.parametrize("name", ["lost_chunk", "ended", "another"])
def test_a_stream_out_of_order_is_an_error(client, folder, name):
    news = {
        "lost_chunk": ["stream.data", {"stream": 1, "seq": 1, "chunk": {"n": 1}}],
        "ended": ["stream.data", {"stream": 1, "seq": 1, "chunk": {}}],
        "another": ["stream.data", {"stream": 2, "seq": 0, "chunk": {"n": 1}}],
    }[name]
    data = answer({"stream": 1, "status": 0, "headers": {}})
    data += msgpack.packb([2, news[0], [news[1]]])
    with Raw(folder, data) as server:
        client.open(server.path)
        try:
            error = client.begin("watch").items()["error"]
        except Exception as early:
            error = early.told  # it may be known before the stream is there
        assert error["class"] == 1
        assert error["code"] == ("unknown_stream" if name == "another" else "lost_chunk")


# -- before a byte is sent -----------------------------------------------------------------------


def untrusted(client, path, *, code="untrusted_socket"):
    client.open(path)
    error = client.refused("token")
    assert (error["class"], error["code"]) == (3, code)
    assert error["kinds"] == ["BrokerUnreachable", "CopilotBrokerError"]
    assert "systemctl --user" in error["hint"]


def test_a_folder_open_to_others_is_refused(client, folder):
    folder.chmod(0o755)
    with Raw(folder, b"") as server:
        untrusted(client, server.path)
        assert server.connections == 0


def test_a_folder_that_is_a_link_is_refused(client, folder):
    real = folder / "real"
    real.mkdir(mode=0o700)
    (folder / "link").symlink_to(real)
    with Raw(real, b"") as server:
        untrusted(client, folder / "link" / "broker.sock")
        assert server.connections == 0


def test_what_is_no_socket_is_refused(client, folder):
    (folder / "broker.sock").write_text("")
    untrusted(client, folder / "broker.sock")


def test_a_socket_that_is_a_link_is_refused(client, folder):
    with Raw(folder, b"") as server:
        (folder / "link.sock").symlink_to(server.path)
        untrusted(client, folder / "link.sock")
        assert server.connections == 0


def as_root() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to have something belong to another user")


@pytest.mark.parametrize("whose", ["folder", "socket"])
def test_what_belongs_to_another_user_is_refused(client, folder, whose):
    as_root()
    with Raw(folder, b"") as server:
        os.chown(folder if whose == "folder" else server.path, NOBODY, -1)
        untrusted(client, server.path)
        assert server.connections == 0
        os.chown(folder, 0, -1)


LISTEN = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
os.setgid({uid}), os.setuid({uid})
sock.bind(sys.argv[1]); sock.listen()
print(flush=True)
peer = sock.accept()[0]
print(len(peer.recv(100)), flush=True)
"""


def test_another_users_listener_behind_a_path_of_ours_hears_nothing(client, lacks, folder):
    """Only who asks the kernel for the listener's uid can know; only root can set it up."""
    if "peer_credentials" in lacks:
        return
    as_root()
    os.chown(folder, NOBODY, -1)
    path = folder / "broker.sock"
    program = [sys.executable, "-c", LISTEN.format(uid=NOBODY), path]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline()
        os.chown(folder, 0, -1)
        os.chown(path, 0, -1)
        untrusted(client, path)
        assert child.stdout.readline() == b"0\n"


@pytest.mark.parametrize("what", ["nothing", "nobody"])
def test_where_nobody_listens_the_command_that_starts_it_is_named(client, folder, what):
    path = folder / "broker.sock"
    if what == "nobody":
        socket_left = socket.socket(socket.AF_UNIX)
        socket_left.bind(str(path))
        socket_left.close()
    untrusted(client, path, code="not_running")


def test_a_path_too_long_for_a_socket_is_none(client, folder):
    """Cut to what a socket's address holds it would be another socket."""
    deep = folder / ("d" * (100 - len(str(folder))))
    deep.mkdir(mode=0o700)
    long = deep / "broker.sock"
    cut = str(long)[:107]
    other = socket.socket(socket.AF_UNIX)
    other.bind(cut)
    here = os.open(deep, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as real:
        real.bind(f"/proc/self/fd/{here}/broker.sock")
    os.close(here)
    assert long.is_socket()
    untrusted(client, long, code="not_running")
    other.close()
    shutil.rmtree(deep)


def test_a_full_queue_is_waited_for(client, folder):
    """`EAGAIN` from connect(2) says: not now."""
    path = folder / "broker.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(0)
    waiting = []
    with contextlib.suppress(BlockingIOError):
        while True:
            sock = socket.socket(socket.AF_UNIX)
            waiting.append(sock)
            sock.setblocking(False)
            sock.connect(str(path))
    client.open(path, timeout=0.2)
    error = client.refused("status")
    assert (error["class"], error["code"]) in {(7, "timeout"), (7, "busy")}
    client.open(path, timeout=PATIENCE)
    _, future = client.later("status")
    for sock in waiting:
        sock.close()
    while True:
        peer, _ = listener.accept()
        with peer:
            if peer.recv(1000):
                peer.sendall(answer({"pid": 7}))
                break
    assert future.result(PATIENCE) == {"pid": 7}
    listener.close()
