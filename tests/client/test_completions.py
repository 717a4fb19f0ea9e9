"""Completions from the blocking client: bytes untouched, streams left early, deadlines, forks."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from contextlib import suppress

import pytest

from client.forks import in_a_child
from copilot_broker import (
    BrokerUnreachable,
    Client,
    Denied,
    InternalError,
    Temporary,
    UpstreamRefused,
    UsageError,
    calls,
)
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.limits import STREAM_WINDOW
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import HANG_UP, PATIENCE, SILENCE, Stream, WireServer


ANSWER = {
    "status": 200,
    "headers": {"content-type": "application/json", "x-request-id": "r1"},
    "body": b'{"choices":[{"message":{"content":"Hi"}}]}',
    "account": "work",
}
SSE = {"content-type": "text/event-stream", "x-copilot-broker-account": "work"}
UPSTREAM_CUT = ErrorInfo(
    ErrorClass.TEMPORARY, "upstream_cut", "the answer broke off", "Ask again", retry_after=1.0
)
CREATE = "completion.create"


def delta(text) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def sse(chunks, error=None, refusal=None, **more) -> Stream:
    return Stream(chunks, error, 200, SSE, more, refusal)


def serving(answer, **others) -> WireServer:
    return WireServer({CREATE: answer, **others})


def endless(first=b"x"):
    yield first
    while True:
        yield b"y" * 1000


class Gate:
    """Chunks of which all but the first wait for `open`."""

    def __init__(self, *chunks) -> None:
        self.chunks = chunks
        self.open = threading.Event()

    def __iter__(self):
        yield self.chunks[0]
        self.open.wait(PATIENCE)
        yield from self.chunks[1:]


# -- whole answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{ "a" : \xff }', b'{ "a" : \xff }'),
        ("ä", b"\xc3\xa4"),
        ({"a": "ä"}, '{"a":"ä"}'.encode()),
    ],
)
def test_body_arrives_as_given(body, sent):
    both = serving(lambda params: sse([]) if "stream" in params else ANSWER)
    with both as server, Client(server.path) as client:
        client.complete(body)
        with client.stream(body):
            pass
    assert [params["body"] for params in server.calls(CREATE)] == [sent, sent]


def test_everything_is_passed_on_after_a_hello():
    with serving(ANSWER) as server, Client(server.path, name="editor") as client:
        found = client.complete(
            b"{}", path="/v1/chat/completions", account="work", headers={"X-Initiator": "agent"}
        )
    assert server.requests == [
        ("broker.hello", {"protocol": 1, "client": "editor"}),
        (
            CREATE,
            {
                "path": "/v1/chat/completions",
                "body": b"{}",
                "account": "work",
                "headers": {"X-Initiator": "agent"},
            },
        ),
    ]
    assert (found.status, found.ok, found.body, found.account, found.text) == (
        200,
        True,
        ANSWER["body"],
        "work",
        "Hi",
    )
    assert found.headers["x-request-id"] == "r1"
    assert found.json()["choices"]


@pytest.mark.parametrize("status", [200, 302, 400, 401, 402, 403, 421, 422, 429, 466, 500, 503])
def test_any_status_is_a_result(status):
    answer = {**ANSWER, "status": status, "body": b"\x00\xff"}
    stream = Stream([b"\x00", b"\xff"], None, status, {})
    with serving(answer) as server, Client(server.path) as client:
        found = client.complete({})
        assert (found.status, found.body, found.ok) == (status, b"\x00\xff", status == 200)
        server.answers[CREATE] = stream
        with client.stream({}) as stream:
            assert (stream.status, stream.ok, stream.read()) == (
                status,
                status == 200,
                b"\x00\xff",
            )


def test_the_brokers_own_refusal_is_an_exception():
    refusal = ErrorInfo(ErrorClass.USAGE, "path_not_allowed", "no such path", "Take another")
    with serving(refusal) as server, Client(server.path) as client:
        for ask in (client.complete, client.stream):
            with pytest.raises(UsageError, match="path_not_allowed"):
                ask({}, path="/x")


@pytest.mark.parametrize("result", [{}, {**ANSWER, "body": None}, [], None])
def test_answer_that_is_no_completion_is_the_brokers_fault(result):
    with serving(result) as server, Client(server.path) as client:
        with pytest.raises(InternalError, match="bad_answer"):
            client.complete({})
        with pytest.raises(InternalError, match="does not stream"):
            client.stream({})


@pytest.mark.parametrize(
    "leave", [HANG_UP, ErrorInfo(ErrorClass.TEMPORARY, "shutting_down", "stopping")]
)
def test_completion_is_never_sent_twice(leave):
    with serving(leave) as server, Client(server.path) as client:
        for ask in (client.complete, client.stream):
            with pytest.raises((BrokerUnreachable, Temporary)):
                ask({})
    assert len(server.calls(CREATE)) == 2


def test_completions_leave_the_shared_connection_alone():
    entered, go = threading.Event(), threading.Event()

    def slow(_):
        entered.set()
        go.wait(PATIENCE)
        return ANSWER

    found = []
    handlers = {"broker.status": {"pid": 1}}
    with serving(slow, **handlers) as server, Client(server.path) as client:
        thread = threading.Thread(target=lambda: found.append(client.complete({})))
        thread.start()
        assert entered.wait(PATIENCE)
        assert client.status() == {"pid": 1}
        assert found == []
        go.set()
        thread.join(PATIENCE)
    assert found[0].status == 200


def test_threads_complete_and_stream_at_once():
    def answer(params):
        body = params["body"]
        return sse([body, body]) if params.get("stream") else {**ANSWER, "body": body}

    found = []

    def work(client, n) -> None:
        body = str(n).encode() * 1000
        with client.stream(body) as stream:
            found.append(stream.read() == body * 2 and client.complete(body).body == body)

    with serving(answer) as server, Client(server.path) as client:
        threads = [threading.Thread(target=work, args=(client, n)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert found == [True] * 20


def test_closing_the_client_ends_a_completion_that_waits():
    failures = []
    with serving(SILENCE) as server, Client(server.path) as client:

        def wait() -> None:
            try:
                client.complete({})
            except BrokerUnreachable as error:
                failures.append(error.code)

        thread = threading.Thread(target=wait)
        thread.start()
        wait_for(lambda: server.calls(CREATE))
        client.close()
        thread.join(PATIENCE)
        assert server.departures.acquire(timeout=PATIENCE)
    assert failures == ["connection_lost"]


def wait_for(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_models_are_githubs_own_entries():
    models = [{"id": "gpt-4.1", "capabilities": {"type": "chat"}}, {"id": "odd"}]
    with (
        WireServer({"models.list": {"account": "work", "models": models}}) as server,
        Client(server.path) as client,
    ):
        assert client.models("work") == models
        assert server.calls("models.list") == [{"account": "work"}]
        for nonsense in ({}, {"models": None}, {"models": [1]}, []):
            server.answers["models.list"] = nonsense
            with pytest.raises(InternalError, match="bad_answer"):
                client.models()


# -- streams ---------------------------------------------------------------------------------


def test_ten_thousand_chunks_arrive_byte_for_byte_with_little_credit_said():
    chunks = [n.to_bytes(2, "big") * (1 + n % 100) for n in range(10_000)]
    with serving(sse(chunks)) as server, Client(server.path) as client:
        stream = client.stream({})
        assert (stream.status, stream.headers, stream.account) == (200, SSE, "work")
        assert list(stream) == chunks
    total, half = sum(map(len, chunks)), STREAM_WINDOW // 2
    assert total > 3 * STREAM_WINDOW
    assert sum(server.credits) <= total
    # What is granted when all has been sent may find the stream ended, and nobody counts it.
    assert (total - STREAM_WINDOW) // half < len(server.credits) <= total // half
    assert not server.cancelled.is_set()


def test_chunks_larger_than_the_window_do_not_stall():
    chunks = [bytes([n]) * (STREAM_WINDOW + n) for n in range(5)]
    with serving(sse(chunks)) as server, Client(server.path) as client, client.stream({}) as found:
        assert found.read() == b"".join(chunks)


def test_account_is_the_answers_own():
    with serving(sse([], account="else")) as server, Client(server.path) as client:
        with client.stream({}) as stream:
            assert stream.account == "else"
        assert repr(stream) == "<CompletionStream status=200 account='else'>"


def leave_by_break(client):
    with client.stream({}) as stream:
        for _ in stream:
            break


def leave_by_error(client):
    with suppress(ZeroDivisionError), client.stream({}) as stream:
        next(stream)
        _ = 1 / 0


def leave_by_close(client):
    stream = client.stream({})
    stream.close()
    stream.close()
    assert list(stream) == []


def leave_by_forgetting(client):
    for _ in client.stream({}):
        break
    gc.collect()


def leave_text_by_forgetting(client):
    for text in client.stream({}).text():
        assert text == "Hi"
        break
    gc.collect()


def leave_by_closing_the_client(client):
    next(client.stream({}))
    client.close()


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_error,
        leave_by_close,
        leave_by_forgetting,
        leave_text_by_forgetting,
        leave_by_closing_the_client,
    ],
)
def test_leaving_early_cancels_and_hangs_up(leave):
    with serving(sse(endless(delta("Hi")))) as server, Client(server.path) as client:
        leave(client)
        assert server.left.wait(PATIENCE)
        assert server.cancelled.is_set()


@pytest.mark.parametrize("waiting_for", ["answer", "chunk"])
def test_interrupt_cuts_it(waiting_for):
    """Ctrl-C while an answer, or the next chunk, is waited for."""

    def interrupt(_):
        if waiting_for == "answer":
            os.kill(os.getpid(), signal.SIGINT)
            return SILENCE
        return sse(chunks())

    def chunks():
        yield b"x"
        os.kill(os.getpid(), signal.SIGINT)
        done.wait(PATIENCE)

    done = threading.Event()
    with serving(interrupt) as server, Client(server.path) as client:
        with pytest.raises(KeyboardInterrupt), client.stream({}) as stream:
            list(stream)
        assert server.departures.acquire(timeout=PATIENCE)
        done.set()


def test_close_wakes_a_stream_in_another_thread():
    gate = Gate(b"1", b"2")
    found, first = [], threading.Event()

    def follow(stream) -> None:
        for chunk in stream:
            found.append(chunk)
            first.set()
        found.append("ended")

    with serving(sse(gate)) as server, Client(server.path) as client:
        stream = client.stream({})
        thread = threading.Thread(target=follow, args=(stream,))
        thread.start()
        assert first.wait(PATIENCE)
        stream.close()
        thread.join(PATIENCE)
        assert server.left.wait(PATIENCE)
        gate.open.set()
        assert stream._link.sock.fileno() == -1
    assert found == [b"1", "ended"]


@pytest.mark.parametrize("way", [list, lambda stream: stream.read(), lambda s: list(s.text())])
def test_upstream_that_dies_in_mid_stream_is_told(way):
    with serving(sse([delta("Hi")], UPSTREAM_CUT)) as server, Client(server.path) as client:
        stream = client.stream({})
        with pytest.raises(Temporary, match="upstream_cut") as caught:
            way(stream)
        assert caught.value.retry_after == 1.0
        assert list(stream) == []


def test_what_came_before_the_death_is_delivered():
    with serving(sse([delta("Hi")], UPSTREAM_CUT)) as server, Client(server.path) as client:
        texts = client.stream({}).text()
        assert next(texts) == "Hi"
        with pytest.raises(Temporary):
            next(texts)


def test_broker_that_dies_in_mid_stream_is_told():
    gate = Gate(b"1", b"2")
    with serving(sse(gate)) as server, Client(server.path) as client:
        stream = client.stream({})
        assert next(stream) == b"1"
        server.hang_up()
        with pytest.raises(BrokerUnreachable, match="connection_lost"):
            next(stream)
        gate.open.set()


def test_chunk_that_is_not_bytes_is_the_brokers_fault():
    with (
        serving(sse([{"n": 1}])) as server,
        Client(server.path) as client,
        pytest.raises(InternalError, match="bad_answer"),
    ):
        next(client.stream({}))


QUIRKS = (
    b": ping\n\n"
    b'data: {"choices":[],"prompt_filter_results":[]}\r\n\r\n'
    b'data: {"choices":null,"copilot_references":[]}\n\n'
    + delta("H")
    + b'data: {"choices":[{"index":1,"delta":{"content":"other"}}]}\n\n'
    + b'data: {"choices":[{"delta":{"content":null,"tool_calls":[{}]}}]}\n\n'
    + b'data: {"choices":[{"index":0,"delta":{"content":"i"}}]}\n\n'
    + b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_and_text_survive_copilots_quirks(size):
    chunks = [QUIRKS[at : at + size] for at in range(0, len(QUIRKS), size)]
    with serving(sse(chunks)) as server, Client(server.path) as client:
        with client.stream({}) as stream:
            assert "".join(stream.text()) == "Hi"
        with client.stream({}) as stream:
            found = list(stream.events())
    assert len(found) == 7
    assert found[-1]["usage"] == {"total_tokens": 3}


def test_end_that_follows_done_is_awaited(monkeypatch):
    """Cancelling would cut upstream's connection, which could serve the next completion."""
    monkeypatch.setattr(calls, "LAST_WORD_TIMEOUT", PATIENCE)

    def chunks():
        yield delta("Hi") + b"data: [DONE]\n\n"
        server.cancelled.wait(0.2)  # that long the end is on its way

    with serving(sse(chunks())) as server, Client(server.path) as client:
        with client.stream({}) as stream:
            assert list(stream.text()) == ["Hi"]
        assert server.left.wait(PATIENCE)
        assert not server.cancelled.is_set()


