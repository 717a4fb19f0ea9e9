"""The simulated Copilot answers, refuses and breaks off as the real one is known to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs

import httpx
import pytest

from brokerd.simulator import Simulator, refusals
from brokerd.simulator.quirks import QUIRKS


CHAT = "/chat/completions"
EDITOR = {"Editor-Version": "test/1"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SECONDS = 10


@contextlib.asynccontextmanager
async def copilot(**settings):
    async with (
        Simulator(**settings) as running,
        httpx.AsyncClient(
            base_url=running.url, headers=signed_in(running), trust_env=False
        ) as http,
    ):
        yield running, http


def signed_in(running):
    token, _ = running.world.issue_copilot_token()
    return {"Authorization": f"Bearer {token}", **EDITOR}


def question(model="sim-chat", text="why is the sky blue", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def ask(http, model="sim-chat", text="why is the sky blue", *, headers=None, **more):
    return await http.post(CHAT, json=question(model, text, **more), headers=headers)


async def control(http, verb, **body):
    answer = await http.post(f"/_control/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def last(http, **params):
    return (await http.get("/_control/last_body", params=params)).json()


async def until(condition):
    """Wait for what a server in the same loop will do."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def events(text):
    """Read the data fields; the last is DONE unless it's missing."""
    blocks = text.replace("\r\n", "\n").removesuffix("\n\n").split("\n\n")
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    data = [line.removeprefix("data: ") for line in lines]
    return [json.loads(each) if each != "[DONE]" else each for each in data]


def spoken(chunks):
    return "".join(
        choice["delta"].get("content") or ""
        for each in chunks
        if isinstance(each, dict)
        for choice in each.get("choices") or ()
        if choice["delta"].get("role") != "function"
    )


async def connected(running):
    return await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))


