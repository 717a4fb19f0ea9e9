"""The HTTP door's service: what is sent for a request, and what comes of the answer."""

import asyncio
import json

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.settings import Config, HttpSettings, ModelSettings
from fakes.copilot import FakeReply, cut
from fakes.http_service import JSON, Stand, a_model, events_of, streamed


CHAT = {"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}]}
WHOLE = b'{"id":"c1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":3}}'
EVENT = b'data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
MODELS = [
    a_model("gpt-x"),
    a_model("both", "/chat/completions", "/v1/messages"),
    a_model("claude-sonnet-4.5", "/v1/messages"),
    a_model("codex", "/responses"),
    a_model("embed", kind="embeddings"),
    a_model("socket-only", "ws:/responses"),
]


@pytest.mark.parametrize(
    ("path", "sent_to"),
    [
        ("/chat/completions", "/chat/completions"),
        ("/v1/chat/completions", "/chat/completions"),
        ("//v1//chat/completions/", "/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/messages", "/v1/messages"),
        ("/v1/responses", "/responses"),
        ("/embeddings", "/embeddings"),
    ],
)
async def test_bytes_pass_untouched_to_each_endpoint(path, sent_to):
    body = b'{ "model" :"unheard-of", "x": 1.10, "messages":[], "input": "\xe2\x82\xac" }'
    stand = Stand(FakeReply(headers=JSON, chunks=[WHOLE]), models=MODELS)
    answer = await stand.ask(path, body)
    (call,) = stand.copilot.calls
    assert (call.path, call.body) == (sent_to, body)
    assert (answer.status, answer.body) == (200, WHOLE)
    assert answer.headers["x-copilot-broker-account"] == "default"


async def test_stream_passes_read_by_read():
    stand = Stand(streamed(EVENT % b"a", EVENT % b"b" + EVENT % b"c", DONE), models=MODELS)
    answer = await stand.ask("/v1/chat/completions", {**CHAT, "stream": True})
    assert answer.chunks == [EVENT % b"a", EVENT % b"b" + EVENT % b"c", DONE]
    assert answer.is_chunked
    assert answer.headers["content-type"] == "text/event-stream"


async def test_only_headers_about_the_turn_go_up():
    stand = Stand(models=MODELS)
    await stand.ask(
        "/chat/completions", CHAT, authorization="Bearer sk-x", cookie="a=b", x_initiator="agent",
        user_agent="tool/1", x_stainless_os="Linux", anthropic_version="2023-06-01",
    )  # fmt: skip
    (call,) = stand.copilot.calls
    assert set(call.headers) <= {"x-initiator", "x-request-id", "anthropic-version"}
    assert call.headers["x-initiator"] == "agent"


async def test_answers_say_nothing_of_who_may_read_them():
    headers = JSON | {"access-control-allow-origin": "*", "alt-svc": "h3", "x-request-id": "r1"}
    stand = Stand(FakeReply(headers=headers, chunks=[WHOLE]), models=MODELS)
    answer = await stand.ask("/chat/completions", CHAT)
    assert not [name for name in answer.headers if name.startswith(("access-", "alt-"))]
    assert answer.headers["x-request-id"] == "r1"


# -- models --------------------------------------------------------------------------------------


async def test_first_request_waits_for_the_list_and_the_next_ones_do_not():
    stand = Stand(models=MODELS)
    for _ in range(3):
        assert (await stand.ask("/chat/completions", CHAT)).status == 200
    assert len(stand.copilot.models_calls) == 1


async def test_a_list_that_cannot_be_had_holds_nobody_up():
    stand = Stand()
    stand.copilot.models_answers = [_down()]
    answers = [await stand.ask("/v1/messages", {**CHAT, "model": "codex"}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len(stand.copilot.models_calls) == 1
    assert {call.path for call in stand.copilot.calls} == {"/v1/messages"}


def _down():
    from brokerd.errors import TransientError

    return TransientError(cut("upstream_unreachable"))


async def test_dated_name_means_the_account_s_own():
    stand = Stand(models=MODELS)
    asked = {"model": "claude-sonnet-4-5-20250929", "messages": []}
    answer = await stand.ask("/v1/messages", asked)
    assert stand.sent[0]["model"] == "claude-sonnet-4.5"
    assert answer.headers["x-copilot-broker-model"] == "claude-sonnet-4.5"


async def test_alias_of_the_configuration():
    config = Config(models=ModelSettings({"claude-*-haiku*": "gpt-x", "fast": "both"}))
    stand = Stand(models=MODELS, config=config)
    await stand.ask("/chat/completions", {**CHAT, "model": "fast"})
    await stand.ask("/chat/completions", {**CHAT, "model": "claude-3-5-haiku-latest"})
    assert [each["model"] for each in stand.sent] == ["both", "gpt-x"]


async def test_rights_are_asked_about_the_model_that_is_meant():
    config = Config(models=ModelSettings({"harmless": "codex"}))
    rule = Rule(listener="http", models=("gpt-*", "harmless"))
    stand = Stand(models=MODELS, config=config, rules=[rule])
    answer = await stand.ask("/v1/responses", {"model": "harmless", "input": "x"})
    assert answer.status == 403
    assert answer.json["error"]["code"] == "model_not_granted"
    assert not stand.copilot.calls


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        (Rule(listener="http", models=("gpt-*",)), {**CHAT, "model": "codex"}),
        (Rule(listener="http", accounts=("work",)), CHAT),
        (Rule(listener="http", scope=Scope.STATUS), CHAT),
    ],
)
async def test_who_may_not_makes_no_request_at_all_not_even_for_the_list(rule, body):
    stand = Stand(models=MODELS, rules=[rule])
    answer = await stand.ask("/chat/completions", body, x_copilot_broker_account="default")
    assert answer.status == 403
    assert not stand.copilot.models_calls
    assert not stand.copilot.calls


async def test_a_name_that_the_list_may_know_waits_for_it():
    rule = Rule(listener="http", models=("claude-sonnet-4.5",))
    stand = Stand(models=MODELS, rules=[rule])
    body = {"model": "claude-sonnet-4-5-20250929", "messages": []}
    assert (await stand.ask("/v1/messages", body)).status == 200
    body["model"] = "claude-opus-4-8"
    assert (await stand.ask("/v1/messages", body)).status == 403
    assert len(stand.copilot.calls) == 1


async def test_what_cannot_be_spoken_to_names_the_endpoint_to_use():
    stand = Stand(models=MODELS)
    answer = await stand.ask("/v1/chat/completions", {**CHAT, "model": "embed"})
    assert answer.status == 400
    assert answer.json["error"]["code"] == "unsupported_api_for_model"
    assert "/embeddings" in answer.json["error"]["message"]
    assert not stand.copilot.calls


# -- refusals ------------------------------------------------------------------------------------


async def test_refusal_of_upstream_s_keeps_its_status_and_becomes_json():
    reply = FakeReply(429, {"content-type": "text/plain", "retry-after": "7"}, [b"rate limited\n"])
    stand = Stand(reply, models=MODELS)
    answer = await stand.ask("/v1/messages", {**CHAT, "model": "both"})
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "rate_limit_error"
    assert len(stand.copilot.calls) == 1


async def test_refusal_passes_as_it_is_with_that_repair_off():
    reply = FakeReply(400, {"content-type": "text/plain"}, [b"off_topic"])
    config = Config(http=HttpSettings(repairs={"json_errors": False}))
    stand = Stand(reply, models=MODELS, config=config)
    answer = await stand.ask("/chat/completions", CHAT)
    assert (answer.body, answer.headers["content-type"]) == (b"off_topic", "text/plain")


async def test_no_login_is_told_in_dialect():
    from fakes.broker import signed_out

    stand = Stand(models=MODELS)
    stand.lender.leases = [signed_out()]
    answer = await stand.ask("/v1/messages", CHAT, x_copilot_broker_account="work")
    assert answer.status == 403
    assert answer.json["type"] == "error"
    assert answer.headers["x-copilot-broker-error"] == "login_required"


async def test_unknown_paths_and_methods():
    stand = Stand(models=MODELS)
    assert (await stand.ask("/v1/nothing", CHAT)).status == 404
    wrong = await stand.ask("/v1/chat/completions", method="GET")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert not stand.copilot.calls


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics", "/healthz", "/v1/x", "/"])
async def test_guard_wraps_every_route(path):
    stand = Stand(models=MODELS)
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        answer = await stand.ask(path, method="GET", **headers)
        assert (answer.status, answer.body, answer.headers) == (403, b"", {"connection": "close"})
    assert not stand.copilot.calls


# -- in the middle of a stream -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "model", "is_error"),
    [
        ("/chat/completions", "both", lambda event: event["error"]["code"] == "upstream_cut"),
        ("/v1/messages", "both", lambda event: event["type"] == "error"),
        ("/responses", "codex", lambda event: event["type"] == "error"),
    ],
)
async def test_upstream_s_death_is_a_typed_error_and_no_end(path, model, is_error):
    half = EVENT % b"b"
    stand = Stand(streamed(EVENT % b"a" + half[:20], failure=cut()), models=MODELS)
    answer = await stand.ask(path, {**CHAT, "model": model, "stream": True})
    first, last = events_of(answer.body)
    assert first["id"] == "c1"
    assert is_error(last)
    assert b"[DONE]" not in answer.body
    (ended,) = stand.ended
    assert ended.code == "upstream_cut"


