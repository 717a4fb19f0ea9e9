"""Where the HTTP door stands: the socket's file, TCP only where it is wanted, and for this user."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from brokerd.core import audit
from system.github import EXCHANGE
from system.http_door import (
    WAYS,
    Asked,
    address_of,
    ask,
    completions,
    free_port,
    new_key,
    with_tcp,
)
from system.neighbour import SECOND_UID, as_second, within_reach
from system.scripted import good, reloaded, with_more
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterable

    from system.github import GitHub
    from system.session import Session


RESTART = "systemctl --user restart copilot-broker"
BARE = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

# Prints "ADDRESS:PORT" of each TCP socket of a process that listens, in the kernel's spelling.
LISTENING = """
import glob, os, sys
mine = set()
for name in glob.glob(f"/proc/{sys.argv[1]}/fd/*"):
    try:
        mine.add(os.readlink(name))
    except OSError:
        pass
for table in ("tcp", "tcp6"):
    for line in list(open(f"/proc/{sys.argv[1]}/net/{table}"))[1:]:
        words = line.split()
        if words[3] == "0A" and f"socket:[{words[9]}]" in mine:  # TCP_LISTEN
            print(words[1])
"""

# Prints in hex all bytes that come back for one request, or the name of the error.
KNOCK = """
import json, socket, sys
where, sent = json.load(sys.stdin)
try:
    if isinstance(where, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(where)
    else:
        sock = socket.create_connection(where)
    sock.settimeout(20)
    told = b""
    try:
        sock.sendall(sent.encode())
        while more := sock.recv(65536):
            told += more
    except (BrokenPipeError, ConnectionResetError):
        pass
    print(told.hex())
except PermissionError as error:
    print(type(error).__name__)
"""


def listening(session: Session) -> list[str]:
    """Return where the daemon listens by TCP."""
    told = session.good("/usr/bin/python3", "-c", LISTENING, session.main_pid(), root=True)
    return told.split()


def spelled(port: int) -> str:
    """Give a port of 127.0.0.1 as /proc/net/tcp has it."""
    return f"0100007F:{port:04X}"


def check(session: Session, name: str) -> dict[str, Any]:
    """Return what doctor says of one thing."""
    checks = json.loads(session.cred("doctor", "--json").stdout)["checks"]
    (found,) = [each for each in checks if each["name"] == name]
    return dict(found)


# -- the socket ----------------------------------------------------------------------------------


def test_the_first_request_starts_the_service(session: Session) -> None:
    session.systemctl("start", "copilot-broker.socket")
    assert session.show("ActiveState") == "inactive"
    modes = session.good(
        "stat", "--format=%a %U", session.http, f"{session.runtime}/copilot-broker"
    )
    assert modes.splitlines() == ["600 cb-test", "700 cb-test"]
    answer = ask(session, Asked("/healthz"))
    assert answer.status in (200, 503), answer
    assert session.show("ActiveState") == "active"
    refused = ask(session, WAYS["chat"].asked())
    assert refused.json["error"]["code"] == "login_required"
    assert ask(session, Asked("/healthz", headers={"host": "evil.example"})).status == 403


def test_the_socket_outlives_the_service(signed_in: Session) -> None:
    session = signed_in
    inode = session.good("stat", "--format=%i", session.http)
    for verb in ("restart", "stop"):
        session.systemctl(verb, SERVICE)
        assert session.good("stat", "--format=%i %a", session.http).split() == [
            inode.strip(),
            "600",
        ]
    assert ask(session, WAYS["chat"].asked()).status == 200, "it was started by this"
    assert session.show("ActiveState") == "active"


# -- TCP -----------------------------------------------------------------------------------------


def test_by_tcp_nothing_is_served_unless_it_is_wanted(signed_in: Session) -> None:
    session = signed_in
    assert ask(session, WAYS["chat"].asked()).status == 200
    assert listening(session) == []
    assert session.status()["http"]["tcp"] is None
    assert check(session, "http")["verdict"] == "ok"
    assert "not by TCP" in check(session, "http")["told"]


def test_by_tcp_it_is_served_where_the_configuration_says(signed_in: Session) -> None:
    session, port = signed_in, free_port()
    with_more(session, f'[http]\ntcp = "127.0.0.1:{port}"\n')
    assert "restart required" in reloaded(session) or "restart required" in str(
        session.status()["config_problem"]
    )
    assert RESTART in session.show("StatusText")
    assert RESTART in check(session, "configuration")["mend"]
    assert listening(session) == []
    session.systemctl("restart", SERVICE)
    eventually(lambda: listening(session) == [spelled(port)])
    status = session.status()
    assert (status["http"]["tcp"], status["config_problem"]) == (f"127.0.0.1:{port}", None)
    assert f"127.0.0.1:{port}" in good(session, "status")
    assert f"127.0.0.1:{port}" in check(session, "http")["told"]
    key = new_key(session, "editor")
    for name in ("chat", "messages", "responses"):
        for header in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
            asked = WAYS[name].asked(stream=True, **header)
            answer = ask(session, asked, address_of(port))
            assert answer.status == 200, answer
            assert WAYS[name].end in answer.body


def test_a_port_that_is_taken_stops_nothing_else(signed_in: Session, github: GitHub) -> None:
    session = signed_in
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with_tcp(session, port)
        assert session.show("ActiveState") == "active"
        assert listening(session) == []
        assert ask(session, WAYS["chat"].asked()).status == 200
        text = " ".join(good(session, "status").split())
        assert f"port {port} is taken" in text
        assert RESTART in text
        assert f"port {port} is taken" in session.show("StatusText")
        found = check(session, "http")
        assert found["verdict"] == "error"
        assert f"port {port} is taken" in found["told"]
        assert found["mend"].endswith(RESTART)
    session.systemctl("restart", SERVICE)
    assert listening(session) == [spelled(port)]
    assert check(session, "http")["verdict"] == "ok"


def test_by_tcp_another_user_gets_a_bare_403_whatever_the_key(
    signed_in: Session, github: GitHub
) -> None:
    session, port = signed_in, free_port()
    with_tcp(session, port)
    key = new_key(session, "stolen")
    body = json.dumps(WAYS["chat"].asked().body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
    head += f"content-type: application/json\r\nauthorization: Bearer {key}\r\n"
    head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    knock = ("/usr/bin/python3", "-c", KNOCK)
    stdin = json.dumps([("127.0.0.1", port), head + body])
    assert bytes.fromhex(session.good(*knock, stdin=stdin)).startswith(b"HTTP/1.1 200")
    github.world.requests.clear()
    for command in (as_second(*knock), knock):  # root is another user as well
        told = session.good(*command, stdin=stdin, root=True)
        assert bytes.fromhex(told) == BARE
    records = eventually(lambda: denied(session, (SECOND_UID, 0)))
    assert all(record["REASON"] for record in records)
    assert completions(github) == []
    assert github.asked(EXCHANGE) == 0


def test_another_user_cannot_open_the_socket_and_gets_no_byte_of_it(
    signed_in: Session, github: GitHub
) -> None:
    session = signed_in
    head = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    stdin = json.dumps([session.http, head])
    knock = ("/usr/bin/python3", "-c", KNOCK)
    told = session.good(*as_second(*knock), stdin=stdin, root=True)
    assert told.strip() == "PermissionError"
    with within_reach(session):
        session.good("chmod", "666", session.http, root=True)
        try:
            told = session.good(*as_second(*knock), stdin=stdin, root=True)
        finally:
            session.good("chmod", "600", session.http, root=True)
    assert told.strip() == "", "closed before a byte"
    eventually(lambda: denied(session, (SECOND_UID,)))


def denied(session: Session, uids: Iterable[int]) -> list[dict[str, Any]]:
    """Return the records of this daemon's about these users, if there are some of each."""
    pid = session.main_pid()
    found = session.journal(f"MESSAGE_ID={audit.PEER_DENIED.message_id}", f"_PID={pid}")
    seen = {record["PEER_UID"] for record in found}
    return found if seen == {str(uid) for uid in uids} else []
