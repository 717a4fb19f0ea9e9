"""What goes wrong below HTTP, and which way requests take."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import ssl
import subprocess
import sys
import traceback
from contextlib import asynccontextmanager

import pytest

from brokerd.core.tokens import GitHubToken
from brokerd.errors import BrokerError, ErrorClass, PermanentError, TransientError
from brokerd.upstream import HttpClient, Timeouts, Upstream, UpstreamSettings
from brokerd.upstream.http import MAX_BODY
from fakes.simulated import EXCHANGE, simulated
from fakes.upstream_server import Origin


CANARY = "canary-5ca1ab1e-token"
TOKEN = GitHubToken(CANARY, refresh_token=f"refresh-{CANARY}")
SHORT = Timeouts(connect=0.3, read=0.3, total=0.6)
PROXY_VARIABLES = [
    name
    for word in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (word, word.upper())
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def failure_of(awaitable, kind: type[BrokerError] = TransientError):
    with pytest.raises(kind) as caught:
        await awaitable
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in shown
    assert "hunter2" not in shown
    if kind is TransientError:
        assert caught.value.failure.error_class is ErrorClass.TEMPORARY
    assert caught.value.failure.hint
    return caught.value.failure


@asynccontextmanager
async def listening(handle, context=None):
    """A server on loopback that hands each connection to `handle(reader, writer)`."""

    async def serve(reader, writer):
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def upstream_at(url: str, **more):
    settings = UpstreamSettings(login=url, api=url, copilot=url, **more)
    upstream = Upstream(settings)
    try:
        yield upstream("github.com")
    finally:
        await upstream.aclose()


QUESTIONS = {
    "identify": lambda github: github.identify(TOKEN),
    "exchange": lambda github: github.exchange(TOKEN),
    "direct": lambda github: github.direct(TOKEN),
    "renew": lambda github: github.renew("c", TOKEN),
    "revoke": lambda github: github.revoke(TOKEN),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_question_shows_its_secret_when_it_breaks(question, caplog):
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")

    caplog.set_level(logging.DEBUG)
    async with listening(cut) as port, upstream_at(f"http://127.0.0.1:{port}") as github:
        failure = await failure_of(QUESTIONS[question](github))
    assert failure.code == "network_broken"
    assert CANARY not in caplog.text


async def test_nobody_listens():
    async with listening(None) as port:
        pass
    async with upstream_at(f"http://127.0.0.1:{port}") as github:
        failure = await failure_of(github.identify(TOKEN))
    assert failure.code == "network_unreachable"
    assert f"127.0.0.1:{port}" in failure.message


async def test_name_that_does_not_exist():
    async with upstream_at("https://api.nowhere.invalid") as github:
        failure = await failure_of(github.identify(TOKEN))
    assert failure.code == "dns_failed"
    assert "nowhere.invalid" in failure.message


async def test_proxy_that_does_not_exist_is_under_suspicion():
    proxy = "http://user:hunter2@proxy.nowhere.invalid:3128"
    async with upstream_at("https://api.nowhere.invalid", proxy=proxy) as github:
        failure = await failure_of(github.identify(TOKEN))
    assert failure.code == "dns_failed"
    assert "network.proxy" in failure.hint


async def test_connection_reset_before_the_answer():
    async with simulated() as it:
        it.fault("/user", reset=True)
        assert (await failure_of(it.github.identify(TOKEN))).code == "network_broken"


async def test_answer_that_breaks_off():
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with listening(half) as port, upstream_at(f"http://127.0.0.1:{port}") as github:
        assert (await failure_of(github.identify(TOKEN))).code == "network_broken"


async def test_garbage_instead_of_http():
    async def garbage(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00\xff SSH-2.0 nonsense\r\n\r\n")
        await writer.drain()

    async with listening(garbage) as port, upstream_at(f"http://127.0.0.1:{port}") as github:
        assert (await failure_of(github.identify(TOKEN))).code == "network_broken"


async def test_silence_is_a_timeout():
    async with simulated(timeouts=SHORT) as it:
        it.fault("/user", delay=30)
        failure = await failure_of(it.github.identify(TOKEN))
        assert failure.code == "network_timeout"
        assert it.simulator.url in failure.message


async def test_a_trickle_is_a_timeout_too():
    async with simulated(timeouts=SHORT) as it:
        it.fault("/user", 200, " " * 100, drip=0.1)
        assert (await failure_of(it.github.identify(TOKEN))).code == "network_timeout"


async def test_a_slow_answer_within_the_limit_counts():
    async with simulated() as it:
        it.fault(EXCHANGE, delay=0.3)
        assert (await it.github.exchange(it.token())).refresh_in == 1500


async def test_cancelling_a_question_is_not_an_error():
    async with simulated() as it:
        it.fault("/user", delay=30)
        question = asyncio.ensure_future(it.github.identify(TOKEN))
        async with asyncio.timeout(5):
            while not it.simulator.world.requests:
                await asyncio.sleep(0)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question


async def test_too_long_an_answer_is_left_unread():
    async with simulated() as it:
        it.fault(EXCHANGE, 200, "x" * (MAX_BODY + 1))
        failure = await failure_of(it.github.exchange(TOKEN))
        assert failure.code == "bad_answer"
        assert "too long" in failure.message


async def test_an_endless_answer_without_a_length_is_left_unread():
    async def endless(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with listening(endless) as port, upstream_at(f"http://127.0.0.1:{port}") as github:
        assert "too long" in (await failure_of(github.identify(TOKEN))).message


async def test_nothing_is_decompressed():
    async with simulated() as it:
        it.fault("/user", 200, "x", headers={"Content-Encoding": "gzip"})
        failure = await failure_of(it.github.identify(TOKEN))
        assert "compressed" in failure.message


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"Content-Length: 99\r\n\r\n{", id="broken off"),
        pytest.param(b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", id="compressed"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="bad chunk"),
        pytest.param(b"\r\n" + b"x" * (MAX_BODY + 1), id="too long"),
    ],
)
async def test_a_401_is_a_verdict_whatever_its_body(rest):
    async def refusing(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nX-GitHub-Request-Id: 1\r\n" + rest)
        writer.close()

    async with listening(refusing) as port, upstream_at(f"http://127.0.0.1:{port}") as github:
        with pytest.raises(PermanentError) as caught:
            await github.exchange(TOKEN)
        assert caught.value.failure.code == "bad_credentials"


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = [
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder


@asynccontextmanager
async def tls_server(folder):
    async def octocat(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"id":1,"login":"octocat"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    async with listening(octocat, context) as port:
        yield port


async def test_unknown_authority_is_named_with_its_cure(certificate):
    async with (
        tls_server(certificate) as port,
        upstream_at(f"https://127.0.0.1:{port}") as github,
    ):
        failure = await failure_of(github.identify(TOKEN))
    assert failure.code == "tls_untrusted"
    assert "self-signed" in failure.message
    assert "network.ca_file" in failure.hint


async def test_configured_authority_is_trusted(certificate):
    async with (
        tls_server(certificate) as port,
        upstream_at(f"https://127.0.0.1:{port}", ca_file=certificate / "cert.pem") as github,
    ):
        assert (await github.identify(TOKEN)).login == "octocat"


async def test_plain_text_where_tls_was_expected():
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with listening(plain) as port, upstream_at(f"https://127.0.0.1:{port}") as github:
        assert (await failure_of(github.identify(TOKEN))).code == "tls_failed"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_unusable_authority_file_is_named(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    async with upstream_at("http://127.0.0.1:9", ca_file=path) as github:
        failure = await failure_of(github.identify(TOKEN), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "ca_file_unusable")
    assert str(path) in failure.message


# Proxies.


@asynccontextmanager
async def proxy():
    """A proxy that writes down what it is asked for and refuses."""
    asked: list[str] = []

    async def refuse(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with listening(refuse) as port:
        yield f"http://user:hunter2@127.0.0.1:{port}", asked


async def test_configured_proxy_is_used():
    async with (
        proxy() as (url, asked),
        upstream_at("https://api.nowhere.invalid", proxy=url) as github,
    ):
        failure = await failure_of(github.identify(TOKEN))
    assert failure.code == "proxy_failed"
    assert failure.message.endswith(": it answers 407")
    assert asked == ["CONNECT api.nowhere.invalid:443 HTTP/1.1"]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_proxy_of_the_environment_is_used(monkeypatch, variable):
    async with proxy() as (url, asked):
        monkeypatch.setenv(variable, url)
        async with upstream_at("https://api.nowhere.invalid") as github:
            assert (await failure_of(github.identify(TOKEN))).code == "proxy_failed"
    assert len(asked) == 1


async def test_configured_proxy_wins_over_the_environment(monkeypatch):
    async with proxy() as (url, asked), proxy() as (other, never):
        monkeypatch.setenv("HTTPS_PROXY", other)
        monkeypatch.setenv("ALL_PROXY", other)
        async with upstream_at("https://api.nowhere.invalid", proxy=url) as github:
            await failure_of(github.identify(TOKEN))
    assert (len(asked), never) == (1, [])


@pytest.mark.parametrize("configured", [True, False])
async def test_no_proxy_holds_for_both(monkeypatch, configured):
    async with proxy() as (url, asked):
        monkeypatch.setenv("NO_PROXY", "nowhere.invalid")
        if not configured:
            monkeypatch.setenv("HTTPS_PROXY", url)
        more = {"proxy": url} if configured else {}
        async with upstream_at("https://api.nowhere.invalid", **more) as github:
            assert (await failure_of(github.identify(TOKEN))).code == "dns_failed"
    assert asked == []


@pytest.mark.parametrize("configured", [True, False])
async def test_loopback_is_never_asked_through_a_proxy(monkeypatch, configured):
    async with proxy() as (url, asked), simulated() as it:
        more = {"proxy": url} if configured else {}
        if not configured:
            monkeypatch.setenv("HTTP_PROXY", url)
            monkeypatch.setenv("ALL_PROXY", url)
        async with upstream_at(it.simulator.url, **more) as github:
            assert (await github.identify(it.token())).login == "octocat"
    assert asked == []


@pytest.mark.parametrize(
    "url", ["socks9://user:hunter2@127.0.0.1", "nonsense hunter2", "http://", "http://:80"]
)
async def test_unusable_proxy_is_a_matter_of_configuration(url):
    async with upstream_at("https://api.nowhere.invalid", proxy=url) as github:
        failure = await failure_of(github.identify(TOKEN), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "proxy_unusable")


# What must not happen.


async def test_netrc_does_not_replace_the_credential(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with simulated() as it:
        await it.github.request_device_code("some-client", "")
        assert "authorization" not in it.simulator.world.requests[-1].headers
        await it.github.identify(it.token())
        assert it.simulator.world.requests[-1].headers["authorization"].startswith("token ")


async def test_a_json_body_goes_out_as_json():
    async with Origin(wants_body=True) as origin:
        http = HttpClient()
        answer = await http.post_json(origin.url, "/credentials/revoke", {"A": "b"}, {"é": ["x"]})
        await http.aclose()
        [exchange] = origin.exchanges
    assert (answer.status, answer.body) == (200, b"{}")
    assert exchange.line == "POST /credentials/revoke HTTP/1.1"
    assert exchange.header("content-type") == "application/json"
    assert exchange.header("a") == "b"
    assert json.loads(exchange.body) == {"é": ["x"]}


async def test_debug_logs_hold_no_secret(caplog):
    with caplog.at_level(logging.DEBUG):
        async with simulated() as it:
            token = it.token()
            copilot = await it.github.exchange(token)
            await it.copilot.models("github.com", copilot.api_base, copilot.value)
    assert token.value not in caplog.text
    assert copilot.value not in caplog.text


async def test_client_may_be_used_again_after_it_was_closed():
    async with simulated() as it:
        await it.http.aclose()
        await it.github.identify(it.token())
        await it.http.aclose()
        await it.http.aclose()
        assert (await it.github.identify(it.token())).login == "octocat"


async def test_closing_lets_what_is_under_way_end():
    async with simulated() as it:
        it.fault("/user", delay=0.3)
        question = asyncio.ensure_future(it.github.identify(it.token()))
        async with asyncio.timeout(5):
            while not it.simulator.world.requests:
                await asyncio.sleep(0)
        await it.http.aclose()
        assert question.done() or (await asyncio.wait_for(question, 1))
        assert question.result().login == "octocat"


def test_httpx_is_loaded_on_first_use_and_without_its_command_line():
    program = """
import asyncio, sys
from brokerd.upstream import HttpClient
assert "httpx" not in sys.modules
async def main():
    http = HttpClient()
    try:
        await http.get("http://127.0.0.1:9", "/", {})
    except Exception as error:
        print(error)
    await http.aclose()
asyncio.run(main())
assert "httpx" in sys.modules
assert not {"click", "rich", "pygments"} & sys.modules.keys()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "network_unreachable" in done.stdout


def test_settings_do_not_show_the_proxys_password():
    settings = UpstreamSettings(proxy="http://user:hunter2@proxy")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(HttpClient(settings))
