"""One connection of the HTTP door: requests in, answers out, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys

import pytest

from brokerd.core.access import Rule
from brokerd.gate import Gate
from brokerd.gateway.answering import OUT_HIGH
from brokerd.gateway.messages import Reply
from brokerd.gateway.session import WAITING_MAX, SessionLimits
from fakes.http_door import GET, PATIENCE, OpenDoor
from fakes.rpc_door import until


HOST = b"Host: localhost\r\n"
WORK = b"GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n"
SSE = {"content-type": "text/event-stream"}


def post(body: bytes, more: bytes = b"", path: bytes = b"/whole") -> bytes:
    head = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n"
    return head % (path, HOST, len(body), more) + body


@pytest.fixture
async def door(tmp_path):
    async with OpenDoor(tmp_path / "s") as door:
        yield door


@pytest.fixture
def client(door):
    return door.knock()


# -- answers ---------------------------------------------------------------------------------


async def test_one_request_after_the_other_is_answered_on_one_connection(door, client):
    for body in (b"", b"hello", b"x" * 100_000):
        answer = await client.ask(post(body))
        assert (answer.status, answer.body) == (200, b"%d" % len(body))
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["date"].endswith(" GMT")
        assert "connection" not in answer.headers
    assert door.door.connections == 1


async def test_what_is_sent_ahead_is_answered_in_order(door, client):
    await client.send(post(b"a") + WORK + post(b"abc") + GET)
    assert (await client.answer()).body == b"1"
    work = await door.work()
    assert len(door.handler.requests) == 2
    work.outlet.reply(Reply(200, {}, b"work"))
    assert [(await client.answer()).body for _ in range(3)] == [b"work", b"3", b"0"]
    assert work.closed == 0


async def test_a_stream_goes_out_as_it_comes(door, client):
    await client.send(WORK)
    outlet = (await door.work()).outlet
    outlet.start(200, SSE)
    assert outlet.send(b"data: a\n\n")
    assert (await client.until(b"a\n\n\r\n")).endswith(b"\r\n\r\n9\r\ndata: a\n\n\r\n")
    assert outlet.send(b"data: b\n\n")
    assert await client.until(b"b\n\n\r\n") == b"9\r\ndata: b\n\n\r\n"
    outlet.end()
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert (await client.ask()).status == 200


async def test_the_head_does_not_wait_for_a_body_that_is_late(door, client):
    await client.send(WORK)
    outlet = (await door.work()).outlet
    outlet.start(200, SSE)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    outlet.end()
    assert await client.until(b"\r\n\r\n") == b"0\r\n\r\n"


async def test_an_announced_length_needs_no_chunks(door, client):
    await client.send(WORK)
    outlet = (await door.work()).outlet
    outlet.start(200, {}, 4)
    outlet.send(b"ab")
    outlet.send(b"cd")
    outlet.end()
    answer = await client.answer()
    assert (answer.headers["content-length"], answer.body) == ("4", b"abcd")
    assert (await client.ask()).status == 200


@pytest.mark.parametrize("sent", [b"abc", b"abcde"])
async def test_a_length_that_was_not_kept_is_no_whole_answer(door, client, sent):
    await client.send(WORK)
    outlet = (await door.work()).outlet
    outlet.start(200, {}, 4)
    outlet.send(sent)
    outlet.end()
    assert (await client.rest()).partition(b"\r\n\r\n")[2] == (sent if len(sent) < 4 else b"")


async def test_an_answer_that_is_cut_has_no_end(door, client):
    await client.send(WORK)
    work = await door.work()
    work.outlet.start(200, SSE)
    work.outlet.send(b"data: a\n\n")
    work.outlet.cut()
    assert (await client.rest()).endswith(b"data: a\n\n\r\n")
    await until(lambda: door.door.connections == 0)
    assert work.closed == 0


@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize("streams", [True, False])
async def test_who_asks_for_the_head_gets_no_body(door, client, status, streams):
    for method in (b"HEAD", b"GET") if status != 200 else (b"HEAD",):
        await client.send(method + b" /work HTTP/1.1\r\n\r\n")
        count = len(door.handler.works)
        outlet = (await door.work(count + (count == 0))).outlet
        await until(lambda method=method: door.handler.requests[-1].head.method == method.decode())
        outlet = door.handler.works[-1].outlet
        if streams:
            outlet.start(status, {})
            outlet.send(b"abc")
            outlet.end()
        else:
            outlet.reply(Reply(status, {}, b"abc"))
        answer = await client.answer(is_head=True)
        assert answer.status == status
        assert ("content-length" in answer.headers) is (status == 200 and not streams)
        assert "transfer-encoding" not in answer.headers
    assert (await client.ask()).body == b"0"


@pytest.mark.parametrize(
    ("lines", "said"),
    [(b"", "close"), (b"Connection: keep-alive\r\n", "keep-alive")],
)
async def test_http_1_0(door, client, lines, said):
    await client.send(b"GET /whole HTTP/1.0\r\n%b\r\n" % lines)
    answer = await client.answer()
    assert (answer.body, answer.headers["connection"]) == (b"0", said)
    if said == "close":
        assert await client.is_closed()
    else:
        await client.send(b"GET /work HTTP/1.0\r\n%b\r\n" % lines)
        outlet = (await door.work()).outlet
        outlet.start(200, {})
        outlet.send(b"no chunks")
        outlet.end()
        assert (await client.rest()).endswith(b"\r\n\r\nno chunks")


async def test_who_wants_to_leave_is_let_go(client):
    answer = await client.ask(post(b"", b"Connection: close\r\n"))
    assert answer.headers["connection"] == "close"
    assert await client.is_closed()


async def test_a_refusal_may_end_the_connection(client):
    answer = await client.ask(b"GET /bare HTTP/1.1\r\n\r\n" + GET)
    assert (answer.status, answer.body) == (403, b"")
    assert set(answer.headers) == {"content-length", "connection", "date"}
    assert await client.is_closed()


async def test_a_defect_is_a_500_and_is_written_down(client, caplog):
    answer = await client.ask(b"GET /defect HTTP/1.1\r\n\r\n")
    assert (answer.status, answer.body) == (500, b"")
    assert await client.is_closed()
    assert "request not served" in caplog.messages


async def test_a_header_cannot_become_two(door, client):
    await client.send(WORK)
    headers = {"a": "b", "bad": "x\r\nset-cookie: y", "content-length": "7", "odd": "ä€"}
    (await door.work()).outlet.reply(Reply(200, headers, b"x"))
    answer = await client.answer()
    assert set(answer.headers) == {"content-length", "a", "odd", "date"}
    assert answer.body == b"x"


async def test_who_waits_for_a_word_before_the_body_gets_it(client):
    body = post(b"hello", b"Expect: 100-continue\r\n")
    await client.send(body[:-5])
    assert (await client.answer()).status == 100
    assert (await client.ask(b"hello")).body == b"5"
    assert (await client.ask(body)).body == b"5"  # sent along: no need to ask for it


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize(
    ("path", "kind"), [(b"/v1/messages?beta=true", "error"), (b"/v1/responses", None)]
)
async def test_a_body_too_large_is_refused_before_it_is_read(client, expects, path, kind):
    head = b"POST %b HTTP/1.1\r\n%bContent-Length: 33554433\r\n%b\r\n" % (path, HOST, expects)
    answer = await client.ask(head)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    told = json.loads(answer.body)
    assert told.get("type") == kind
    assert "32 MiB" in told["error"]["message"]


async def test_who_sends_without_listening_still_gets_the_refusal(door, client):
    """Unread bytes in a socket that is closed would take the answer with them."""
    await client.send(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
    for _ in range(50):
        with contextlib.suppress(BlockingIOError):
            client.socket.send(b"x" * 10_000)
        await asyncio.sleep(0)
    assert (await client.answer()).status == 413
    assert await client.is_closed()


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00", b"\x94\x00\x01\xa9token.get", b"GET /\r\n\r\n", b"\0" * 100_000],
)
async def test_garbage_is_answered_400_and_written_down(door, client, garbage, caplog):
    bystander = door.knock()
    await client.send(garbage)
    answer = await client.answer()
    assert (answer.status, answer.body) == (400, b"")
    assert await client.is_closed()
    assert "protocol breached" in caplog.messages
    assert (await bystander.ask()).status == 200
    assert door.handler.requests[0].head.path == "/whole"


async def test_after_a_refusal_nothing_is_read_for_a_request(door, client):
    await client.send(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n" + GET)
    assert (await client.answer()).status == 400
    assert await client.is_closed()
    assert door.handler.requests == []


# -- hanging up ------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("ahead", [b"", GET])
async def test_who_hangs_up_is_worked_for_no_more(door, client, begun, ahead):
    await client.send(WORK)
    work = await door.work()
    if begun:
        work.outlet.start(200, SSE)
        work.outlet.send(b"data: a\n\n")
    await client.send(ahead)
    client.close()
    await until(lambda: work.closed)
    assert door.door.connections == 0
    assert len(door.handler.requests) == 1
    assert work.outlet.send(b"more")  # nobody minds
    work.outlet.end()
    work.outlet.reply(Reply(200))
    work.outlet.cut()
    assert work.closed == 1


async def test_who_is_gone_when_it_is_written_to_is_noticed_then(door, client):
    await client.send(WORK)
    work = await door.work()
    client.close()
    work.outlet.start(200, SSE)
    for _ in range(3):
        work.outlet.send(b"data: a\n\n")
    assert work.closed == 0  # not while it calls us
    await until(lambda: work.closed == 1)


async def test_an_upload_that_ends_early_is_no_request(door, client):
    await client.send(post(b"hello")[:-1])
    await until(lambda: door.door.connections == 1)
    client.close()
    await until(lambda: door.door.connections == 0)
    assert door.handler.requests == []


async def test_it_ends_with_the_process_that_opened_it(door):
    code = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'GET /work HTTP/1.1\\r\\n\\r\\n')\n"
        "os.fork() or input()\n"  # a child keeps the socket open
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, door.socket.getsockname()], stdin=subprocess.PIPE
    )
    try:
        work = await door.work()
        process.kill()
        await until(lambda: work.closed)
        assert door.door.connections == 0
    finally:
        process.stdin.close()
        process.wait()


async def test_it_ends_with_the_rules_that_let_it_in(tmp_path):
    own = os.getuid()
    gate = Gate([Rule(uid=own)], own_uid=own + 1)
    async with OpenDoor(tmp_path / "s", gate=gate) as door:
        client = door.knock()
        await client.send(WORK)
        work = await door.work()
        gate.regrant([])
        assert work.closed == 1
        assert await client.is_closed()


# -- those who are slow ----------------------------------------------------------------------


async def test_an_answer_waits_for_who_does_not_read_it(door, client):
    await client.send(WORK)
    work = await door.work()
    work.outlet.start(200, {})
    chunk = b"x" * 10_000
    count = 1
    while work.outlet.send(chunk):
        count += 1
    assert door.door.buffered < OUT_HIGH + len(chunk) + 100
    work.outlet.send(chunk)  # it may go beyond
    assert work.went_on == 0
    await client.until(b"\r\n\r\n")
    reading = asyncio.create_task(client.until(b"0\r\n\r\n"))
    await until(lambda: work.went_on == 1)
    await until(lambda: door.door.buffered == 0)
    assert work.went_on == 1
    work.outlet.end()
    assert (await reading).count(b"x") == (count + 1) * len(chunk)
    assert (await client.ask()).status == 200


async def test_who_never_reads_goes_in_the_end(tmp_path):
    async with OpenDoor(tmp_path / "s", limits=SessionLimits(unread=0.05)) as door:
        client = door.knock()
        await client.send(WORK)
        work = await door.work()
        work.outlet.start(200, {})
        while work.outlet.send(b"x" * 10_000):
            pass
        await until(lambda: work.closed == 1)
        assert door.door.connections == 0


async def test_what_is_sent_ahead_has_a_bound(door, client):
    await client.send(WORK)
    work = await door.work()
    long = post(b"x" * 2000)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        for _ in range(1000):
            sent += client.socket.send(long * 10)
            await asyncio.sleep(0)
    assert door.door.buffered < WAITING_MAX + 20_000
    work.outlet.reply(Reply(200))
    assert (await client.answer()).status == 200
    for _ in range(sent // len(long)):
        assert (await client.answer()).body == b"2000"


@pytest.mark.parametrize(
    "part",
    [
        b"G",
        GET[:-1],
        post(b"hello")[:-1],
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["letter", "head", "body", "chunks"],
)
async def test_half_a_request_is_given_its_time(tmp_path, part):
    limits = SessionLimits(head=0.05, progress=0.05)
    async with OpenDoor(tmp_path / "s", limits=limits) as door:
        slow, idle = door.knock(), door.knock()
        assert (await idle.ask()).status == 200
        await slow.send(part)
        answer = await slow.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert (await idle.ask()).status == 200  # idle is free
        assert len(door.handler.requests) == 2


async def test_letter_by_letter_a_head_has_no_more_time(tmp_path):
    async with OpenDoor(tmp_path / "s", limits=SessionLimits(head=0.05)) as door:
        client = door.knock()
        with contextlib.suppress(ConnectionError):
            while not client.received:
                await client.send(b"GET / HTTP/1.1\r\nA: " if not door.door.buffered else b"a")
                with contextlib.suppress(BlockingIOError):
                    client.received += client.socket.recv(1000)
        assert client.received.startswith(b"HTTP/1.1 408 ")


async def test_a_body_may_take_longer_than_a_pause_but_not_for_ever(tmp_path):
    limits = SessionLimits(progress=10.0, body=0.05)
    async with OpenDoor(tmp_path / "s", limits=limits) as door:
        client = door.knock()
        await client.send(post(b"x" * 1_000_000)[:-999_000])
        with contextlib.suppress(ConnectionError):
            while not client.received:
                await client.send(b"a")
                with contextlib.suppress(BlockingIOError):
                    client.received += client.socket.recv(1000)
        assert client.received.startswith(b"HTTP/1.1 408 ")


async def test_a_running_answer_has_all_the_time(tmp_path):
    limits = SessionLimits(head=0.01, progress=0.01, body=0.01, unread=0.01)
    async with OpenDoor(tmp_path / "s", limits=limits) as door:
        client = door.knock()
        await client.send(post(b"hello", path=b"/work")[:-2])
        await client.send(b"lo")
        work = await door.work()
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0.1)
        work.outlet.reply(Reply(200, {}, b"late"))
        assert (await client.answer()).body == b"late"
