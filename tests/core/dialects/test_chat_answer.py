"""Whole answers of Chat Completions."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given

from brokerd.core.dialects.chat import read_answer, write_answer
from brokerd.core.dialects.meaning import (
    Answer,
    Image,
    Text,
    Thinking,
    ToolCall,
    UntranslatableError,
    Usage,
)
from fakes.conversations import Can, answers, law, normal


STOPS = {"sequence": "end", "pause": "length"}


def as_chat_counts(usage: Usage) -> Usage:
    if usage.prompt is None and usage.completion is None:
        return Usage()
    return Usage(usage.prompt or 0, usage.completion or 0, usage.cached, None, usage.reasoning)


def as_chat_says(answer: Answer) -> Answer:
    """What of it Chat Completions has words for: one text, one refusal, one thought, the calls."""
    thoughts = [part for part in answer.parts if isinstance(part, Thinking)]
    if len(thoughts) > 1:
        texts = [thought.text for thought in thoughts if thought.text]
        proofs = [thought.proof for thought in thoughts if thought.proof]
        is_sound = len(texts) <= 1 and len(proofs) == 1
        thoughts = [Thinking("".join(texts), proofs[0] if is_sound else "")]
    words = [
        Text(
            "".join(
                each.text
                for each in answer.parts
                if isinstance(each, Text) and each.is_refusal == is_refusal
            ),
            is_refusal,
        )
        for is_refusal in (False, True)
    ]
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    return replace(
        answer,
        parts=(
            *(thought for thought in thoughts if thought.text or thought.proof),
            *(part for part in words if part.text),
            *calls,
        ),
        stop=STOPS.get(answer.stop, answer.stop),
        stop_sequence="",
        usage=as_chat_counts(answer.usage),
    )


@law()
@given(answers())
def test_what_is_written_is_read(answer):
    body = json.loads(json.dumps(write_answer(answer)))
    assert normal(read_answer(body)) == normal(as_chat_says(answer))


EXACT = Can(
    mixed_turns=False,
    neighbouring_texts=False,
    answer_refusals=False,
    thinking="first",
    answer_stops=("end", "length", "tool", "filter"),
    cache_written=False,
    half_usage=False,
)


@law()
@given(answers(EXACT))
def test_what_it_can_say_is_not_changed(answer):
    assert normal(read_answer(write_answer(answer))) == normal(answer)


def call(name="weather", call_id="c1", arguments='{"a":1}'):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def choice(reason="stop", **message):
    return {"finish_reason": reason, "message": {"role": "assistant", **message}}


def body(*choices, **more):
    return {"id": "r1", "model": "gpt-4o", "created": 7, "choices": list(choices), **more}


CALL = ToolCall("c1", "weather", '{"a":1}')


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(body(choice(content="hi")), {"parts": (Text("hi"),)}, id="words"),
        pytest.param(
            body(choice(content=None, refusal="no")),
            {"parts": (Text("no", is_refusal=True),)},
            id="a refusal",
        ),
        pytest.param(
            body(choice("length", content="hi", reasoning_text="hm", reasoning_opaque="xyz")),
            {"parts": (Thinking("hm", "xyz"), Text("hi")), "stop": "length"},
            id="thoughts",
        ),
        pytest.param(
            body(choice("tool_calls", content="", tool_calls=[call()])),
            {"parts": (CALL,), "stop": "tool"},
            id="a tool call",
        ),
        pytest.param(
            body(
                choice("tool_calls", content="let me see"),
                choice("tool_calls", tool_calls=[call()]),
            ),
            {"parts": (Text("let me see"), CALL), "stop": "tool"},
            id="two choices of Claude's",
        ),
        pytest.param(
            body(choice("stop", content="let me see"), choice("tool_calls", tool_calls=[call()])),
            {"parts": (Text("let me see"), CALL), "stop": "tool"},
            id="two choices with reasons of their own",
        ),
        pytest.param(
            body(choice("stop", content=None, tool_calls=[call()])),
            {"parts": (CALL,), "stop": "tool"},
            id="stop with a call",
        ),
        pytest.param(
            body(choice("tool_calls", content="hi")),
            {"parts": (Text("hi"),), "stop": "end"},
            id="tool_calls without one",
        ),
        pytest.param(
            body(
                choice("function_call", function_call={"name": "weather", "arguments": '{"a":1}'})
            ),
            {"parts": (replace(CALL, id="function_r1_0"),), "stop": "tool"},
            id="a function call",
        ),
        pytest.param(
            body(choice("tool_calls", tool_calls=[call(arguments={"a": 1})])),
            {"parts": (CALL,), "stop": "tool"},
            id="arguments that are no string",
        ),
        pytest.param(
            body(choice("content_filter", content="hi")),
            {"parts": (Text("hi"),), "stop": "filter"},
            id="a filter",
        ),
        pytest.param(
            body(choice(None, content=[{"type": "text", "text": "hi"}])),
            {"parts": (Text("hi"),)},
            id="content in parts and no reason",
        ),
        pytest.param(
            body(
                choice(content="hi", copilot_annotations={"x": []}),
                usage={
                    "prompt_tokens": 9,
                    "completion_tokens": 4,
                    "total_tokens": 13,
                    "prompt_tokens_details": {"cached_tokens": 3},
                    "completion_tokens_details": {
                        "reasoning_tokens": 2,
                        "accepted_prediction_tokens": 0,
                    },
                },
                prompt_filter_results=[],
            ),
            {"parts": (Text("hi"),), "usage": Usage(9, 4, 3, None, 2)},
            id="usage",
        ),
        pytest.param(
            body(
                choice(content="hi"),
                usage={"prompt_tokens": 9, "completion_tokens": 4, "reasoning_tokens": 2},
            ),
            {"parts": (Text("hi"),), "usage": Usage(9, 4, reasoning=2)},
            id="reasoning_tokens in usage",
        ),
        pytest.param(
            body(
                choice(content="hi"),
                usage={"prompt_tokens": 9, "completion_tokens": 4},
                reasoning_tokens=0,
            ),
            {"parts": (Text("hi"),), "usage": Usage(9, 4, reasoning=0)},
            id="reasoning_tokens beside usage",
        ),
    ],
)
def test_answers(told, expected):
    assert read_answer(told) == replace(Answer("r1", "gpt-4o", (), "end", created=7), **expected)


def test_an_answer_without_id_time_or_model():
    assert read_answer({"choices": [choice(content="hi")]}) == Answer("", "", (Text("hi"),), "end")


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({}, "without choices"),
        (body(), "without choices"),
        ({"choices": None}, "without choices"),
        ({"choices": {}}, "choices that"),
        ({"type": "message", "role": "assistant", "content": []}, "without choices"),
        ({"error": {"message": "x"}, "choices": []}, "an error in place"),
        (body(choice("error")), "failed"),
        (body(choice(audio={"id": "x"})), "audio"),
        (body(choice(content=7)), "a content"),
        (body(choice(tool_calls=[{"id": "c", "type": "custom"}])), "of type custom"),
        (body(choice(tool_calls=[call(call_id="")])), "without an id"),
        (body(choice(content="hi"), usage={"prompt_tokens": "9"}), "a prompt_tokens"),
        (body(choice(content="hi"), usage=[]), "a usage"),
    ],
)
def test_what_cannot_be_said_is_named(told, named):
    with pytest.raises(UntranslatableError) as raised:
        read_answer(told)
    assert named in str(raised.value)


def test_an_answer_as_the_reference_has_it():
    answer = Answer(
        "r1",
        "gpt-4o",
        (Thinking("hm", "xyz"), Text("hi"), CALL),
        "tool",
        Usage(9, 4, 3, 1, 2),
        "",
        7,
    )
    assert write_answer(answer) == {
        "id": "r1",
        "object": "chat.completion",
        "created": 7,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hi",
                    "refusal": None,
                    "reasoning_text": "hm",
                    "reasoning_opaque": "xyz",
                    "tool_calls": [call()],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_a_proof_is_good_for_its_own_text_only():
    answer = Answer("r1", "m", (Thinking("a", "x"), Text("b"), Thinking("c", "y")), "end")
    message = write_answer(answer)["choices"][0]["message"]
    assert message["reasoning_text"] == "ac"
    assert "reasoning_opaque" not in message


def test_parts_of_the_users_are_no_answer():
    with pytest.raises(UntranslatableError):
        write_answer(Answer("r1", "m", (Image(url="https://a.test/b"),), "end"))


@pytest.mark.parametrize("odd", [None, True, 7, -1, "", "x", [], ["x"], [{}], {}, {"id": []}])
@pytest.mark.parametrize(
    "path",
    [
        ("id",),
        ("created",),
        ("choices",),
        ("choices", 0),
        ("choices", 0, "message"),
        ("choices", 0, "message", "content"),
        ("choices", 0, "message", "tool_calls"),
        ("choices", 0, "message", "tool_calls", 0, "type"),
        ("choices", 0, "message", "tool_calls", 0, "function"),
        ("choices", 0, "finish_reason"),
        ("usage",),
        ("usage", "prompt_tokens_details"),
    ],
    ids=str,
)
def test_odd_values_are_read_or_named_and_nothing_else(path, odd):
    told = body(choice(content="hi", tool_calls=[call()]), usage={"prompt_tokens": 9})
    *way, last = path
    inside = told
    for key in way:
        inside = inside[key]
    inside[last] = odd
    with contextlib.suppress(UntranslatableError):
        write_answer(read_answer(told))
