"""Completions over a real socket, with upstream in the test's hands."""

from __future__ import annotations

import asyncio
import logging
import os
import random

import pytest

from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.rpc.completion_stream import CHUNK_MAX, SUSPECT_MAX
from brokerd.rpc.session import OUT_HIGH
from brokerd.rpc.whole_answer import BODY_MAX
from copilot_broker.wire.connection import (
    ConnectionEnded,
    ResponseReceived,
    StreamData,
    StreamEnd,
)
from copilot_broker.wire.limits import MAX_LARGE_FRAME, REQUESTS_IN_FLIGHT, STREAM_WINDOW
from fakes.proxy import FakeReply, upstream_cut
from fakes.rpc_door import PATIENCE, Door, until


AWKWARD = b'{"model": "x", "messages": [\x00\xff\xfe\xc3\x28]}\r\n' + bytes(range(256))
"""No JSON, no UTF-8: nobody on the way may care."""


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        yield door


@pytest.fixture
async def client(door):
    return await door.knock()


async def open_stream(client, **params) -> ResponseReceived:
    return await client.call("completion.create", body=b"{}", stream=True, **params)


async def collect(client, *, credit: bool = True, seq: int = 0) -> tuple[list[bytes], StreamEnd]:
    """All chunks of the one open stream, granted back as they come, and its end."""
    chunks: list[bytes] = []
    while isinstance(event := await client.event(), StreamData):
        assert event.seq == seq + len(chunks)
        chunks.append(event.chunk)
        if credit:
            client.wire.grant_credit(event.stream, event.cost)
            await client.flush()
    assert isinstance(event, StreamEnd), event
    return chunks, event


async def closed(reply: FakeReply) -> None:
    async with asyncio.timeout(PATIENCE):
        await reply.closed.wait()


# -- whole answers ----------------------------------------------------------------------------


async def test_a_whole_answer_comes_through_untouched(door, client):
    reply = FakeReply(AWKWARD, account="work", **{"x-request-id": "7"})
    door.proxy.answers.append(reply)
    answer = await client.call("completion.create", body=AWKWARD, account="work")
    assert answer.result == {
        "status": 200,
        "headers": {
            "content-type": "application/json",
            "x-copilot-broker-account": "work",
            "x-request-id": "7",
        },
        "body": AWKWARD,
        "account": "work",
    }
    (request,) = door.proxy.requests
    assert (request.body, request.path, request.stream) == (AWKWARD, "/chat/completions", False)
    assert (request.account, dict(request.headers)) == ("work", {})
    assert request.peer == os.getpid()
    assert reply.closed.is_set()


@pytest.mark.parametrize("status", [200, 400, 401, 402, 403, 429, 466, 500, 503])
async def test_any_status_is_a_result(door, client, status):
    door.proxy.answers.append(FakeReply(b"no", status=status))
    answer = await client.call("completion.create", body=b"{}")
    assert (answer.error, answer.result["status"], answer.result["body"]) == (None, status, b"no")
    door.proxy.answers.append(streamed := FakeReply(status=status))
    answer = await open_stream(client)
    assert (answer.error, answer.result["status"]) == (None, status)
    streamed.feed(b"no")
    streamed.end()
    assert await collect(client) == ([b"no"], StreamEnd(answer.result["stream"], None))


