"""The pool and the clock behind the stream path: idle connections, limits, closing, silence."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from functools import partial

import pytest

from brokerd.core.completions import UpstreamCall
from brokerd.core.settings import IdentitySettings
from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.upstream import Copilot, Upstream, UpstreamSettings
from brokerd.upstream.h1 import StreamTimeouts
from brokerd.upstream.pool import MAX_IDLE, Pool
from brokerd.upstream.reply import H1Reply
from brokerd.upstream.tls import Trust
from fakes.upstream_server import PATIENCE, Collector, Origin, chunked


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def call(url, **headers):
    return UpstreamCall("github.com", url, "tid=1:mac", "/chat/completions", b"{}", headers)


def copilot_at(url, **more):
    return Copilot(UpstreamSettings(copilot=url), **more)


async def fetch(copilot, url):
    async with asyncio.timeout(PATIENCE):
        return await (await copilot.open(call(url))).read(1 << 20)


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


class Clock:
    """CLOCK_BOOTTIME in a test's hands."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


# What nobody wants any more once the way is made.


async def test_a_request_that_is_not_wanted_any_more_is_not_sent():
    heads = []

    async def answer(exchange):
        heads.append(exchange)
        await exchange.send(HEAD + chunked(b"hi") + b"0\r\n\r\n")

    def unwanted():
        raise TransientError(Failure(ErrorClass.TEMPORARY, "cooling_down", "others were refused"))

    async with Origin(answer) as it:
        copilot = copilot_at(it.url)
        try:
            with pytest.raises(TransientError, match="cooling_down"):
                await copilot.open(call(it.url), unwanted)
            assert heads == []
            # The connection is kept; who has one at hand need not be asked.
            reply = await copilot.open(call(it.url), unwanted)
            assert await reply.read(100) == b"hi"
            assert (len(heads), it.connections) == (1, 1)
            reply.close()
        finally:
            await copilot.aclose(patience=0)


# Silence.


async def test_no_head_in_time():
    async def answer(exchange):
        await exchange.wait_until_client_leaves()

    async with Origin(answer) as it:
        copilot = copilot_at(it.url, timeouts=StreamTimeouts(head=0.05))
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(TransientError) as caught:
                await copilot.open(call(it.url))
            await it.exchanges[0].client_left.wait()
        assert caught.value.failure.code == "upstream_slow_head"
        await copilot.aclose()


async def test_silence_in_mid_stream():
    async def answer(exchange):
        await exchange.send(HEAD + chunked(b"hi"))
        await exchange.wait_until_client_leaves()

    async with Origin(answer) as it:
        copilot = copilot_at(it.url, timeouts=StreamTimeouts(idle=0.05))
        reply = await copilot.open(call(it.url))
        collector = Collector()
        reply.stream_to(collector)
        body, failure = await collector.whole()
        assert (body, failure.code) == (b"hi", "upstream_stalled")
        await copilot.aclose()


async def test_who_sends_now_and_then_is_not_cut():
    """Longer than the limit in all, and shorter each time."""

    async def answer(exchange):
        await exchange.send(HEAD)
        for _ in range(8):
            await asyncio.sleep(0.05)
            await exchange.send(chunked(b"x"))
        await exchange.send(b"0\r\n\r\n")

    async with Origin(answer) as it:
        copilot = copilot_at(it.url, timeouts=StreamTimeouts(idle=0.25))
        assert await fetch(copilot, it.url) == b"x" * 8
        await copilot.aclose()


async def test_our_own_pause_is_nobodys_silence():
    async def answer(exchange):
        await exchange.send(HEAD + chunked(b"hi"))
        await exchange.wait_until_client_leaves()

    async with Origin(answer) as it:
        copilot = copilot_at(it.url, timeouts=StreamTimeouts(idle=0.02))
        reply = await copilot.open(call(it.url))
        collector = Collector(on_data=lambda _: reply.pause())
        reply.stream_to(collector)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await it.exchanges[0].client_left.wait()
        reply.resume()
        assert (await collector.whole())[1].code == "upstream_stalled"
        await copilot.aclose()


