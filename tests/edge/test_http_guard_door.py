"""The whole door on real sockets, as a page in a browser, a proxy and another user try it."""

from __future__ import annotations

import contextlib
import re
import socket
from dataclasses import replace

import pytest

from brokerd.core.http_guard import hosts_of
from brokerd.gateway.door import HttpDoor
from brokerd.host.peers.peercred import peer_of
from brokerd.host.peers.tcp import peer_of_tcp
from brokerd.host.tcp_listener import bind_run, bind_tcp
from fakes.copilot import FakeReply
from fakes.http_door import HttpClient
from fakes.http_service import JSON, UID, Stand, a_model


BARE = re.compile(
    rb"HTTP/1\.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\ndate: [^\r\n]{29}\r\n\r\n"
)
TURNED_AWAY = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

POSTS = [
    f"{prefix}{path}"
    for prefix in ("", "/v1")
    for path in (
        "/chat/completions",
        "/responses",
        "/messages",
        "/messages/count_tokens",
        "/embeddings",
        "/completions",
        "/engines/m/completions",
    )
]
GETS = ["/", "/healthz", "/metrics", "/models", "/v1/models", "/v1/models/m", "/favicon.ico", "*"]


LISTENERS = ["http", "http-tcp", "http-run"]


class Street:
    """One door with all of its listeners, and who knocks."""

    def __init__(self, path) -> None:
        headers = {**JSON, "access-control-allow-origin": "*"}
        replies = [FakeReply(headers=headers, chunks=[b"{}"]) for _ in POSTS]
        model = a_model("m", "/chat/completions", "/responses", "/v1/messages", "/embeddings")
        self.stand = Stand(*replies, models=[model])
        self.door = HttpDoor(self.stand.gate, self.stand.service)
        self.path = str(path)
        self.uid = UID
        self.clients = []

    async def __aenter__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.stand.service._hosts["http-tcp"] = hosts_of(self.address)
        self.tcp, self.unix = bind_tcp(self.address), socket.socket(socket.AF_UNIX)
        self.run, self.run_address = bind_run()
        self.unix.bind(self.path)
        self.unix.listen()
        await self.door.serve(self.unix, "http", lambda s: replace(peer_of(s), uid=self.uid))
        await self.door.serve(
            self.tcp, "http-tcp", lambda s: replace(peer_of_tcp(s), uid=self.uid)
        )
        await self.door.serve(
            self.run, "http-run", lambda s: replace(peer_of_tcp(s), uid=self.uid)
        )
        return self

    async def __aexit__(self, *_):
        for client in self.clients:
            client.close()
        await self.door.drain(0)
        for sock in (self.tcp, self.run, self.unix):
            sock.close()
        assert self.stand.gate.connections == 0

    def host(self, listener):
        hosts = {"http": "localhost", "http-tcp": self.address, "http-run": self.run_address}
        return hosts[listener]

    def knock(self, listener):
        sock = {"http": self.unix, "http-tcp": self.tcp, "http-run": self.run}[listener]
        client = HttpClient(sock.family, sock.getsockname())
        self.clients.append(client)
        return client

    async def told(self, listener, method, path, headers, body=b"", *, version="1.1"):
        """All bytes that come back for one request, until the connection is closed."""
        lines = [f"{method} {path} HTTP/{version}", *(f"{n}: {v}" for n, v in headers if n)]
        client = self.knock(listener)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        try:
            return await client.rest()
        finally:
            client.close()


@pytest.fixture
async def street(tmp_path):
    async with Street(tmp_path / "http.sock") as street:
        yield street


def requests_of(host):
    """Each route as a program here would ask it."""
    for path in POSTS:
        yield (
            "POST",
            path,
            [("host", host), ("content-type", "application/json")],
            b'{"model":"m"}',
        )
    for path in GETS:
        yield "GET", path, [("host", host)], b""
    yield "HEAD", "/", [("host", host)], b""


async def all_told(street, listener, change):
    """What each route says to its request changed so."""
    answers = []
    for method, path, headers, body in requests_of(street.host(listener)):
        given = [*change(headers)]
        if body:
            given.append(("content-length", len(body)))
        answers.append(await street.told(listener, method, path, given, body))
    return answers


def with_host(host):
    return lambda headers: [("host" if host is not None else "", host), *headers[1:]]


def with_header(name, value):
    return lambda headers: [*headers, (name, value)]


HOSTILE = {
    "rebinding": with_host("rebind.evil.example"),
    "rebinding, its port": with_host("rebind.evil.example:4141"),
    "name of loopback": with_host("localhost:4141"),
    "any address": with_host("0.0.0.0"),
    "other loopback": with_host("127.0.0.2:4141"),
    "dot": with_host("localhost."),
    "userinfo": with_host("localhost@evil.example"),
    "origin": with_header("Origin", "https://evil.example"),
    "origin null": with_header("origin", "null"),
    "own origin": with_header("ORIGIN", "http://localhost"),
    "referer": with_header("Referer", "https://evil.example/page"),
    "cross-site": with_header("Sec-Fetch-Site", "cross-site"),
    "same-site": with_header("sec-fetch-site", "same-site"),
    "forwarded": with_header("Forwarded", "for=1.2.3.4"),
    "x-forwarded-for": with_header("X-Forwarded-For", "127.0.0.1"),
    "x-forwarded-port": with_header("X-Forwarded-Port", "1"),
    "x-real-ip": with_header("X-Real-IP", "127.0.0.1"),
    "via": with_header("Via", "1.1 proxy"),
}


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("what", HOSTILE)
async def test_every_route_says_the_same_nothing(street, listener, what):
    for answer in await all_told(street, listener, HOSTILE[what]):
        assert BARE.fullmatch(answer), answer
    assert street.stand.copilot.calls == []
    assert street.stand.copilot.models_calls == []


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
async def test_a_form_reaches_nothing(street, listener, kind):
    body = b'{"model":"m"}'
    for path in [*POSTS, *GETS]:
        headers = [("host", street.host(listener)), ("content-length", len(body))]
        if kind is not None:
            headers.append(("content-type", kind))
        assert BARE.fullmatch(await street.told(listener, "POST", path, headers, body))
    assert street.stand.copilot.calls == []


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("origin", [True, False])
async def test_a_preflight_is_told_nothing(street, listener, origin):
    headers = [
        ("host", street.host(listener)),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, authorization"),
        ("access-control-request-private-network", "true"),
    ]
    if origin:
        headers.append(("origin", "https://evil.example"))
    for path in [*POSTS, *GETS]:
        assert BARE.fullmatch(await street.told(listener, "OPTIONS", path, headers))