async def test_what_the_caller_chose_reaches_the_proxy(door, client):
    await client.call(
        "completion.create",
        body="é",
        path="v1/chat/completions",
        headers={"X-Initiator": "agent"},
        account="work",
    )
    (request,) = door.proxy.requests
    assert request.body == "é".encode()
    assert request.path == "/chat/completions"
    assert dict(request.headers) == {"x-initiator": "agent"}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "bad_params"),
        ({"body": None}, "bad_params"),
        ({"body": 7}, "bad_params"),
        ({"body": {"messages": []}}, "bad_params"),
        ({"body": b"{}", "stream": 1}, "bad_params"),
        ({"body": b"{}", "stream": "yes"}, "bad_params"),
        ({"body": b"{}", "account": 7}, "bad_params"),
        ({"body": b"{}", "path": 7}, "bad_params"),
        ({"body": b"{}", "path": ""}, "path_not_allowed"),
        ({"body": b"{}", "path": "/../user"}, "path_not_allowed"),
        ({"body": b"{}", "headers": "x"}, "bad_params"),
        ({"body": b"{}", "headers": {"authorization": "Bearer x"}}, "header_not_allowed"),
        ({"body": b"{}", "headers": {"accept": "a\r\nb: c"}}, "bad_header"),
        ({"body": b"{}", "headers": {"accept": 7}}, "bad_header"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_a_usage_error_and_never_sent(door, client, params, code):
    answer = await client.call("completion.create", **params)
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.USAGE, code)
    assert door.proxy.requests == []


async def test_an_empty_array_of_headers_is_an_empty_map(door, client):
    assert (await client.call("completion.create", body=b"{}", headers=[])).error is None


async def test_the_brokers_own_refusals_are_errors(door, client):
    refusal = Failure(ErrorClass.LOGIN_REQUIRED, "login_required", "nobody", "copilot-cred login")
    for stream in (False, True):
        door.proxy.answers.append(PermanentError(refusal))
        answer = await client.call("completion.create", body=b"{}", stream=stream)
        assert answer.error.error_class is ErrorClass.LOGIN_REQUIRED
        assert answer.error.hint == "copilot-cred login"


async def test_a_whole_answer_that_breaks_off_is_a_temporary_error(door, client):
    door.proxy.answers.append(reply := FakeReply())
    msgid = await client.ask("completion.create", body=b"{}")
    await until(lambda: reply.receiver is not None)
    reply.feed(b"half")
    reply.cut()
    answer = await client.event()
    assert answer.msgid == msgid
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.TEMPORARY, "upstream_cut")
    assert reply.closed.is_set()


async def test_the_longest_answer_and_the_longest_prompt_fit_their_frames(door, client):
    body = random.Random(1).randbytes(BODY_MAX)
    door.proxy.answers.append(FakeReply(body))
    answer = await client.call("completion.create", body=body)
    assert answer.result["body"] == body
    assert door.proxy.requests[0].body == body
    await until(lambda: door.server.buffered == 0)


async def test_an_answer_too_long_for_a_frame_is_cut_and_told_so(door, client):
    door.proxy.answers.append(reply := FakeReply())
    await client.ask("completion.create", body=b"{}")
    await until(lambda: reply.receiver is not None)
    reply.feed(bytes(BODY_MAX))
    assert door.server.buffered >= BODY_MAX, "what is collected counts"
    assert not reply.closed.is_set()
    reply.feed(b".")
    assert reply.closed.is_set()
    assert (await client.event()).error.code == "upstream_too_long"
    assert door.server.buffered == 0


async def test_a_prompt_that_is_too_long_is_told_so(door, client, caplog):
    """Refused when its header is read: not a byte of the body is needed for that."""
    msgid = client.wire.send_request("completion.create", {"body": bytes(MAX_LARGE_FRAME)})
    await client.send(client.wire.data_to_send()[:4096])
    answer = await client.event()
    assert isinstance(answer, ResponseReceived)
    assert answer.msgid == msgid
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.USAGE, "frame_too_large")
    assert await client.is_closed()
    assert door.proxy.requests == []


async def test_a_request_without_the_scope_is_denied(tmp_path, caplog):
    async with Door(tmp_path / "s") as door:
        await door.server.serve(door.socket, "status")
        client = await door.knock()
        for stream in (False, True):
            answer = await client.call("completion.create", body=b"{}", stream=stream)
            assert (answer.error.error_class, answer.error.code) == (
                ErrorClass.DENIED,
                "scope_too_low",
            )
        assert door.proxy.requests == []


async def test_what_is_cancelled_from_within_is_a_defect_that_is_told(door, client):
    for stream in (False, True):
        door.proxy.answers.append(asyncio.CancelledError())
        answer = await client.call("completion.create", body=b"{}", stream=stream)
        assert answer.error.code == "internal_error"
    await until(lambda: all(session.idle for session in door.server._crowd))


