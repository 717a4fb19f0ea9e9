"""Responses: requests as clients really send them, and what they cannot say elsewhere."""

import pytest

from brokerd.core.dialects.meaning import (
    Asking,
    Format,
    Image,
    Message,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UntranslatableError,
)
from brokerd.core.dialects.responses import read_asking, write_asking


HI = Message("user", (Text("hi"),))
SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}

AGENT = {
    "model": "gpt-5.2-codex",
    "instructions": "You are a coding agent.",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "Sandbox is on."}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "<environment/>"}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "list files"},
                {
                    "type": "input_image",
                    "image_url": "data:image/png;base64,iVBO",
                    "detail": "low",
                },
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [
                {"type": "summary_text", "text": "First."},
                {"type": "summary_text", "text": "Second."},
            ],
            "content": None,
            "encrypted_content": "gAAAAAB",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "shell",
            "arguments": '{"cmd":"ls"}',
        },
        {
            "type": "function_call",
            "call_id": "call_2",
            "name": "search",
            "namespace": "mcp__docs",
            "arguments": "",
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "README.md"},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [
                {"type": "input_text", "text": "two"},
                {"type": "input_image", "image_url": "https://example.test/a.png"},
            ],
        },
    ],
    "tools": [
        {
            "type": "function",
            "name": "shell",
            "description": "Runs it.",
            "strict": False,
            "parameters": SCHEMA,
        },
        {
            "type": "namespace",
            "name": "mcp__docs",
            "description": "Docs",
            "tools": [{"type": "function", "name": "search", "parameters": SCHEMA}],
        },
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "service_tier": "priority",
    "prompt_cache_key": "0199",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "1"},
    "truncation": "auto",
    "context_management": [{"type": "compaction", "compact_threshold": 100}],
    "previous_response_id": None,
    "max_tool_calls": 3,
}


def test_a_request_of_an_agent():
    assert read_asking(AGENT) == Asking(
        model="gpt-5.2-codex",
        messages=(
            Message("system", (Text("You are a coding agent."),)),
            Message("system", (Text("Sandbox is on."),)),
            Message(
                "user",
                (
                    Text("<environment/>"),
                    Text("list files"),
                    Image(data="iVBO", media_type="image/png", detail="low"),
                ),
            ),
            Message(
                "assistant",
                (
                    Thinking("First.\n\nSecond.", "gAAAAAB"),
                    Text("Looking."),
                    ToolCall("call_1", "shell", '{"cmd":"ls"}'),
                    ToolCall("call_2", "mcp__docs_-_search", "{}"),
                ),
            ),
            Message(
                "user",
                (
                    ToolResult("call_1", (Text("README.md"),)),
                    ToolResult("call_2", (Text("two"), Image(url="https://example.test/a.png"))),
                ),
            ),
        ),
        tools=(
            Tool("shell", "Runs it.", SCHEMA, strict=False),
            Tool("mcp__docs_-_search", "", SCHEMA),
        ),
        tool_choice=ToolChoice("auto"),
        parallel_calls=False,
        stream=True,
        reasoning=Reasoning("medium", wants_summary=True),
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"instructions": ""}, {}),
        ({"instructions": "s"}, {"messages": (Message("system", (Text("s"),)), HI)}),
        ({"input": []}, {"messages": ()}),
        ({"input": [{"role": "user", "content": "hi"}]}, {}),
        ({"input": [{"role": "user", "content": []}, {"role": "user", "content": "hi"}]}, {}),
        (
            {"input": [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}]},
            {"messages": (Message("system", (Text("a"),)), Message("system", (Text("b"),)))},
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
            {"messages": (Message("assistant", (Text("no", is_refusal=True),)),)},
        ),
        (
            {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
            {"messages": ()},
        ),
        (
            {
                "input": [
                    {
                        "type": "reasoning",
                        "summary": [],
                        "content": [{"type": "reasoning_text", "text": "raw"}],
                    }
                ]
            },
            {"messages": (Message("assistant", (Thinking("raw"),)),)},
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
            {"messages": (Message("user", (ToolResult("c", ()),)),)},
        ),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": None, "strict": None}]},
            {"tools": (Tool("f"),)},
        ),
        ({"tool_choice": "none"}, {"tool_choice": ToolChoice("none")}),
        ({"tool_choice": "required"}, {"tool_choice": ToolChoice("any")}),
        (
            {"tool_choice": {"type": "function", "name": "f"}},
            {"tool_choice": ToolChoice("named", "f")},
        ),
        (
            {"max_output_tokens": 7, "temperature": 0, "top_p": 0.5},
            {"max_tokens": 7, "temperature": 0, "top_p": 0.5},
        ),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"format": Format()}),
        (
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "n",
                        "schema": SCHEMA,
                        "strict": True,
                        "description": "d",
                    }
                }
            },
            {"format": Format(SCHEMA, "n", strict=True, description="d")},
        ),
        ({"reasoning": None}, {}),
        ({"reasoning": {"effort": None, "summary": None}}, {}),
        (
            {"reasoning": {"generate_summary": "concise"}},
            {"reasoning": Reasoning(wants_summary=True)},
        ),
        ({"user": "me"}, {"user": "me"}),
        ({"safety_identifier": "me"}, {"user": "me"}),
        ({"store": True, "metadata": {"a": "b"}, "top_logprobs": 0, "unheard_of": [1]}, {}),
    ],
)
def test_one_field(fields, expected):
    asking = read_asking({"model": "m", "input": "hi", **fields})
    assert asking == Asking(**{"model": "m", "messages": (HI,), **expected})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"include": ["message.output_text.logprobs"]}, "logprobs"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["x"]}, "an item"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"input": [{"type": "custom_tool_call", "name": "x"}]}, "custom_tool_call"),
        ({"input": [{"type": "local_shell_call"}]}, "local_shell_call"),
        ({"input": [{"type": "compaction"}]}, "compaction"),
        ({"input": [{"type": "my own words"}]}, "unknown"),
        ({"input": [{"role": "tool", "content": "x"}]}, "role"),
        ({"input": [{"role": "user", "content": 3}]}, "content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input_file"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]}, "text"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "file_id",
        ),
        (
            {
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_image", "image_url": "data:image/svg+xml,<x/>"}
                        ],
                    }
                ]
            },
            "image_url",
        ),
        (
            {
                "input": [
                    {
                        "role": "assistant",
                        "content": [{"type": "input_image", "image_url": "https://e.test/"}],
                    }
                ]
            },
            "an image in a message of the assistant",
        ),
        ({"input": [{"type": "function_call", "name": "f"}]}, "call_id"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "name"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "call_id"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "custom", "name": "apply_patch"}]}, "custom"),
        ({"tools": [{"type": "mcp"}]}, "mcp"),
        ({"tools": [{"type": "local_shell"}]}, "local_shell"),
        ({"tools": [{"type": "computer_use_preview"}]}, "computer_use_preview"),
        ({"tools": [{"type": "function"}]}, "name"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]},
            "custom",
        ),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "namespace"}]}]},
            "namespace",
        ),
        ({"tools": {}}, "tools"),
        ({"tool_choice": {"type": "web_search"}}, "web_search"),
        ({"tool_choice": {"type": "allowed_tools"}}, "allowed_tools"),
        ({"tool_choice": "sometimes"}, "sometimes"),
        ({"text": {"format": {"type": "grammar"}}}, "grammar"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "schema"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"instructions": ["x"]}, "instructions"),
        ({"model": 3}, "model"),
    ],
)
def test_what_has_no_words_elsewhere_is_named(fields, named):
    with pytest.raises(UntranslatableError) as caught:
        read_asking({"model": "m", "input": "hi", **fields})
    assert named in str(caught.value)
    assert "my own words" not in str(caught.value)


