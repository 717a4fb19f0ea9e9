"""Who the daemon takes a program for, and whom a program takes for the daemon.

With real units, a real second uid and real files of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from brokerd.core import audit
from system.neighbour import SECOND_UID, as_second, within_reach
from system.scripted import JSON_ERRORS, error_of
from system.session import SERVICE, SOCKETS, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.session import Session


UNREACHED = 3
"""Exit code: no broker that can be trusted (DESIGN §7)."""
HELLO = b"\x94\x00\x01\xacbroker.hello\x91\x80"
GET = b"\x94\x00\x02\xa9token.get\x91\x80"


def records(session: Session, event: audit.AuditEvent, **wanted: str) -> list[dict[str, Any]]:
    """What the journal has of that kind, with these fields, from this test's daemon."""
    found = session.journal(f"MESSAGE_ID={event.message_id}", f"_PID={session.main_pid()}")
    return [each for each in found if all(each.get(name) == wanted[name] for name in wanted)]


def one(session: Session, event: audit.AuditEvent, **wanted: str) -> dict[str, Any]:
    """Wait for the one record; the journal is written beside the answer."""
    (found,) = eventually(lambda: records(session, event, **wanted))
    return dict(found)


# Who asks.

SERVICE_OF_ITS_OWN = ("systemd-run", "--user", "--wait", "--collect", "--pipe", "--quiet")
UNITS = {
    "a service": (("--unit=editor-x",), (), "editor-x.service", "none"),
    # a scope takes its first process from where it is, which the manager may do only in its own
    "a scope as Flatpak's": (
        (),
        (
            "systemd-run",
            "--user",
            "--scope",
            "--quiet",
            "--unit=app-flatpak-org.example.Edit-4242",
        ),
        "app-flatpak-org.example.Edit-4242.scope",
        "flatpak",
    ),
    "a scope as snapd's": (
        (),
        ("systemd-run", "--user", "--scope", "--quiet", "--unit=snap.editor.editor-0d1e2f"),
        "snap.editor.editor-0d1e2f.scope",
        "snap",
    ),
}


@pytest.mark.parametrize(("options", "inside", "unit", "sandbox"), UNITS.values(), ids=UNITS)
def test_the_journal_names_unit_and_sandbox(
    signed_in: Session,
    options: tuple[str, ...],
    inside: tuple[str, ...],
    unit: str,
    sandbox: str,
) -> None:
    get = f"{signed_in.home}/.local/bin/copilot-cred"
    token = signed_in.good(*SERVICE_OF_ITS_OWN, *options, "--", *inside, get, "get")
    assert token.strip()
    record = one(signed_in, audit.TOKEN_GRANTED, PEER_UNIT=unit)
    assert record["PEER_SANDBOX"] == sandbox
    assert record["PEER_UID"] == str(signed_in.uid)
    assert record["PEER_COMM"] == "copilot-cred"
    assert record["PEER_WEAK"] == str(int(not kernel_is((6, 5))))
    # its path is not for us to read once Landlock is on; never somebody else's
    assert record.get("PEER_EXE", "") == "" or "python" in record["PEER_EXE"]


def kernel_is(version: tuple[int, int]) -> bool:
    major, minor, *_ = os.uname().release.split("-")[0].split(".")
    return (int(major), int(minor)) >= version


HIDDEN = """
import ctypes, socket, sys
with open("/proc/self/comm", "w") as comm:
    comm.write("hidden")
assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE: its /proc folder is root's
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(20)
    s.connect(sys.argv[1])
    s.sendall(bytes.fromhex(sys.argv[2]))
    print("answer" if s.recv(65536) else "closed")
"""


def test_a_program_that_hides_from_its_user_is_named_all_the_same(signed_in: Session) -> None:
    """Its program cannot be read, which is no reason to take it for more or for less."""
    hidden = ("/usr/bin/python3", "-c", HIDDEN, signed_in.rpc, GET.hex())
    told = signed_in.good(*SERVICE_OF_ITS_OWN, "--unit=hidden-x", "--", *hidden)
    assert told.strip() == "answer"
    record = one(signed_in, audit.TOKEN_GRANTED, PEER_UNIT="hidden-x.service")
    assert (record["PEER_SANDBOX"], record["PEER_COMM"]) == ("none", "hidden")
    assert record.get("PEER_EXE", "") == ""


