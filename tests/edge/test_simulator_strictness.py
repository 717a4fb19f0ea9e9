"""The simulated Copilot refuses what the real one does of real clients' requests."""

from __future__ import annotations

import pytest

from fakes.simulated_chat import copilot


HELLO = [{"role": "user", "content": "hello"}]
MARK = {"cache_control": {"type": "ephemeral"}}
TEXT = {"type": "text", "text": "hello"}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"$schema": {}}}}


def messages(**more):
    return "/v1/messages", {"model": "sim-claude", "max_tokens": 9, "messages": HELLO, **more}


def responses(**more):
    return "/responses", {"model": "sim-responses", "input": "hello", **more}


def marked(count):
    return [{"role": "user", "content": [{**TEXT, **MARK}] * count}]


DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
NESTED = {**TOOL, "input_schema": {"type": "object", "properties": {"a": DIALECT}}}
SCOPED = [{**TEXT, "cache_control": {"type": "ephemeral", "scope": "global"}}]


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (messages(messages=[{"role": "system", "content": "x"}, *HELLO]), "role"),
        (messages(messages=marked(5)), "maximum of 4"),
        (messages(system=SCOPED), "scope"),
        (messages(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "web_search"),
        (messages(tools=[NESTED]), "$schema"),
        (messages(tool_choice={"type": "auto"}), "tool_choice"),
        (responses(tools=[{"type": "web_search"}]), "web_search"),
        (responses(tools=[{"type": "computer_use_preview"}]), "computer_use"),
        (responses(tools=[{"type": "mcp", "server_url": "x"}]), "mcp"),
        (responses(store=True), "store"),
    ],
)
async def test_refused(asked, word):
    async with copilot() as (_, http):
        path, body = asked
        answer = await http.post(path, json=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert word in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "asked",
    [
        messages(messages=marked(4), tools=[TOOL]),
        messages(tools=[TOOL, {"type": "bash_20250124", "name": "bash"}]),
        responses(tools=[{"type": "function", "name": "f"}, {"type": "namespace", "name": "n"}]),
    ],
)
async def test_taken(asked):
    async with copilot() as (_, http):
        path, body = asked
        assert (await http.post(path, json=body)).status_code == 200


@pytest.mark.parametrize(
    ("betas", "status"),
    [
        ("interleaved-thinking-2025-05-14, context-management-2025-06-27", 200),
        ("interleaved-thinking-2025-05-14,claude-code-20250219", 400),
    ],
)
async def test_betas(betas, status):
    async with copilot() as (_, http):
        path, body = messages()
        answer = await http.post(path, json=body, headers={"anthropic-beta": betas})
        assert answer.status_code == status
        path, body = responses()
        answer = await http.post(path, json=body, headers={"anthropic-beta": betas})
        assert answer.status_code == 200
