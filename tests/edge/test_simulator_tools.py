"""The simulated model calls the tool that it is told to, in all three APIs, and says the result."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest

from fakes.simulated_chat import copilot, events


CITY = {"city": "Zürich"}
WISH = f"Please use get_weather with {json.dumps(CITY)}, and tell me."
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
MODEL = "sim-quirk-comments"
"""An alias, which every endpoint takes."""


class Chat:
    path = "/chat/completions"
    tool: ClassVar = {
        "type": "function",
        "function": {"name": "get_weather", "parameters": SCHEMA},
    }

    @staticmethod
    def asked(*turns):
        return {"messages": [{"role": "user", "content": WISH}, *turns]}

    result = ({"role": "tool", "tool_call_id": "call_1", "content": "sunny"},)

    @staticmethod
    def calls(whole):
        choice = whole["choices"][0]
        made = [
            (each["function"]["name"], json.loads(each["function"]["arguments"]))
            for each in choice["message"].get("tool_calls", ())
        ]
        return choice["message"]["content"], made, choice["finish_reason"] == "tool_calls"

    @staticmethod
    def joined(chunks):
        choices = [choice for each in chunks[:-1] for choice in each["choices"]]
        deltas = [choice["delta"] for choice in choices]
        pieces = [call for delta in deltas for call in delta.get("tool_calls", ())]
        made = []
        if pieces:
            arguments = "".join(each["function"]["arguments"] for each in pieces)
            made = [(pieces[0]["function"]["name"], json.loads(arguments))]
        said = "".join(delta.get("content") or "" for delta in deltas)
        return said, made, choices[-1]["finish_reason"] == "tool_calls"


class Messages:
    path = "/v1/messages"
    tool: ClassVar = {"name": "get_weather", "input_schema": SCHEMA}
    asked = Chat.asked
    result = (
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}],
        },
    )

    @staticmethod
    def calls(whole):
        text, *tools = whole["content"]
        made = [(each["name"], each["input"]) for each in tools]
        return text["text"], made, whole["stop_reason"] == "tool_use"

    @staticmethod
    def joined(told):
        pieces = [each["delta"] for each in told if each["type"] == "content_block_delta"]
        blocks = [each["content_block"] for each in told if each["type"] == "content_block_start"]
        names = [each["name"] for each in blocks if each["type"] == "tool_use"]
        arguments = "".join(each.get("partial_json", "") for each in pieces)
        stop = next(
            each["delta"]["stop_reason"] for each in told if each["type"] == "message_delta"
        )
        made = [(name, json.loads(arguments)) for name in names]
        return "".join(each.get("text", "") for each in pieces), made, stop == "tool_use"


class Responses:
    path = "/responses"
    tool: ClassVar = {"type": "function", "name": "get_weather", "parameters": SCHEMA}

    @staticmethod
    def asked(*turns):
        return {"input": [{"role": "user", "content": WISH}, *turns]}

    result = ({"type": "function_call_output", "call_id": "call_1", "output": "sunny"},)

    @staticmethod
    def calls(whole):
        message, *others = whole["output"]
        made = [(each["name"], json.loads(each["arguments"])) for each in others]
        return message["content"][0]["text"], made, bool(made)

    @staticmethod
    def joined(told):
        said = [each for each in told if each["type"].endswith(".delta")]
        text = "".join(each["delta"] for each in said if "output_text" in each["type"])
        arguments = "".join(each["delta"] for each in said if "arguments" in each["type"])
        items = [each["item"] for each in told if each["type"] == "response.output_item.added"]
        names = [each["name"] for each in items if each["type"] == "function_call"]
        made = [(name, json.loads(arguments)) for name in names]
        assert Responses.calls(told[-1]["response"]) == (text, made, bool(made))
        return text, made, bool(made)


@pytest.mark.parametrize("api", [Chat, Messages, Responses])
async def test_it_calls_what_it_is_told_to_and_says_the_result(api):
    async with copilot() as (_, http):

        async def told(*turns, stream, tools):
            body = api.asked(*turns) | {"model": MODEL, "max_tokens": 9, "stream": stream}
            answer = await http.post(api.path, json=body | {"tools": tools})
            assert answer.status_code == 200, answer.text
            return api.joined(events(answer.text)) if stream else api.calls(answer.json())

        for stream in (False, True):
            said, calls, ended = await told(stream=stream, tools=[api.tool])
            assert (calls, ended) == ([("get_weather", CITY)], True)
            assert WISH in said
            said, calls, ended = await told(*api.result, stream=stream, tools=[api.tool])
            assert (calls, ended) == ([], False)
            assert said.endswith("The tool said: sunny")
            _, calls, ended = await told(stream=stream, tools=[])
            assert (calls, ended) == ([], False), "nobody offered it"


async def test_arguments_that_are_no_json_are_no_call():
    async with copilot() as (_, http):
        body = {"model": "sim-chat", "tools": [Chat.tool]}
        body["messages"] = [{"role": "user", "content": "use get_weather with {city}"}]
        answer = await http.post(Chat.path, json=body)
        assert Chat.calls(answer.json())[1:] == ([], False)