def test_stream_whose_end_does_not_come_after_done_is_left(monkeypatch):
    monkeypatch.setattr(calls, "LAST_WORD_TIMEOUT", 0.05)
    gate = Gate(delta("Hi") + b"data: [DONE]\n\n", b"")
    with serving(sse(gate)) as server, Client(server.path) as client:
        assert list(client.stream({}).text()) == ["Hi"]
        assert server.cancelled.wait(PATIENCE)
        gate.open.set()


def test_death_after_done_is_none():
    chunks = [delta("Hi") + b"data: [DONE]\n\n"]
    with serving(sse(chunks, UPSTREAM_CUT)) as server, Client(server.path) as client:
        assert list(client.stream({}).text()) == ["Hi"]


ERROR_EVENT = b'data: {"error":{"message":"overloaded","code":"model_overloaded"}}\n\n'
BROKEN_OFF = ErrorInfo(
    ErrorClass.TEMPORARY,
    "model_overloaded",
    "GitHub Copilot broke off: overloaded",
    "Ask again",
    "https://github.com/x",
    3.0,
)


def test_error_in_mid_stream_is_raised_as_the_broker_explains_it():
    """Which it does at the end: what comes before that is read on to."""
    chunks = [delta("Hi"), ERROR_EVENT, delta("more")]
    with serving(sse(chunks, refusal=BROKEN_OFF)) as server, Client(server.path) as client:
        texts = []
        with client.stream({}) as stream, pytest.raises(UpstreamRefused) as caught:
            texts.extend(stream.text())
        error = caught.value
        assert error is stream.refusal
        assert isinstance(error, Temporary)
        assert (error.status, error.code, error.message) == (
            200,
            "model_overloaded",
            "GitHub Copilot broke off: overloaded",
        )
        assert (error.hint, error.url, error.retry_after) == (
            "Ask again",
            "https://github.com/x",
            3.0,
        )
        assert not server.cancelled.is_set()


