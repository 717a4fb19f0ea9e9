"""The ledger under the unit: to the token what upstream has counted, whoever is killed meanwhile.

Ten thousand requests of all kinds in rounds. Between two rounds nothing but requests that upstream
holds is under way, and then the daemon is killed, or their client: so it is certain which of them
nobody can have counted. One round more is killed in the middle of it all; there it is certain for
all but those whose answers were on their way in that moment.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from system.conftest import START_ANEW, configuration
from system.http_door import address_of, completions, free_port, new_key
from system.scripted import CONFIG, JSON_ERRORS, good
from system.session import SERVICE, SOCKETS, eventually


if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from brokerd.simulator.records import RecordedRequest
    from system.github import GitHub
    from system.session import Session


ROUNDS = 5
EACH = 400
"""Requests of each of the five clients in a round."""
HELD = 12
"""Requests of each client that upstream holds when somebody is killed."""

BY_HTTP = r'''
"""Raw HTTP/1.1 on kept connections; tells whom it has seen to their end, and ends where all do."""
import asyncio, json, socket, sys

where, headers, many, asked = json.load(sys.stdin)
waiting, whole = list(reversed(asked)), []

async def connected():
    if not isinstance(where, str):
        return await asyncio.open_connection(*where)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(where)
    return await asyncio.open_unix_connection(sock=sock)

async def ask(reader, writer, name, path, body, more):
    body = json.dumps(body).encode()
    lines = ["POST %s HTTP/1.1" % path, "content-type: application/json", "x-request-id: " + name]
    lines += ["host: " + ("localhost" if isinstance(where, str) else "%s:%d" % tuple(where))]
    lines += ["%s: %s" % each for each in {**headers, **more}.items()]
    lines += ["content-length: %d" % len(body), "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "content-length:" in head:
        size = int(head.split("content-length:")[1].split("\r\n")[0])
        await reader.readexactly(size)
        return
    assert "transfer-encoding: chunked" in head, head
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)

async def work():
    try:
        reader, writer = await connected()
        while waiting:
            request = waiting.pop()
            await ask(reader, writer, *request)
            whole.append(request[0])
        writer.close()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass

async def main():
    await asyncio.gather(*(work() for _ in range(many)))
    print(json.dumps(whole))

asyncio.run(main())
'''

BY_RPC = r'''
"""Completions of the RPC door, whole and streamed."""
import asyncio, json, sys
from copilot_broker import AsyncClient, CopilotBrokerError

_, _, many, asked = json.load(sys.stdin)
waiting, whole = list(reversed(asked)), []

async def work(client):
    try:
        while waiting:
            name, path, body, more = waiting.pop()
            headers = {"x-request-id": name, **more}
            if body.get("stream"):
                async with await client.stream(body, path=path, headers=headers) as stream:
                    async for _ in stream:
                        pass
            else:
                await client.complete(body, path=path, headers=headers)
            whole.append(name)
    except (CopilotBrokerError, ConnectionError, OSError):
        pass

async def main():
    async with AsyncClient() as client:
        await asyncio.gather(*(work(client) for _ in range(many)))
    print(json.dumps(whole))

asyncio.run(main())
'''


class Door(NamedTuple):
    session: Session
    github: GitHub
    port: int
    keys: dict[str, str]
    python: str
    """With the package in it."""


class Client(NamedTuple):
    """Who asks; `name` begins each of its requests' ids."""

    name: str
    line: tuple[str, str]
    """Kind and client, as the ledger calls it."""
    key: str = ""
    unit: str = ""
    is_rpc: bool = False


CLIENTS = (
    Client("editor", ("unit", "usage-editor.service"), unit="usage-editor"),
    Client("agent", ("unit", "usage-agent.service"), unit="usage-agent", is_rpc=True),
    Client("plain", ("process", "python3")),
    Client("home", ("key", "home"), key="home"),
    Client("work", ("key", "work"), key="work"),
)
WILD = Client("wild", ("key", "wild"), key="wild")


@pytest.fixture
def door(plain_session: Session, github: GitHub, installed: Path) -> Iterator[Door]:
    """Two accounts, and three keys."""
    session, port = plain_session, free_port()
    settings = configuration(github, "file").replace('level = "debug"', 'level = "info"')
    settings = settings.replace("[urls]\n", f'[urls]\ncompletions = "{github.url}"\n')
    settings += f'[http]\ntcp = "127.0.0.1:{port}"\n'
    session.good("bash", "-c", START_ANEW, "_", SERVICE, *SOCKETS, stdin=settings)
    session.systemctl("start", "copilot-broker.socket")
    good(session, "login")
    token = github.world.mint("gho_", "hubot")
    good(session, "login", "--account", "work", "--with-token", stdin=token)
    options = {"home": (), "work": ("--account", "work"), "wild": ()}
    keys = {name: new_key(session, name, *more) for name, more in options.items()}
    yield Door(session, github, port, keys, f"{installed}/bin/python")
    github.forget()