async def test_death_behind_the_last_event_is_an_end():
    stand = Stand(streamed(EVENT % b"a" + DONE, failure=cut()), models=MODELS)
    answer = await stand.ask("/chat/completions", {**CHAT, "stream": True})
    assert answer.body == EVENT % b"a" + DONE
    assert stand.ended[0].code == ""


async def test_json_whose_upstream_dies_is_a_whole_refusal():
    stand = Stand(FakeReply(headers=JSON, chunks=[WHOLE[:10]], failure=cut()), models=MODELS)
    answer = await stand.ask("/chat/completions", CHAT)
    assert answer.status == 503
    assert answer.json["error"]["code"] == "upstream_cut"
    assert answer.headers["x-copilot-broker-account"] == "default"


async def test_event_cut_by_reads_arrives_in_one_piece():
    event = EVENT % b"\xe2\x82\xac"
    for at in range(1, len(event)):
        stand = Stand(streamed(event[:at], event[at:] + DONE), models=MODELS)
        answer = await stand.ask("/chat/completions", {**CHAT, "stream": True})
        assert answer.body == event + DONE
        assert all(chunk.endswith(b"\n\n") for chunk in answer.chunks)


async def test_endless_line_passes_as_it_comes():
    reply = streamed(b"data: " + b"x" * 300_000, b"y" * 10, b"z\n\n" + DONE)
    stand = Stand(reply, models=MODELS)
    answer = await stand.ask("/v1/messages", {**CHAT, "model": "both", "stream": True})
    assert len(answer.chunks) == 3


