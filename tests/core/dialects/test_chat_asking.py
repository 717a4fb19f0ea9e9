"""Requests of Chat Completions: what they mean, and that nothing is lost on the way back."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given

from brokerd.core.dialects.chat import read_asking, write_asking
from brokerd.core.dialects.chat.history import ERROR_WITHOUT_WORDS, IMAGES_FOLLOW
from brokerd.core.dialects.chat.wishes import NO_PARAMETERS
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
from fakes.conversations import Can, askings, law, normal


CAN = Can(summaries=False, empty_schema=False, choice_without_tools=False)


def as_chat_says(asking: Asking) -> Asking:
    """What of it Chat Completions has words for: calls last in a turn, no images in results."""
    messages = []
    for message in asking.messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        moved = [p for result in results for p in result.content if isinstance(p, Image)]
        rest = [part for part in message.parts if not isinstance(part, ToolResult)]
        calls = [part for part in rest if isinstance(part, ToolCall)]
        rest = [part for part in rest if not isinstance(part, ToolCall)]
        parts = (*map(_plain, results), *moved, *rest, *calls)
        messages.append(Message(message.role, parts))
    return normal(replace(asking, messages=tuple(messages)))


def _plain(result: ToolResult) -> ToolResult:
    words = tuple(part for part in result.content if isinstance(part, Text))
    if result.content and not words:
        words = (Text(IMAGES_FOLLOW),)
    elif not words and result.is_error:
        words = (Text(ERROR_WITHOUT_WORDS),)
    return ToolResult(result.call_id, words)


@law(25)
@given(askings(CAN))
def test_what_is_written_is_read(asking):
    body = json.loads(json.dumps(write_asking(asking)))
    check_results_follow_calls(body["messages"])
    assert normal(read_asking(body)) == as_chat_says(asking)


STRICT = replace(
    CAN, mixed_turns=False, thinking="first", result_images=False, result_errors=False
)


@law(25)
@given(askings(STRICT))
def test_what_it_can_say_is_not_changed(asking):
    assert normal(read_asking(write_asking(asking))) == normal(asking)


def check_results_follow_calls(messages):
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == open_calls.pop(0)
        else:
            assert not open_calls
            open_calls = [call["id"] for call in message.get("tool_calls", ())]
    assert not open_calls


def read(*messages, **more) -> Asking:
    return read_asking({"model": "gpt-4o", "messages": list(messages), **more})


HELLO = {"role": "user", "content": "hello"}
WEATHER = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CALL = ToolCall("c1", "weather", "{}")


def result(content, call_id="c1"):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def image(url, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([HELLO], [Message("user", (Text("hello"),))], id="words"),
        pytest.param(
            [{"role": "system", "content": "be brief"}, HELLO],
            [Message("system", (Text("be brief"),)), Message("user", (Text("hello"),))],
            id="system",
        ),
        pytest.param(
            [{"role": "developer", "content": [{"type": "text", "text": "be brief"}]}, HELLO],
            [Message("system", (Text("be brief"),)), Message("user", (Text("hello"),))],
            id="developer",
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}],
                }
            ],
            [Message("user", (Text("a"),))],
            id="an empty part",
        ),
        pytest.param(
            [HELLO, {"role": "assistant", "content": ""}, {"role": "user", "content": None}],
            [Message("user", (Text("hello"),))],
            id="empty messages",
        ),
        pytest.param(
            [{"role": "user", "content": [image("https://a.test/b.png", detail="low")]}],
            [Message("user", (Image(url="https://a.test/b.png", detail="low"),))],
            id="an image by its place",
        ),
        pytest.param(
            [{"role": "user", "content": [image("DATA:image/PNG;x=1;base64,AA==")]}],
            [Message("user", (Image(data="AA==", media_type="image/png"),))],
            id="an image by its bytes",
        ),
        pytest.param(
            [{"role": "user", "content": [image("data:;base64,AA==", media_type="image/gif")]}],
            [Message("user", (Image(data="AA==", media_type="image/gif"),))],
            id="Copilot's media_type",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "image_url", "image_url": "http://a.test/b"}]}],
            [Message("user", (Image(url="http://a.test/b"),))],
            id="image_url as a string",
        ),
        pytest.param(
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [WEATHER, {**WEATHER, "id": "c2"}],
                },
                result("rain"),
                result([{"type": "text", "text": "sun"}], "c2"),
                {"role": "user", "content": "so?"},
            ],
            [
                Message("user", (Text("hello"),)),
                Message("assistant", (CALL, replace(CALL, id="c2"))),
                Message(
                    "user", (ToolResult("c1", (Text("rain"),)), ToolResult("c2", (Text("sun"),)))
                ),
                Message("user", (Text("so?"),)),
            ],
            id="tools",
        ),
        pytest.param(
            [HELLO, {"role": "assistant", "tool_calls": [WEATHER]}, result("")],
            [
                Message("user", (Text("hello"),)),
                Message("assistant", (CALL,)),
                Message("user", (ToolResult("c1", ()),)),
            ],
            id="an empty result",
        ),
        pytest.param(
            [
                HELLO,
                {"role": "assistant", "function_call": {"name": "weather", "arguments": ""}},
                {"role": "function", "name": "weather", "content": "rain"},
            ],
            [
                Message("user", (Text("hello"),)),
                Message("assistant", (ToolCall("function_1", "weather", "{}"),)),
                Message("user", (ToolResult("function_1", (Text("rain"),)),)),
            ],
            id="functions, as tools were called before",
        ),
        pytest.param(
            [HELLO, {"role": "assistant", "content": "no", "refusal": "never", "audio": None}],
            [
                Message("user", (Text("hello"),)),
                Message("assistant", (Text("no"), Text("never", is_refusal=True))),
            ],
            id="a refusal",
        ),
        pytest.param(
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": "42",
                    "reasoning_text": "hm",
                    "reasoning_opaque": "xyz",
                },
            ],
            [
                Message("user", (Text("hello"),)),
                Message("assistant", (Thinking("hm", "xyz"), Text("42"))),
            ],
            id="Copilot's thoughts",
        ),
        pytest.param(
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": "42",
                    "reasoning_content": "hm",
                    "reasoning": "hm",
                },
            ],
            [
                Message("user", (Text("hello"),)),
                Message("assistant", (Thinking("hm"), Text("42"))),
            ],
            id="the thoughts of others",
        ),
    ],
)
def test_messages(messages, expected):
    assert read(*messages).messages == tuple(expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 7, "max_tokens": 5}, {"max_tokens": 7}),
        ({"max_tokens": 5.0}, {"max_tokens": 5}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"stop": "x"}, {"stop": ("x",)}),
        ({"stop": ["x", "y"]}, {"stop": ("x", "y")}),
        ({"stop": []}, {}),
        ({"stream": True}, {"stream": True, "wants_usage": False}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"stream": False, "stream_options": None}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"format": Format()}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
                }
            },
            {"format": Format({"type": "object"}, "n", strict=True)},
        ),
        ({"tool_choice": "auto"}, {"tool_choice": ToolChoice("auto")}),
        ({"tool_choice": "none"}, {"tool_choice": ToolChoice("none")}),
        ({"tool_choice": "required"}, {"tool_choice": ToolChoice("any")}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": ToolChoice("named", "f")},
        ),
        ({"function_call": {"name": "f"}}, {"tool_choice": ToolChoice("named", "f")}),
        ({"parallel_tool_calls": False}, {"parallel_calls": False}),
        ({"reasoning_effort": "high"}, {"reasoning": Reasoning("high")}),
        ({"thinking_budget": 4000}, {"reasoning": Reasoning(budget=4000)}),
        ({"user": "u1"}, {"user": "u1"}),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f", "strict": False}}],
                "functions": [{"name": "g", "description": "d", "parameters": {"type": "object"}}],
            },
            {"tools": (Tool("f", strict=False), Tool("g", "d", {"type": "object"}))},
        ),
        (
            {
                "n": 1,
                "logprobs": False,
                "top_logprobs": 0,
                "logit_bias": {},
                "modalities": ["text"],
                "audio": None,
                "store": True,
                "metadata": {"a": "b"},
                "seed": 7,
                "snippy": {"enabled": False},
                "intent": True,
                "copilot_references": [],
                "frequency_penalty": 0,
            },
            {},
        ),
    ],
)
def test_fields(fields, expected):
    plain = Asking("gpt-4o", (Message("user", (Text("hello"),)),))
    assert read(HELLO, **fields) == replace(plain, **expected)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"audio": {"voice": "a"}}, "audio"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"n": 2}, "n other than 1"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "a tool of type custom"),
        ({"tools": [{"type": "a person's words"}]}, "a tool of type unknown"),
        ({"tools": [{"type": "function", "function": {}}]}, "a tool without a name"),
        ({"tools": {}}, "tools that is no list"),
        ({"tools": ["x"]}, "tools that is no list of objects"),
        ({"tool_choice": {"type": "allowed_tools"}}, "a tool_choice of type allowed_tools"),
        ({"tool_choice": "always"}, "a tool_choice of another form"),
        ({"tool_choice": {"name": "f"}}, "a tool_choice of another form"),
        ({"response_format": {"type": "grammar"}}, "a response_format of type grammar"),
        ({"stop": 7}, "a stop"),
        ({"stop": [7]}, "a stop"),
        ({"max_tokens": "5"}, "a max_tokens"),
        ({"max_tokens": True}, "a max_tokens"),
        ({"max_tokens": -1}, "a max_tokens"),
        ({"max_tokens": 1.5}, "a max_tokens"),
        ({"temperature": "hot"}, "a temperature"),
        ({"temperature": float("nan")}, "a temperature"),
        ({"stream": "yes"}, "a stream"),
        ({"user": 5}, "a user"),
        ({"model": None}, "without a model"),
        ({"messages": []}, "without messages"),
        ({"messages": "hello"}, "messages that is no list"),
        ({"messages": [{"role": "critic"}]}, "a message of role critic"),
        ({"messages": [{"role": ["user"]}]}, "a role that is no text"),
        ({"messages": [{}]}, "a message of role unknown"),
        ({"messages": [{"role": "user", "content": 7}]}, "a content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "content that"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool_call_id"),
        (
            {"messages": [{"role": "function", "name": "f", "content": "x"}]},
            "answers no function_call",
        ),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "audio"),
        (
            {"messages": [{"role": "assistant", "content": [image("https://a.test/b")]}]},
            "an image of",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}]},
            "custom",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
            "without an id",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}]},
            "without a name",
        ),
        *(
            ({"messages": [{"role": "user", "content": [part]}]}, told)
            for part, told in [
                ({"type": "input_audio", "input_audio": {}}, "input_audio"),
                ({"type": "file", "file": {}}, "of type file"),
                ({"text": "x"}, "unknown"),
                (image("file:///etc/passwd"), "neither http"),
                (image("data:image/svg+xml,<svg>"), "a data URL"),
                (image("data:;base64,AA=="), "a data URL"),
                (image(7), "a url"),
                ({"type": "image_url"}, "neither http"),
            ]
        ),
    ],
)
def test_what_cannot_be_said_is_named(fields, named):
    with pytest.raises(UntranslatableError) as raised:
        read_asking({"model": "m", "messages": [HELLO], **fields})
    assert named in str(raised.value)


def write(*messages, **more):
    return write_asking(Asking("gpt-4o", messages, **more))


USER = Message("user", (Text("hello"),))


WHOLE = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": "well",
            "reasoning_text": "hm",
            "reasoning_opaque": "xyz",
            "tool_calls": [WEATHER],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "user", "content": "so?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "tells",
                "parameters": {"type": "object"},
                "strict": True,
            },
        },
        {
            "type": "function",
            "function": {"name": "time", "parameters": {"type": "object", "properties": {}}},
        },
    ],
    "tool_choice": "required",
    "parallel_tool_calls": True,
    "reasoning_effort": "low",
    "max_tokens": 9,
    "temperature": 0.5,
    "stop": ["x"],
    "user": "u",
    "stream": True,
    "stream_options": {"include_usage": True},
}


def test_a_request_as_the_reference_has_it():
    asking = Asking(
        model="gpt-4o",
        messages=(
            Message("system", (Text("be brief"),)),
            Message(
                "user", (Text("look"), Image(data="AA==", media_type="image/png", detail="low"))
            ),
            Message("assistant", (Thinking("hm", "xyz"), Text("well"), CALL)),
            Message("user", (ToolResult("c1", (Text("rain"),)), Text("so?"))),
        ),
        tools=(Tool("weather", "tells", {"type": "object"}, strict=True), Tool("time")),
        tool_choice=ToolChoice("any"),
        parallel_calls=True,
        max_tokens=9,
        temperature=0.5,
        stop=("x",),
        stream=True,
        reasoning=Reasoning("low"),
        user="u",
    )
    assert write_asking(asking) == WHOLE
    assert normal(read_asking(WHOLE)) == replace(
        asking, tools=(asking.tools[0], replace(asking.tools[1], parameters=NO_PARAMETERS))
    )


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("gpt-4o", "max_tokens"),
        ("gpt-4.1", "max_tokens"),
        ("claude-sonnet-4.5", "max_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-5.4-mini", "max_completion_tokens"),
        ("gpt-10", "max_completion_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("o1", "max_completion_tokens"),
        ("oswe-vscode-prime", "max_tokens"),
    ],
)
def test_models_of_openai_that_think_know_only_the_newer_limit(model, field):
    told = write_asking(Asking(model, (USER,), max_tokens=5))
    assert {key: told[key] for key in told if key.startswith("max")} == {field: 5}


def test_images_in_results_come_after_all_results():
    picture = Image(url="https://a.test/b.png")
    told = write(
        USER,
        Message("assistant", (CALL, replace(CALL, id="c2"))),
        Message(
            "user",
            (
                ToolResult("c1", (Text("this:"), picture)),
                ToolResult("c2", (picture,), is_error=True),
                Text("so?"),
            ),
        ),
    )["messages"]
    part = image("https://a.test/b.png")
    assert told[2:] == [
        result("this:"),
        result(IMAGES_FOLLOW, "c2"),
        {"role": "user", "content": [part, part, {"type": "text", "text": "so?"}]},
    ]


def test_a_word_of_the_system_does_not_part_calls_from_results():
    told = write(
        USER,
        Message("assistant", (CALL,)),
        Message("system", (Text("hurry"),)),
        Message("user", (ToolResult("c1", ()), Text("so?"))),
        Message("assistant", (replace(CALL, id="c2"),)),
        Message("system", (Text("stop"),)),
    )["messages"]
    assert [message["role"] for message in told] == [
        "user", "assistant", "tool", "system", "user", "assistant", "system",
    ]  # fmt: skip


def test_nothing_of_tools_without_tools():
    told = write(USER, tool_choice=ToolChoice("none"), parallel_calls=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(told)


@pytest.mark.parametrize(
    "message",
    [
        Message("user", (Text("a"), CALL)),
        Message("user", (Thinking("hm"),)),
        Message("assistant", (ToolResult("c", ()),)),
        Message("assistant", (Image(url="https://a.test/b"),)),
        Message("system", (Image(url="https://a.test/b"),)),
    ],
)
def test_parts_in_turns_where_nobody_has_them(message):
    with pytest.raises(UntranslatableError):
        write(message)


ODD = [None, True, 7, -1, 0.5, "", "x", "function", [], ["x"], [{}], {}, {"type": "text"}]


def places(value, path=()):
    """Every place in a JSON value, as a path of keys."""
    yield path
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in inside:
        yield from places(each, (*path, key))


@pytest.mark.parametrize("path", list(places(WHOLE))[1:], ids=str)
def test_odd_values_are_read_or_named_and_nothing_else(path):
    for odd in ODD:
        body = json.loads(json.dumps(WHOLE))
        *way, last = path
        inside = body
        for key in way:
            inside = inside[key]
        inside[last] = odd
        with contextlib.suppress(UntranslatableError):
            write_asking(read_asking(body))
