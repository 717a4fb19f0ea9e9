"""Keys of the HTTP door under the unit: who shows a bad one gets its refusal, and upstream nothing.

By TCP a key is wanted everywhere; on the socket one that is shown still holds.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from system.conftest import start_anew
from system.github import EXCHANGE
from system.http_door import (
    WAYS,
    Asked,
    address_of,
    ask,
    ask_all,
    code_of,
    completions,
    free_port,
    new_key,
    with_tcp,
)
from system.scripted import good
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.github import GitHub
    from system.http_door import Answer, Where
    from system.session import Session


POSTED = [WAYS["chat"], WAYS["messages"], WAYS["responses"], WAYS["messages by chat"]]
PAGES = ("/v1/models", "/metrics")
WRONG = "cpb_" + "A" * 43

STREAM = """
import json, socket, sys, time
where, key, body = json.load(sys.stdin)
if isinstance(where, str):
    client = socket.socket(socket.AF_UNIX)
    client.connect(where)
    host = "localhost"
else:
    client = socket.create_connection(where)
    host = "%s:%d" % tuple(where)
client.settimeout(40)
body = json.dumps(body)
head = ["POST /v1/chat/completions HTTP/1.1", "host: " + host, "content-type: application/json",
        "authorization: Bearer " + key, "content-length: %d" % len(body), "", ""]
client.sendall(("\\r\\n".join(head) + body).encode())
told = client.recv(65536)
print("begun", flush=True)
try:
    while more := client.recv(65536):
        told += more
except ConnectionError:
    pass