# The process that connects ends; the one it leaves behind has its socket, and asks on it.
LEFT_BEHIND = """
import os, select, socket, sys
hello, get = (bytes.fromhex(word) for word in sys.argv[2:4])
s = socket.socket(socket.AF_UNIX); s.settimeout(20)
s.connect(sys.argv[1])
s.sendall(hello)
assert s.recv(65536), "the control: it is answered while it lives"
ended = select.poll()
ended.register(os.pidfd_open(os.getpid()), select.POLLIN)
if os.fork() == 0:
    assert ended.poll(20_000)
    try:
        s.sendall(get)
        data = s.recv(65536)
    except (BrokenPipeError, ConnectionResetError):
        data = b""
    print("closed" if not data else "answered: %r" % data)
"""


def test_a_connection_dies_with_its_process(signed_in: Session) -> None:
    told = signed_in.script(LEFT_BEHIND, signed_in.rpc, HELLO.hex(), GET.hex())
    assert told.strip() == "closed"
    assert signed_in.cred("get").returncode == 0  # nobody else's connection did


# Sends a descriptor along with a request, and reads until the other end closes.
SEND_DESCRIPTOR = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(20)
s.connect(sys.argv[1])
data = b""
try:
    socket.send_fds(s, [bytes.fromhex(sys.argv[2])], [0])
    while more := s.recv(65536):
        data += more
except PermissionError:
    data = b"refused by the kernel"
except (BrokenPipeError, ConnectionResetError):
    pass
print(data.decode("latin-1"))
"""
HTTP_GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
DOORS = {"rpc": GET, "http": HTTP_GET}


def open_files(session: Session) -> int:
    return len(session.good("ls", f"/proc/{session.main_pid()}/fd", root=True).split())


@pytest.mark.parametrize("door", DOORS)
def test_no_descriptors_come_in(signed_in: Session, door: str) -> None:
    before = open_files(signed_in)
    told = signed_in.script(SEND_DESCRIPTOR, getattr(signed_in, door), DOORS[door].hex())
    assert told.strip() == ("refused by the kernel" if kernel_is((6, 16)) else "")
    assert eventually(lambda: open_files(signed_in) == before)


@pytest.mark.parametrize("door", DOORS)
def test_no_descriptors_come_in_with_the_connection_that_starts_the_daemon(
    signed_in: Session, door: str
) -> None:
    """It is in the queue before the daemon can forbid anything: then it is closed unanswered."""
    before = open_files(signed_in)
    signed_in.systemctl("stop", SERVICE, *SOCKETS)
    signed_in.systemctl("start", SOCKETS[0])  # what it forbids lasts as long as its sockets
    told = signed_in.script(SEND_DESCRIPTOR, getattr(signed_in, door), DOORS[door].hex())
    assert told.strip() == ""
    assert signed_in.cred("get").returncode == 0
    assert eventually(lambda: open_files(signed_in) == before)


KNOCK = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(20)
s.connect(sys.argv[1])
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
    print("answer" if s.recv(65536) else "closed")
except (BrokenPipeError, ConnectionResetError):
    print("closed")
"""


def test_a_second_user_is_named_and_refused(signed_in: Session) -> None:
    knock = ("/usr/bin/python3", "-c", KNOCK, signed_in.rpc, HELLO.hex())
    with within_reach(signed_in):
        told = signed_in.good(*as_second(*knock), root=True)
        root_told = signed_in.good(*knock, root=True)
    assert (told.strip(), root_told.strip()) == ("closed", "closed")
    for uid in (SECOND_UID, 0):
        record = one(signed_in, audit.PEER_DENIED, PEER_UID=str(uid))
        assert record["REASON"]
        assert record["PEER_SANDBOX"] == "none"  # its cgroup is for everybody to read
    assert not records(signed_in, audit.TOKEN_GRANTED, PEER_UID=str(SECOND_UID))


# Who answers. The decoy is a real listener, of the wrong user in one way or another, that tells
# what it was sent: nothing, until root says the end.

DECOY = """
import json, os, socket, sys
path, owner, listener = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_UNIX); s.settimeout(60)
s.bind(path)
os.chown(path, owner, owner)
os.chmod(path, 0o666)
os.setgroups([]); os.setgid(listener); os.setuid(listener)
s.listen()
print("ready", flush=True)
heard = []
while heard[-1:] != ["the end"]:
    peer, _ = s.accept()
    with peer:
        heard.append(peer.recv(65536).decode("latin-1"))
print(json.dumps(heard[:-1]))
"""

THE_END = """
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(b"the end")
"""