async def test_connecting_takes_no_longer_than_is_allowed():
    client_left = asyncio.Event()

    async def silence(reader, writer):
        await reader.read()
        writer.close()
        client_left.set()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    copilot = copilot_at(url, timeouts=StreamTimeouts(connect=0.1))
    with pytest.raises(TransientError) as caught:  # TLS is never answered
        await copilot.open(call(url))
    assert caught.value.failure.code == "network_timeout"
    async with asyncio.timeout(PATIENCE):
        await client_left.wait()
    await copilot.aclose()
    server.close()
    await turns()


async def test_answer_that_came_before_our_write_was_refused_is_passed_on():
    """The kernel still has it when asyncio gives the connection up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        pool = pool_with(Clock())
        connection = await pool.connect(url)
        peer, _ = listener.accept()
        peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nlate")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        head = asyncio.get_running_loop().create_future()
        reply = H1Reply(connection, partial(head.set_result, None))
        connection.send(reply, b"POST / HTTP/1.1\r\n\r\n", b"")
        async with asyncio.timeout(PATIENCE):
            await head
            assert (reply.status, await reply.read(100)) == (408, b"late")
        await pool.aclose(1)


# The pool.


def pool_with(clock, **more):
    return Pool(proxy=None, trust=Trust(), timeouts=StreamTimeouts(), clock=clock, **more)


async def idle_connection(pool, url):
    connection = await pool.connect(url)
    assert pool.keep(connection)
    return connection


async def test_connection_from_before_a_suspend_is_not_used():
    clock = Clock()
    async with Origin() as it:
        pool = pool_with(clock)
        connection = await idle_connection(pool, it.url)
        clock.now += MAX_IDLE - 1
        assert pool.take(it.url) is connection
        pool.keep(connection)
        clock.now += MAX_IDLE
        assert pool.take(it.url) is None
        await pool.aclose(1)


async def test_idle_ones_are_closed_oldest_first_and_then_no_timer_is_left():
    clock = Clock()
    async with Origin() as it:
        pool = pool_with(clock)
        first = await idle_connection(pool, it.url)
        clock.now += 10
        second = await idle_connection(pool, it.url)
        clock.now += MAX_IDLE - 5
        pool._timer.cancel()
        pool._sweep()
        assert (first.is_open, second.is_open) == (False, True)
        assert pool._timer is not None
        clock.now += 6
        pool._timer.cancel()
        pool._sweep()
        assert not second.is_open
        assert pool._timer is None
        await pool.aclose(1)


async def test_lost_connection_leaves_the_pool():
    async with Origin() as it:
        pool = pool_with(Clock())
        connection = await idle_connection(pool, it.url)
        async with asyncio.timeout(PATIENCE):
            while not it.open:
                await asyncio.sleep(0)
            for writer in it._writers:
                writer.close()
            while pool._connections:
                await asyncio.sleep(0)
        assert pool.take(it.url) is None
        assert not connection.is_open
        await pool.aclose(1)


async def test_there_is_a_bound_and_idle_ones_elsewhere_make_room():
    async def answer(exchange):
        await exchange.wait_until_client_leaves()

    async with Origin(answer) as it, Origin() as other:
        copilot = Copilot(UpstreamSettings(copilot=it.url, api=other.url), max_connections=2)
        await fetch(copilot, other.url)
        questions = []
        for _ in range(2):
            questions.append(asyncio.ensure_future(copilot.open(call(it.url))))
            await it.exchange()
        async with asyncio.timeout(PATIENCE):
            while other.open:
                await asyncio.sleep(0)
            with pytest.raises(TransientError) as caught:
                await copilot.open(call(it.url))
        failure = caught.value.failure
        assert (failure.error_class, failure.code) == (ErrorClass.TEMPORARY, "upstream_busy")
        assert failure.retry_after
        for question in questions:
            question.cancel()
        await asyncio.wait(questions)
        await turns()
        await fetch(copilot, other.url)
        await copilot.aclose()


# Closing.


async def test_closing_lets_streams_end_and_serves_late_requests():
    go_on = asyncio.Event()

    async def answer(exchange):
        await exchange.send(HEAD + chunked(b"one"))
        await go_on.wait()
        await exchange.send(chunked(b"two") + b"0\r\n\r\n")

    async with Origin(answer) as it:
        upstream = Upstream(UpstreamSettings(copilot=it.url))
        reply = await upstream.copilot.open(call(it.url))
        collector = Collector()
        reply.stream_to(collector)
        closing = asyncio.ensure_future(upstream.aclose())
        await turns()
        assert not closing.done()
        late = await upstream.copilot.open(call(it.url))
        go_on.set()
        assert await collector.whole() == (b"onetwo", None)
        assert await late.read(100) == b"onetwo"
        async with asyncio.timeout(PATIENCE):
            await closing
            while it.open:
                await asyncio.sleep(0)
        assert it.connections == 2


@pytest.mark.parametrize("how", ["impatient", "cancelled"])
async def test_closing_cuts_what_does_not_end(how):
    async def answer(exchange):
        await exchange.send(HEAD + chunked(b"one"))
        await exchange.wait_until_client_leaves()

    async with Origin(answer) as it:
        copilot = copilot_at(it.url)
        reply = await copilot.open(call(it.url))
        collector = Collector()
        reply.stream_to(collector)
        if how == "impatient":
            await copilot.aclose(patience=0.05)
        else:
            closing = asyncio.ensure_future(copilot.aclose())
            await turns()
            closing.cancel()
        body, failure = await collector.whole()
        assert (body, failure.code) == (b"one", "upstream_cut")
        async with asyncio.timeout(PATIENCE):
            await it.exchanges[0].client_left.wait()


async def test_nothing_stays_behind():
    """No timer wakes an idle daemon, and no cycle keeps an answer's bytes until the next sweep."""
    loop = asyncio.get_running_loop()
    async with Origin() as it:
        copilot = copilot_at(it.url)
        await fetch(copilot, it.url)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await fetch(copilot, it.url)
            assert gc.collect() < 50
        finally:
            gc.enable()
        await copilot.aclose()
        await turns()
        assert [each for each in loop._scheduled if not each.cancelled()] == []
        assert copilot._pool._connections == set()


