"""Streams: bytes as they are, paced by credit, left early, broken off; watches and sign-ins."""

from __future__ import annotations

import json
import threading

import pytest

from contracts.clients.driving import PATIENCE, the_bytes
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.limits import STREAM_WINDOW
from copilot_broker.wire.messages import ErrorInfo, chunk_cost
from fakes.wire_server import Stream, WireServer


SSE = {"content-type": "text/event-stream", "x-copilot-broker-account": "work"}
CUT = ErrorInfo(ErrorClass.TEMPORARY, "upstream_cut", "Copilot broke off", "Ask again", None, 2)
BUSY = ErrorInfo(ErrorClass.TEMPORARY, "model_overloaded", "it is busy", "Ask another", None, 30)
UPSTREAM_TEMPORARY = ["CopilotBrokerError", "Temporary", "UpstreamRefused"]


@pytest.fixture
def server():
    with WireServer({}) as server:
        yield server


def say(text: str) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def answering(server: WireServer, *chunks: bytes, status: int = 200, **more) -> None:
    headers = more.pop("headers", SSE)
    server.answers["completion.create"] = Stream(chunks, status=status, headers=headers, **more)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_the_head_is_there_at_once(client, server):
    go = threading.Event()

    def slowly():
        go.wait(PATIENCE)
        yield b"1"

    server.answers["completion.create"] = Stream(slowly(), status=200, headers=SSE)
    client.open(server.path)
    stream = client.begin("stream", {"a": 1}, headers={"x-initiator": "agent"}, account="w")
    assert stream.head | {"stream": 0} == {
        "stream": 0,
        "status": 200,
        "headers": SSE,
        "account": "work",
        "refusal": None,
        "ok": True,
    }
    go.set()
    assert stream.read() == b"1"
    [asked] = server.calls("completion.create")
    assert asked == {
        "path": "/chat/completions",
        "body": b'{"a":1}',
        "stream": True,
        "account": "w",
        "headers": {"x-initiator": "agent"},
    }


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_bytes_come_as_they_are_wherever_they_are_cut(client, server, size):
    body = bytes(range(256)) + "grüße 😀 \r\n\x00".encode() * 3 + b"\xff\xfe"
    answering(server, *pieces(body, size))
    client.open(server.path)
    told = client.begin("stream", {}).items()
    assert [the_bytes(item) for item in told["items"]] == pieces(body, size)
    assert (told["error"], told["refusal"]) == (None, None)


@pytest.mark.parametrize("size", [1, 3, 100_000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_whole_wherever_its_bytes_are_cut(client, server, size, end):
    events = [say("grü"), b": a comment\n\n", say("ße 😀"), b"data: [DONE]\n\n"]
    body = b"\xef\xbb\xbf" + b"".join(events).replace(b"\n", end.encode())
    answering(server, *pieces(body, size))
    client.open(server.path)
    told = client.begin("stream", {}).items("text")
    assert told == {"items": ["grü", "ße 😀"], "error": None, "refusal": None}


def test_thousands_of_tiny_chunks_are_no_burden(client, server):
    """Events that say nothing, a byte at a time, all there before the first is taken."""
    events = b": nothing\n\n" * 1000 + say("so") + b"data: [DONE]\n\n"
    answering(server, *pieces(events, 1))
    server.answers["broker.status"] = {"pid": 1}
    client.open(server.path)
    stream = client.begin("stream", {})
    assert client.call("status")
    assert stream.items("text") == {"items": ["so"], "error": None, "refusal": None}


ODD = [
    {"choices": [], "prompt_filter_results": []},
    {"choices": None, "copilot_references": [{}]},
    {"choices": [{"index": 1, "delta": {"content": "another"}}]},
    {"choices": [{"delta": {"content": None, "role": "assistant"}}]},
    {"choices": [7, {"index": None, "delta": {}, "message": {"content": "a"}}]},
    {"choices": [{"delta": {"content": [{"type": "text", "text": "b"}, {"x": 1}]}}]},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "c"}},
    {"type": "response.output_text.delta", "delta": "d"},
    {"type": "response.reasoning.delta", "delta": "thoughts"},
    {"output": [{"type": "reasoning", "content": "t"}, {"type": "message", "content": "e"}]},
    {"content": [{"type": "text", "text": "f"}]},
]