def a_request(client: Client, kind: int, name: str, *, stream: bool) -> list[Any]:
    """One of each kind; the prompt's length makes the tokens different."""
    prompt = "sesame " * (1 + kind % 9) + name
    messages = [{"role": "user", "content": prompt}]
    v1 = "" if client.is_rpc else "/v1"
    more: dict[str, str] = {}
    if kind % 11 == 0:
        more = {"x-initiator": "agent"}
    chat = {"model": "sim-chat", "messages": messages, "stream": stream}
    match kind % 7:
        case 0:
            return [name, f"{v1}/embeddings", {"model": "sim-embedding", "input": prompt}, {}]
        case 1 if client.is_rpc:
            path = "/v1/engines/sim-completion/completions"
            return [name, path, {"prompt": prompt, "stream": True}, {}]
        case 1:
            body = {"model": "sim-completion", "prompt": prompt, "stream": stream}
            return [name, f"{v1}/completions", body, {}]
        case 2:
            body = {
                "model": "sim-claude",
                "messages": messages,
                "max_tokens": 99,
                "stream": stream,
            }
            return [name, "/v1/messages", body, more]
        case 3:
            body = {"model": "sim-responses", "input": prompt, "stream": stream}
            return [name, f"{v1}/responses", body, more]
        case 4 if kind % 5 == 0:  # refused
            return [name, f"{v1}/chat/completions", {**chat, "messages": []}, more]
        case 5:
            messages.append({"role": "assistant", "content": "one"})
            messages.append({"role": "tool", "tool_call_id": "a", "content": prompt})
    return [name, f"{v1}/chat/completions", chat, more]


def asked_by(client: Client, label: str, count: int) -> list[list[Any]]:
    return [
        a_request(client, number, f"{client.name}.{label}.{number}", stream=number % 3 == 0)
        for number in range(count)
    ]


def running(door: Door, client: Client, asked: list[list[Any]], many: int = 4) -> Any:
    """Have a client ask all that; `many` at a time."""
    where: object = door.session.http
    headers = {}
    if client.key:
        where = address_of(door.port)
        headers = {"authorization": f"Bearer {door.keys[client.key]}"}
    script = BY_RPC if client.is_rpc else BY_HTTP
    python = door.python if client.is_rpc else "/usr/bin/python3"
    argv = [python, "-c", script]
    if client.unit:
        unit = f"--unit={client.unit}"
        argv = ["systemd-run", "--user", "--pipe", "--wait", "--collect", "--quiet", unit, *argv]
    return door.session.spawn_with(json.dumps([where, headers, many, asked]), *argv)


def seen(client: subprocess.Popen[str]) -> set[str]:
    """Wait for its end; the requests that it has seen to theirs."""
    out, err = client.communicate(timeout=120)
    assert client.returncode == 0, err
    return set(json.loads(out))


def requests(github: GitHub, client: Client, label: str = "") -> list[RecordedRequest]:
    begins = f"{client.name}.{label}"
    return [
        each
        for each in list(github.world.requests)
        if str(each.headers.get("x-request-id", "")).startswith(begins)
    ]


def kill_daemon(session: Session) -> None:
    pid = session.main_pid()
    session.good("kill", "-KILL", pid)
    eventually(lambda: session.main_pid() not in ("0", pid))
    eventually(lambda: session.show("ActiveState") == "active")


def held(door: Door, label: str, *, in_stream: bool) -> list[Any]:
    """Requests that upstream has got and does not end; before the head, or in the middle."""
    github = door.github
    if in_stream:
        github.world.settings.change({"chat_chunks": 400, "chat_interval": 0.15})
    else:
        github.world.settings.change({"chat_head_delay": 60})
    started = []
    for client in CLIENTS:
        asked = [
            a_request(client, 6, f"{client.name}.{label}.{number}", stream=True)
            for number in range(HELD)
        ]
        started.append(running(door, client, asked, many=HELD))

    def arrived() -> bool:
        found = [each for client in CLIENTS for each in requests(github, client, label)]
        return len(found) == HELD * len(CLIENTS) and all(
            each.sent > 2_000 if in_stream else True for each in found
        )

    eventually(arrived)
    return started