@pytest.mark.parametrize("end", [{}, {"error": UPSTREAM_CUT}], ids=["ended", "cut"])
def test_error_in_mid_stream_that_nobody_explains_is_raised_plainly(end):
    with serving(sse([delta("Hi"), ERROR_EVENT], **end)) as server, Client(server.path) as client:
        texts = client.stream({}).text()
        assert next(texts) == "Hi"
        with pytest.raises(UpstreamRefused, match="upstream_error") as caught:
            next(texts)
        assert isinstance(caught.value, Temporary)
        assert caught.value.status == 200


def test_explanation_counts_also_where_the_stream_is_cut_after_its_error():
    answer = sse([ERROR_EVENT], UPSTREAM_CUT, refusal=BROKEN_OFF)
    with serving(answer) as server, Client(server.path) as client:
        with pytest.raises(UpstreamRefused, match="model_overloaded"):
            next(client.stream({}).text())
        with pytest.raises(Temporary, match="upstream_cut"):
            client.stream({}).read()


def test_explanation_that_does_not_come_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(calls, "LAST_WORD_TIMEOUT", 0.05)
    gate = Gate(ERROR_EVENT, b"")
    with serving(sse(gate)) as server, Client(server.path) as client:
        with pytest.raises(UpstreamRefused, match="upstream_error"):
            next(client.stream({}).text())
        assert server.cancelled.wait(PATIENCE)
        gate.open.set()