def test_copilots_oddities_do_no_harm(client, server):
    body = "".join(f"event: x\ndata: {json.dumps(event)}\n\n" for event in ODD)
    answering(server, body.encode(), b"data:\n\ndata: [1]\n\ndata: [DONE]\n\ndata: {\n\n")
    client.open(server.path)
    told = client.begin("stream", {}).items("text")
    assert ("".join(told["items"]), told["error"]) == ("abcdef", None)


def test_events_are_copilots_own_objects(client, server):
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in ODD).encode()
    answering(server, *pieces(body, 50))
    client.open(server.path)
    told = client.begin("stream", {}).items("events")
    assert (told["items"], told["error"]) == (ODD, None)


def test_an_answer_that_did_not_stream_is_read_all_the_same(client, server):
    body = b'{"choices":[{"message":{"content":"a whole one"}}]}'
    answering(server, *pieces(body, 9), headers={"content-type": "application/json; charset=x"})
    client.open(server.path)
    assert client.begin("stream", {}).items("text")["items"] == ["a whole one"]


@pytest.mark.parametrize("body", [b"data: {no json\n\n", b'data: {"a": "\xff"}\n\n'])
def test_an_event_that_is_no_json_is_an_error(client, server, lacks, body):
    if "utf8" in lacks and b"\xff" in body:
        return
    answering(server, say("so"), body)
    client.open(server.path)
    told = client.begin("stream", {}).items("text")
    assert told["items"] == ["so"]
    assert (told["error"]["class"], told["error"]["code"]) == (1, "bad_event")


def test_the_receiver_paces_the_sender(client, server):
    """A megabyte comes through a window of a quarter; nothing comes that nobody has asked for."""
    chunk = bytes(range(256)) * 64
    count, sent = 128, []

    def counted():
        for _ in range(count):
            sent.append(1)
            yield chunk

    server.answers["completion.create"] = Stream(counted(), status=200, headers=SSE)
    client.open(server.path)
    stream = client.begin("stream", {})
    stream.items(count=1)
    # the window, what it may overdraw it by, and the one that waits for credit
    window = STREAM_WINDOW // len(chunk)
    assert len(sent) <= window + 2
    assert stream.read() == chunk * (count - 1)
    assert len(server.credits) >= 4
    assert sum(server.credits) <= count * len(chunk)


def test_maps_are_paid_for_to_the_byte(client, server):
    """Numbers that look whole cost nine bytes each; who grants less than that stalls at last."""
    chunk = {"event": "token", "of": [float(n) for n in range(100)], "more": {"a": None}}
    count = 2 * STREAM_WINDOW // chunk_cost(chunk)
    server.answers["token.watch"] = Stream([chunk] * count)
    client.open(server.path)
    told = client.begin("watch").items()
    assert (len(told["items"]), told["error"]) == (count, None)
    assert told["items"][0] == chunk
    half = STREAM_WINDOW // 2
    assert server.credits
    for granted in server.credits:
        assert granted % chunk_cost(chunk) == 0
        assert half <= granted < half + chunk_cost(chunk)


@pytest.mark.parametrize("what", ["chunks", "text"])
def test_leaving_early_cancels_and_hangs_up(client, server, what):
    go = threading.Event()

    def endless():
        yield say("one")
        yield say("two")
        go.wait(PATIENCE)

    server.answers["completion.create"] = Stream(endless(), status=200, headers=SSE)
    client.open(server.path)
    told = client.begin("stream", {}).items(what, count=1, leave=True)
    assert len(told["items"]) == 1
    assert server.cancelled.wait(PATIENCE)
    assert server.left.wait(PATIENCE)
    go.set()