def let_go(door: Door, label: str) -> None:
    """Wait until upstream knows that nobody wants these any more, and hold no more."""
    github = door.github
    eventually(
        lambda: all(
            each.cancelled for client in CLIENTS for each in requests(github, client, label)
        )
    )
    github.world.settings.change({"chat_head_delay": 0, "chat_chunks": None, "chat_interval": 0})


def rows(session: Session, *by: str) -> dict[tuple[str, ...], dict[str, Any]]:
    options = [option for each in by for option in ("--by", each)]
    answer = json.loads(good(session, "usage", "--since", "2d", "--json", *options))
    columns = {"client": ("kind", "client"), "account": ("account",), "model": ("model",)}
    return {
        tuple(row[name] for each in by for name in columns[each]): row for row in answer["rows"]
    }


def summed(found: list[RecordedRequest]) -> Counter[str]:
    """What upstream has counted of requests that it has got."""
    told: Counter[str] = Counter(requests=0, errors=0, untold=0, user_turns=0, agent_turns=0)
    for each in found:
        initiator = each.headers.get("x-initiator")
        told["requests"] += 1
        told["errors"] += each.status >= 400
        told["untold"] += each.usage is None and each.status < 400
        told["user_turns"] += initiator == "user"
        told["agent_turns"] += initiator == "agent"
        told.update(each.usage or {})
    told["completion_tokens"] += 0
    del told["total_tokens"]
    return told


def shown(row: dict[str, Any], names: Counter[str]) -> dict[str, int]:
    return {name: row[name] for name in names}