def test_error_in_mid_stream_is_the_last_event():
    chunks = [delta("Hi"), ERROR_EVENT + delta("more")]
    with serving(sse(chunks, refusal=BROKEN_OFF)) as server, Client(server.path) as client:
        events = []
        with client.stream({}) as stream, pytest.raises(UpstreamRefused, match="overloaded"):
            events.extend(stream.events())
        assert len(events) == 2
        assert events[1]["error"]["message"] == "overloaded"


def test_error_that_only_the_broker_recognizes_is_raised_at_the_end():
    """Each of Copilot's dialects has its own; the broker knows them all."""
    chunks = [b'data: {"type":"response.failed","response":{}}\n\n']
    for last in ([], [b"data: [DONE]\n\n"]):
        answer = sse(chunks + last, refusal=BROKEN_OFF)
        with serving(answer) as server, Client(server.path) as client:
            events = client.stream({}).events()
            assert next(events)["type"] == "response.failed"
            with pytest.raises(UpstreamRefused, match="model_overloaded"):
                next(events)


def test_bytes_are_given_whatever_they_say():
    chunks = [delta("Hi"), ERROR_EVENT]
    with serving(sse(chunks, refusal=BROKEN_OFF)) as server, Client(server.path) as client:
        stream = client.stream({})
        assert stream.refusal is None
        assert stream.read() == b"".join(chunks)
        assert stream.refusal.code == "model_overloaded"