def test_closing_a_stream_wakes_who_waits_for_it(client, server):
    go = threading.Event()

    def mute():
        yield {"n": 1}
        go.wait(PATIENCE)

    server.answers["token.watch"] = Stream(mute())
    client.open(server.path)
    stream = client.begin("watch")
    assert stream.items(count=1)["items"] == [{"n": 1}]
    waiting = stream.start()
    stream.leave()
    told = waiting.result(PATIENCE)
    assert (told["items"], told["error"]) == ([], None)
    assert server.left.wait(PATIENCE)
    go.set()


def test_closing_the_client_ends_its_streams(client, server):
    go = threading.Event()

    def mute():
        yield {"n": 1}
        go.wait(PATIENCE)

    server.answers["token.watch"] = Stream(mute())
    client.open(server.path)
    stream = client.begin("watch")
    waiting = stream.start()
    client.close()
    assert waiting.result(PATIENCE)["error"] is None
    assert server.left.wait(PATIENCE)
    go.set()


def test_calls_pass_a_stream_that_nobody_reads(client, server):
    answering(server, *[b"x" * 10_000] * 60)
    server.answers["broker.status"] = {"pid": 1}
    client.open(server.path)
    stream = client.begin("stream", {})
    assert client.call("status") == {"pid": 1}
    assert server.connections == 2
    assert len(stream.read()) == 600_000


def test_the_death_of_upstream_is_told_after_what_came(client, server):
    answering(server, b"one", b"two", error=CUT)
    client.open(server.path)
    told = client.begin("stream", {}).items()
    assert [the_bytes(item) for item in told["items"]] == [b"one", b"two"]
    error = told["error"]
    assert error["kinds"] == ["CopilotBrokerError", "Temporary"]
    assert (error["code"], error["hint"], error["retry_after"]) == ("upstream_cut", "Ask again", 2)


def test_the_death_of_the_broker_is_told_after_what_came(client, server):
    def dying():
        yield b"one"
        server.hang_up()

    server.answers["completion.create"] = Stream(dying(), status=200, headers=SSE)
    client.open(server.path)
    told = client.begin("stream", {}).items()
    assert [the_bytes(item) for item in told["items"]] in ([b"one"], [])
    assert (told["error"]["class"], told["error"]["code"]) == (3, "connection_lost")


def test_a_refusal_is_the_brokers_words(client, server):
    more = {"refusal": BUSY.to_map()}
    answering(server, b"slow down", status=429, more=more)
    client.open(server.path)
    stream = client.begin("stream", {})
    refusal = stream.head["refusal"]
    assert (stream.head["status"], stream.head["ok"]) == (429, False)
    assert refusal["kinds"] == UPSTREAM_TEMPORARY
    assert (refusal["code"], refusal["retry_after"], refusal["status"]) == (BUSY.code, 30, 429)
    assert stream.read() == b"slow down"
    told = client.begin("stream", {}).items("text")
    assert (told["items"], told["error"]) == ([], refusal)


@pytest.mark.parametrize(
    ("status", "kind", "error_class"),
    [(404, "Denied", 5), (429, "Temporary", 7), (500, "Temporary", 7), (302, "Temporary", 7)],
)
def test_a_refusal_that_nobody_explains_is_named(client, server, status, kind, error_class):
    answering(server, b"?", status=status)
    server.answers["models.list"] = {}
    client.open(server.path)
    error = client.begin("stream", {}).items("text")["error"]
    assert error["kinds"] == sorted(["CopilotBrokerError", "UpstreamRefused", kind])
    told = (error["class"], error["code"], error["status"])
    assert told == (error_class, f"upstream_{status}", status)


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_no_refusal_is_of_the_brokers_own_classes(client, server, error_class):
    error = ErrorInfo(error_class, "odd", "a sentence").to_map()
    answer = {"status": 400, "headers": {}, "body": b"x", "account": "w", "refusal": error}
    server.answers["completion.create"] = answer
    client.open(server.path)
    refusal = client.call("complete", {})["refusal"]
    its_own = error_class in {2, 4, 5, 7}
    assert refusal["class"] == (error_class if its_own else 1)
    assert "UpstreamRefused" in refusal["kinds"]


