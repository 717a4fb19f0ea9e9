"""The simulated Copilot answers as the real one does, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from urllib.parse import parse_qs

import httpx
import pytest

from brokerd.simulator import refusals
from brokerd.simulator.quirks import QUIRKS
from fakes.simulated_chat import (
    CHAT,
    IMAGE,
    SECONDS,
    ask,
    connected,
    control,
    copilot,
    dechunked,
    events,
    last,
    question,
    raw,
    spoken,
    until,
)


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
        ]
        answer = await http.post(CHAT, json={"model": "sim-chat", "messages": messages})
        assert answer.json()["choices"][0]["message"]["content"].endswith(": in parts")


async def test_text_event_count_and_size_can_be_set():
    async with copilot(chat_chunks=37, chat_chunk_bytes=50) as (_, http):
        chunks = events((await ask(http, stream=True)).text)
        texts = [each["choices"][0]["delta"]["content"] for each in chunks[1:-2]]
        assert len(texts) == 37
        assert {len(each) for each in texts} == {50}
        whole = (await ask(http)).json()["choices"][0]["message"]["content"]
        assert whole == "".join(texts)


async def test_what_is_repeated_is_bounded():
    async with copilot() as (_, http):
        for text in ("x" * 100_000, "x " * 100_000):
            answer = await ask(http, "sim-large", text)
            assert answer.status_code == 200
            assert len(answer.content) < 5000


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