async def raw(running, *, stream=True, connection="close", wait=None):
    """Ask over a bare socket and give all bytes until the server closes, or after `wait`."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(running.url.rpartition(":")[2])
    )
    body = json.dumps(question(stream=stream)).encode()
    headers = {
        **signed_in(running), "Host": "sim", "User-Agent": "raw", "Connection": connection,
        "Content-Length": str(len(body)),
    }  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST {CHAT} HTTP/1.1\r\n{head}\r\n".encode() + body)
    error, got = None, b""
    try:
        async with asyncio.timeout(wait or SECONDS):
            while piece := await reader.read(65536):
                got += piece
    except (ConnectionResetError, TimeoutError) as failure:
        error = failure
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return got, error


def dechunked(data):
    """Take chunks apart by hand: (chunks, whether the last one came)."""
    chunks = []
    while data:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            assert data == b"\r\n"
            return chunks, True
        chunks.append(data[: int(size, 16)])
        if len(data) < int(size, 16) + 2:
            return chunks, False
        data = data[int(size, 16) + 2 :]
    return chunks, False


# The models.


async def test_models_are_of_all_sorts():
    async with copilot() as (_, http):
        listed = (await http.get("/models")).json()
        assert listed["object"] == "list"
        whole = [each for each in listed["data"] if "capabilities" in each]
        assert len(whole) < len(listed["data"])  # malformed ones
        ids = [each["id"] for each in whole]
        assert len(set(ids)) < len(ids)  # a duplicate
        by_id = {each["id"]: each for each in reversed(whole)}
        types = {each["capabilities"]["type"] for each in whole}
        assert types == {"chat", "embeddings", "completion"}
        states = {each.get("policy", {}).get("state") for each in whole}
        assert states == {None, "enabled", "disabled", "unconfigured"}
        assert by_id["sim-chat"]["is_chat_default"]
        assert by_id["sim-chat"]["is_chat_fallback"]
        assert by_id["sim-chat"]["capabilities"]["supports"]["vision"]
        assert by_id["sim-responses"]["supported_endpoints"] == ["/responses", "ws:/responses"]
        multipliers = {each["billing"]["multiplier"] for each in whole if "billing" in each}
        assert multipliers >= {0, 0.25, 0.33, 1, 10}


async def test_models_are_refused_as_chat_is():
    async with copilot() as (running, http):
        named = ["421", "429_rate_limited", "401_token_expired"]
        await control(http, "faults", path="/models", named=named)
        answers = [await http.get("/models") for _ in range(4)]
        assert [each.status_code for each in answers] == [421, 429, 401, 200]
        assert answers[0].text == "Misdirected Request\n"
        running.world.settings.copilot_host = "api.elsewhere"
        assert (await http.get("/models")).status_code == 421
        running.world.settings.copilot_host = running.url.removeprefix("http://")
        assert (await http.get("/models")).status_code == 200


# The answer.


async def test_answer_names_the_model_and_repeats_the_words():
    async with copilot() as (_, http):
        answer = await ask(http, text="grüß Gott", headers={"X-Request-Id": "my-own"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"] == "my-own"
        assert answer.headers["x-github-request-id"]
        assert "content-length" in answer.headers
        body = answer.json()
        assert body["object"] == "chat.completion"
        assert body["id"].startswith("chatcmpl-")
        [choice] = body["choices"]
        assert choice["finish_reason"] == "stop"
        assert "sim-chat" in choice["message"]["content"]
        assert choice["message"]["content"].endswith("grüß Gott")
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        streamed = await ask(http, text="grüß Gott", stream=True)
        assert streamed.headers["content-type"] == "text/event-stream"
        assert streamed.headers["transfer-encoding"] == "chunked"
        assert streamed.headers["x-request-id"] not in ("", "my-own")
        chunks = events(streamed.text)
        assert chunks[-1] == "[DONE]"
        assert spoken(chunks) == choice["message"]["content"]
        assert chunks[-2]["usage"] == usage
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert len({each["id"] for each in chunks[:-1]}) == 1


async def test_quota_is_told_in_headers():
    async with copilot(premium_remaining=29.7) as (_, http):
        headers = (await ask(http)).headers
        premium = parse_qs(headers["x-quota-snapshot-premium_models"])
        assert (premium["ent"], premium["rem"], premium["ovPerm"]) == (
            ["300"],
            ["29.7"],
            ["false"],
        )
        assert premium["rst"][0].endswith("-01T00:00:00Z")
        assert parse_qs(headers["x-quota-snapshot-chat"])["ent"] == ["-1"]
        assert "x-quota-snapshot-completions" in headers
        assert "x-quota-snapshot-premium_interactions" in headers


async def test_last_user_message_is_answered_whatever_its_form():
    async with copilot() as (_, http):
        messages = [
            {"role": "user", "content": "first"},
            {"role": "user", "content": [{"type": "text", "text": "in parts"}]},
            {"role": "assistant", "content": "hm"},
            {"role": "tool", "content": "result"},
        ]
        answer = await http.post(CHAT, json={"model": "sim-chat", "messages": messages})
        assert answer.json()["choices"][0]["message"]["content"].endswith(": in parts")


async def test_text_event_count_and_size_can_be_set():
    async with copilot(chat_chunks=37, chat_chunk_bytes=50) as (_, http):
        chunks = events((await ask(http, stream=True)).text)
        texts = [each["choices"][0]["delta"]["content"] for each in chunks[1:-2]]
        assert len(texts) == 37
        assert {len(each) for each in texts} == {50}


async def test_ten_thousand_chunks_take_less_than_a_second_of_cpu():
    async with copilot(chat_chunks=10_000) as (_, http):
        before = time.process_time()
        length = 0
        async with http.stream("POST", CHAT, json=question(stream=True)) as answer:
            async for piece in answer.aiter_raw():
                length += len(piece)
        assert time.process_time() - before < 1
        assert (await last(http))["length"] == length


# Who is refused.


@pytest.mark.parametrize("value", [None, "Bearer x", "Bearer", "token {}"])
async def test_only_a_good_copilot_token_is_taken(value):
    async with copilot() as (running, http):
        good = http.headers.pop("Authorization").split()[1]
        headers = {} if value is None else {"Authorization": value.format(good)}
        answer = await ask(http, headers=headers)
        assert (answer.status_code, answer.text) == (401, "unauthorized: token expired\n")
        assert answer.headers["content-type"].startswith("text/plain")
        running.world.settings.clock_offset = 1801
        answer = await ask(http, headers={"Authorization": f"Bearer {good}"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("model", "code"),
    [("sim-responses", "unsupported_api_for_model")]
    + [(name, "model_not_supported") for name in
       ("sim-premium", "sim-disabled", "sim-embedding", "sim-completion", "sim-unfinished",
        "gpt-x", "sim-quirk-nothing", "", None, 5)],
)  # fmt: skip
async def test_models_that_cannot_chat(model, code):
    async with copilot() as (_, http):
        answer = await ask(http, model)
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.json()["error"]["code"] == code


async def test_prompt_can_be_too_long():
    async with copilot() as (_, http):
        answer = await ask(http, "sim-small", "word " * 100)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "model_max_prompt_tokens_exceeded"
        assert error["message"] == "prompt token count of 125 exceeds the limit of 100"
        assert (await ask(http, "sim-chat", "word " * 100)).status_code == 200


@pytest.mark.parametrize("kind", ["image", "image_url", "input_image"])
async def test_images_need_their_header(kind):
    async with copilot() as (_, http):
        part = {**IMAGE, "type": kind}
        messages = [{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}]
        body = {"model": "sim-chat", "messages": messages}
        answer = await http.post(CHAT, json=body)
        assert answer.status_code == 400
        assert "Copilot-Vision-Request" in answer.text
        answer = await http.post(CHAT, json=body, headers={"Copilot-Vision-Request": "true"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b"5", b"{}", b'{"messages":[]}', b'{"messages":"x"}']
)
async def test_bodies_that_are_no_question(content):
    async with copilot() as (_, http):
        assert (await http.post(CHAT, content=content)).status_code == 400


async def test_editor_or_integration_must_be_named():
    async with copilot() as (running, http):
        del http.headers["Editor-Version"]
        answer = await ask(http)
        assert (answer.status_code, "Editor-Version" in answer.text) == (400, True)
        assert (await ask(http, headers={"Copilot-Integration-Id": "a"})).status_code == 200
        running.world.settings.require_editor = False
        assert (await ask(http)).status_code == 200


# Quirks.


async def bent(http, name):
    """Ask twice for a quirk by its alias: (streamed text, whole object)."""
    streamed = await ask(http, f"sim-quirk-{name}", stream=True)
    assert streamed.status_code == 200
    return streamed.text, (await ask(http, f"sim-quirk-{name}")).json()


def of_null_choices(chunks):
    return [each for each in chunks if isinstance(each, dict) and each.get("choices", 0) is None]


def tool_deltas(chunks):
    return [
        call
        for each in chunks[:-1]
        for choice in each["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]


def check_comments(text, _):
    lines = text.split("\n")
    assert lines[0].startswith(":")
    assert sum(line.startswith(":") for line in lines) > 2


def check_prompt_filter(text, _):
    first, second = events(text)[:2]
    assert (first["choices"], first["id"]) == ([], "")
    assert first["prompt_filter_results"][0]["content_filter_results"]["hate"]["filtered"] is False
    assert second["choices"]


def check_references(text, _):
    assert of_null_choices(events(text))[0]["copilot_references"]


def check_errors(text, _):
    assert of_null_choices(events(text))[0]["copilot_errors"][0]["message"]


def check_confirmation(text, _):
    assert of_null_choices(events(text))[0]["copilot_confirmation"]["title"]


def check_function_role(text, _):
    assert events(text)[0]["choices"][0]["delta"]["role"] == "function"


def check_error_midstream(text, _):
    chunks = events(text)
    assert chunks[-1]["error"]["message"]
    assert spoken(chunks)
    assert not any("usage" in each for each in chunks)


def check_bare(text, whole):
    chunks = events(text)[:-1]
    assert not any("object" in each for each in [*chunks, whole])
    choices = [choice for each in [*chunks, whole] for choice in each["choices"]]
    assert not any("index" in each for each in choices)


def check_tool_repeat(text, whole):
    calls = tool_deltas(events(text))
    assert ["id" in each for each in calls] == [True, False, False]
    assert {each["function"]["name"] for each in calls} == {"get_weather"}
    arguments = "".join(each["function"]["arguments"] for each in calls)
    assert json.loads(arguments) == {"city": "Berlin"}
    assert events(text)[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["choices"][0]["message"]["tool_calls"][0]["id"]


def check_two_choices(text, whole):
    assert len(whole["choices"]) == 2
    assert whole["choices"][0]["message"]["content"]
    assert whole["choices"][1]["message"]["tool_calls"]
    indexes = {choice["index"] for each in events(text)[:-1] for choice in each["choices"]}
    assert indexes == {0, 1}
    assert tool_deltas(events(text))


def check_display_name(text, whole):
    assert {each["model"] for each in [*events(text)[:-1], whole]} == {
        "Simulated Model 4.5 (Preview)"
    }


def check_annotations(text, whole):
    choice, other = events(text)[1]["choices"][0], whole["choices"][0]
    assert choice["delta"]["copilot_annotations"]["IPCodeCitations"]
    assert other["message"]["copilot_annotations"]["IPCodeCitations"]
    assert choice["content_filter_results"] == other["content_filter_results"]


def check_finish_content_filter(text, whole, reason="content_filter"):
    assert events(text)[-2]["choices"][0]["finish_reason"] == reason
    assert whole["choices"][0]["finish_reason"] == reason


def check_finish_error(text, whole):
    check_finish_content_filter(text, whole, "error")


def check_usage_details(text, whole):
    for each in (events(text)[-2], whole):
        usage = each["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"]
        assert usage["completion_tokens_details"].keys() == {
            "reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
        }  # fmt: skip
        assert usage["reasoning_tokens"]
        assert each["copilot_usage"]["total_nano_aiu"]
        detail = each["copilot_usage"]["token_details"][0]
        assert detail.keys() == {"batch_size", "cost_per_batch", "token_count", "token_type"}


def check_anthropic(text, whole):
    assert text.startswith("event: message_start\ndata: ")
    chunks = events(text)
    assert not any("choices" in each for each in chunks)
    said = "".join(each["delta"].get("text", "") for each in chunks if "delta" in each)
    assert (whole["type"], "choices" in whole) == ("message", False)
    assert whole["content"][0]["text"] == said
    assert whole["usage"]["input_tokens"]
    assert chunks[-2]["usage"] == whole["usage"]


def check_no_done(text, _):
    assert "[DONE]" not in text
    assert events(text)[-1]["usage"]


def check_crlf(text, _):
    assert text.count("\n") == text.count("\r\n") > 10


@pytest.mark.parametrize("name", QUIRKS)
async def test_quirk(name):
    async with copilot() as (_, http):
        globals()[f"check_{name}"](*await bent(http, name))


async def test_quirks_combine_and_can_be_set_for_all():
    names = ["comments", "crlf", "prompt_filter", "bare", "usage_details", "two_choices"]
    async with copilot() as (_, http):
        text, whole = await bent(http, "+".join(names))
        await control(http, "settings", chat_quirks=names)
        again = (await ask(http, stream=True)).text
        for each in (text, again):
            check_comments(each, None)
            check_crlf(each, None)
            check_bare(each, whole)
            assert tool_deltas(events(each))
            assert events(each)[0]["choices"] == []
        check_usage_details(again, whole)


async def test_all_quirks_at_once_still_give_an_answer():
    async with copilot(chat_quirks=list(QUIRKS)) as (_, http):
        for stream in (True, False):
            answer = await ask(http, stream=stream)
            assert answer.status_code == 200
            assert answer.text


async def test_claude_has_its_quirk_by_nature():
    async with copilot() as (_, http):
        answer = await ask(http, "sim-claude", stream=True)
        check_bare(answer.text, (await ask(http, "sim-claude")).json())


async def test_events_keep_nothing_of_other_events():
    async with copilot() as (_, http):
        text, _ = await bent(http, "references+errors+confirmation+prompt_filter")
        keys = ("copilot_references", "copilot_errors", "copilot_confirmation",
                "prompt_filter_results")  # fmt: skip
        assert all(sum(key in each for key in keys) <= 1 for each in events(text))


# Bytes, framing and pace.


@pytest.mark.parametrize(
    ("settings", "stream"),
    [
        ({}, True),
        ({}, False),
        ({"chat_events_per_write": 3}, True),
        ({"chat_events_per_write": 0}, True),
        ({"chat_events_per_write": 0}, False),
        ({"chat_split": 7}, True),
        ({"chat_split": 7, "chat_framing": "chunked"}, False),
        ({"chat_tcp_split": 1}, True),
        ({"chat_framing": "close"}, True),
        ({"chat_framing": "length"}, True),
        ({"chat_quirks": ["crlf", "comments"], "chat_split": 1}, True),
    ],
)
async def test_last_body_tells_the_bytes(settings, stream):
    async with copilot(**settings) as (_, http):
        answer = await ask(http, stream=stream, headers={"X-Request-Id": "mine"})
        await ask(http)
        told = await last(http, x_request_id="mine")
        assert told == {
            "x_request_id": "mine",
            "status": 200,
            "length": len(answer.content),
            "sha256": hashlib.sha256(answer.content).hexdigest(),
            "finished": True,
            "cancelled": False,
        }
        other = await http.get("/_control/last_body", params={"x_request_id": "other"})
        assert other.status_code == 404


async def test_a_write_is_a_chunk():
    async with copilot() as (running, _):
        for together, expected in ((1, None), (4, 4)):
            running.world.settings.chat_events_per_write = together
            got, _ = await raw(running)
            chunks, ended = dechunked(got.partition(b"\r\n\r\n")[2])
            assert ended
            assert all(each.endswith(b"\n\n") for each in chunks)
            assert chunks[0].count(b"data: ") == (expected or 1)
        running.world.settings.chat_split = 7
        got, _ = await raw(running)
        chunks, _ = dechunked(got.partition(b"\r\n\r\n")[2])
        assert {len(each) for each in chunks[:-1]} == {7}


async def test_pace_is_kept_between_writes_and_before_the_head():
    async with copilot(chat_chunks=3, chat_interval=0.03, chat_head_delay=0.1) as (_, http):
        started = time.monotonic()
        async with http.stream("POST", CHAT, json=question(stream=True)) as answer:
            assert time.monotonic() - started >= 0.09
            began = time.monotonic()
            await answer.aread()
        assert time.monotonic() - began >= 0.03 * 4  # six events, five pauses


async def test_head_goes_out_before_the_first_byte():
    async with copilot(chat_first_delay=60) as (running, http):
        async with asyncio.timeout(SECONDS), http.stream("POST", CHAT, json=question(stream=True)):
            assert running.world.requests[-1].sent == 0
        await until(lambda: running.world.requests[-1].cancelled)


# Named faults.

VERSION_GONE = (
    "bad request: the specified API version is no longer supported. "
    "You may need to update your client to a newer version."
)
EXPECTED = {
    "400_model_not_supported": (400, "The requested model is not supported."),
    "400_model_not_available_for_integrator": (400, "Available models: ["),
    "400_unsupported_api_for_model": (400, "unsupported_api_for_model"),
    "400_model_max_prompt_tokens_exceeded": (400, "prompt token count of 131073 exceeds the limit of"),
    "400_previous_response_not_found": (400, "previous_response_not_found"),
    "400_inner_object": (400, '{"message"'),
    "400_off_topic": (400, "off_topic"),
    "401_token_expired": (401, "unauthorized: token expired"),
    "401_ide_token_expired": (401, "IDE token expired: unauthorized: token expired"),
    "401_authorize_url": (401, '{"authorize_url"'),
    "401_pat": (401, "unauthorized: Personal Access Token does not have Copilot Requests permission"),
    "402_date": (402, "quota_exceeded"),
    "402_seconds": (402, "quota_exceeded"),
    "402_quota_exceeded": (402, "quota_exceeded"),
    "402_free_quota_exceeded": (402, "free_quota_exceeded"),
    "402_overage_limit_reached": (402, "overage_limit_reached"),
    "402_billing_not_configured": (402, "billing_not_configured"),
    "403_feature": (403, "unauthorized: not authorized to use this Copilot feature\n"),
    "403_forbidden": (403, "forbidden: access denied"),
    "403_denied": (403, "access denied"),
    "404_json": (404, "Not Found"),
    "404_text": (404, "404 page not found"),
    "413_json": (413, "request_too_large"),
    "413_text": (413, "Request Entity Too Large"),
    "421": (421, "Misdirected Request"),
    "422": (422, "filtered"),
    "424": (424, "agent"),
    "429_rate_limited": (429, '"rate_limited"'),
    "429_user_model_rate_limited": (429, '"user_model_rate_limited"'),
    "429_user_global_rate_limited": (429, '"user_global_rate_limited"'),
    "429_user_weekly_rate_limited": (429, '"user_weekly_rate_limited"'),
    "429_integration_rate_limited": (429, '"integration_rate_limited"'),
    "429_model_overloaded": (429, '"model_overloaded"'),
    "429_agent_mode_limit_exceeded": (429, '"agent_mode_limit_exceeded"'),
    "429_quota_exceeded": (429, '"quota_exceeded"'),
    "429_rate_limited_suffix": (429, '"rate_limited:premium"'),
    "429_extension_blocked": (429, '"rate_limit_error"'),
    "429_long": (429, "weekly"),
    "466": (466, VERSION_GONE),
    "499": (499, ""),
    "500": (500, "error"),
    "502_html": (502, "<html>"),
    "503": (503, "provider limit"),
    "proxy_403": (403, "<html>"),
}  # fmt: skip
HTML = {"502_html", "proxy_403"}
REAL_JSON = {"401_authorize_url", "404_json", "429_extension_blocked"}
BREAKING = {
    "reset_before_head", "close_before_head", "reset_after_head", "close_after_head",
    "reset_in_body", "close_in_body", "reset_in_chunk", "close_in_chunk", "close_between_chunks",
    "dribble", "endless_head",
}  # fmt: skip


def test_each_named_fault_has_a_test():
    assert set(refusals.NAMES) == EXPECTED.keys() | BREAKING


async def test_named_refusals_have_the_known_statuses_texts_and_types():
    async with copilot() as (_, http):
        assert await control(http, "faults", named=list(EXPECTED)) == {"queued": len(EXPECTED)}
        for name, (status, text) in EXPECTED.items():
            answer = await ask(http, headers={"X-Request-Id": name})
            assert answer.status_code == status, name
            assert text in answer.text, name
            kind = answer.headers["content-type"].partition(";")[0]
            expected = "text/html" if name in HTML else "text/plain"
            assert kind == ("application/json" if name in REAL_JSON else expected), name
            assert ("x-github-request-id" in answer.headers) == (name != "proxy_403")
            assert answer.headers["x-request-id"] == name
            if status == 402:
                spent = parse_qs(answer.headers["x-quota-snapshot-premium_models"])
                assert spent["rem"] == ["0.0"]
        assert (await ask(http)).status_code == 200


async def test_retry_after_is_a_date_or_seconds_up_to_days():
    async with copilot(clock_offset=500_000) as (_, http):
        names = ["402_date", "402_seconds", "429_long", "429_user_weekly_rate_limited",
                 "429_rate_limited"]  # fmt: skip
        await control(http, "faults", path=CHAT, named=names)
        date, seconds, long, weekly, short = [(await ask(http)).headers for _ in names]
        then = parsedate_to_datetime(date["retry-after"]) - parsedate_to_datetime(date["date"])
        assert 3500 < then.total_seconds() <= 3600
        assert seconds["retry-after"] == "3600"
        assert long["retry-after"] == weekly["retry-after"] == "465000"
        assert long["x-ratelimit-quota-exceeded-retry-after"] == "465000"
        assert short["retry-after"] == short["x-ratelimit-user-retry-after"] == "60"
        assert "7-day" in weekly["x-ratelimit-exceeded"]
        assert "5-hour" in short["x-ratelimit-exceeded"]


@pytest.mark.parametrize(
    ("name", "reset", "head", "chunks"),
    [
        ("reset_before_head", True, False, 0),
        ("close_before_head", False, False, 0),
        ("reset_after_head", True, True, 0),
        ("close_after_head", False, True, 0),
        ("reset_in_body", True, True, 2),
        ("close_in_body", False, True, 2),
        ("reset_in_chunk", True, True, 1),
        ("close_in_chunk", False, True, 1),
        ("close_between_chunks", False, True, 2),
    ],
)
async def test_connection_breaks(name, reset, head, chunks):
    async with copilot() as (running, http):
        await control(http, "faults", named=[name])
        got, error = await raw(running, connection="keep-alive")
        assert isinstance(error, ConnectionResetError) == reset
        top, _, body = got.partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 200 OK") == head
        pieces, ended = dechunked(body)
        assert (len(pieces), ended) == (chunks, False)
        request = running.world.requests[-1]
        assert (request.finished, request.sent) == (False, sum(map(len, pieces)))
        if name == "close_in_chunk":
            assert pieces == [b'data: {"id']
        if name == "close_between_chunks":
            assert all(each.endswith(b"\n\n") for each in pieces)
        elif chunks:
            assert not pieces[-1].endswith(b"\n\n")


async def test_length_framed_answer_is_cut_too():
    async with copilot() as (running, http):
        await control(http, "faults", path=CHAT, responses=[{"cut_after": 5}])
        got, _ = await raw(running, stream=False)
        assert got.partition(b"\r\n\r\n")[2] == b'{"id"'
        await control(http, "faults", path="/models", responses=[{"cut_after": 5}])
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/models")


async def test_dribble_and_endless_head():
    async with copilot() as (running, http):
        await control(http, "faults", named=["dribble", "endless_head"])
        assert (await ask(http)).json()["choices"] == []
        got, error = await raw(running, wait=0.2)
        assert isinstance(error, TimeoutError)
        assert got.count(b"x-endless-") > 3
        assert b"\r\n\r\n" not in got
        await until(lambda: running.world.requests[-1].cancelled)


async def test_faults_touch_the_true_answer_and_come_early():
    async with copilot() as (running, http):
        responses = [
            {"headers": {"x-extra": "1", "x-github-request-id": None}},
            {"status": 413, "early": True, "framing": "chunked", "body": "big"},
        ]
        await control(http, "faults", path=CHAT, responses=responses)
        answer = await ask(http)
        assert (answer.status_code, answer.headers["x-extra"]) == (200, "1")
        assert "x-github-request-id" not in answer.headers
        reader, writer = await connected(running)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf".encode())
        async with asyncio.timeout(SECONDS):
            got = await reader.readuntil(b"3\r\nbig\r\n0\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 413 ")
        writer.close()
        await writer.wait_closed()


# The record.


async def test_record_shows_what_matters_and_no_secret():
    async with copilot() as (_, http):
        headers = {
            "X-Initiator": "agent", "Copilot-Vision-Request": "true", "OpenAI-Intent": "conversation-edits",
            "X-Request-Id": "mine", "X-Secret": "hidden",
        }  # fmt: skip
        body = json.dumps(question(text="PROMPT-CANARY")).encode()
        await http.post(CHAT, content=body, headers=headers)
        text = (await http.get("/_control/requests", params={"path": CHAT})).text
        [request] = json.loads(text)["requests"]
        shown = request["headers"]
        assert (shown["x-initiator"], shown["copilot-vision-request"]) == ("agent", "true")
        assert (shown["openai-intent"], shown["x-request-id"]) == ("conversation-edits", "mine")
        assert shown["content-length"] == str(len(body))
        assert request["body_complete"] is True
        assert request["body_length"] == len(body)
        assert request["body_sha256"] == hashlib.sha256(body).hexdigest()
        assert (request["finished"], request["cancelled"], request["status"]) == (True, False, 200)
        for secret in ("PROMPT-CANARY", "hidden", http.headers["Authorization"].split()[1]):
            assert secret not in text


async def test_connections_are_numbered():
    async with copilot() as (running, http):
        for _ in range(3):
            await ask(http, stream=True)
        await raw(running)
        numbers = [each.connection for each in running.world.requests]
        assert len(set(numbers[:3])) == 1
        assert numbers[3] > numbers[0]


async def test_leaving_early_is_noticed_at_once():
    async with copilot(chat_interval=30) as (running, http):
        async with http.stream("POST", CHAT, json=question(stream=True)) as answer:
            first = await anext(answer.aiter_raw())
        await until(lambda: running.world.requests[-1].cancelled)
        request = running.world.requests[-1]
        assert (request.sent, request.finished) == (len(first), False)
        assert request.sent_sha256 == hashlib.sha256(first).hexdigest()


async def test_body_cut_short_is_noticed():
    async with copilot() as (running, _):
        _, writer = await connected(running)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf".encode())
        await until(lambda: running.world.requests and running.world.requests[-1].body_length == 4)
        writer.close()
        await writer.wait_closed()
        await until(lambda: running.world.requests[-1].cancelled)
        assert running.world.requests[-1].body_complete is False


async def test_end_does_not_wait_for_readers_that_do_not_read():
    async with copilot(chat_chunks=50_000, chat_chunk_bytes=500) as (running, http):
        async with http.stream("POST", CHAT, json=question(stream=True)):
            async with asyncio.timeout(SECONDS):
                await running.close()
        assert running.world.requests[-1].cancelled


# Control.


async def test_names_are_listed():
    async with copilot() as (_, http):
        names = (await http.get("/_control/names")).json()
        assert tuple(names["faults"]) == refusals.NAMES
        assert names["quirks"].keys() == QUIRKS.keys()


@pytest.mark.parametrize(
    ("verb", "body"),
    [("settings", {"chat_quirks": ["nonsense"]}), ("settings", {"chat_framing": "morse"}),
     ("settings", {"chat_split": 0}), ("faults", {"named": ["nonsense"]}), ("faults", {"path": CHAT}),
     ("settings", {"chat_tcp_split": "x"})],
)  # fmt: skip
async def test_wrong_control_is_refused(verb, body):
    async with copilot() as (running, http):
        answer = await http.post(f"/_control/{verb}", json=body)
        assert answer.status_code == 400
        assert running.world.take_fault(CHAT) is None


def test_command_sends_clients_elsewhere_and_documents_the_names():
    command = [sys.executable, "-m", "brokerd.simulator"]
    told = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    for name in [*QUIRKS, *refusals.NAMES]:
        assert name in told
    options = ["--print-url", "--api-base", "http://127.0.0.1:9", "--chat-quirk", "bare"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            settings = httpx.get(f"{url}/_control/settings", trust_env=False).json()
            assert settings["api_base"] == "http://127.0.0.1:9"
            assert settings["chat_quirks"] == ["bare"]
        finally:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait(SECONDS) == 0
