"""What every client that carries completions to Copilot keeps to: `brokerd.ports.CopilotApi`.

The suite knows the port only. `copilot_at` makes the client under test.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from brokerd.core.completions import UpstreamCall
from brokerd.errors import BrokerError, ErrorClass, PermanentError, TransientError
from brokerd.host.confinement.file_limit import raise_file_limit
from brokerd.upstream import Copilot, UpstreamSettings
from fakes.upstream_server import (
    PATIENCE,
    Authority,
    Collector,
    Exchange,
    Origin,
    TunnelProxy,
    chunked,
)


TOKEN = "tid=canary-5ca1ab1e;exp=1:mac"
NAME = "copilot.example"
"""A host that only a proxy knows."""
LIMIT = 64 * 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
PROXY_VARIABLES = [
    name
    for word in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (word, word.upper())
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority):
    return authority.server_context("127.0.0.1", NAME)


@asynccontextmanager
async def copilot_at(url, **settings):
    copilot = Copilot(UpstreamSettings(copilot=url, **settings))
    try:
        yield copilot
    finally:
        await copilot.aclose(patience=0)


@asynccontextmanager
async def talking(answer, context=None, *, wants_body=True, **settings):
    """An origin and a client that may talk to it."""
    async with (
        Origin(answer, context=context, wants_body=wants_body) as origin,
        copilot_at(origin.url, **settings) as copilot,
    ):
        yield origin, copilot


def call(url, body=b"{}", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return UpstreamCall("github.com", url, TOKEN, "/chat/completions", body, named)


async def fetch(copilot, url, body=b"{}", **headers):
    async with asyncio.timeout(PATIENCE):
        reply = await copilot.open(call(url, body, **headers))
        return reply, await reply.read(LIMIT)


async def failure_of(awaitable, kind: type[BrokerError] = TransientError):
    with pytest.raises(kind) as caught:
        async with asyncio.timeout(PATIENCE):
            await awaitable
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "canary" not in shown
    assert "hunter2" not in shown
    failure = caught.value.failure
    if kind is TransientError:
        assert caught.value.__context__ is None
        assert failure.error_class is ErrorClass.TEMPORARY
    assert failure.hint
    return failure


# Bytes.


@pytest.mark.parametrize("secured", [False, True])
async def test_request_and_answer_pass_untouched(secured, tls, authority):
    body = bytes(range(256)) * 300
    answer_body = b'{"a": "\xff\x00"}\r\n\r\n0\r\n\r\n'

    async def answer(exchange):
        await exchange.answer(
            answer_body,
            "418 I'm a teapot",
            ["X-Request-Id: 7", "X-Twice: a", "X-Twice: b", "Content-Encoding: gzip",
             "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5"],
        )  # fmt: skip

    async with talking(answer, tls if secured else None, ca_file=authority.file) as (it, copilot):
        reply, got = await fetch(copilot, it.url, body, x_initiator="agent", x_request_id="mine")
        assert (reply.status, got) == (418, answer_body)
        assert reply.headers == {
            "x-request-id": "7",
            "x-twice": "a, b",
            "content-encoding": "gzip",
            "content-length": str(len(answer_body)),
        }
        exchange = it.exchanges[0]
        assert exchange.line == "POST /chat/completions HTTP/1.1"
        assert exchange.body == body
        expected = {
            "host": it.url.partition("//")[2],
            "authorization": f"Bearer {TOKEN}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "accept-encoding": "identity",
            "copilot-integration-id": "vscode-chat",
            "x-github-api-version": "2025-05-01",
            "x-initiator": "agent",
            "x-request-id": "mine",
        }
        assert {name: exchange.header(name) for name in expected} == expected
        assert exchange.header("user-agent").startswith("copilot-broker/")
        assert it.protocols == ["http/1.1" if secured else None]


async def test_each_request_has_an_id_of_its_own_and_callers_win():
    async with talking(Origin().answer) as (it, copilot):
        await fetch(copilot, it.url)
        await fetch(copilot, it.url, user_agent="me/1", content_type="text/plain")
        first, second = it.exchanges
    assert len({first.header("x-request-id"), second.header("x-request-id")}) == 2
    assert second.header("user-agent") == "me/1"
    assert second.header("content-type") == "text/plain"


async def test_a_github_token_names_no_integration():
    async with talking(Origin().answer) as (it, copilot):
        exchanged = call(it.url)
        for each in (exchanged, replace(exchanged, is_direct=True), exchanged):
            async with asyncio.timeout(PATIENCE):
                reply = await copilot.open(each)
                await reply.read(LIMIT)
        named = [seen.header("copilot-integration-id") is not None for seen in it.exchanges]
        assert named == [True, False, True]
        assert all(seen.header("user-agent") for seen in it.exchanges)


@pytest.mark.parametrize(
    ("name", "value"),
    [("host", "evil.example"), ("content-length", "0"), ("transfer-encoding", "chunked"),
     ("authorization", "Bearer x"), ("connection", "close"), ("x y", "1"), ("x", "a\r\nb: c"),
     ("x", "\x00"), ("x", "é")],
)  # fmt: skip
async def test_headers_that_would_change_the_request_are_not_sent(name, value):
    async with talking(Origin().answer) as (it, copilot):
        failure = await failure_of(copilot.open(call(it.url, **{name: value})), PermanentError)
        assert failure.error_class is ErrorClass.USAGE
        assert not it.exchanges


def framed(framing, pieces):
    if framing == "chunked":
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*pieces) + b"0\r\n\r\n"
    body = b"".join(pieces)
    if framing == "length":
        return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return HEAD + b"\r\n" + body


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_ten_thousand_chunks_byte_for_byte(framing, secured, streamed, tls, authority):
    odd = random.Random(3)
    pieces = [odd.randbytes(odd.choice([1, 2, 7, 63, 255, 1021])) for _ in range(9_999)]
    pieces.append(b"\n\ndata: [DONE]\n\n")
    wire = framed(framing, pieces)

    async def answer(exchange):
        at = 0
        while at < len(wire):
            size = odd.randint(1, 20_000)
            await exchange.send(wire[at : at + size])
            at += size
        if framing == "close":
            exchange.writer.close()
            await exchange.writer.wait_closed()

    async with talking(answer, tls if secured else None, ca_file=authority.file) as (it, copilot):
        async with asyncio.timeout(PATIENCE):
            reply = await copilot.open(call(it.url))
        if streamed:
            collector = Collector()
            reply.stream_to(collector)
            body, failure = await collector.whole()
            assert failure is None
        else:
            body = await reply.read(LIMIT)
        assert body == b"".join(pieces)


async def test_every_split_of_an_answer_gives_the_same():
    wire = framed("chunked", [b"one", b"two"])
    for at in range(1, len(wire)):

        async def answer(exchange, at=at):
            await exchange.send(wire[:at])
            await asyncio.sleep(0)
            await exchange.send(wire[at:])

        async with talking(answer) as (it, copilot):
            reply, body = await fetch(copilot, it.url)
            assert (reply.status, body) == (200, b"onetwo")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_answers_that_have_no_body(status):
    async def answer(exchange):
        await exchange.send(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())

    async with talking(answer) as (it, copilot):
        for _ in range(2):
            reply, body = await fetch(copilot, it.url)
            assert (reply.status, body) == (int(status[:3]), b"")
        assert it.connections == 1


async def test_interim_answers_are_skipped_and_trailers_ignored():
    async def answer(exchange):
        await exchange.send(b"HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\n")
        await exchange.send(b"Link: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await exchange.send(b"0\r\nX-Trailer: 1\r\n\r\n")

    async with talking(answer) as (it, copilot):
        for _ in range(2):
            reply, body = await fetch(copilot, it.url)
            assert (reply.status, dict(reply.headers), body) == (200, {}, b"hi")
        assert it.connections == 1


# Connections.


@pytest.mark.parametrize("secured", [False, True])
async def test_requests_in_turn_share_one_connection(secured, tls, authority):
    async with talking(Origin().answer, tls if secured else None, ca_file=authority.file) as (
        it,
        copilot,
    ):
        for _ in range(5):
            await fetch(copilot, it.url)
        assert (it.connections, len(it.exchanges)) == (1, 5)


async def test_answer_nobody_reads_frees_its_connection():
    async with talking(Origin().answer) as (it, copilot):
        (await copilot.open(call(it.url))).close()
        await fetch(copilot, it.url)
        assert it.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, and more",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 2",
    ],
)
async def test_connection_with_a_doubt_is_not_used_again(answer):
    async def send(exchange):
        await exchange.send(answer)

    async with talking(send) as (it, copilot):
        for number in (1, 2):
            reply, body = await fetch(copilot, it.url)
            assert (reply.status, body) == (200, b"hi")
            assert it.connections == number


@pytest.mark.parametrize("noticed", [False, True])
async def test_unasked_bytes_on_an_idle_connection_end_it(noticed):
    async with talking(Origin().answer) as (it, copilot):
        await fetch(copilot, it.url)
        exchange = it.exchanges[0]
        exchange.writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        if noticed:
            async with asyncio.timeout(PATIENCE):
                while it.open:
                    await asyncio.sleep(0)
        reply, _ = await fetch(copilot, it.url)
        assert reply.status == 200
        assert [each.connection for each in it.exchanges] == [1, 2]


@pytest.mark.parametrize("noticed", [False, True])
async def test_connection_closed_while_idle_is_not_chosen(noticed):
    async with talking(Origin().answer) as (it, copilot):
        await fetch(copilot, it.url)
        it.exchanges[0].shut()
        if noticed:
            async with asyncio.timeout(PATIENCE):
                while it.open:
                    await asyncio.sleep(0)
        await fetch(copilot, it.url)
        assert [each.connection for each in it.exchanges] == [1, 2]


async def test_of_many_idle_ones_the_last_used_is_used_next():
    gate = asyncio.Event()

    async def answer(exchange):
        await gate.wait()
        await exchange.answer()

    async with talking(answer) as (it, copilot):
        questions = [asyncio.ensure_future(fetch(copilot, it.url)) for _ in range(3)]
        async with asyncio.timeout(PATIENCE):
            while len(it.exchanges) < 3:
                await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*questions)
        for _ in range(3):
            await fetch(copilot, it.url)
        assert it.connections == 3
        assert len({each.connection for each in it.exchanges[3:]}) == 1


# Sent once.


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("kept", [False, True])
async def test_connection_that_dies_before_the_answer_is_an_error_and_no_second_request(how, kept):
    async def answer(exchange):
        if kept and len(it.exchanges) == 1:
            await exchange.answer()
        elif how == "reset":
            exchange.reset()
        else:
            exchange.writer.close()

    async with talking(answer) as (it, copilot):
        if kept:
            await fetch(copilot, it.url)
        failure = await failure_of(copilot.open(call(it.url)))
        assert failure.code == "upstream_cut"
        assert len(it.exchanges) == it.exchanges[-1].connection + kept == 1 + kept


@pytest.mark.parametrize(
    "half",
    [
        HEAD + b"Content-Length: 100\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        HEAD + b"\r\nhalf",  # nothing but [DONE] would say that it is whole
    ],
)
@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_answer_that_breaks_off_is_a_typed_failure(half, how, streamed):
    go_on = asyncio.Event()

    async def answer(exchange):
        await exchange.send(half)
        await go_on.wait()
        exchange.reset() if how == "reset" else exchange.writer.close()

    async with talking(answer) as (it, copilot):
        async with asyncio.timeout(PATIENCE):
            reply = await copilot.open(call(it.url))
        if streamed:
            collector = Collector(on_data=lambda _: go_on.set())
            reply.stream_to(collector)
            body, failure = await collector.whole()
            assert body == b"half"
        else:
            go_on.set()
            failure = await failure_of(reply.read(LIMIT))
        assert (failure.error_class, failure.code) == (ErrorClass.TEMPORARY, "upstream_cut")
        assert len(it.exchanges) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_no_event_stream_may_end_with_its_connection(streamed):
    async def answer(exchange):
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}")
        exchange.writer.close()

    async with talking(answer) as (it, copilot):
        async with asyncio.timeout(PATIENCE):
            reply = await copilot.open(call(it.url))
            if streamed:
                collector = Collector()
                reply.stream_to(collector)
                assert await collector.whole() == (b"{}", None)
            else:
                assert await reply.read(LIMIT) == b"{}"


async def test_tls_that_ends_without_a_word_ends_no_body(tls, authority):
    """Only the end of the connection ends this body, and anybody on the way can end that."""

    async def answer(exchange):
        await exchange.send(HEAD + b"\r\nhalf")
        exchange.shut()

    async with talking(answer, tls, ca_file=authority.file) as (it, copilot):
        reply = await copilot.open(call(it.url))
        assert (await failure_of(reply.read(LIMIT))).code in ("upstream_cut", "tls_failed")


@pytest.mark.parametrize("streamed", [False, True])
async def test_rules_broken_in_mid_body(streamed):
    async def answer(exchange):
        await exchange.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nnonsense\r\n")
        await exchange.wait_until_client_leaves()

    async with talking(answer) as (it, copilot):
        reply = await copilot.open(call(it.url))
        if streamed:
            collector = Collector()
            reply.stream_to(collector)
            body, failure = await collector.whole()
            assert body == b"hi"
        else:
            failure = await failure_of(reply.read(LIMIT))
        assert failure.code == "bad_answer"


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0 nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 20_000 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: endless\r\n" * 100_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100_000,
    ],
)
async def test_heads_that_cannot_be_used(head):
    async def answer(exchange):
        await exchange.send(head)
        await exchange.wait_until_client_leaves()

    async with talking(answer) as (it, copilot):
        assert (await failure_of(copilot.open(call(it.url)))).code == "bad_answer"
        assert len(it.exchanges) == 1


async def test_too_long_an_answer_is_left_unread():
    async def answer(exchange):
        await exchange.send(HEAD + b"\r\n")
        while True:
            await exchange.send(b"x" * 65536)

    async with talking(answer) as (it, copilot):
        reply = await copilot.open(call(it.url))
        assert "longer than 100000" in (await failure_of(reply.read(100_000))).message


async def test_nobody_listens():
    async with Origin() as it:
        pass
    async with copilot_at(it.url) as copilot:
        failure = await failure_of(copilot.open(call(it.url)))
    assert failure.code == "network_unreachable"
    assert str(it.port) in failure.message


async def test_name_that_does_not_exist():
    url = "https://copilot.nowhere.invalid"
    async with copilot_at(url) as copilot:
        assert (await failure_of(copilot.open(call(url)))).code == "dns_failed"


# Leaving early.


async def test_cancelling_before_the_head_is_seen_upstream_at_once():
    async def answer(exchange):
        await exchange.wait_until_client_leaves()

    async with talking(answer) as (it, copilot):
        question = asyncio.ensure_future(copilot.open(call(it.url)))
        exchange = await it.exchange()
        question.cancel()
        async with asyncio.timeout(PATIENCE):
            await exchange.client_left.wait()
            with pytest.raises(asyncio.CancelledError):
                await question


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("when", ["untaken", "streaming", "in data", "paused", "reading"])
async def test_closing_in_mid_stream_is_seen_upstream_at_once(secured, when, tls, authority):
    async def answer(exchange):
        await exchange.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hi"))
        await exchange.wait_until_client_leaves()

    async with talking(answer, tls if secured else None, ca_file=authority.file) as (it, copilot):
        async with asyncio.timeout(PATIENCE):
            reply = await copilot.open(call(it.url))
            collector = Collector(on_data=(lambda _: reply.close()) if when == "in data" else None)
            if when == "reading":
                reading = asyncio.ensure_future(reply.read(LIMIT))
                await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            elif when != "untaken":
                reply.stream_to(collector)
                await collector.got_some.wait()
            if when == "paused":
                reply.pause()
            reply.close()
            reply.close()
            await it.exchanges[0].client_left.wait()
        reply.resume()
        assert not collector.endings


# Backpressure.


class Flood:
    """Writes `total` bytes and knows when nobody takes them."""

    def __init__(self, total):
        self.total = total
        self.written = 0
        self.turns_stuck = 0

    async def answer(self, exchange):
        await exchange.send(HEAD + b"Content-Length: %d\r\n\r\n" % self.total)
        while self.written < self.total:
            piece = bytes([self.written >> 16 & 255]) * 65536
            self.written += len(piece)
            await exchange.send(piece)

    async def until_stuck(self):
        """Wait until nothing has moved for many turns of the one loop that both sides share."""
        turns, seen = 0, -1
        async with asyncio.timeout(PATIENCE):
            while turns < 300:
                turns = turns + 1 if seen == self.written else 0
                seen = self.written
                await asyncio.sleep(0.0005 if turns % 100 == 99 else 0)
        return self.written


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("before", [False, True])
async def test_paused_reply_stops_upstream_and_resumes_whole(secured, before, tls, authority):
    flood = Flood(64 * 1024 * 1024)
    async with talking(flood.answer, tls if secured else None, ca_file=authority.file) as (
        it,
        copilot,
    ):
        async with asyncio.timeout(PATIENCE):
            reply = await copilot.open(call(it.url))
        if before:  # nobody has asked for the body at all
            collector = Collector()
        else:
            collector = Collector(on_data=lambda _: len(collector.chunks) == 3 and reply.pause())
            reply.stream_to(collector)
        assert await flood.until_stuck() < 24 * 1024 * 1024  # what kernels buffer, and a little
        assert len(collector.chunks) == (0 if before else 3)
        reply.stream_to(collector) if before else reply.resume()
        body, failure = await collector.whole()
        assert failure is None
        assert len(body) == flood.total
        assert all(body[at] == at >> 16 & 255 for at in range(0, len(body), 65536))


async def test_pause_in_every_piece_loses_nothing():
    wire = framed("chunked", [b"%d," % number for number in range(2000)])

    async def answer(exchange):
        for at in range(0, len(wire), 97):
            await exchange.send(wire[at : at + 97])

    async with talking(answer) as (it, copilot):
        reply = await copilot.open(call(it.url))
        loop = asyncio.get_running_loop()

        def on_data(_):
            reply.pause()
            loop.call_soon(reply.resume)

        collector = Collector(on_data)
        reply.stream_to(collector)
        body, failure = await collector.whole()
        assert (body, failure) == (b"".join(b"%d," % number for number in range(2000)), None)
        await fetch(copilot, it.url)
        assert it.connections == 1


@pytest.mark.parametrize("live", [False, True])
async def test_paused_receiver_hears_of_the_end_after_it_resumes(live):
    go_on = asyncio.Event()

    async def answer(exchange):
        if not live:
            await exchange.answer()
            return
        await exchange.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        await go_on.wait()
        await exchange.send(chunked(b"{}") + b"0\r\n\r\n")

    async with talking(answer) as (it, copilot):
        reply = await copilot.open(call(it.url))
        collector = Collector(on_data=lambda _: reply.pause())
        reply.stream_to(collector)
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            await collector.got_some.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (collector.body, collector.endings) == (b"{}", [])
        reply.resume()
        assert collector.endings == [None]


async def test_five_hundred_streams_at_once():
    raise_file_limit()
    events = [b"data: %d\n\n" % number for number in range(20)]
    everybody = asyncio.Event()

    async def answer(exchange):
        await exchange.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        if len(it.exchanges) == 500:
            everybody.set()
        await everybody.wait()
        for event in events:
            await exchange.send(chunked(event))
            await asyncio.sleep(0)
        await exchange.send(b"0\r\n\r\n")

    async with talking(answer) as (it, copilot):

        async def one():
            reply = await copilot.open(call(it.url))
            collector = Collector()
            reply.stream_to(collector)
            return await collector.whole()

        async with asyncio.timeout(60):
            got = await asyncio.gather(*(one() for _ in range(500)))
        assert got == [(b"".join(events), None)] * 500
        assert it.connections == 500


# Uploads.


@pytest.mark.parametrize("secured", [False, True])
async def test_big_body_goes_up_whole(secured, tls, authority):
    body = random.Random(5).randbytes(32 * 1024 * 1024)
    async with talking(Origin().answer, tls if secured else None, ca_file=authority.file) as (
        it,
        copilot,
    ):
        await fetch(copilot, it.url, body)
        assert it.exchanges[0].body == body


@pytest.mark.parametrize("politely", [False, True])
async def test_early_answer_to_a_big_upload_is_passed_on(politely):
    async def answer(exchange):
        more = [] if politely else ["Connection: close"]
        await exchange.answer(b"too large", "413 Request Entity Too Large", more)
        if politely:
            await exchange.wait_until_client_leaves()
        else:
            exchange.writer.transport.abort()  # with unread bytes: a reset

    async with talking(answer, wants_body=False) as (it, copilot):
        body = bytes(32 * 1024 * 1024)
        for number in (1, 2):
            reply, got = await fetch(copilot, it.url, body)
            assert (reply.status, got) == (413, b"too large")
            assert it.connections == number


# Where a credential goes.


async def test_redirect_is_an_answer():
    async def answer(exchange):
        await exchange.answer(b"", "307 Temporary Redirect", [f"Location: {it.url}/elsewhere"])

    async with talking(answer) as (it, copilot):
        reply, _ = await fetch(copilot, it.url)
        assert reply.status == 307
        assert len(it.exchanges) == 1


async def test_no_cookie_is_kept_or_passed_on():
    async def answer(exchange):
        await exchange.answer(headers=["Set-Cookie: session=1; Path=/"])

    async with talking(answer) as (it, copilot):
        for _ in range(2):
            reply, _ = await fetch(copilot, it.url)
            assert "set-cookie" not in reply.headers
        assert [each.header("cookie") for each in it.exchanges] == [None, None]


@pytest.mark.parametrize(
    "base",
    ["https://evil.example", "http://127.0.0.1:1", "https://api.githubcopilot.com.evil.example"],
)
async def test_credential_goes_to_permitted_origins_only(base):
    async with talking(Origin().answer) as (it, copilot):
        failure = await failure_of(copilot.open(call(base)), PermanentError)
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "api_base_refused")
        assert not it.connections


# TLS.


async def test_private_authority_must_be_configured(tls):
    async with talking(Origin().answer, tls) as (it, copilot):
        failure = await failure_of(copilot.open(call(it.url)))
        assert failure.code == "tls_untrusted"
        assert "network.ca_file" in failure.hint
        assert not it.exchanges


async def test_certificate_for_another_name_is_refused(authority):
    context = authority.server_context("elsewhere.example")
    async with talking(Origin().answer, context, ca_file=authority.file) as (it, copilot):
        failure = await failure_of(copilot.open(call(it.url)))
        assert failure.code == "tls_untrusted"
        assert not it.exchanges


async def test_unusable_authority_file_is_named(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    url = "https://127.0.0.1:1"
    async with copilot_at(url, ca_file=path) as copilot:
        failure = await failure_of(copilot.open(call(url)), PermanentError)
    assert failure.code == "ca_file_unusable"


async def test_plain_text_where_tls_was_expected():
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with copilot_at(url) as copilot:
        assert (await failure_of(copilot.open(call(url)))).code == "tls_failed"
    server.close()
    for _ in range(20):
        await asyncio.sleep(0)


# Proxies.


@pytest.mark.parametrize("way", ["configured", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "bare"])
@pytest.mark.parametrize("secured", [False, True])
async def test_tunnel_through_a_proxy(way, secured, tls, authority, monkeypatch):
    url = f"https://{NAME}"
    async with (
        Origin(context=tls) as it,
        TunnelProxy(it.port, context=tls if secured else None) as proxy,
    ):
        there = proxy.url.replace("//", "//me:hunter2%40@")
        if way == "bare" and not secured:
            monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        elif way not in ("configured", "bare"):
            monkeypatch.setenv(way, there)
        more = {"proxy": there} if way == "configured" or (way == "bare" and secured) else {}
        async with copilot_at(url, ca_file=authority.file, **more) as copilot:
            for _ in range(2):
                assert (await fetch(copilot, url))[1] == b"{}"
            question, *headers = proxy.asked[0]
            assert question == f"CONNECT {NAME}:443 HTTP/1.1"
            assert f"Host: {NAME}:443" in headers
            shown = [each for each in headers if each.startswith("Proxy-Authorization")]
            bare = way == "bare" and not secured
            assert shown == ([] if bare else ["Proxy-Authorization: Basic bWU6aHVudGVyMkA="])
            assert (len(proxy.asked), it.connections, len(it.exchanges)) == (1, 1, 2)
            assert it.exchanges[0].header("host") == NAME
            assert it.exchanges[0].header("proxy-authorization") is None


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\nno way",
        b"HTTP/1.1 200 OK\r\n\r\nsomething already",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000,
        b"",
    ],
)
async def test_proxy_that_opens_no_tunnel(refusal):
    url = f"https://{NAME}"
    async with TunnelProxy(refusal=refusal) as proxy:
        there = proxy.url.replace("//", "//me:hunter2@")
        async with copilot_at(url, proxy=there) as copilot:
            failure = await failure_of(copilot.open(call(url)))
    assert failure.code == "proxy_failed"
    assert "network.proxy" in failure.hint
    assert not any("canary" in line for line in proxy.asked[0])
    if refusal[9:12] in (b"407", b"502"):
        assert refusal[9:12].decode() in failure.message


async def test_no_proxy_spares_the_proxy(monkeypatch):
    url = "https://copilot.nowhere.invalid"
    monkeypatch.setenv("NO_PROXY", "example.org, nowhere.invalid")
    async with TunnelProxy() as proxy, copilot_at(url, proxy=proxy.url) as copilot:
        assert (await failure_of(copilot.open(call(url)))).code == "dns_failed"
        assert not proxy.asked


@pytest.mark.parametrize("configured", [False, True])
async def test_loopback_is_never_asked_through_a_proxy(configured, monkeypatch):
    async with TunnelProxy() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        more = {"proxy": proxy.url} if configured else {}
        async with talking(Origin().answer, **more) as (it, copilot):
            assert (await fetch(copilot, it.url))[1] == b"{}"
        assert not proxy.asked


async def test_wrong_certificate_inside_the_tunnel_is_refused(authority):
    url = f"https://{NAME}"
    context = authority.server_context("elsewhere.example")
    async with Origin(context=context) as it, TunnelProxy(it.port) as proxy:
        async with copilot_at(url, proxy=proxy.url, ca_file=authority.file) as copilot:
            assert (await failure_of(copilot.open(call(url)))).code == "tls_untrusted"
        assert not it.exchanges


async def test_unusable_proxy_is_a_matter_of_configuration():
    url = f"https://{NAME}"
    async with copilot_at(url, proxy="socks5://me:hunter2@127.0.0.1:1080") as copilot:
        failure = await failure_of(copilot.open(call(url)), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "proxy_unusable")


# Asking without waiting.


class Told:
    """A listener that remembers what it was told."""

    def __init__(self, on_reply=None):
        self.outcomes: list = []
        self.over = asyncio.Event()
        self._on_reply = on_reply

    def __call__(self, outcome):
        self.outcomes.append(outcome)
        if self._on_reply is not None and not isinstance(outcome, BrokerError):
            self._on_reply(outcome)
        self.over.set()

    async def outcome(self):
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()
        (outcome,) = self.outcomes
        return outcome


async def begin(copilot, url, told, body=b"{}"):
    """Begin on a connection that is at hand, as an exchange before has left one."""
    await fetch(copilot, url, b"first")
    exchange = copilot.begin(call(url, body), told)
    assert exchange is not None
    assert not told.outcomes, "nobody is told before it returns"
    return exchange


async def test_begin_sends_nothing_where_a_connection_must_be_made_first():
    async with talking(Exchange.answer) as (it, copilot):
        told = Told()
        assert copilot.begin(call(it.url), told) is None
        await fetch(copilot, it.url)
        assert (len(it.exchanges), told.outcomes) == (1, [])


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("pieces", [[b"all of it"], [b"one ", b"and ", b"two"], []])
async def test_begun_answers_are_those_of_open(secured, pieces, tls, authority):
    async def answer(exchange):
        await exchange.send(
            b"HTTP/1.1 418 Odd\r\nX-Own: kept\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for piece in pieces:
            await exchange.send(chunked(piece))
            await asyncio.sleep(0)
        await exchange.send(b"0\r\n\r\n")

    context = tls if secured else None
    async with talking(answer, context, ca_file=authority.file) as (it, copilot):
        collector = Collector()
        told = Told(on_reply=lambda reply: reply.stream_to(collector))
        await begin(copilot, it.url, told, b"second")
        reply = await told.outcome()
        assert (reply.status, reply.headers) == (418, {"x-own": "kept"})
        assert await collector.whole() == (b"".join(pieces), None)
        assert [exchange.body for exchange in it.exchanges] == [b"first", b"second"]
        assert {exchange.connection for exchange in it.exchanges} == {1}


async def test_the_whole_answer_in_one_read_reaches_a_receiver_that_begins_in_it():
    async with talking(Exchange.answer) as (it, copilot):
        collector = Collector()
        told = Told(on_reply=lambda reply: reply.stream_to(collector))
        await begin(copilot, it.url, told)
        assert await collector.whole() == (b"{}", None)


async def test_the_whole_answer_in_one_read_can_be_taken_at_once():
    taken = []
    async with talking(Exchange.answer) as (it, copilot):
        told = Told(on_reply=lambda reply: taken.append(reply.take_whole()))
        await begin(copilot, it.url, told)
        reply = await told.outcome()
        assert taken == [b"{}"]
        with pytest.raises(RuntimeError):
            reply.stream_to(Collector())


@pytest.mark.parametrize("length", [True, False])
async def test_of_an_answer_that_is_not_all_there_nothing_is_taken(length):
    async def answer(exchange):
        if exchange.body == b"first":
            await exchange.answer()
            return
        framing = b"content-length: 4" if length else b"connection: close"
        exchange.writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\nwho")
        await exchange.writer.drain()
        await asked.wait()
        exchange.writer.write(b"l")
        exchange.writer.close()

    asked, collector = asyncio.Event(), Collector()
    async with talking(answer) as (it, copilot):
        told = Told()
        await begin(copilot, it.url, told)
        reply = await told.outcome()
        assert reply.take_whole() is None
        asked.set()
        reply.stream_to(collector)
        assert await collector.whole() == (b"whol", None)


async def test_another_exchange_may_begin_on_the_connection_while_the_first_one_is_told():
    async with talking(Exchange.answer) as (it, copilot):
        second = Told()

        def ask_again(reply):
            reply.close()
            assert copilot.begin(call(it.url, b"third"), second) is not None

        await begin(copilot, it.url, Told(on_reply=ask_again))
        reply = await second.outcome()
        assert await reply.read(LIMIT) == b"{}"
        assert [exchange.body for exchange in it.exchanges] == [b"first", b"{}", b"third"]


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_begun_and_no_answer_is_told_once(how):
    async def answer(exchange):
        if exchange.body == b"first":
            await exchange.answer()
        else:
            exchange.reset() if how == "reset" else exchange.writer.close()

    async with talking(answer) as (it, copilot):
        told = Told()
        await begin(copilot, it.url, told)
        outcome = await told.outcome()
        assert isinstance(outcome, TransientError)
        assert outcome.failure.code == "upstream_cut"
        assert len(it.exchanges) == 2


async def test_begun_and_closed_is_cut_at_once_and_told_of_nothing():
    came, left = asyncio.Event(), asyncio.Event()

    async def answer(exchange):
        if exchange.body == b"first":
            await exchange.answer()
        else:
            came.set()
            await exchange.wait_until_client_leaves()
            left.set()

    async with talking(answer) as (it, copilot):
        told = Told()
        exchange = await begin(copilot, it.url, told)
        async with asyncio.timeout(PATIENCE):
            await came.wait()
            exchange.close()
            exchange.close()
            await left.wait()
        assert told.outcomes == []


async def test_begun_and_closed_in_one_round_is_not_sent():
    async with talking(Exchange.answer) as (it, copilot):
        told = Told()
        exchange = await begin(copilot, it.url, told, b"second")
        exchange.close()
        await fetch(copilot, it.url, b"third")
        assert [exchange.body for exchange in it.exchanges] == [b"first", b"third"]
        assert told.outcomes == []


async def test_begin_refuses_what_open_refuses():
    async with talking(Exchange.answer) as (it, copilot):
        await fetch(copilot, it.url)
        with pytest.raises(PermanentError):
            copilot.begin(call("https://elsewhere.example"), Told())
        with pytest.raises(PermanentError):
            copilot.begin(call(it.url, host="elsewhere.example"), Told())
