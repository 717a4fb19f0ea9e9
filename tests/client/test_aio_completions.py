"""Completions from the asyncio client: the blocking one's promises, and cancelled tasks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import threading
import time

import pytest

from client.forks import in_a_child
from copilot_broker import (
    AsyncClient,
    AsyncCompletionStream,
    BrokerUnreachable,
    Completion,
    CompletionStream,
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


CREATE = "completion.create"
ANSWER = {
    "status": 200,
    "headers": {"content-type": "application/json"},
    "body": b'{"choices":[{"message":{"content":"Hi"}}]}',
    "account": "work",
}
SSE = {"content-type": "text/event-stream", "x-copilot-broker-account": "work"}
UPSTREAM_CUT = ErrorInfo(ErrorClass.TEMPORARY, "upstream_cut", "the answer broke off")


def delta(text) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def sse(chunks, error=None, refusal=None) -> Stream:
    return Stream(chunks, error, 200, SSE, refusal=refusal)


def serving(answer, **others) -> WireServer:
    return WireServer({CREATE: answer, **others})


def endless(first=b"x"):
    yield first
    while True:
        yield b"y" * 1000


async def happens(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, PATIENCE)


async def departs(server) -> bool:
    return await asyncio.to_thread(server.departures.acquire, timeout=PATIENCE)


def test_both_streams_have_the_same_methods():
    def public(kind):
        members = (name for base in kind.__mro__[:-1] for name in vars(base))
        return {name for name in members if not name.startswith("_")}

    assert public(AsyncCompletionStream) - {"begin", "aclose"} == public(CompletionStream) - {
        "close"
    }
    for name in ("events", "text", "read", "raise_for_status"):
        both = [
            inspect.signature(getattr(kind, name)).parameters
            for kind in (CompletionStream, AsyncCompletionStream)
        ]
        assert both[0] == both[1]


async def test_everything_is_passed_on_after_a_hello():
    with serving(ANSWER) as server:
        async with AsyncClient(server.path, name="editor") as client:
            found = await client.complete(
                {"a": "ä"}, path="/x", account="work", headers={"X-Initiator": "agent"}
            )
    assert isinstance(found, Completion)
    assert (found.status, found.text, found.account) == (200, "Hi", "work")
    assert server.requests == [
        ("broker.hello", {"protocol": 1, "client": "editor"}),
        (
            CREATE,
            {
                "path": "/x",
                "body": '{"a":"ä"}'.encode(),
                "account": "work",
                "headers": {"X-Initiator": "agent"},
            },
        ),
    ]


async def test_many_at_once_have_connections_of_their_own():
    with serving(lambda params: {**ANSWER, "body": params["body"]}) as server:
        async with AsyncClient(server.path, timeout=PATIENCE) as client:
            found = await asyncio.gather(*(client.complete(str(n)) for n in range(30)))
        assert [answer.body for answer in found] == [str(n).encode() for n in range(30)]
        assert server.connections == 30


DENIED = {"class": 5, "code": "x", "message": "no access", "url": "https://github.com/x"}


async def test_any_status_is_a_result_and_refusals_are_exceptions_when_wanted():
    with serving({**ANSWER, "status": 429, "body": b"slow down"}) as server:
        async with AsyncClient(server.path) as client:
            found = await client.complete({})
            assert (found.status, found.body) == (429, b"slow down")
            server.answers[CREATE] = Stream(
                [b"no", b" access"], None, 403, {}, {"refusal": DENIED}
            )
            async with client.stream({}) as stream:
                assert (stream.status, stream.ok, await stream.read()) == (
                    403,
                    False,
                    b"no access",
                )
            for take in (
                lambda stream: anext(stream.text()),
                lambda stream: anext(stream.events()),
                lambda stream: stream.raise_for_status(),
            ):
                with pytest.raises(UpstreamRefused, match="no access") as caught:
                    await take(client.stream({}))
                assert isinstance(caught.value, Denied)
                assert (caught.value.status, caught.value.url) == (403, "https://github.com/x")
            server.answers[CREATE] = Stream([b"no"], None, 403, {})
            with pytest.raises(UpstreamRefused, match="upstream_403"):
                await client.stream({}).raise_for_status()


async def test_completion_is_never_sent_twice():
    with serving(HANG_UP) as server:
        async with AsyncClient(server.path) as client:
            with pytest.raises(BrokerUnreachable):
                await client.complete({})
            with pytest.raises(BrokerUnreachable):
                await client.stream({})
        assert len(server.calls(CREATE)) == 2


async def test_answer_that_is_no_completion_is_the_brokers_fault():
    with serving({}) as server:
        async with AsyncClient(server.path) as client:
            with pytest.raises(InternalError, match="bad_answer"):
                await client.complete({})
            with pytest.raises(InternalError, match="does not stream"):
                await client.stream({})
            server.answers[CREATE] = Stream([], None, "odd", {})
            with pytest.raises(InternalError, match="bad_answer"):
                await client.stream({})
            server.answers[CREATE] = sse([{"n": 1}])
            with pytest.raises(InternalError, match="bad_answer"):
                await anext(client.stream({}))


async def test_models_are_githubs_own_entries():
    with WireServer({"models.list": {"account": "work", "models": [{"id": "m"}]}}) as server:
        async with AsyncClient(server.path) as client:
            assert await client.models("work") == [{"id": "m"}]
        assert server.calls("models.list") == [{"account": "work"}]


async def test_ten_thousand_chunks_arrive_byte_for_byte_with_little_credit_said():
    chunks = [n.to_bytes(2, "big") * (1 + n % 100) for n in range(10_000)]
    with serving(sse(chunks)) as server:
        async with AsyncClient(server.path) as client:
            stream = await client.stream({})
            assert (stream.status, stream.headers, stream.account) == (200, SSE, "work")
            assert [chunk async for chunk in stream] == chunks
        total, half = sum(map(len, chunks)), STREAM_WINDOW // 2
        # What is granted when all has been sent may find the stream ended, and nobody counts it.
        assert (total - STREAM_WINDOW) // half < len(server.credits) <= total // half
        assert not server.cancelled.is_set()


async def test_text_and_events():
    chunks = [b": hi\n\n" + delta("H"), delta("i")[:9], delta("i")[9:], b"data: [DONE]\n\n"]
    with serving(sse(chunks)) as server:
        async with AsyncClient(server.path) as client:
            assert [text async for text in client.stream({}).text()] == ["H", "i"]
            assert len([event async for event in client.stream({}).events()]) == 2


async def test_end_that_follows_done_is_awaited(monkeypatch):
    monkeypatch.setattr(calls, "LAST_WORD_TIMEOUT", PATIENCE)

    def chunks():
        yield delta("Hi") + b"data: [DONE]\n\n"
        server.cancelled.wait(0.2)  # that long the end is on its way

    with serving(sse(chunks())) as server:
        async with AsyncClient(server.path) as client, client.stream({}) as stream:
            assert [text async for text in stream.text()] == ["Hi"]
        assert await happens(server.left)
        assert not server.cancelled.is_set()


async def test_answer_that_did_not_stream_is_read_all_the_same():
    answer = Stream([ANSWER["body"][:9], ANSWER["body"][9:]], None, 200, ANSWER["headers"])
    with serving(answer) as server:
        async with AsyncClient(server.path) as client:
            assert [text async for text in client.stream({}).text()] == ["Hi"]


async def test_stream_whose_end_does_not_come_after_done_is_left(monkeypatch):
    monkeypatch.setattr(calls, "LAST_WORD_TIMEOUT", 0.05)
    go = threading.Event()

    def chunks():
        yield delta("Hi") + b"data: [DONE]\n\n"
        go.wait(PATIENCE)

    with serving(sse(chunks())) as server:
        async with AsyncClient(server.path) as client:
            assert [text async for text in client.stream({}).text()] == ["Hi"]
            assert await happens(server.cancelled)
        go.set()


async def test_death_and_errors_in_mid_stream_are_told():
    with serving(sse([delta("Hi")], UPSTREAM_CUT)) as server:
        async with AsyncClient(server.path) as client:
            stream = client.stream({})
            assert await anext(stream) == delta("Hi")
            with pytest.raises(Temporary, match="upstream_cut"):
                await anext(stream)
            server.answers[CREATE] = sse([ERROR_EVENT, delta("more")])
            with pytest.raises(UpstreamRefused, match="upstream_error"):
                await anext(client.stream({}).text())
            assert (await anext(client.stream({}).events()))["error"]["message"] == "overloaded"


ERROR_EVENT = b'data: {"error":{"message":"overloaded"}}\n\n'
BROKEN_OFF = ErrorInfo(ErrorClass.TEMPORARY, "overloaded", "it broke off", retry_after=3.0)


@pytest.mark.parametrize(
    ("chunks", "cut"),
    [
        ([delta("Hi"), ERROR_EVENT, delta("more")], None),
        ([delta("Hi"), ERROR_EVENT], UPSTREAM_CUT),
        ([delta("Hi"), ERROR_EVENT.rstrip()], None),
        ([delta("Hi"), b'data: {"type":"response.failed"}\n\ndata: [DONE]\n\n'], None),
    ],
    ids=["ended", "cut", "last", "unrecognized"],
)
async def test_error_in_mid_stream_is_raised_as_the_broker_explains_it(chunks, cut):
    with serving(sse(chunks, cut, BROKEN_OFF)) as server:
        async with AsyncClient(server.path) as client:
            stream, found = client.stream({}), []

            async def take():
                async for text in stream.text():
                    found.append(text)

            with pytest.raises(UpstreamRefused, match="it broke off") as caught:
                await take()
            assert found == ["Hi"]
            assert caught.value is stream.refusal
            assert isinstance(caught.value, Temporary)
            assert (caught.value.status, caught.value.retry_after) == (200, 3.0)
            if cut is None:
                stream = client.stream({})
                assert await stream.read() == b"".join(chunks)
                assert stream.refusal.code == "overloaded"


async def test_explanation_that_does_not_come_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(calls, "LAST_WORD_TIMEOUT", 0.05)
    go = threading.Event()

    def chunks():
        yield ERROR_EVENT
        go.wait(PATIENCE)

    with serving(sse(chunks())) as server:
        async with AsyncClient(server.path) as client:
            with pytest.raises(UpstreamRefused, match="upstream_error"):
                await anext(client.stream({}).text())
            assert await happens(server.cancelled)
        go.set()


async def leave_by_break(client):
    async with client.stream({}) as stream:
        async for _ in stream:
            break


async def leave_by_close(client):
    stream = await client.stream({})
    await stream.aclose()
    await stream.aclose()
    assert [chunk async for chunk in stream] == []


async def leave_by_forgetting(client):
    async for _ in client.stream({}):
        break
    gc.collect()


async def leave_text_by_forgetting(client):
    async for text in client.stream({}).text():
        assert text == "Hi"
        break
    gc.collect()


async def leave_by_cancelling(client):
    began = asyncio.Event()

    async def read() -> None:
        async for _ in client.stream({}):
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await began.wait()
    task.cancel()
    await asyncio.wait([task])
    del task
    gc.collect()


async def leave_by_closing_the_client(client):
    stream = client.stream({})
    await anext(stream)
    await client.aclose()


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_close,
        leave_by_forgetting,
        leave_text_by_forgetting,
        leave_by_cancelling,
        leave_by_closing_the_client,
    ],
)
async def test_leaving_early_cancels_and_hangs_up(leave):
    with serving(sse(endless(delta("Hi")))) as server:
        async with AsyncClient(server.path) as client:
            await leave(client)
            assert await happens(server.left)
            assert server.cancelled.is_set()


@pytest.mark.parametrize("ask", ["complete", "stream"])
async def test_cancelled_task_cuts_what_it_waits_for(ask):
    asked = threading.Event()

    def silent(_):
        asked.set()
        return SILENCE

    with serving(silent) as server:
        async with AsyncClient(server.path) as client:

            async def wait() -> None:
                await getattr(client, ask)({})

            task = asyncio.create_task(wait())
            assert await happens(asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await departs(server)


async def test_closing_the_client_ends_a_completion_that_waits():
    asked = threading.Event()

    def silent(_):
        asked.set()
        return SILENCE

    with serving(silent) as server:
        async with AsyncClient(server.path) as client:
            task = asyncio.create_task(client.complete({}))
            assert await happens(asked)
            await client.aclose()
            with pytest.raises(BrokerUnreachable, match="connection_lost"):
                await task


@pytest.mark.parametrize("ask", ["complete", "stream"])
async def test_frozen_broker_is_noticed_long_before_a_model_is_given_up(monkeypatch, ask):
    monkeypatch.setattr(calls, "DEFAULT_TIMEOUT", 0.1)
    with WireServer({CREATE: SILENCE, "broker.hello": SILENCE}) as server:
        async with AsyncClient(server.path) as client:
            with pytest.raises(Temporary, match="the broker did not answer within 0\\.1 s"):
                await getattr(client, ask)({})
        assert await departs(server)


@pytest.mark.parametrize("ask", ["complete", "stream"])
async def test_slow_model_is_waited_for_longer_than_a_broker(monkeypatch, ask):
    monkeypatch.setattr(calls, "DEFAULT_TIMEOUT", 1.0)

    def slow(params):
        time.sleep(1.2)  # what is tried: an answer that takes longer than the broker's hello
        return sse([b"x"]) if params.get("stream") else ANSWER

    with serving(slow) as server:
        async with AsyncClient(server.path) as client:
            found = await getattr(client, ask)({})
            assert found.status == 200
            if ask == "stream":
                assert await found.read() == b"x"


@pytest.mark.parametrize(
    ("ask", "constant"), [("complete", "JSON_TIMEOUT"), ("stream", "FIRST_BYTE_TIMEOUT")]
)
async def test_model_is_given_up_at_last_and_cut(monkeypatch, ask, constant):
    monkeypatch.setattr(calls, constant, 0.6)
    with serving(SILENCE) as server:
        async with AsyncClient(server.path) as client:
            with pytest.raises(Temporary, match="GitHub Copilot within 0\\.6 s"):
                await getattr(client, ask)({})
        assert await departs(server)


@pytest.mark.parametrize("by_client", [True, False])
async def test_explicit_timeout_is_taken_literally(by_client):
    with serving(SILENCE) as server:
        async with AsyncClient(server.path, timeout=0.2 if by_client else PATIENCE) as client:
            with pytest.raises(Temporary, match="within 0\\.2 s"):
                await client.complete({}, timeout=None if by_client else 0.2)


async def test_stream_belongs_to_the_parent():
    go = threading.Event()

    def chunks():
        yield b"1"
        go.wait(PATIENCE)
        yield b"2"

    with serving(lambda p: sse(chunks()) if "stream" in p else ANSWER) as server:
        async with AsyncClient(server.path) as client:
            stream = client.stream({})
            assert await anext(stream) == b"1"
            await client.complete({})

            def use_it() -> int:
                asyncio.events._set_running_loop(None)

                async def child() -> int:
                    try:
                        await anext(stream)
                    except UsageError as error:
                        found = error.code
                    await stream.aclose()
                    stream.__del__()
                    done = await client.complete({})  # on its own
                    await client.aclose()
                    return 7 if (found, done.text) == ("forked", "Hi") else 1

                return asyncio.run(child())

            assert await asyncio.to_thread(in_a_child, use_it) == 7
            go.set()
            assert await stream.read() == b"2"
            assert not server.cancelled.is_set()
