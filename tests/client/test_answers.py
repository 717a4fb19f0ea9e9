"""What an answer says, heard out of each of the three dialects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_broker.calls.answers import Heard, Usage


CHAT = [
    {"choices": [], "prompt_filter_results": []},
    {"model": "gpt", "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]},
    {"model": "gpt", "choices": [{"delta": {"content": "Hel"}}]},
    {"model": "gpt", "choices": [{"delta": {"content": "lo"}}, {"delta": {"content": "no"}}]},
    {
        "choices": [{"index": 0, "finish_reason": "length", "delta": {}}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    },
]
RESPONSES = [
    {"type": "response.created", "response": {"model": "codex", "usage": None, "error": None}},
    {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
    {"type": "response.output_text.delta", "delta": "Hel"},
    {"type": "response.output_text.delta", "delta": "lo"},
    {"type": "response.output_text.done", "text": "Hello"},
    {
        "type": "response.incomplete",
        "response": {
            "model": "codex",
            "output": [{"type": "message", "content": [{"text": "Hello"}]}],
            "incomplete_details": {"reason": "max_output_tokens"},
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 2,
            },
        },
    },
]
MESSAGES = [
    {
        "type": "message_start",
        "message": {
            "model": "claude",
            "content": [],
            "usage": {
                "input_tokens": 5,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 1,
                "output_tokens": 1,
            },
        },
    },
    {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "lo"}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "max_tokens"},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
]
WHOLE_CHAT = {
    "model": "gpt",
    "choices": [{"message": {"content": "Hello"}, "finish_reason": "length"}],
    "usage": CHAT[-1]["usage"],
}
WHOLE_RESPONSES = {
    **RESPONSES[-1]["response"],
    "output": [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
    ],
}
WHOLE_MESSAGES = {
    "model": "claude",
    "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello"}],
    "stop_reason": "max_tokens",
    "usage": {
        "input_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 1,
        "output_tokens": 2,
    },
}


@pytest.mark.parametrize(
    ("events", "model"),
    [
        (CHAT, "gpt"),
        (RESPONSES, "codex"),
        (MESSAGES, "claude"),
        ([WHOLE_CHAT], "gpt"),
        ([WHOLE_RESPONSES], "codex"),
        ([WHOLE_MESSAGES], "claude"),
    ],
    ids=["chat", "responses", "messages", "whole chat", "whole responses", "whole messages"],
)
def test_every_dialect_says_the_same(events, model):
    heard = Heard()
    assert "".join(map(heard.take, events)) == "Hello"
    assert heard.model == model
    assert heard.usage == Usage(prompt=10, completion=2, cached=4)
    assert heard.ending == "length"


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        ({"choices": [{"finish_reason": "content_filter"}]}, "content_filter"),
        ({"choices": [{"finish_reason": "stop"}]}, None),
        ({"delta": {"stop_reason": "refusal"}}, "content_filter"),
        ({"stop_reason": "end_turn"}, None),
        ({"response": {"incomplete_details": {"reason": "content_filter"}}}, "content_filter"),
    ],
)
def test_how_it_ended(event, ending):
    heard = Heard()
    heard.take(event)
    heard.take({"type": "message_stop"})
    assert heard.ending == ending


def test_what_was_not_counted_is_not_made_up():
    heard = Heard()
    heard.take({"usage": {"total_tokens": 9}})
    heard.take({"usage": None, "choices": []})
    assert heard.usage == Usage(None, None, None)


KEYS = [
    "choices",
    "delta",
    "message",
    "response",
    "usage",
    "model",
    "content",
    "text",
    "output",
    "type",
    "prompt_tokens",
]
KEYS += [
    "input_tokens",
    "finish_reason",
    "stop_reason",
    "incomplete_details",
    "reason",
    "input_tokens_details",
]


@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
            ),
        ),
    )
)
def test_nothing_that_comes_does_harm(event):
    heard = Heard()
    assert isinstance(heard.take(event), str)
    assert isinstance(heard.model, str)