@pytest.mark.timeout(240)
def test_totals_are_upstreams_to_the_token_whoever_is_killed(door: Door) -> None:
    session, github = door.session, door.github
    for number in range(ROUNDS):
        label = f"all{number}"
        clients = {
            client.name: running(door, client, asked_by(client, label, EACH)) for client in CLIENTS
        }
        rows(session, "client")  # in the middle of it
        for client in CLIENTS:
            whole = seen(clients[client.name])
            assert len(whole) == EACH, (client.name, len(whole))
        if number == ROUNDS - 1:
            break
        is_daemons = number % 2 == 0
        label = f"lost{number}" if is_daemons else f"left{number}"
        waiting = held(door, label, in_stream=number in (1, 2))
        if is_daemons:
            kill_daemon(session)
            assert all(not seen(each) for each in waiting)
        else:
            session.good("pkill", "-KILL", "-f", "asyncio.run")  # units' processes as well
            for each in waiting:
                each.communicate(timeout=30)
        let_go(door, label)
    expected = {}
    for client in CLIENTS:
        found = requests(github, client)
        assert len(found) == ROUNDS * EACH + (ROUNDS - 1) * HELD
        expected[client.line] = summed(
            [each for each in found if ".lost" not in str(each.headers["x-request-id"])]
        )
    assert sum(each["requests"] for each in expected.values()) >= 10_000
    assert all(each["errors"] and each["agent_turns"] for each in expected.values())
    assert all(each["untold"] == HELD * (ROUNDS // 2) for each in expected.values())

    def told() -> dict[tuple[str, ...], dict[str, int]]:
        return {
            line: shown(row, expected[line])
            for line, row in rows(session, "client").items()
            if line in expected
        }

    assert told() == expected
    session.systemctl("restart", SERVICE)
    assert told() == expected
    assert session.run("grep", "-ra", "sesame", ".local/state/copilot-broker").returncode == 1
    by_account = rows(session, "account")
    assert by_account["work",]["prompt_tokens"] == expected["key", "work"]["prompt_tokens"]


def test_a_kill_in_the_middle_forgets_nothing_that_a_client_has_seen_to_its_end(
    door: Door,
) -> None:
    session, github = door.session, door.github
    ends = set()
    for number in range(3):
        client = running(door, WILD, asked_by(WILD, f"n{number}", 1500), many=8)
        eventually(lambda n=number: len(requests(github, WILD, f"n{n}.")) > 200)
        kill_daemon(session)
        ends |= seen(client)
    found = {str(each.headers["x-request-id"]): each for each in requests(github, WILD)}
    least = summed([found[name] for name in ends])
    unsure = [each for name, each in found.items() if name not in ends]
    assert len(ends) > 300
    assert len(unsure) <= 3 * 8
    most = least + summed(unsure)
    row = rows(session, "client")["key", "wild"]
    for name in ("requests", "prompt_tokens", "completion_tokens"):
        assert least[name] <= row[name] <= most[name], name


@pytest.mark.parametrize(
    ("limit", "code", "longest"),
    [("budget = 5", "budget", 86_400), ("requests_per_minute = 1", "request_rate", 60)],
)
def test_who_is_over_a_rules_budget_or_rate_gets_a_429_and_upstream_nothing(
    door: Door, limit: str, code: str, longest: int
) -> None:
    session, github = door.session, door.github
    more = f'[[grant]]\nlistener = "http-tcp"\n{limit}\n'
    more += f'[[grant]]\nlistener = "rpc"\nunit = "usage-agent.service"\n{limit}\n'
    config = session.good("cat", CONFIG)
    session.write(CONFIG, config + more)
    session.systemctl("reload", SERVICE)
    home, agent = CLIENTS[3], CLIENTS[1]
    for client in (home, agent):
        asked = [a_request(client, 6, f"{client.name}.first.0", stream=False)]
        assert seen(running(door, client, asked)) == {f"{client.name}.first.0"}
    github.world.requests.clear()
    dialects = [(2, "/v1/messages"), (3, "/v1/responses"), (6, "/v1/chat/completions")]
    where, key = address_of(door.port), door.keys["home"]
    for kind, path in dialects:
        for stream in (False, True):
            _, _, body, _ = a_request(home, kind, "home.over.0", stream=stream)
            script = ASK_ONCE
            out = session.good(
                "/usr/bin/python3", "-c", script, stdin=json.dumps([where, key, path, body])
            )
            status, retry_after, told = json.loads(out)
            assert status == 429, told
            assert 0 < int(retry_after) <= longest
            assert told["error"]["code"] == code
            if path == "/v1/messages":
                assert (told["type"], told["error"]["type"]) == ("error", "rate_limit_error")
            else:
                assert told["error"]["type"] == "rate_limit_error"
    script = REFUSED_BY_RPC
    argv = ["systemd-run", "--user", "--pipe", "--wait", "--collect", "--quiet"]
    argv += ["--unit=usage-agent", door.python, "-c", script]
    *told, retry_after = json.loads(session.good(*argv))
    assert told == ["Temporary", code]
    assert 0 < retry_after <= longest
    assert completions(github) == []
    if code == "budget":  # which is the day's, and not the daemon's
        session.systemctl("restart", SERVICE)
        assert json.loads(session.good(*argv))[1] == code
        assert completions(github) == []
    assert session.status()["usage"] == {"keep": 400, "error": None}


def test_a_broken_ledger_costs_a_warning_and_no_request(door: Door) -> None:
    session, home = door.session, CLIENTS[3]
    place = ".local/state/copilot-broker/usage.db"

    def ask(label: str) -> None:
        name = f"home.{label}.0"
        assert seen(running(door, home, [a_request(home, 6, name, stream=False)])) == {name}

    ask("before")
    assert rows(session, "client")[home.line]["requests"] == 1
    session.write(place, "no database " * 999)
    ask("meanwhile")
    done = session.cred(*JSON_ERRORS, "usage")
    assert (done.returncode, json.loads(done.stderr)["code"]) == (9, "usage_broken")
    shown = session.status()["usage"]["error"]
    assert shown["code"] == "usage_broken"
    assert f"usage is not kept: {shown['message']}"[:40] in session.cred("status").stdout
    assert "usage" in session.cred("doctor").stdout.partition("warning")[2]
    ask("later")
    warned = [each for each in session.journal() if each["MESSAGE"].startswith("usage not kept")]
    assert len(warned) == 1
    mend = shown["hint"].rpartition(": ")[2]
    session.good("sh", "-c", mend)
    assert rows(session, "client")[home.line]["requests"] == 2, "all since it broke"
    assert session.status()["usage"]["error"] is None


ASK_ONCE = """
import http.client, json, sys
where, key, path, body = json.load(sys.stdin)
client = http.client.HTTPConnection(*where, timeout=30)
headers = {"authorization": "Bearer " + key, "content-type": "application/json"}
client.request("POST", path, json.dumps(body), headers)
answer = client.getresponse()
print(json.dumps([answer.status, answer.headers["retry-after"], json.loads(answer.read())]))
client.close()
"""

REFUSED_BY_RPC = """
import json
from copilot_broker import Client, CopilotBrokerError
with Client() as client:
    try:
        client.complete({"model": "sim-chat", "messages": [{"role": "user", "content": "x"}]})
    except CopilotBrokerError as error:
        print(json.dumps([type(error).__name__, error.code, error.retry_after]))
"""
