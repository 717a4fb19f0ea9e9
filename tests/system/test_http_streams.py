"""Many streams through the HTTP door, and what becomes of them when somebody leaves, or stops."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from system.github import EXCHANGE
from system.http_door import ASKS, WAYS, Asked, address_of, ask, completions, free_port, new_key
from system.http_door import with_tcp as listening_on
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    import subprocess

    from system.github import GitHub
    from system.session import Session


MANY = 1000
PACED = {"chat_chunks": 12, "chat_interval": 0.6}

CLIENT = '''
"""Raw HTTP/1.1 in one asyncio process: each answer by status and the digest of its bytes."""
import asyncio, hashlib, json, resource, socket, sys, time

files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

path, every, asked = json.load(sys.stdin)

async def told(number, request):
    await asyncio.sleep(number * every)
    body = json.dumps(request["body"]).encode()
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)  # waits where the queue is full; asyncio's fails at once (connect(2))
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    head = "POST %s HTTP/1.1\\r\\nhost: localhost\\r\\ncontent-type: application/json\\r\\n"
    head = (head + "content-length: %d\\r\\n\\r\\n") % (request["path"], len(body))
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\\r\\n\\r\\n")).decode().lower().split("\\r\\n")
    began = time.monotonic()
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    digest = hashlib.sha256()
    if "content-length" in headers:
        digest.update(await reader.readexactly(int(headers["content-length"])))
    else:
        assert headers["transfer-encoding"] == "chunked"
        while size := int((await reader.readuntil(b"\\r\\n")), 16):
            digest.update(await reader.readexactly(size))
            assert await reader.readexactly(2) == b"\\r\\n"
        assert await reader.readexactly(2) == b"\\r\\n"
    ended = time.monotonic()
    writer.close()
    return [int(lines[0].split()[1]), digest.hexdigest(), began, ended]

async def main():
    print(json.dumps(await asyncio.gather(*(told(*each) for each in enumerate(asked)))))

asyncio.run(main())
'''

LEAVES = """
import json, socket, sys
where, after_head, path, headers, body = json.load(sys.stdin)
if isinstance(where, str):
    client, host = socket.socket(socket.AF_UNIX), "localhost"
    client.connect(where)
else:
    client, host = socket.create_connection(where), "%s:%d" % tuple(where)
client.settimeout(30)
body = json.dumps(body)
lines = ["POST %s HTTP/1.1" % path, "host: " + host, "content-type: application/json"]
lines += ["%s: %s" % each for each in headers.items()]
lines += ["content-length: %d" % len(body), "", ""]
client.sendall(("\\r\\n".join(lines) + body).encode())
told = b""
while after_head and told.count(b"data: ") < 2:
    told += client.recv(65536)
print("asked", flush=True)
sys.stdin.close()
if not after_head:
    client.settimeout(0.3)
    try:
        client.recv(1)
        sys.exit("an answer that is not expected yet")
    except TimeoutError:
        pass