async def test_who_hangs_up_cuts_upstream():
    reply = streamed(EVENT % b"a", is_live=True)
    stand = Stand(reply, models=MODELS)
    outlet, work = stand.begin("/chat/completions", {**CHAT, "stream": True})
    async with asyncio.timeout(10):
        await outlet.changed.wait()
        work.close()
        await reply.closed.wait()
    assert len(stand.ended) == 1


async def test_who_hangs_up_while_nothing_has_come_cuts_upstream_too():
    stand = Stand(models=MODELS)
    stand.copilot.gate = asyncio.Event()
    _, work = stand.begin("/chat/completions", CHAT)
    async with asyncio.timeout(10):
        await stand.copilot.asked.wait()
        work.close()
        while not stand.copilot.cancelled:
            await asyncio.sleep(0)


async def test_slow_reader_pauses_upstream():
    reply = streamed(EVENT % b"a", EVENT % b"b", is_live=True)
    stand = Stand(reply, models=MODELS)
    outlet, work = stand.begin("/chat/completions", {**CHAT, "stream": True})
    outlet.has_room = False
    async with asyncio.timeout(10):
        await outlet.changed.wait()
    assert reply.is_paused
    assert outlet.chunks == [EVENT % b"a"]
    outlet.has_room = True
    work.go_on()
    assert outlet.chunks == [EVENT % b"a", EVENT % b"b"]
    reply.end()
    assert outlet.over.is_set()