print(json.dumps(told.decode()), flush=True)
"""


class Door(NamedTuple):
    """One daemon with both listeners; its keys by what is wrong with them."""

    session: Session
    github: GitHub
    tcp: tuple[str, int]
    keys: dict[str, str]

    def where(self, listener: str) -> Where:
        return self.tcp if listener == "tcp" else self.session.http


@pytest.fixture(scope="module")
def door(plain_session: Session, simulator: GitHub) -> Iterator[Door]:
    simulator.forget()
    start_anew(plain_session, simulator, "file")
    plain_session.systemctl("start", "copilot-broker.socket")
    port = free_port()
    with_tcp(plain_session, port)
    good(plain_session, "login")
    token = simulator.world.mint("gho_", "hubot")
    good(plain_session, "login", "--account", "work", "--with-token", stdin=token)
    keys = {
        "good": new_key(plain_session, "good"),
        "revoked": new_key(plain_session, "revoked"),
        "expired": new_key(plain_session, "short-lived", "--expires", "1s"),
        "model": new_key(plain_session, "model", "--models", "gpt-*", "o4*"),
        "account": new_key(plain_session, "account", "--account", "work"),
        "rate": new_key(plain_session, "rate", "--rpm", "1"),
        "budget": new_key(plain_session, "budget", "--budget", "1"),
        "wrong": WRONG,
        "missing": "",
    }
    good(plain_session, "key", "revoke", "revoked")
    door = Door(plain_session, simulator, address_of(port), keys)
    for name in ("rate", "budget"):  # the one that they are good for
        assert ask(plain_session, WAYS["chat"].asked(**bearer(keys[name]))).status == 200
    eventually(lambda: "expired" in listed(plain_session))  # which is no key's name
    yield door
    simulator.forget()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def listed(session: Session) -> str:
    return good(session, "key", "list")


def told(door: Door, key: str, listener: str, **headers: str) -> list[tuple[str, Answer]]:
    """What each endpoint says to the holder of that key, and that upstream heard of none."""
    door.github.world.requests.clear()
    given = {name.replace("_", "-"): value for name, value in headers.items()} | bearer(key)
    asked = [way.asked(stream=stream, **given) for way in POSTED for stream in (False, True)]
    dialects = [way.dialect for way in POSTED for _ in range(2)]
    asked += [Asked(path, headers=given) for path in PAGES]
    answers = ask_all(door.session, asked, door.where(listener))
    assert [each.path for each in list(door.github.world.requests)] == []
    assert door.github.asked(EXCHANGE) == 0
    return list(zip([*dialects, *PAGES], answers, strict=True))


@pytest.mark.parametrize("listener", ["tcp", "socket"])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("expired", "key_expired"),
        ("revoked", "key_revoked"),
        ("wrong", "key_unknown"),
    ],
)
def test_a_key_that_does_not_hold_is_a_401_everywhere(
    door: Door, listener: str, name: str, code: str
) -> None:
    for dialect, answer in told(door, door.keys[name], listener):
        assert answer.status == 401, (dialect, answer)
        assert code_of(answer, dialect) == code
        assert answer.headers["www-authenticate"] == "Bearer"
        if dialect == "messages":
            assert answer.json["error"]["type"] == "authentication_error"


def test_by_tcp_nobody_gets_anything_without_a_key_and_anthropic_s_header_is_as_good(
    door: Door,
) -> None:
    for dialect, answer in told(door, "", "tcp"):
        assert answer.status == 401, (dialect, answer)
        assert code_of(answer, dialect) == "key_missing"
    for dialect, answer in told(door, "", "tcp", x_api_key=WRONG):
        assert (answer.status, code_of(answer, dialect)) == (401, "key_unknown")
    chat = WAYS["chat"]
    asked = [
        chat.asked(**{"x-api-key": door.keys["good"]}),
        chat.asked(**bearer(door.keys["good"])),
        Asked("/v1/models", headers=bearer(door.keys["good"])),
        Asked("/metrics", headers=bearer(door.keys["good"])),
    ]
    assert [each.status for each in ask_all(door.session, asked, door.tcp)] == [200] * 4


@pytest.mark.parametrize("listener", ["tcp", "socket"])
def test_a_key_for_other_models_or_another_account_is_a_403(door: Door, listener: str) -> None:
    *refused, (_, models), (_, metrics) = told(door, door.keys["model"], listener)
    for dialect, answer in refused:
        assert (answer.status, code_of(answer, dialect)) == (403, "model_not_granted"), answer
    assert (models.status, models.json["data"]) == (200, []), "none of them is its"
    assert metrics.status == 200
    headers = {"x_copilot_broker_account": "default"}
    *refused, (_, metrics) = told(door, door.keys["account"], listener, **headers)
    for dialect, answer in refused:  # the list of models too
        assert (answer.status, code_of(answer, dialect)) == (403, "account_not_granted"), answer
    assert metrics.status == 200
    assert 'account="work"' in metrics.body
    assert 'account="default"' not in metrics.body
    asked = WAYS["chat"].asked(**bearer(door.keys["account"]))
    answer = ask(door.session, asked, door.where(listener))
    assert (answer.status, answer.headers["x-copilot-broker-account"]) == (200, "work")


@pytest.mark.parametrize("listener", ["tcp", "socket"])
@pytest.mark.parametrize(("name", "code"), [("rate", "request_rate"), ("budget", "key_budget")])
def test_a_key_that_is_used_up_is_a_429_that_says_until_when(
    door: Door, listener: str, name: str, code: str
) -> None:
    *refused, (_, models), (_, metrics) = told(door, door.keys[name], listener)
    assert (models.status, metrics.status) == (200, 200), "what costs nothing is not counted"
    for dialect, answer in refused:
        assert (answer.status, code_of(answer, dialect)) == (429, code), (dialect, answer)
        assert int(answer.headers["retry-after"]) <= (60 if name == "rate" else 86_400)
        if dialect == "messages":
            assert answer.json["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("listener", ["tcp", "socket"])
def test_a_stream_is_cut_when_its_key_is_revoked(door: Door, listener: str) -> None:
    session, github = door.session, door.github
    github.world.requests.clear()
    github.world.settings.change({"chat_chunks": 2000, "chat_interval": 0.05})
    try:
        name = f"cut-{listener}"
        body = WAYS["chat"].asked(stream=True).body
        stdin = json.dumps([door.where(listener), new_key(session, name), body])
        streaming = session.spawn_with(stdin, "/usr/bin/python3", "-c", STREAM)
        assert streaming.stdout is not None
        assert streaming.stdout.readline() == "begun\n"
        (request,) = completions(github)
        good(session, "key", "revoke", name)
        out, err = streaming.communicate(timeout=30)
        answer = json.loads(out)
        assert answer.startswith("HTTP/1.1 200"), err
        assert "[DONE]" not in answer
        assert not answer.endswith("0\r\n\r\n"), "cut, and not ended"
        eventually(lambda: request.cancelled)
    finally:
        github.world.settings.change({"chat_chunks": None, "chat_interval": 0})


def spent(session: Session) -> dict[str, int]:
    keys = json.loads(good(session, "key", "list", "--json"))["keys"]
    return {each["name"]: each["spent_today"] for each in keys}


def test_keys_survive_a_restart_and_a_kill(door: Door) -> None:
    """The last test of this module: what it leaves is as it was."""
    session = door.session
    before, counts = listed(session), spent(session)
    assert counts["good"] > 0
    session.systemctl("restart", SERVICE)
    assert listed(session) == before
    assert spent(session) == counts, "a stop writes what was spent"
    chat = WAYS["chat"].asked(**bearer(door.keys["good"]))
    assert ask(session, chat, door.tcp).status == 200
    late = new_key(session, "late")
    pid = session.main_pid()
    session.good("kill", "-KILL", pid)
    eventually(lambda: session.main_pid() not in ("0", pid))
    assert set(spent(session)) == {*counts, "late"}, "a key that was told is kept"
    for name, tokens in spent(session).items():
        assert tokens >= counts.get(name, 0), "none but recent counts are lost"
    assert ask(session, WAYS["chat"].asked(**bearer(late)), door.tcp).status == 200
    revoked = ask(session, WAYS["chat"].asked(**bearer(door.keys["revoked"])), door.tcp)
    assert (revoked.status, code_of(revoked, "chat/completions")) == (401, "key_revoked")
    used_up = ask(session, WAYS["chat"].asked(**bearer(door.keys["budget"])), door.tcp)
    assert (used_up.status, code_of(used_up, "chat/completions")) == (429, "key_budget")


def test_no_key_is_kept_or_told(door: Door) -> None:
    session = door.session
    kept = session.good("sh", "-c", "cat .local/state/copilot-broker/keys.json")
    mode = session.good("stat", "--format=%a", ".local/state/copilot-broker/keys.json")
    assert mode.strip() == "600"
    told = kept + json.dumps(session.journal()) + listed(session)
    for name, key in door.keys.items():
        assert not key or key not in told, name
    assert not re.search(r"cpb_[\w-]{43}", told)