DENIED = {
    "class": 5,
    "code": "unauthorized",
    "message": "GitHub Copilot answered 403: no access",
    "hint": "Look at: copilot-cred status",
    "url": "https://github.com/settings/copilot",
    "retry_after": 5.0,
}


def test_refusal_is_no_empty_stream():
    refused = Stream([b"unauthorized: ", b"no access\n"], None, 403, {}, {"refusal": DENIED})
    with serving(refused) as server, Client(server.path) as client:
        for take in (
            lambda stream: next(stream.text()),
            lambda stream: next(stream.events()),
            lambda stream: stream.raise_for_status(),
        ):
            stream = client.stream({})
            assert stream.refusal.code == "unauthorized"
            with pytest.raises(UpstreamRefused, match="no access") as caught:
                take(stream)
            assert isinstance(caught.value, Denied)
            assert (caught.value.status, caught.value.retry_after) == (403, 5.0)
            assert caught.value.url == "https://github.com/settings/copilot"
        assert client.stream({}).read() == b"unauthorized: no access\n"


def test_refusal_of_a_whole_answer_is_the_brokers_words():
    refused = {**ANSWER, "status": 403, "body": b"no", "refusal": DENIED}
    with serving(refused) as server, Client(server.path) as client:
        found = client.complete({})
        assert (found.ok, found.body, found.refusal.code) == (False, b"no", "unauthorized")
        with pytest.raises(Denied, match="no access"):
            _ = found.text


def test_an_error_under_200_is_the_brokers_words():
    refused = {**ANSWER, "body": b'{"error": {}}', "refusal": DENIED}
    with serving(refused) as server, Client(server.path) as client:
        found = client.complete({})
        assert (found.status, found.ok, found.refusal.status) == (200, True, 200)
        for use in (lambda: found.text, found.raise_for_status):
            with pytest.raises(Denied, match="no access"):
                use()


def test_endless_refusal_is_not_read_to_its_end():
    with serving(Stream(endless(), None, 500, {})) as server, Client(server.path) as client:
        with pytest.raises(UpstreamRefused, match="upstream_500"):
            client.stream({}).raise_for_status()
        assert server.left.wait(PATIENCE)


