"""With a repair switched off the simulated Copilot refuses, or answers what no client reads."""

from __future__ import annotations

import base64
import json

import pytest

from brokerd.core.repairs import NAMES
from brokerd.core.repairs.answering import answer_repairs
from brokerd.core.repairs.asking import request_repairs
from fakes.simulated_chat import CHAT, copilot, events


RESPONSES, MESSAGES, EMBEDDINGS = "/responses", "/v1/messages", "/embeddings"
HELLO = [{"role": "user", "content": "hello"}]
MARKED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
TOOL = {"name": "look", "input_schema": {"type": "object", "$schema": "x"}}


def messages(**more):
    return MESSAGES, {"model": "sim-claude", "max_tokens": 9, "messages": HELLO, **more}


def responses(**more):
    return RESPONSES, {"model": "sim-responses", "input": "hello", **more}


REQUESTS = [
    ("anthropic_betas", messages()),
    ("system_in_messages", messages(messages=[{"role": "system", "content": "x"}, *HELLO])),
    ("hosted_tools", responses(tools=[{"type": "web_search"}], tool_choice="auto")),
    ("hosted_tools", messages(tools=[{"type": "web_search_20250305", "name": "web_search"}])),
    ("store_off", responses(store=True)),
    ("tool_schema", messages(tools=[TOOL])),
    ("cache_control", messages(messages=[{"role": "user", "content": [MARKED] * 6}])),
]
BETAS = {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14"}


async def sent(http, path, body, enabled, *, headers=None, stream=False):
    """Send a request and read its answer through the repairs: (status, headers, body)."""
    content = json.dumps(body | ({"stream": True} if stream else {})).encode()
    asked = request_repairs(path, enabled)(content, headers or {})
    answer = await http.post(path, content=asked.body, headers=asked.headers)
    repairs = answer_repairs(path, enabled, content)
    if answer.headers["content-type"].startswith("text/event-stream"):
        told = repairs.stream()
        new = told.feed(answer.content) + told.end() if told else answer.content
        return answer.status_code, answer.headers, new
    return answer.status_code, *repairs.whole(
        answer.status_code, dict(answer.headers), answer.content
    )


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize(("name", "asked"), REQUESTS)
async def test_requests(name, asked, is_on):
    enabled = set(NAMES) - (set() if is_on else {name})
    headers = BETAS if name == "anthropic_betas" else None
    async with copilot() as (_, http):
        status, _, body = await sent(http, *asked, enabled, headers=headers)
        assert status == (200 if is_on else 400), body


def chat(*names):
    body = {"model": f"sim-quirk-{'+'.join(names)}", "messages": HELLO, "tools": [{}]}
    return CHAT, body


def first_choices(told):
    return all(each["choices"][0]["index"] == 0 for each in told if each != "[DONE]")


def ids(told):
    return {each["item_id"] for each in told if "item_id" in each}


STREAMS = [
    ("empty_choices", chat("prompt_filter"), lambda told: all(each["choices"] for each in told[:-1])),
    ("chunk_object", chat("bare"), lambda told: all("object" in each for each in told[:-1])),
    ("merged_choices", chat("two_choices"), first_choices),
    ("anthropic_chat", chat("anthropic"), lambda told: all("choices" in each for each in told[:-1])),
    (
        "stable_ids",
        (RESPONSES, {"model": "sim-quirk-unstable_ids", "input": "hello"}),
        lambda told: len(ids(told)) == 1,
    ),
]  # fmt: skip


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize(("name", "asked", "is_good"), STREAMS)
async def test_streams(name, asked, is_good, is_on):
    enabled = set(NAMES) - (set() if is_on else {name})
    async with copilot() as (_, http):
        status, _, body = await sent(http, *asked, enabled, stream=True)
        assert status == 200
        assert is_good(events(body.decode())) is is_on


WHOLES = [
    ("chunk_object", chat("bare"), lambda told: told.get("object") == "chat.completion"),
    ("merged_choices", chat("two_choices"), lambda told: len(told["choices"]) == 1),
    ("anthropic_chat", chat("anthropic"), lambda told: "choices" in told),
    (
        "embeddings_base64",
        (EMBEDDINGS, {"model": "sim-embedding", "input": ["x"], "encoding_format": "base64"}),
        lambda told: (
            isinstance(told["data"][0]["embedding"], str)
            and bool(base64.b64decode(told["data"][0]["embedding"]))
        ),
    ),
]


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize(("name", "asked", "is_good"), WHOLES)
async def test_whole_answers(name, asked, is_good, is_on):
    enabled = set(NAMES) - (set() if is_on else {name})
    async with copilot() as (_, http):
        status, _, body = await sent(http, *asked, enabled)
        assert status == 200
        assert is_good(json.loads(body)) is is_on


@pytest.mark.parametrize("is_on", [True, False])
async def test_errors(is_on):
    enabled = set(NAMES) - (set() if is_on else {"json_errors"})
    async with copilot() as (_, http):
        status, headers, body = await sent(http, *messages(model="nobody"), enabled)
        assert status == 400
        assert headers["content-type"].startswith("application/json" if is_on else "text/plain")
        assert ("type" in json.loads(body)) is is_on
