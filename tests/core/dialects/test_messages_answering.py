"""Whole answers of Messages."""

from __future__ import annotations

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
from brokerd.core.dialects.messages import read_answer, write_answer


SECRET = "CANARY of the person"
REAL = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4.5",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "ü"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 3000,
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 7},
    },
}
COPILOTS = {
    "copilot_annotations": {"IPCodeCitations": []},
    "copilot_usage": {"total_nano_aiu": 1},
    "container": None,
    "usage": REAL["usage"]
    | {"service_tier": "standard", "cache_creation": {"ephemeral_5m_input_tokens": 3000}},
}
MEANT = Answer(
    id="msg_01",
    model="claude-sonnet-4.5",
    parts=(
        Thinking("hm", "c2ln"),
        Thinking("", "redacted_thinking:b3BhcXVl"),
        Text("I look."),
        ToolCall("toolu_1", "look", '{"at":"ü"}'),
    ),
    stop="tool",
    usage=Usage(3210, 40, cached=200, cache_written=3000, reasoning=7),
)


@pytest.mark.parametrize("more", [{}, COPILOTS])
def test_an_answer_is_read(more):
    assert read_answer(REAL | more) == MEANT


def test_an_answer_is_written():
    assert write_answer(MEANT) == REAL


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("end_turn", "end"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool"),
        ("stop_sequence", "sequence"),
        ("refusal", "filter"),
        ("pause_turn", "pause"),
        (None, "end"),
        ("of_next_year", "end"),
    ],
)
def test_why_it_stopped(word, stop):
    answer = read_answer({"stop_reason": word, "stop_sequence": "END"})
    assert (answer.stop, answer.stop_sequence) == (stop, "END")
    if word not in {None, "of_next_year", "model_context_window_exceeded"}:
        assert write_answer(answer)["stop_reason"] == word


@pytest.mark.parametrize("word", [None, "of_next_year"])
def test_one_that_calls_a_tool_waits_for_it_whatever_it_says(word):
    assert read_answer(REAL | {"stop_reason": word}).stop == "tool"
    assert write_answer(Answer("", "", MEANT.parts, "end"))["stop_reason"] == "tool_use"


def test_what_is_required_is_there_though_nothing_is_known():
    assert write_answer(Answer("", "", (Text(""),), "end")) == {
        "id": "",
        "type": "message",
        "role": "assistant",
        "model": "",
        "content": [],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


@pytest.mark.parametrize(
    ("usage", "meant"),
    [
        ({}, Usage()),
        (None, Usage()),
        ({"output_tokens": 3}, Usage(None, 3)),
        ({"input_tokens": 2, "cache_read_input_tokens": None}, Usage(2)),
        ({"cache_read_input_tokens": 5}, Usage(5, cached=5)),
    ],
)
def test_missing_counts_are_not_invented(usage, meant):
    assert read_answer({"content": [], "usage": usage}).usage == meant


def test_a_refusal_is_words():
    told = write_answer(Answer("", "", (Text("no", is_refusal=True),), "end"))
    assert told["content"] == [{"type": "text", "text": "no"}]


def test_a_call_cut_short_is_left_out():
    parts = (Text("so"), ToolCall("1", "t", '{"a": "b'))
    assert len(write_answer(Answer("", "", parts, "length"))["content"]) == 1
    with pytest.raises(UntranslatableError, match="arguments are not JSON"):
        write_answer(Answer("", "", parts, "tool"))


@pytest.mark.parametrize(
    "body",
    [
        {"type": "error", "error": {"message": SECRET}, "content": []},
        {"error": {"message": SECRET}},
        {"content": [{"type": "server_tool_use", "name": SECRET}]},
        {"content": [{"type": "image"}]},
        {"content": [], "usage": {"output_tokens": SECRET}},
        {"content": [], "usage": SECRET},
        {"content": [], "id": 7},
        {"content": {"text": SECRET}},
    ],
)
def test_what_is_no_answer_is_refused_and_never_quoted(body):
    with pytest.raises(UntranslatableError) as caught:
        read_answer(body)
    assert SECRET not in str(caught.value)


def test_a_picture_is_no_part_of_an_answer():
    with pytest.raises(UntranslatableError, match="a part of kind image in an answer"):
        write_answer(Answer("", "", (Image(url=SECRET),), "end"))