async def test_hello_names_the_features(client):
    features = (await client.call("broker.hello")).result["features"]
    assert {"completions", "models", "request_cancel", "refusals"} <= set(features)


# -- refusals ---------------------------------------------------------------------------------


REFUSED = Failure(
    ErrorClass.DENIED,
    "no_seat",
    "nobody has given you a seat",
    "Ask your administrator; then: copilot-cred refresh",
    "https://github.com/settings/copilot",
    60.0,
)
REFUSAL = {
    "class": 5,
    "code": "no_seat",
    "message": "nobody has given you a seat",
    "hint": "Ask your administrator; then: copilot-cred refresh",
    "url": "https://github.com/settings/copilot",
    "retry_after": 60.0,
}


async def test_a_refusal_is_explained_beside_the_answer(door, client):
    door.proxy.answers += [FakeReply(b"no", status=403, refusal=REFUSED) for _ in range(2)]
    whole = (await client.call("completion.create", body=b"{}")).result
    assert (whole["status"], whole["body"], whole["refusal"]) == (403, b"no", REFUSAL)
    head = (await open_stream(client)).result
    assert (head["status"], head["refusal"]) == (403, REFUSAL)
    assert await collect(client) == ([b"no"], StreamEnd(head["stream"], None))
    assert door.proxy.noted == [], "the proxy knows of its own answers"


async def test_an_error_in_place_of_a_whole_answer_is_explained_and_remembered(door, client):
    body = b'\xef\xbb\xbf{"error": {\n"message": "too busy", "code": "model_overloaded"}}'
    door.proxy.answers.append(FakeReply(body, account="work"))
    found = (await client.call("completion.create", body=b"{}")).result
    assert (found["status"], found["body"]) == (200, body)
    assert (found["refusal"]["class"], found["refusal"]["code"]) == (7, "model_overloaded")
    assert "too busy" in found["refusal"]["message"]
    ((account, noted),) = door.proxy.noted
    assert (account, noted.code) == ("work", "model_overloaded")
    door.proxy.answers.append(FakeReply(b'{"error": null, "output": []}'))
    assert "refusal" not in (await client.call("completion.create", body=b"{}")).result


async def test_who_wants_errors_as_text_has_refusals_so(door, client):
    await client.call("broker.hello", errors="text")
    door.proxy.answers += [FakeReply(b"no", status=403, refusal=REFUSED) for _ in range(2)]
    door.proxy.answers.append(reply := FakeReply())
    whole = (await client.call("completion.create", body=b"{}")).result
    assert whole["refusal"] == str(REFUSED)
    assert (await open_stream(client)).result["refusal"] == str(REFUSED)
    await collect(client)
    await open_stream(client)
    reply.feed(ERROR_EVENT)
    reply.end()
    _, end = await collect(client)
    assert end.refusal.message.startswith("model_overloaded: ")


ERROR_EVENT = b'data: {"error":{"message":"too busy","code":"model_overloaded"}}\n\n'
EVENT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'