async def test_body_is_taken_once():
    async with Origin() as it:
        copilot = copilot_at(it.url)
        reply = await copilot.open(call(it.url))
        await reply.read(100)
        with pytest.raises(RuntimeError):
            await reply.read(100)
        with pytest.raises(RuntimeError):
            reply.stream_to(Collector())
        await copilot.aclose()


async def test_configured_identity_goes_up():
    identity = IdentitySettings(user_agent="me/1", editor_version="")
    async with Origin() as it:
        upstream = Upstream(UpstreamSettings(copilot=it.url, identity=identity))
        await fetch(upstream.copilot, it.url)
        exchange = it.exchanges[0]
        assert exchange.header("user-agent") == "me/1"
        assert exchange.header("editor-version") is None
        assert exchange.header("editor-plugin-version").startswith("copilot-broker/")
        await upstream.aclose()


async def test_small_calls_without_a_user_agent_send_none():
    identity = IdentitySettings(user_agent="")
    async with Origin(wants_body=False) as it:

        async def answer(exchange):
            await exchange.answer(b'{"data": [{"id": "a"}, {"id": "a"}, {}]}')

        it.answer = answer
        upstream = Upstream(UpstreamSettings(copilot=it.url, identity=identity))
        assert await upstream.copilot.models("github.com", it.url, "t") == [{"id": "a"}]
        assert it.exchanges[0].header("user-agent") is None
        await upstream.aclose()