async def test_silence_is_broken_between_events_only():
    reply = streamed(EVENT % b"a", is_live=True)
    stand = Stand(reply, models=MODELS, keepalive=0.03)
    outlet, _ = stand.begin("/chat/completions", {**CHAT, "stream": True})
    async with asyncio.timeout(10):
        while b": keepalive" not in outlet.body:
            await asyncio.sleep(0.005)
    assert outlet.body.startswith(EVENT % b"a" + b": keepalive\n\n")
    reply.push(b"data: {")
    reply.push(b"}\n\n")
    reply.end()
    assert b"data: {}\n\n" in outlet.body
    async with asyncio.timeout(10):
        while stand.keepalive._timer is not None:  # it runs out: nobody is left to look after
            await asyncio.sleep(0)


# -- translation ---------------------------------------------------------------------------------


async def test_messages_to_a_chat_model_and_back():
    answer = {
        "id": "c1", "object": "chat.completion", "model": "gpt-x", "created": 1,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }  # fmt: skip
    stand = Stand(FakeReply(headers=JSON, chunks=[json.dumps(answer).encode()]), models=MODELS)
    body = {"model": "gpt-x", "max_tokens": 9, "system": "be short", "messages": CHAT["messages"]}
    told = await stand.ask("/v1/messages", body, anthropic_version="2023-06-01")
    (call,) = stand.copilot.calls
    assert call.path == "/chat/completions"
    assert "anthropic-version" not in call.headers
    assert [each["role"] for each in stand.sent[0]["messages"]] == ["system", "user"]
    assert told.json["type"] == "message"
    assert told.json["content"] == [{"type": "text", "text": "4"}]
    assert told.json["usage"]["output_tokens"] == 1
    assert told.headers["x-copilot-broker-translated"] == "/chat/completions to /v1/messages"


async def test_chat_stream_from_a_responses_model():
    said = [
        {"type": "response.created", "response": {"id": "r1", "model": "codex", "created_at": 1}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m"}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "hé"},
        {"type": "response.completed", "response": {"id": "r1", "status": "completed", "output": [],
         "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}}},
    ]  # fmt: skip
    raw = b"".join(
        f"event: {each['type']}\ndata: {json.dumps(each, ensure_ascii=False)}\n\n".encode()
        for each in said
    )
    chunks = [raw[at : at + 7] for at in range(0, len(raw), 7)]
    stand = Stand(streamed(*chunks), models=MODELS)
    told = await stand.ask("/v1/chat/completions", {**CHAT, "model": "codex", "stream": True})
    assert stand.copilot.calls[0].path == "/responses"
    *events, done = events_of(told.body)
    assert done == "[DONE]"
    text = "".join(
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    )
    assert text == "hé"
    assert events[0]["object"] == "chat.completion.chunk"


async def test_what_cannot_be_translated_is_refused_before_it_is_sent():
    stand = Stand(models=MODELS)
    body = {**CHAT, "model": "codex", "n": 3}
    told = await stand.ask("/v1/chat/completions", body)
    assert told.status == 400
    assert told.json["error"]["code"] == "not_translatable"
    assert "/responses" in told.json["error"]["message"]
    assert not stand.copilot.calls


async def test_translated_stream_whose_upstream_dies():
    stand = Stand(streamed(EVENT % b"a", failure=cut()), models=MODELS)
    body = {"model": "gpt-x", "max_tokens": 9, "messages": CHAT["messages"], "stream": True}
    told = await stand.ask("/v1/messages", body)
    assert events_of(told.body)[-1]["type"] == "error"
    assert b"message_stop" not in told.body


# -- who is counted ------------------------------------------------------------------------------


async def test_scope_below_complete_sends_nothing():
    stand = Stand(models=MODELS, rules=[Rule(listener="http", scope=Scope.STATUS)])
    answer = await stand.ask("/v1/chat/completions", CHAT)
    assert (answer.status, answer.json["error"]["code"]) == (403, "scope_too_low")
    assert not stand.copilot.calls


async def test_usage_is_known_at_the_end():
    stand = Stand(FakeReply(headers=JSON, chunks=[WHOLE]), models=MODELS)
    await stand.ask("/chat/completions", CHAT)
    (ended,) = stand.ended
    assert (ended.status, ended.model, ended.account) == (200, "gpt-x", "default")
    assert ended.usage.prompt == 3