TOKEN_BY_LIBRARY = """
import json, sys
from copilot_broker import Client, CopilotBrokerError
try:
    with Client(sys.argv[1]) as client:
        client.token()
except CopilotBrokerError as error:
    print(json.dumps([type(error).__name__, error.code, error.message]))
"""


class Place:
    """Where a socket should be, and two clients that look for it there: library and command."""

    def __init__(self, session: Session, installed: Path) -> None:
        self.session = session
        self.python = str(installed / "bin/python")
        self.folder = f"{session.home}/decoy"
        self.path = f"{self.folder}/broker.sock"

    def ask(self, path: str) -> tuple[tuple[str, str, str], subprocess.CompletedProcess[str]]:
        """Return ((exception, code, message), what the command came to)."""
        told = json.loads(self.session.good(self.python, "-c", TOKEN_BY_LIBRARY, path))
        cred = f"{self.session.home}/.local/bin/copilot-cred"
        environ = ("env", f"COPILOT_BROKER_SOCKET={path}")
        return tuple(told), self.session.run(*environ, cred, *JSON_ERRORS, "get")

    def refusal(self, path: str = "") -> str:
        """Ask; both must refuse alike. Returns what they say."""
        (exception, code, message), done = self.ask(path or self.path)
        assert (exception, code) == ("BrokerUnreachable", "untrusted_socket")
        assert (done.returncode, done.stdout) == (UNREACHED, "")
        error = error_of(done)
        assert (error["code"], error["message"]) == (code, message)
        return message

    @contextlib.contextmanager
    def decoy(self, *, owner: int, listener: int) -> Iterator[list[str]]:
        """A real listener at the path; afterwards the list holds what it was sent."""
        program = ("/usr/bin/python3", "-c", DECOY, self.path, str(owner), str(listener))
        heard: list[str] = []
        with subprocess.Popen(
            self.session.argv(*program, root=True),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield heard
                end = ("/usr/bin/python3", "-c", THE_END, self.path)
                self.session.good(*end, root=True)
                heard += json.loads(process.communicate(timeout=60)[0])
            finally:
                process.kill()


@pytest.fixture
def place(session: Session, installed: Path) -> Iterator[Place]:
    """A folder like the real one: the user's own, 0700."""
    found = Place(session, installed)
    session.good("mkdir", "-m", "700", found.folder)
    yield found
    session.good("rm", "-rf", found.folder, root=True)


def test_a_socket_of_another_user_is_refused(place: Place) -> None:
    with place.decoy(owner=SECOND_UID, listener=SECOND_UID) as heard:
        assert place.refusal() == f"{place.path} belongs to uid {SECOND_UID}"
    assert heard == []  # nobody even connected


def test_a_folder_of_another_user_is_refused(place: Place) -> None:
    place.session.good("chown", str(SECOND_UID), place.folder, root=True)
    place.session.good("chmod", "755", place.folder, root=True)
    with place.decoy(owner=place.session.uid, listener=SECOND_UID) as heard:
        assert place.refusal() == f"{place.folder} belongs to uid {SECOND_UID}"
    assert heard == []


def test_a_listener_of_another_user_is_sent_nothing(place: Place) -> None:
    """All that can be seen of the path is right; the kernel still knows who listens."""
    with place.decoy(owner=place.session.uid, listener=SECOND_UID) as heard:
        assert place.refusal() == f"the listener belongs to uid {SECOND_UID}"
    assert heard == ["", ""]


def test_the_decoy_hears_what_it_is_sent(place: Place) -> None:
    """The control: with nothing wrong about it, it is asked for a token."""
    with place.decoy(owner=place.session.uid, listener=place.session.uid) as heard:
        (_, code, _), done = place.ask(place.path)
        assert code != "untrusted_socket"
        assert done.returncode != 0
    assert any("token.get" in words for words in heard)


def test_a_file_is_no_socket(place: Place) -> None:
    place.session.good("touch", place.path)
    assert place.refusal() == f"{place.path} is not a socket"


def test_a_symbolic_link_is_no_folder(place: Place) -> None:
    link = f"{place.session.home}/link"
    place.session.good("ln", "-s", place.folder, link)
    try:
        with place.decoy(owner=place.session.uid, listener=place.session.uid) as heard:
            told = place.refusal(f"{link}/broker.sock")
            assert told == f"{link} is not a folder but a link or file"
        assert heard == []
    finally:
        place.session.good("rm", link)
