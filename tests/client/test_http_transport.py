"""`copilot_broker.http` with both httpx: whom it connects to, what it sends there, how it fails.

The clients are real, the server is a small one of the test's own on a Unix socket.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import posix
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from client.small_http import PATIENCE, serving
from copilot_broker import BrokerUnreachable
from copilot_broker.errors import Temporary
from copilot_broker.http import http_client, transport
from copilot_broker.wire.address import connect_once


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from client.small_http import SmallHTTP


KEY = "cpb_" + "k" * 43
SECRETS = {
    "authorization": "Bearer sk-of-somebody-elses",
    "proxy-authorization": "Basic c2VjcmV0",
    "x-api-key": "sk-ant-of-somebody-elses",
    "api-key": "of-somebody-elses",
    "cookie": "session=of-somebody-elses",
}


LEFT_OPEN = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""httpcore leaves a socket that could not connect to the garbage collector."""


@pytest.fixture(params=["httpx", "httpx2"])
def httpx(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest, httpx: ModuleType) -> Any:
    return httpx.Client if request.param == "blocking" else httpx.AsyncClient


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the socket is looked for, in a folder of ours."""
    monkeypatch.delenv("COPILOT_BROKER_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "copilot-broker"
    folder.mkdir(mode=0o700)
    return folder / "http.sock"


@pytest.fixture
def server(path: Path) -> Iterator[SmallHTTP]:
    with serving(path) as server:
        yield server


async def got(kind: Any, *paths: str, headers: dict[str, str] | None = None, **more: Any) -> list:
    """Ask one after the other, by a client of this kind; return what was answered."""
    made = http_client(kind, **more)
    if hasattr(made, "aclose"):
        async with made as client:
            return [await client.get(each, headers=headers) for each in paths or ("/",)]

    def asked() -> list:
        with made as client:
            return [client.get(each, headers=headers) for each in paths or ("/",)]

    return await asyncio.to_thread(asked)


async def refusal(kind: Any, httpx: ModuleType, **more: Any) -> Any:
    with pytest.raises(httpx.ConnectError) as caught:
        await got(kind, **more)
    error = caught.value
    try:
        assert error.request.url.host == "localhost"
        assert str(error) == str(error.__cause__)
        return error.__cause__
    finally:
        del caught, error  # frames: they would keep a socket until the next test


# Where it goes


async def test_the_socket_in_the_runtime_directory_is_asked(kind, httpx, server):
    (answer,) = await got(kind)
    assert isinstance(answer, httpx.Response)
    assert (answer.status_code, answer.text) == (200, "ok")
    assert [head["host"] for head in server.heads] == ["localhost"]


async def test_it_stands_beside_the_socket_that_the_variable_names(
    kind, server, path, monkeypatch
):
    monkeypatch.setenv("COPILOT_BROKER_SOCKET", str(path.with_name("other.sock")))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    await got(kind)
    assert len(server.heads) == 1


@pytest.mark.parametrize("as_text", [True, False])
async def test_a_path_that_is_given_wins(kind, server, path, monkeypatch, as_text):
    monkeypatch.setenv("COPILOT_BROKER_SOCKET", "/nowhere/broker.sock")
    await got(kind, path=str(path) if as_text else path)
    assert len(server.heads) == 1


def test_without_a_runtime_directory_there_is_no_path(httpx, monkeypatch):
    for name in ("COPILOT_BROKER_SOCKET", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(posix, "getuid", lambda: 4_000_000_001)  # a uid without a session
    with pytest.raises(BrokerUnreachable) as caught:
        transport(httpx.HTTPTransport)
    assert caught.value.code == "no_runtime_dir"


@pytest.mark.parametrize("scheme", ["HTTP", "HTTPS", "ALL"])
async def test_no_proxy_of_the_environment_is_used(kind, server, monkeypatch, scheme):
    for name in (f"{scheme}_PROXY", f"{scheme}_proxy".lower()):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (answer,) = await got(kind)
    assert answer.text == "ok"


async def test_no_login_of_netrc_is_sent(kind, server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login me password of-somebody-elses\n")
    monkeypatch.setenv("NETRC", str(netrc))
    await got(kind)
    assert "authorization" not in server.heads[0]


# What it says


async def test_keys_of_others_are_not_sent(kind, server):
    await got(kind, headers=SECRETS)
    assert not SECRETS.keys() & {name.lower() for name in server.heads[0]}
    assert "elses" not in str(server.heads[0])


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"x-api-key": KEY},
    ],
)
async def test_a_key_of_the_brokers_is_sent(kind, server, header):
    await got(kind, headers=header | {"cookie": "a=b"})
    ((name, value),) = header.items()
    assert (server.heads[0][name], server.heads[0]["cookie"]) == (value, None)


@pytest.mark.parametrize("account", ["work", None])
async def test_the_account_is_named_where_one_is_given(kind, server, account):
    await got(kind, account=account)
    assert server.heads[0]["x-copilot-broker-account"] == account


async def test_headers_of_the_clients_own_stay(kind, httpx, server):
    made = http_client(kind, account="work", headers={"x-mine": "1"})
    assert (made.headers["x-mine"], made.headers["x-copilot-broker-account"]) == ("1", "work")


# How long it waits


def test_models_have_time_to_think(kind, httpx):
    """The door gives up after 600 seconds of silence; that is to be heard."""
    timeout = http_client(kind, path="/nowhere").timeout
    assert 600 < timeout.read < 900
    assert timeout.connect <= 5
    assert timeout.read == timeout.pool


def test_another_timeout_can_be_given(kind, httpx):
    assert http_client(kind, path="/nowhere", timeout=3.0).timeout == httpx.Timeout(3.0)


# Whom it trusts


async def test_nobody_there_is_told_with_what_to_do(kind, httpx, path):
    cause = await refusal(kind, httpx)
    assert isinstance(cause, BrokerUnreachable)
    assert cause.code == "not_running"
    assert str(cause).endswith("systemctl --user start copilot-broker.socket")


@LEFT_OPEN
async def test_a_dead_socket_is_told_likewise(kind, httpx, path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    cause = await refusal(kind, httpx)
    assert (type(cause), cause.code) == (BrokerUnreachable, "not_running")
    assert f"nobody answers at {path}" in cause.message
    assert cause.hint.endswith("systemctl --user start copilot-broker.socket")


@pytest.mark.parametrize("mode", [0o701, 0o750, 0o777])
async def test_a_folder_open_to_others_is_refused(kind, httpx, server, path, mode):
    path.parent.chmod(mode)
    cause = await refusal(kind, httpx)
    assert (cause.code, server.heads) == ("untrusted_socket", [])
    assert "open to others" in cause.message


async def test_a_symbolic_link_is_refused(kind, httpx, server, path):
    link = path.with_name("link.sock")
    link.symlink_to(path)
    assert (await refusal(kind, httpx, path=link)).code == "untrusted_socket"
    assert server.heads == []


async def test_a_folder_of_another_uid_is_refused(kind, httpx, server, monkeypatch):
    uid = os.getuid()
    monkeypatch.setattr(posix, "getuid", lambda: uid + 1)
    cause = await refusal(kind, httpx)
    assert (cause.code, server.heads) == ("untrusted_socket", [])
    assert cause.message.endswith(f"belongs to uid {uid}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
async def test_a_socket_of_another_uid_is_refused(kind, httpx, server, path):
    os.chown(path, 65534, 65534)
    cause = await refusal(kind, httpx)
    assert "http.sock belongs to uid 65534" in cause.message
    assert server.heads == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_a_listener_of_another_uid_is_refused_before_a_byte_is_sent(kind, httpx, path):
    """The path looks right in every way; the kernel still knows who called listen(2)."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            sock.listen(1)
            os._exit(0)
        os.waitpid(child, 0)
        cause = await refusal(kind, httpx, timeout=PATIENCE)
        assert (cause.code, cause.message) == (
            "untrusted_socket",
            "the listener belongs to uid 65534",
        )
        accepted, _ = sock.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            assert accepted.recv(1) == b""  # hung up, and nothing before