@pytest.mark.parametrize(
    "chunks",
    [
        [EVENT, ERROR_EVENT],
        [EVENT + ERROR_EVENT + EVENT],
        [EVENT, ERROR_EVENT, ERROR_EVENT.replace(b"model_overloaded", b"another")],
        [ERROR_EVENT[:-20], ERROR_EVENT[-20:]],
        [b'data: {"response":{"error":null}}\n\n' + EVENT, ERROR_EVENT],
        [EVENT + ERROR_EVENT[:20], ERROR_EVENT[20:30], ERROR_EVENT[30:], EVENT],
        [ERROR_EVENT.rstrip()],
    ],
    ids=["alone", "among", "two", "cut", "after_none", "cut_twice", "last"],
)
async def test_an_error_in_mid_stream_is_explained_at_the_end(door, client, chunks):
    door.proxy.answers.append(reply := FakeReply(account="work"))
    await open_stream(client)
    reply.feed(*chunks)
    reply.end()
    received, end = await collect(client)
    assert received == chunks
    assert end.error is None
    assert end.refusal.code == "model_overloaded"
    assert end.refusal.error_class is ErrorClass.TEMPORARY
    assert "too busy" in end.refusal.message
    ((account, noted),) = door.proxy.noted
    assert (account, noted.code) == ("work", "model_overloaded")


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"id":"x","choices":[],"error":{"message":"busy","code":"model_overloaded"}}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}\n\n',
        b'event: error\ndata: {"type":"error","error":{"message":"busy"}}\n\n',
    ],
    ids=["late_key", "finish_reason", "anthropic"],
)
async def test_an_error_is_found_wherever_upstreams_reads_cut_it(door, client, error):
    whole = EVENT + error
    missed = []
    for cut in range(1, len(whole)):
        door.proxy.answers.append(reply := FakeReply())
        await open_stream(client)
        reply.feed(whole[:cut], whole[cut:])
        reply.end()
        received, end = await collect(client)
        assert b"".join(received) == whole
        if end.refusal is None:
            missed.append(cut)
    assert missed == []


async def test_an_error_before_the_cut_is_explained_too(door, client):
    door.proxy.answers.append(reply := FakeReply())
    await open_stream(client)
    reply.feed(ERROR_EVENT)
    reply.cut()
    _, end = await collect(client)
    assert (end.error.code, end.refusal.code) == ("upstream_cut", "model_overloaded")


@pytest.mark.parametrize(
    "chunk",
    [
        b'data: {"choices":[{"delta":{"content":"an \\"error\\": {}"}}]}\n\n',
        b'data: {"type":"response.created","response":{"error":null}}\n\n',
        b'data: {"choices":[],"error":null}\n\n',
        b'"error"' * 20_000,
        b'data: {"error":\n\ndata: \xff"error"\n\n',
    ],
    ids=["spoken", "none", "null", "long", "garbage"],
)
async def test_what_is_no_error_is_not_explained(door, client, chunk):
    door.proxy.answers.append(reply := FakeReply())
    await open_stream(client)
    reply.feed(chunk, EVENT)
    reply.end()
    received, end = await collect(client)
    assert b"".join(received) == chunk + EVENT
    assert (end.error, end.refusal) == (None, None)
    assert door.proxy.noted == []


async def test_of_a_line_that_does_not_end_a_bounded_part_is_kept(door, client):
    door.proxy.answers.append(reply := FakeReply())
    await open_stream(client)
    reply.feed(ERROR_EVENT[:20] + b" " * (SUSPECT_MAX - 20))
    flow = reply.receiver
    assert len(flow._suspect) == SUSPECT_MAX
    reply.feed(b" ")
    assert flow._suspect == b""
    reply.end()
    await collect(client)


# -- streams ----------------------------------------------------------------------------------


async def test_ten_thousand_chunks_come_byte_for_byte_and_in_order(door, client):
    chance = random.Random(3)
    chunks = [chance.randbytes(chance.randrange(1, 300)) for _ in range(10_000)]
    door.proxy.answers.append(reply := FakeReply())
    opened = await open_stream(client)
    reply.feed(*chunks)
    reply.end()
    received, end = await collect(client)
    assert received == chunks
    assert end == StreamEnd(opened.result["stream"], None)
    assert reply.closed.is_set()


async def test_the_head_comes_before_the_body(door, client):
    door.proxy.answers.append(FakeReply(status=200, account="work"))
    answer = await open_stream(client)
    assert answer.result == {
        "stream": 1,
        "status": 200,
        "headers": {"content-type": "application/json", "x-copilot-broker-account": "work"},
        "account": "work",
    }


async def test_what_is_there_already_comes_right_after_the_head(door, client):
    door.proxy.answers.append(reply := FakeReply())
    reply.feed(b"one", b"two")
    reply.end()
    opened = await open_stream(client)
    assert await collect(client) == ([b"one", b"two"], StreamEnd(opened.result["stream"], None))