@pytest.mark.parametrize("explained", [True, False])
@pytest.mark.parametrize(
    "error", [{"error": {"message": "overloaded"}}, {"type": "response.failed"}]
)
def test_an_error_in_mid_stream_is_told_after_what_came(client, server, explained, error):
    event = f"data: {json.dumps(error)}\n\n".encode()
    answering(server, say("so"), event, refusal=BUSY if explained else None)
    client.open(server.path)
    told = client.begin("stream", {}).items("events")
    assert told["items"][-1] == error
    assert told["error"]["kinds"] == UPSTREAM_TEMPORARY
    assert told["error"]["code"] == (BUSY.code if explained else "upstream_error")
    assert told["error"]["status"] == 200


def test_a_refusal_that_only_the_end_tells_is_raised_there(client, server):
    answering(server, say("so"), b"data: [DONE]\n\n", refusal=BUSY)
    client.open(server.path)
    told = client.begin("stream", {}).items("text")
    assert told["items"] == ["so"]
    assert told["error"]["code"] == BUSY.code
    told = client.begin("stream", {}).items()  # its bytes are given whatever they say
    assert (told["error"], told["refusal"]["code"]) == (None, BUSY.code)


def test_the_end_is_awaited_so_that_upstream_is_not_cut(client, server):
    answering(server, say("so"), b"data: [DONE]\n\n")
    client.open(server.path)
    assert client.begin("stream", {}).items("text")["items"] == ["so"]
    assert server.left.wait(PATIENCE)
    assert not server.cancelled.is_set()


def test_an_end_that_does_not_come_is_not_waited_for(client, server):
    go = threading.Event()

    def unending():
        yield say("so")
        yield b"data: [DONE]\n\n"
        go.wait(PATIENCE)

    server.answers["completion.create"] = Stream(unending(), status=200, headers=SSE)
    client.open(server.path)
    told = client.begin("stream", {}).items("text")
    assert (told["items"], told["error"]) == (["so"], None)
    assert server.cancelled.wait(PATIENCE)
    go.set()


def test_a_whole_answer_of_any_status_is_a_result(client, server):
    for status, body in ((200, b"\x00\xff{}"), (503, b"")):
        answer = {"status": status, "headers": {"a": "b"}, "body": body, "account": "work"}
        server.answers["completion.create"] = answer
        client.open(server.path)
        told = client.call("complete", {})
        assert the_bytes(told["body"]) == body
        assert (told["status"], told["ok"]) == (status, status == 200)
        assert (told["headers"], told["account"]) == ({"a": "b"}, "work")
        assert (told["refusal"] is None) == (status == 200)


def test_watches_and_sign_ins_tell_maps(client, server):
    chunks = [{"event": "token", "expires_in": 1440.5}, {"event": "login_required", "error": {}}]
    server.answers["token.watch"] = Stream(chunks)
    denied = ErrorInfo(ErrorClass.DENIED, "access_denied", "it was refused", "Run: x")
    server.answers["account.login"] = Stream([{"event": "waiting"}], error=denied)
    client.open(server.path)
    told = client.begin("watch", account="work").items()
    assert (told["items"], told["error"]) == (chunks, None)
    told = client.begin("login", account="work", host="h").items()
    assert told["items"] == [{"event": "waiting"}]
    assert told["error"]["kinds"] == ["CopilotBrokerError", "Denied"]
    assert server.calls("token.watch") == [{"account": "work"}]
    assert server.calls("account.login") == [{"account": "work", "host": "h"}]


def test_what_does_not_stream_is_named(client, server):
    server.answers["token.watch"] = {"no": "stream"}
    client.open(server.path)
    told = client.start("begin", method="watch", needed=[], options={})[1]
    assert told.exception(PATIENCE).told["code"] == "bad_answer"


def test_a_chunk_of_a_completion_is_bytes(client, server):
    answering(server, {"no": "bytes"})
    client.open(server.path)
    assert client.begin("stream", {}).items()["error"]["code"] == "bad_answer"