@pytest.mark.parametrize("other", ["http", "http-tcp"])
async def test_a_run_is_known_by_its_own_address_alone(street, other):
    for method, path, headers, body in requests_of(street.host(other)):
        given = [*headers, ("content-length", len(body))] if body else headers
        assert BARE.fullmatch(await street.told("http-run", method, path, given, body))


async def test_no_host_is_for_old_clients_of_the_socket_alone(street):
    answers = {}
    for listener in LISTENERS:
        answers[listener] = await street.told(listener, "GET", "/nothing", [], version="1.0")
    assert answers["http"].startswith(b"HTTP/1.1 404 ")
    assert BARE.fullmatch(answers["http-tcp"])
    assert BARE.fullmatch(answers["http-run"])


@pytest.mark.parametrize("listener", LISTENERS)
async def test_programs_here_pass_and_are_told_of_no_other_origin(street, listener):
    """By TCP they lack a key: a 401, which the guard never says."""
    seen = set()
    for method, path, headers, body in requests_of(street.host(listener)):
        if path in ("/", "/healthz", "/metrics", "/v1/models", "/models") or "/models/" in path:
            continue  # the stand has no pages
        if "count_tokens" in path:
            continue
        given = [*headers, ("connection", "close"), ("content-length", len(body))]
        if method != "POST":
            given.pop()
        answer = await street.told(listener, method, path, given, body)
        seen.add(int(answer.split(b" ")[1]))
        assert b"access-control" not in answer.lower()
        assert b"403" not in answer.split(b"\r\n")[0]
    assert not seen & {401, 403} if listener == "http" else seen == {401}
    assert bool(street.stand.copilot.calls) is (listener == "http")


async def test_another_user_is_turned_away_before_a_byte_is_read(street):
    street.uid = UID + 1
    for listener in ("http-tcp", "http-run"):
        client = street.knock(listener)  # says nothing
        assert await client.rest() == TURNED_AWAY
    assert await street.knock("http").rest() == b""


async def test_who_cannot_be_known_is_turned_away(street, monkeypatch):
    def unknown(sock):
        raise OSError("no row")

    street.door._peer_of["http-tcp"] = unknown
    assert await street.knock("http-tcp").rest() == TURNED_AWAY


async def test_a_refusal_is_written_down_with_its_reason(street, caplog):
    caplog.set_level("INFO")
    headers = [("host", street.address), ("origin", "https://evil.example")]
    await street.told("http-tcp", "GET", "/healthz", headers)
    denied = [r for r in caplog.records if getattr(r, "REASON", "") == "http_origin"]
    assert [(r.LISTENER, r.OPERATION) for r in denied] == [("http-tcp", "http.request")]
    assert "evil" not in "".join(str(vars(record)) for record in caplog.records)


HUGE = [("content-length", 10**12), ("content-type", "application/json")]


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize(
    ("path", "more", "body"),
    [
        pytest.param("/v1/chat/completions", HUGE, b""),
        pytest.param("/v1/messages", HUGE, b""),
        ("/v1/messages", [(f"x-{n}", "1") for n in range(200)], b""),
        ("/v1/messages", [("x-long", "1" * 70_000)], b""),
        ("/v1/messages?" + "x" * 9_000, [], b""),
        ("/v1/messages", [("expect", "200-ok")], b""),
        ("/v1/messages", [("upgrade", "websocket"), ("connection", "upgrade")], b""),
        ("http://evil.example/v1/models", [], b""),
        ("/v1/messages", [("transfer-encoding", "chunked")], b"zz\r\n"),
    ],
    ids=lambda v: None,
)
async def test_a_page_by_a_rebound_name_reads_nothing_of_what_is_wrong(
    street, listener, path, more, body
):
    headers = [("host", "rebind.evil.example"), *more]
    answer = await street.told(listener, "POST", path, headers, body)
    assert b"copilot" not in answer.lower()
    assert b"access-control" not in answer.lower()
    if more is HUGE:
        assert BARE.fullmatch(answer)


async def test_no_body_is_asked_for_or_kept_for_a_page(street):
    headers = [
        ("host", street.address),
        ("origin", "https://evil.example"),
        ("content-type", "application/json"),
        ("content-length", 30_000_000),
        ("expect", "100-continue"),
    ]
    client = street.knock("http-tcp")
    lines = ["POST /v1/messages HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    await client.send("\r\n".join([*lines, "", ""]).encode())
    assert (await client.answer()).status == 403  # not 100, nor nothing until it is all here
    assert await client.is_closed()