async def test_a_large_read_comes_in_pieces_of_a_bounded_size(door, client):
    body = random.Random(5).randbytes(3 * CHUNK_MAX + 17)
    door.proxy.answers.append(reply := FakeReply())
    await open_stream(client)
    reply.feed(body)
    reply.end()
    received, _ = await collect(client)
    assert b"".join(received) == body
    assert max(map(len, received)) == CHUNK_MAX


async def test_no_more_is_sent_than_was_granted(door, client):
    door.proxy.answers.append(reply := FakeReply())
    stream = (await open_stream(client)).result["stream"]
    reply.feed(*[bytes(4096)] * 200)
    got = 0
    while got < STREAM_WINDOW:
        got += (await client.event()).cost
    assert got == STREAM_WINDOW
    assert reply.paused
    assert reply.delivered == STREAM_WINDOW
    client.wire.grant_credit(stream, 4096)
    await client.flush()
    assert (await client.event()).cost == 4096
    assert reply.paused
    assert (await client.call("token.get")).error is None  # and nothing of the stream before it


async def test_a_reader_without_credit_holds_little_and_delays_nobody(door, client):
    door.proxy.answers.append(reply := FakeReply())
    stream = (await open_stream(client)).result["stream"]
    read = 250_000  # what one read of upstream may bring
    reply.feed(*[bytes(read)] * 40)
    got = 0
    while got < STREAM_WINDOW:
        got += (await client.event()).cost
    assert door.server.buffered < read
    assert reply.waiting >= 37
    for _ in range(3):
        assert (await client.call("token.get")).error is None
    reply.end()
    client.wire.grant_credit(stream, 10 * 1024 * 1024)
    await client.flush()
    while isinstance(event := await client.event(), StreamData):
        got += event.cost
    assert (got, event.error) == (40 * read, None)
    assert door.server.buffered == 0


async def test_a_reader_that_reads_nothing_holds_little(door, client):
    """Credit without end, but the socket is full: then the room on the connection counts."""
    replies = [FakeReply() for _ in range(REQUESTS_IN_FLIGHT)]
    door.proxy.answers += replies
    for _ in replies:
        client.wire.grant_credit((await open_stream(client)).result["stream"], 2**30)
    await client.flush()
    assert (await client.call("token.get")).error is not None  # all credit has been read by now
    highest = 0
    for reply in replies:
        reply.feed(*[bytes(8192)] * 512)
        highest = max(highest, door.server.buffered)
    assert OUT_HIGH <= highest < OUT_HIGH + 20 * 8192
    assert all(reply.paused for reply in replies)
    for reply in replies:
        reply.end()
    got = dict.fromkeys(range(1, REQUESTS_IN_FLIGHT + 1), 0)
    ended = 0
    while ended < len(replies):
        match await client.event():
            case StreamData(stream=stream, cost=cost):
                got[stream] += cost
            case StreamEnd(error=None):
                ended += 1
    assert set(got.values()) == {512 * 8192}
    await until(lambda: door.server.buffered == 0)