async def test_it_looks_before_each_connection(kind, httpx, server, path):
    await got(kind)
    path.parent.chmod(0o755)
    assert (await refusal(kind, httpx)).code == "untrusted_socket"
    assert len(server.heads) == 1


# As httpx has it


async def test_one_connection_serves_many_requests(kind, server):
    events = []

    def saw(event: str) -> None:
        if event.startswith("connection.connect_unix_socket"):
            events.append(event.rpartition(".")[2])

    def told(event: str, _: dict[str, Any]) -> None:
        saw(event)

    async def told_later(event: str, _: dict[str, Any]) -> None:
        saw(event)

    made = http_client(kind)
    if hasattr(made, "aclose"):
        async with made as client:
            for _ in range(3):
                request = client.build_request("GET", "/", extensions={"trace": told_later})
                await client.send(request)
    else:
        with made as client:
            for _ in range(3):
                request = client.build_request("GET", "/", extensions={"trace": told})
                client.send(request)
    assert request.extensions["trace"] in (told, told_later), "the request stays the caller's"
    assert events == ["started", "complete"]
    assert len(server.heads) == 3


def test_threads_share_a_client(httpx, server):
    with http_client(httpx.Client) as client, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.get("/").text, range(60)))
    assert answers == ["ok"] * 60