client.close()
"""


class Heard(NamedTuple):
    """What the client tells of an answer."""

    status: int
    digest: str
    """SHA-256 of its body."""
    began: float
    ended: float


def running(session: Session, asked: list[Asked], every: float = 0) -> subprocess.Popen[str]:
    """Start asking all, one each `every` seconds."""
    sent = [{"path": each.path, "body": each.body} for each in asked]
    stdin = json.dumps([session.http, every, sent])
    return session.spawn_with(stdin, "/usr/bin/python3", "-c", CLIENT)


def heard(client: subprocess.Popen[str]) -> list[Heard]:
    """Wait for its end."""
    out, err = client.communicate(timeout=120)
    assert client.returncode == 0, err
    return [Heard(*each) for each in json.loads(out)]


def test_a_thousand_paced_streams_arrive_as_they_were_sent(
    signed_in: Session, github: GitHub
) -> None:
    github.world.settings.change(PACED)
    answers = heard(running(signed_in, [WAYS["chat"].asked(stream=True)] * MANY))
    assert {answer.status for answer in answers} == {200}
    sent = completions(github)
    assert len(sent) == MANY
    assert all(each.finished for each in sent)
    # Each answer has an id of its own, so that equal digests are equal answers.
    assert len({each.sent_sha256 for each in sent}) == MANY
    assert {answer.digest for answer in answers} == {each.sent_sha256 for each in sent}
    last_began, first_ended = max(a.began for a in answers), min(a.ended for a in answers)
    assert last_began < first_ended, "they were not all under way at once"


def test_a_token_that_expires_in_the_middle_of_a_run_is_invisible(
    signed_in: Session, github: GitHub
) -> None:
    settings = github.world.settings
    settings.change({"chat_chunks": 30, "chat_interval": 0.1})
    assert ask(signed_in, Asked("/v1/models")).status == 200
    exchanges = github.asked(EXCHANGE)
    kinds = [WAYS["chat"].asked(stream=True), WAYS["chat"].asked(), WAYS["messages"].asked()]
    kinds += [WAYS["messages by chat"].asked(stream=True), WAYS["responses"].asked()]
    client = running(signed_in, kinds * 40, every=0.02)
    eventually(lambda: len(completions(github)) >= 60)
    settings.change({"clock_offset": settings.token_lifetime + 1})  # GitHub's clock is the one
    assert [answer.status for answer in heard(client)] == [200] * 200
    statuses = Counter(each.status for each in completions(github))
    refused = {each.headers["x-request-id"] for each in completions(github) if each.status == 401}
    assert statuses[401] == len(refused) >= 1, "none was refused twice, and it did expire"
    assert statuses == {200: 200, 401: len(refused)}
    served = {each.headers["x-request-id"] for each in completions(github) if each.status == 200}
    assert refused <= served
    assert len(served) == 200
    assert github.asked(EXCHANGE) == exchanges + 1


@pytest.mark.parametrize("by_tcp", [False, True], ids=["socket", "tcp"])
def test_who_hangs_up_is_noticed_upstream(
    signed_in: Session, github: GitHub, *, by_tcp: bool
) -> None:
    session, settings = signed_in, github.world.settings
    where: object = session.http
    headers = {}
    if by_tcp:
        port = free_port()
        listening_on(session, port)
        where, key = address_of(port), new_key(session, "leaver")
        headers = {"authorization": f"Bearer {key}"}
    assert ask(session, Asked("/v1/models")).status == 200
    for after_head in (False, True):
        settings.change({"chat_head_delay": 0 if after_head else 60})
        settings.change({"chat_chunks": 1000, "chat_interval": 0.05})
        for name, way in WAYS.items():
            for stream in (True,) if after_head else (True, False):
                github.world.requests.clear()
                asked = way.asked(stream=stream)
                stdin = json.dumps([where, after_head, asked.path, headers, asked.body])
                session.good("/usr/bin/python3", "-c", LEAVES, stdin=stdin)
                (request,) = completions(github)
                eventually(lambda request=request: request.cancelled, within=5)
                assert not request.finished, name
    status = session.status()
    assert status["accounts"][0]["error"] is None


def test_a_restart_lets_streams_end_in_words(signed_in: Session, github: GitHub) -> None:
    """What can end in time does; what cannot is told so; who comes meanwhile is served after."""
    session = signed_in
    assert ask(session, Asked("/v1/models")).status == 200
    inode = session.good("stat", "--format=%i", session.http)
    pid = session.main_pid()
    github.world.settings.change({"chat_chunks": 20, "chat_interval": 0.1})  # two seconds
    ways = [WAYS[name] for name in ("chat", "messages", "responses", "messages by chat")]
    client = running(session, [way.asked(stream=True) for way in ways] * 5)
    eventually(lambda: len(completions(github)) == 20)
    session.systemctl("restart", SERVICE)
    assert [answer.status for answer in heard(client)] == [200] * 20
    assert all(each.finished for each in completions(github)), "they were drained"
    assert session.main_pid() not in ("0", pid)
    assert session.good("stat", "--format=%i", session.http) == inode
    assert ask(session, WAYS["chat"].asked()).status == 200


def test_what_cannot_end_before_a_stop_is_cut_and_never_ended(
    signed_in: Session, github: GitHub
) -> None:
    session = signed_in
    assert ask(session, Asked("/v1/models")).status == 200
    github.world.settings.change({"chat_chunks": 10_000, "chat_interval": 0.05})
    ways = list(WAYS.values())
    told = json.dumps([session.http, [way.asked(stream=True).as_sent() for way in ways]])
    client = session.spawn_with(told, "/usr/bin/python3", "-c", ASKS)
    eventually(lambda: len(completions(github)) == len(ways))
    session.systemctl("stop", SERVICE)
    out, err = client.communicate(timeout=60)
    assert client.returncode == 0, err
    for way, (status, _, body, is_whole) in zip(ways, json.loads(out), strict=True):
        assert status == 200
        assert way.end not in body
        assert not is_whole or "shutting_down" in body, body[-300:]
    eventually(lambda: all(each.cancelled for each in completions(github)))