async def test_all_streams_of_a_slow_reader_go_on_in_turn(door, client):
    replies = [FakeReply() for _ in range(4)]
    door.proxy.answers += replies
    for _ in replies:
        client.wire.grant_credit((await open_stream(client)).result["stream"], 2**30)
    await client.flush()
    for reply in replies:
        reply.feed(*[bytes(32_768)] * 64)
    while sum(reply.delivered for reply in replies) < 64 * 32_768:  # a quarter of all there is
        await client.read()
        await asyncio.sleep(0)
    shares = [reply.delivered // 32_768 for reply in replies]
    assert min(shares) > 5, shares


async def test_an_end_that_waits_for_credit_comes_after_the_last_chunk(door, client):
    door.proxy.answers.append(reply := FakeReply())
    stream = (await open_stream(client)).result["stream"]
    reply.feed(bytes(STREAM_WINDOW), b"last")
    reply.end()
    got = 0
    while got < STREAM_WINDOW:
        got += (await client.event()).cost
    assert (await client.call("broker.hello")).error is None  # no end before it
    client.wire.grant_credit(stream, 100)
    await client.flush()
    assert await collect(client, seq=4) == ([b"last"], StreamEnd(stream, None))


async def test_upstream_dying_in_mid_stream_is_a_typed_end(door, client):
    door.proxy.answers.append(reply := FakeReply())
    await open_stream(client)
    reply.feed(b"data: half")
    reply.cut()
    chunks, end = await collect(client)
    assert chunks == [b"data: half"]
    assert (end.error.error_class, end.error.code) == (ErrorClass.TEMPORARY, "upstream_cut")
    assert end.error.message == upstream_cut().message
    assert (await client.call("token.get")).error is None


async def test_a_stream_ends_in_text_and_inside_the_wrapper_for_who_asked_so(door, client):
    await client.call("broker.hello", errors="text", notify=["nvim_exec_lua", ["return ..."]])
    door.proxy.answers.append(reply := FakeReply())
    await client.call("completion.create", body="{}", stream=True)
    reply.feed(b"\x00\xffchunk")
    reply.cut()
    while b"upstream_cut" not in client.received:
        await client.read()
    assert client.received.count(b"nvim_exec_lua") == 2
    assert b"\xa5chunk\xc4\x07\x00\xffchunk" in client.received
    assert str(upstream_cut()).encode() in client.received


# -- leaving ----------------------------------------------------------------------------------


async def test_cancelling_a_stream_cuts_upstream(door, client):
    door.proxy.answers.append(reply := FakeReply())
    stream = (await open_stream(client)).result["stream"]
    reply.feed(b"one")
    assert (await client.event()).chunk == b"one"
    client.wire.cancel_stream(stream)
    await client.flush()
    assert await client.event() == StreamEnd(stream, None)
    assert reply.closed.is_set()
    assert (await client.call("token.get")).error is None


async def test_cancelling_a_stalled_stream_cuts_upstream(door, client):
    door.proxy.answers.append(reply := FakeReply())
    stream = (await open_stream(client)).result["stream"]
    reply.feed(*[bytes(100_000)] * 10)
    client.wire.cancel_stream(stream)
    await client.flush()
    while not isinstance(await client.event(), StreamEnd):
        pass
    await closed(reply)
    await until(lambda: door.server.buffered == 0)


async def test_leaving_cuts_upstream_whatever_it_does(door):
    waiting, whole, flowing, stalled = [await door.knock() for _ in range(4)]
    door.proxy.answers += [
        one := FakeReply(),
        two := FakeReply(),
        three := FakeReply(),
    ]
    await open_stream(flowing)
    await open_stream(stalled)
    two.feed(*[bytes(100_000)] * 10)
    await whole.ask("completion.create", body=b"{}")
    await until(lambda: three.receiver is not None)
    door.proxy.may_answer.clear()
    await waiting.ask("completion.create", body=b"{}", stream=True)
    await until(lambda: door.proxy.waiting == 1)
    for client in (waiting, whole, flowing, stalled):
        client.close()
    for reply in (one, two, three):
        await closed(reply)
    await until(lambda: door.proxy.cancelled == 1)
    assert door.server.connections == 0


class Process:
    """A hold on a process that ends when the test says so; a pipe stands for its pidfd."""

    def __init__(self) -> None:
        self.alive = True
        self._readable, self._end = os.pipe()

    def fileno(self) -> int:
        return self._readable

    def is_alive(self) -> bool:
        return self.alive

    def end(self) -> None:
        self.alive = False
        os.write(self._end, b".")

    def close(self) -> None:
        for fd in (self._readable, self._end):
            os.close(fd)


@pytest.fixture
def process():
    return Process()


@pytest.fixture
async def mortal(tmp_path, process):
    def peer(_sock):
        return Peer(7, os.getuid(), os.getgid(), pidfd=process)

    async with Door(tmp_path / "mortal", peers=peer) as door:
        yield door


async def test_the_end_of_the_process_cuts_upstream(mortal, process):
    client = await mortal.knock()
    mortal.proxy.answers.append(reply := FakeReply())
    await open_stream(client)
    process.end()
    await closed(reply)
    assert await client.is_closed()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_end_of_the_process_gives_up_what_waits_for_its_head(mortal, process, stream):
    client = await mortal.knock()
    mortal.proxy.may_answer.clear()
    await client.ask("completion.create", body=b"{}", stream=stream)
    await until(lambda: mortal.proxy.waiting == 1)
    process.end()
    await until(lambda: mortal.proxy.cancelled == 1)
    assert await client.is_closed()


async def test_dropping_the_greediest_cuts_its_upstream(tmp_path):
    async with Door(tmp_path / "s", buffers=300_000) as door:
        client = await door.knock()
        door.proxy.answers += [reply := FakeReply(), other := FakeReply()]
        await open_stream(client)
        await open_stream(client)
        reply.feed(bytes(550_000))
        other.feed(bytes(550_000))
        await closed(reply)
        await closed(other)
        assert door.server.connections == 0
        assert door.server.buffered == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_prompts_that_queue_are_held_until_they_are_answered(tmp_path, stream):
    async with Door(tmp_path / "s", buffers=300_000) as door:
        modest, greedy = await door.knock(), await door.knock()
        door.proxy.may_answer.clear()
        await modest.ask("completion.create", body=bytes(50_000), stream=stream)
        await greedy.ask("completion.create", body=bytes(100_000), stream=stream)
        await greedy.ask("completion.create", body=bytes(100_000), stream=stream)
        await until(lambda: door.server.buffered == 250_000)
        await greedy.ask("completion.create", body=bytes(100_000), stream=stream)
        assert await greedy.is_closed()
        await until(lambda: door.server.buffered == 50_000)
        await until(lambda: door.proxy.cancelled >= 2)
        door.proxy.answers.append(FakeReply())
        door.proxy.may_answer.set()
        await until(lambda: door.server.buffered == 0)  # from its head on nothing is sent again
        assert door.server.connections == 1


async def test_a_prompt_that_was_taken_back_is_held_no_more(tmp_path):
    async with Door(tmp_path / "s") as door:
        client = await door.knock()
        door.proxy.may_answer.clear()
        msgid = await client.ask("completion.create", body=bytes(50_000))
        await until(lambda: door.server.buffered == 50_000)
        client.wire.cancel_request(msgid)
        await client.flush()
        assert (await client.event()).error.code == "request_cancelled"
        assert door.server.buffered == 0


async def test_a_stream_keeps_its_connection_from_being_evicted(tmp_path):
    async with Door(tmp_path / "s", connections=2) as door:
        streaming, idle = await door.knock(), await door.knock()
        door.proxy.answers.append(reply := FakeReply())
        await open_stream(streaming)
        await idle.call("token.get")
        assert (await (await door.knock()).call("token.get")).error is None
        assert await idle.is_closed()
        reply.feed(b"still here")
        assert (await streaming.event()).chunk == b"still here"


async def test_what_still_waits_can_be_taken_back(door, client):
    door.proxy.may_answer.clear()
    first = await client.ask("completion.create", body=b"{}", stream=True)
    second = await client.ask("completion.create", body=b"{}")
    await until(lambda: door.proxy.waiting == 2)
    for msgid in (first, second):
        client.wire.cancel_request(msgid)
        await client.flush()
        answer = await client.event()
        assert (answer.msgid, answer.error.code) == (msgid, "request_cancelled")
    assert door.proxy.cancelled == 2
    client.wire.cancel_request(second)  # answered already: nothing happens
    await client.flush()
    assert (await client.call("token.get")).error is None


async def test_a_cancel_right_behind_its_request_is_one_answer(door, client):
    msgid = client.wire.send_request("completion.create", {"body": b"{}"})
    client.wire.cancel_request(msgid)
    await client.flush()
    answer = await client.event()
    assert (answer.msgid, answer.error.code) == (msgid, "request_cancelled")
    assert door.proxy.requests == []


# -- bounds -----------------------------------------------------------------------------------


async def test_the_seventeenth_in_flight_is_refused_until_a_stream_has_ended(door, client):
    replies = [FakeReply() for _ in range(REQUESTS_IN_FLIGHT)]
    door.proxy.answers += replies
    for _ in replies:
        assert (await open_stream(client)).error is None
    assert (await open_stream(client)).error.code == "too_many_requests"
    assert len(door.proxy.requests) == REQUESTS_IN_FLIGHT
    replies[7].end()
    assert isinstance(await client.event(), StreamEnd)
    assert (await client.call("token.get")).error is None


async def test_five_hundred_streams_over_forty_connections(door):
    clients = [await door.knock() for _ in range(40)]
    replies: list[FakeReply] = []
    for number in range(500):
        door.proxy.answers.append(reply := FakeReply())
        replies.append(reply)
        assert (await open_stream(clients[number % 40])).error is None
    for round_ in range(5):
        for number, reply in enumerate(replies):
            reply.feed(b"%d:%d;" % (number, round_))
    for reply in replies:
        reply.end()
    whole: list[bytes] = []
    for client in clients:
        texts: dict[int, bytes] = {}
        ended = 0
        while ended < len(replies) // 40 + (clients.index(client) < len(replies) % 40):
            match await client.event():
                case StreamData(stream=stream, chunk=chunk):
                    texts[stream] = texts.get(stream, b"") + chunk
                case StreamEnd(error=None):
                    ended += 1
        whole += texts.values()
    assert sorted(whole) == sorted(
        b"".join(b"%d:%d;" % (number, round_) for round_ in range(5)) for number in range(500)
    )


# -- stopping ---------------------------------------------------------------------------------


async def test_a_stop_lets_completions_end(tmp_path):
    async with Door(tmp_path / "s") as door:
        streaming, asking = await door.knock(), await door.knock()
        door.proxy.answers += [reply := FakeReply(), whole := FakeReply()]
        await open_stream(streaming)
        await asking.ask("completion.create", body=b"{}")
        await until(lambda: whole.receiver is not None)
        drain = asyncio.create_task(door.server.drain(PATIENCE))
        await asyncio.sleep(0)
        reply.feed(b"goes on")
        reply.end()
        whole.feed(b"too")
        whole.end()
        chunks, end = await collect(streaming, credit=False)
        assert (chunks, end.error) == ([b"goes on"], None)
        assert (await asking.event()).result["body"] == b"too"
        await drain
        assert isinstance(await streaming.event(), ConnectionEnded)


async def test_a_stop_ends_completions_when_its_time_is_up(tmp_path):
    async with Door(tmp_path / "s") as door:
        streaming, asking = await door.knock(), await door.knock()
        door.proxy.answers += [reply := FakeReply(), whole := FakeReply()]
        await open_stream(streaming)
        await asking.ask("completion.create", body=b"{}")
        await until(lambda: whole.receiver is not None)
        await door.server.drain(0.01)
        end = await streaming.event()
        assert isinstance(end, StreamEnd)
        assert end.error.code == "shutting_down"
        assert (await asking.event()).error.code == "shutting_down"
        assert reply.closed.is_set()
        assert whole.closed.is_set()


# -- the audit log ----------------------------------------------------------------------------


async def test_completions_are_one_record_and_a_count_at_close(door, client, caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    for account in ("default", "work", "default"):
        door.proxy.answers.append(reply := FakeReply(b"{}", account=account))
        await client.call("completion.create", body=b"secret prompt")
    door.proxy.answers.append(reply := FakeReply())
    await open_stream(client)
    reply.end()
    await client.event()
    client.close()
    await until(lambda: door.server.connections == 0)
    told = [(r.message, r.ACCOUNT, getattr(r, "COUNT", None)) for r in caplog.records]
    assert told == [
        ("completion granted", "default", None),
        ("completion granted", "work", None),
        ("completions made", "default", 3),
        ("completions made", "work", 1),
    ]
    assert "secret prompt" not in str([vars(record) for record in caplog.records])