def test_what_copilot_is_asked():
    asking = Asking(
        "m",
        (
            Message("system", (Text("s"),)),
            Message("user", (Text("hi"), Image(url="https://e.test/a.png", detail="high"))),
            Message("assistant", (Thinking("", "sealed"), Text("a"), ToolCall("c", "f", "{}"))),
            Message("user", (ToolResult("c", (Text("r"),), is_error=True), Text("go on"))),
            Message("system", (Text("be brief"),)),
        ),
        tools=(Tool("f"),),
        tool_choice=ToolChoice("any"),
        max_tokens=9,
        temperature=1.0,
        top_p=0.5,
        stream=True,
        format=Format(SCHEMA),
        reasoning=Reasoning(budget=1024),
    )
    assert write_asking(asking) == {
        "model": "m",
        "instructions": "s",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "hi"},
                    {
                        "type": "input_image",
                        "image_url": "https://e.test/a.png",
                        "detail": "high",
                    },
                ],
            },
            {"type": "reasoning", "summary": [], "encrypted_content": "sealed"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a"}],
            },
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "r"},
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "go on"}],
            },
            {
                "type": "message",
                "role": "system",
                "content": [{"type": "input_text", "text": "be brief"}],
            },
        ],
        "tools": [
            {
                "type": "function",
                "name": "f",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            }
        ],
        "tool_choice": "required",
        "max_output_tokens": 9,
        "top_p": 0.5,
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA}},
        "reasoning": {"effort": "low"},
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


@pytest.mark.parametrize(
    ("asking", "named"),
    [
        (Asking("m", (HI,), stop=("x",)), "stop sequences"),
        (Asking("m", (Message("assistant", (Image(url="https://e.test"),)),)), "an image"),
        (Asking("m", (Message("system", (Image(url="https://e.test"),)),)), "an image"),
        (Asking("m", (Message("user", (ToolCall("c", "f", "{}"),)),)), "ToolCall"),
        (Asking("m", (Message("user", (Thinking("x"),)),)), "Thinking"),
        (Asking("m", (Message("system", (Thinking("x"),)),)), "Thinking"),
        (Asking("m", (Message("assistant", (ToolResult("c", ()),)),)), "ToolResult"),
        (Asking("m", (Message("user", (Text("x", is_refusal=True),)),)), "a refusal"),
    ],
)
def test_what_cannot_be_written_is_named(asking, named):
    with pytest.raises(UntranslatableError, match=named):
        write_asking(asking)


@pytest.mark.parametrize(
    ("result", "output"),
    [
        (ToolResult("c", ()), ""),
        (ToolResult("c", (), is_error=True), "error"),
        (ToolResult("c", (Text("no"),), is_error=True), "no"),
        (
            ToolResult("c", (Text("a"), Text("b"))),
            [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        ),
        (
            ToolResult("c", (Image(data="QQ==", media_type="image/png"),)),
            [{"type": "input_image", "image_url": "data:image/png;base64,QQ=="}],
        ),
    ],
)
def test_what_a_tool_gave(result, output):
    (item,) = write_asking(Asking("m", (Message("user", (result,)),)))["input"]
    assert item == {"type": "function_call_output", "call_id": "c", "output": output}