async def test_tasks_share_a_client(httpx, server):
    async with http_client(httpx.AsyncClient) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
    assert [each.text for each in answers] == ["ok"] * 20


def test_who_closes_a_stream_early_hangs_up(httpx, server):
    with http_client(httpx.Client) as client:
        with client.stream("GET", "/stream") as answer:
            assert next(answer.iter_raw()) == b"one"
        assert server.hung_up.wait(PATIENCE)


async def test_who_closes_an_asyncio_stream_early_hangs_up(httpx, server):
    async with http_client(httpx.AsyncClient) as client:
        async with client.stream("GET", "/stream") as answer:
            async for piece in answer.aiter_raw():
                assert piece == b"one"
                break
        assert await asyncio.to_thread(server.hung_up.wait, PATIENCE)


async def test_it_is_a_transport_like_any_other(httpx, server):
    made = transport(httpx.HTTPTransport)
    assert isinstance(made, httpx.HTTPTransport)
    with httpx.Client(transport=made, base_url="http://localhost") as client:
        assert client.get("/").text == "ok"
    later = transport(httpx.AsyncHTTPTransport)
    assert isinstance(later, httpx.AsyncHTTPTransport)
    async with httpx.AsyncClient(transport=later, base_url="http://localhost") as client:
        assert (await client.get("/")).text == "ok"


@pytest.mark.parametrize("wrong", [dict, int])
def test_other_classes_are_refused(wrong, path):
    with pytest.raises(TypeError, match="httpx"):
        transport(wrong)
    with pytest.raises(TypeError, match="httpx"):
        http_client(wrong)


def test_a_client_is_no_transport(httpx, path):
    with pytest.raises(TypeError, match="HTTPTransport"):
        transport(httpx.Client)


# A full queue


def fill(path: Path) -> list:
    """Connect until the listener's queue is full."""
    waiting = []
    try:
        while True:
            waiting.append(connect_once(str(path)))
    except BlockingIOError:
        assert waiting
    return waiting


@pytest.fixture
def full(path: Path) -> Iterator[tuple[socket.socket, list]]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(PATIENCE)
        waiting = fill(path)
        yield listener, waiting
        for each in waiting:
            each.close()


@LEFT_OPEN
async def test_a_full_queue_is_waited_for(kind, full):
    listener, waiting = full

    def serve() -> None:
        for _ in waiting:
            listener.accept()[0].close()
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    helper = threading.Timer(0.05, serve)
    helper.start()
    (answer,) = await got(kind)
    helper.join()
    assert answer.text == "ok"


@LEFT_OPEN
async def test_a_full_queue_is_not_waited_for_for_ever(httpx, full, monkeypatch):
    monkeypatch.setattr("copilot_broker.http.transports.DEFAULT_TIMEOUT", 0.05)
    cause = await refusal(httpx.Client, httpx)
    assert (type(cause), cause.code) == (Temporary, "busy")