def test_answer_that_did_not_stream_is_read_all_the_same():
    answer = Stream([ANSWER["body"][:9], ANSWER["body"][9:]], None, 200, ANSWER["headers"])
    with serving(answer) as server, Client(server.path) as client:
        assert list(client.stream({}).text()) == ["Hi"]


# -- deadlines -------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["complete", "stream"])
def test_frozen_broker_is_noticed_long_before_a_model_is_given_up(monkeypatch, ask):
    monkeypatch.setattr(calls, "DEFAULT_TIMEOUT", 0.1)
    handlers = {"broker.hello": SILENCE}
    with serving(SILENCE, **handlers) as server, Client(server.path) as client:
        with pytest.raises(Temporary, match=r"timeout: the broker did not answer within 0\.1 s"):
            getattr(client, ask)({})
        assert server.departures.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("ask", ["complete", "stream"])
def test_slow_model_is_waited_for_longer_than_a_broker(monkeypatch, ask):
    monkeypatch.setattr(calls, "DEFAULT_TIMEOUT", 1.0)

    def slow(params):
        time.sleep(1.2)  # what is tried: an answer that takes longer than the broker's hello
        return sse([b"x"]) if params.get("stream") else ANSWER

    with serving(slow) as server, Client(server.path) as client:
        found = getattr(client, ask)({})
        assert found.status == 200
        if ask == "stream":
            assert found.read() == b"x"


@pytest.mark.parametrize(
    ("ask", "constant"), [("complete", "JSON_TIMEOUT"), ("stream", "FIRST_BYTE_TIMEOUT")]
)
def test_model_is_given_up_at_last_and_cut(monkeypatch, ask, constant):
    monkeypatch.setattr(calls, constant, 0.6)
    with serving(SILENCE) as server, Client(server.path) as client:
        with pytest.raises(Temporary, match=r"no answer from GitHub Copilot within 0\.6 s"):
            getattr(client, ask)({})
        assert server.departures.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("ask", ["complete", "stream"])
@pytest.mark.parametrize("by_client", [True, False])
def test_explicit_timeout_is_taken_literally(ask, by_client):
    with (
        serving(SILENCE) as server,
        Client(server.path, timeout=0.2 if by_client else PATIENCE) as client,
        pytest.raises(Temporary, match=r"within 0\.2 s"),
    ):
        getattr(client, ask)({}, timeout=None if by_client else 0.2)


def test_stream_that_has_begun_has_no_deadline(monkeypatch):
    gate = Gate(b"1", b"2")
    with serving(sse(gate)) as server, Client(server.path, timeout=0.5) as client:
        stream = client.stream({})
        assert next(stream) == b"1"
        timer = threading.Timer(0.7, gate.open.set)
        timer.start()
        assert next(stream) == b"2"
        timer.join(PATIENCE)
        stream.close()


# -- forks -----------------------------------------------------------------------------------


def test_stream_belongs_to_the_parent():
    gate = Gate(b"1", b"2")
    with serving(sse(gate)) as server, Client(server.path) as client:
        stream = client.stream({})
        assert next(stream) == b"1"

        def use_it() -> int:
            refusals = 0
            for take in (next, lambda it: it.read(), lambda it: next(it.text())):
                try:
                    take(stream)
                except UsageError as error:
                    refusals += error.code == "forked"
            client.close()
            stream.close()
            stream.__del__()
            return refusals if stream._link.sock.fileno() == -1 else 50

        assert in_a_child(use_it) == 3
        gate.open.set()
        assert stream.read() == b"2"
        assert not server.cancelled.is_set()


def test_leaving_reaches_the_broker_though_a_child_holds_a_copy():
    with serving(sse(endless())) as server, Client(server.path) as client:
        stream = client.stream({})
        stay_read, stay_write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(stay_write)
            os.read(stay_read, 1)
            os._exit(0)
        try:
            stream.close()
            assert server.left.wait(PATIENCE)
        finally:
            os.close(stay_write)
            os.waitpid(child, 0)
            os.close(stay_read)


def test_child_completes_on_its_own():
    with serving(ANSWER) as server, Client(server.path) as client:
        client.complete({})
        client._apart_lock.acquire()  # as if another thread were about it at the fork
        assert in_a_child(lambda: 7 if client.complete({}).text == "Hi" else 1) == 7
        client._apart_lock.release()
