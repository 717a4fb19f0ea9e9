"""Responses: whole answers in the shapes of the API reference."""

import pytest

from brokerd.core.dialects.meaning import (
    Answer,
    Image,
    Text,
    Thinking,
    ToolCall,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.responses import read_answer, write_answer


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": "Hello",
            "annotations": [{"type": "url_citation", "url": "https://example.test"}],
            "logprobs": [],
        }
    ],
}
ANSWER = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1741476542.0,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5.2",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAAB"},
        {"id": "ws_1", "type": "web_search_call", "status": "completed"},
        MESSAGE,
        {
            "id": "fc_1",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1",
            "name": "f",
            "arguments": "{}",
        },
    ],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 4},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 50},
        "total_tokens": 123,
    },
    "copilot_quota_snapshots": {"chat": {}},
}


def test_an_answer_of_upstreams():
    assert read_answer(ANSWER) == Answer(
        "resp_1",
        "gpt-5.2",
        (Thinking("", "gAAAAAB"), Text("Hello"), ToolCall("call_1", "f", "{}")),
        "tool",
        Usage(36, 87, 12, 4, 50),
        created=1741476542,
    )


@pytest.mark.parametrize(
    ("fields", "stop"),
    [
        ({}, "end"),
        ({"output": ANSWER["output"]}, "tool"),
        ({"status": "incomplete", "incomplete_details": None}, "length"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "length",
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "filter"),
        (
            {"status": "incomplete", "output": ANSWER["output"]},
            "length",
        ),
    ],
)
def test_why_it_ended(fields, stop):
    assert read_answer({**ANSWER, "output": [MESSAGE], **fields}).stop == stop


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "secret"}}, "failed"),
        ({"status": "in_progress"}, "in_progress"),
        ({"output": [{"type": "custom_tool_call"}]}, "custom_tool_call"),
        ({"output": [{"type": "computer_call"}]}, "computer_call"),
        ({"output": "x"}, "output"),
        ({"usage": {"input_tokens": "3"}}, "input_tokens"),
    ],
)
def test_what_is_no_answer(fields, named):
    with pytest.raises(UntranslatableError) as caught:
        read_answer({**ANSWER, **fields})
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_answer_for_a_client():
    parts = (
        Thinking("hm", "sealed"),
        Text("Hello"),
        Text("No", is_refusal=True),
        ToolCall("call_1", "mcp__docs_-_search", "{}"),
        Text("cut"),
    )
    told = write_answer(Answer("chatcmpl-1", "m", parts, "length", Usage(3, 4), created=5))
    assert told == {
        "id": "resp_chatcmpl-1",
        "object": "response",
        "created_at": 5,
        "status": "incomplete",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"},
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "m",
        "output": [
            {
                "id": "rs_chatcmpl-1_0",
                "type": "reasoning",
                "status": "completed",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "sealed",
            },
            {
                "id": "msg_chatcmpl-1_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "No"},
                ],
            },
            {
                "id": "fc_chatcmpl-1_2",
                "type": "function_call",
                "status": "completed",
                "call_id": "call_1",
                "name": "search",
                "namespace": "mcp__docs",
                "arguments": "{}",
            },
            {
                "id": "msg_chatcmpl-1_3",
                "type": "message",
                "status": "incomplete",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "cut", "annotations": [], "logprobs": []}
                ],
            },
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 7,
        },
        "user": None,
    }


def test_a_name_with_the_mark_comes_back_as_one():
    parts = (ToolCall("call_1", "mcp__docs_-_search", "{}"),)
    assert read_answer(write_answer(Answer("i", "m", parts, "tool"))).parts == parts


@pytest.mark.parametrize("name", ["_-_", "a_-_", "_-_b"])
def test_half_a_namespace_is_none(name):
    item = write_answer(Answer("i", "m", (ToolCall("c", name, "{}"),), "tool"))["output"][0]
    assert item["name"] == name
    assert "namespace" not in item


def test_a_picture_in_an_answer_has_no_words():
    with pytest.raises(UntranslatableError, match="Image"):
        write_answer(Answer("i", "m", (Image(url="https://e.test"),), "end"))
