"""Requests to Messages: what is read of each field, and what is written."""

from __future__ import annotations

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
from brokerd.core.dialects.messages import read_asking, write_asking
from brokerd.core.dialects.messages.telling import DEFAULT_MAX_TOKENS


SECRET = "CANARY of the person"
HELLO = (Message("user", (Text("hello"),)),)
AGENT = {
    "model": "claude-opus-4-8",
    "max_tokens": 32000,
    "stream": True,
    "system": [
        {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be brief."},
    ],
    "messages": [
        {"role": "user", "content": "look at the file"},
        {"role": "system", "content": "The clock says noon."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I look", "signature": "c2ln"},
                {"type": "thinking", "thinking": "", "signature": "aGlk"},
                {"type": "redacted_thinking", "data": "b3BhcXVl"},
                {"type": "text", "text": "I read it.", "citations": None},
                {
                    "type": "tool_use",
                    "id": "toolu_1",
                    "name": "Read",
                    "input": {"path": "/ü", "deep": [1.5, None]},
                    "caller": {"type": "direct"},
                },
                {"type": "tool_use", "id": "toolu_2", "name": "List", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "found"},
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": "iVBO",
                            },
                        },
                    ],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": "no such folder",
                    "is_error": True,
                },
                {"type": "text", "text": "and now?", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.test/a.png"}},
            ],
        },
    ],
    "tools": [
        {
            "name": "Read",
            "description": "Read a file",
            "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
            "eager_input_streaming": True,
        },
        {"type": "custom", "name": "List", "input_schema": {"type": "object"}, "strict": True},
    ],
    "tool_choice": {"type": "tool", "name": "Read", "disable_parallel_tool_use": True},
    "temperature": 1,
    "top_p": 0.9,
    "top_k": 40,
    "stop_sequences": ["END"],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "medium", "task_budget": {"type": "tokens", "total": 1}},
    "metadata": {"user_id": "user_1"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "service_tier": "auto",
    "betas": ["x"],
    "mcp_servers": [],
    "container": None,
    "unknown": {"a": 1},
}


def test_every_field_of_an_agent_is_read():
    assert read_asking(AGENT) == Asking(
        model="claude-opus-4-8",
        messages=(
            Message("system", (Text("You are an agent."), Text("Be brief."))),
            Message("user", (Text("look at the file"),)),
            Message("system", (Text("The clock says noon."),)),
            Message(
                "assistant",
                (
                    Thinking("I look", "c2ln"),
                    Thinking("", "aGlk"),
                    Thinking("", "redacted_thinking:b3BhcXVl"),
                    Text("I read it."),
                    ToolCall("toolu_1", "Read", '{"path":"/ü","deep":[1.5,null]}'),
                    ToolCall("toolu_2", "List", "{}"),
                ),
            ),
            Message(
                "user",
                (
                    ToolResult(
                        "toolu_1", (Text("found"), Image(data="iVBO", media_type="image/png"))
                    ),
                    ToolResult("toolu_2", (Text("no such folder"),), is_error=True),
                    Text("and now?"),
                    Image(url="https://example.test/a.png"),
                ),
            ),
        ),
        tools=(
            Tool(
                "Read",
                "Read a file",
                {"type": "object", "properties": {"path": {"type": "string"}}},
            ),
            Tool("List", "", {"type": "object"}, strict=True),
        ),
        tool_choice=ToolChoice("named", "Read"),
        parallel_calls=False,
        max_tokens=32000,
        temperature=1.0,
        top_p=0.9,
        stop=("END",),
        stream=True,
        reasoning=Reasoning("medium", wants_summary=True),
        user="user_1",
    )


def test_what_was_read_is_written_as_it_was():
    told = write_asking(read_asking(AGENT))
    system = [{"type": "text", "text": t} for t in ("You are an agent.", "Be brief.")]
    assert told["system"] == [*system, {"type": "text", "text": "The clock says noon."}]
    assistant, user = AGENT["messages"][2:]
    said = [block | {} for block in assistant["content"]]
    said[3].pop("citations")
    said[4].pop("caller")
    came = [block | {} for block in user["content"]]
    came[2].pop("cache_control")
    assert told["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "look at the file"}]},
        {"role": "assistant", "content": said},
        {"role": "user", "content": came},
    ]
    assert told["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert told["output_config"] == {"effort": "medium"}
    for key in (
        "tool_choice",
        "temperature",
        "stop_sequences",
        "stream",
        "metadata",
        "max_tokens",
    ):
        assert told[key] == AGENT[key]
    assert not told.keys() - AGENT.keys()


def block(kind, **more):
    return {"messages": [{"role": "user", "content": [{"type": kind, **more}]}]}


def said(kind, **more):
    return {"messages": [{"role": "assistant", "content": [{"type": kind, **more}]}]}


def image(**source):
    return block("image", source=source)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        *((block(kind, text=SECRET), f"a block of kind {kind} in") for kind in (
            "document",
            "search_result",
            "container_upload",
            "web_search_tool_result",
            "thinking",
            "tool_use",
        )),
        *((said(kind, text=SECRET), f"a block of kind {kind} in") for kind in (
            "server_tool_use",
            "web_search_tool_result",
            "code_execution_tool_result",
            "mcp_tool_use",
            "image",
            "tool_result",
        )),
        (block(SECRET), "a block of kind unknown"),
        (block("tool_result", content=[{"type": "document"}]), "a block of kind document in tool_result"),
        (block("tool_result", content=[{"type": "tool_reference"}]), "a block of kind tool_reference"),
        (image(type="file", file_id=SECRET), "an image whose source is file"),
        (image(type=SECRET), "an image whose source is unknown"),
        (image(data=SECRET), "the source of an image without a type"),
        (image(type="url", url=7), "url that is no text"),
        ({"messages": SECRET}, "messages that is no list"),
        ({"messages": [SECRET]}, "a message that is no object"),
        ({"messages": [{"role": SECRET}]}, "a message of a role that is not known"),
        ({"messages": [{"role": "user", "content": 7}]}, "neither text nor blocks"),
        ({"messages": [{"role": "user", "content": [SECRET]}]}, "a content block that is no object"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "a content block without a type"),
        ({"system": [{"type": "image"}]}, "a block of kind image in system"),
        ({"system": 7}, "system that is neither"),
        (said("tool_use", input=SECRET), "input that is no object"),
        (said("tool_use", input={"a": float("nan")}), "not finite"),
        ({"mcp_servers": [{"url": SECRET}]}, "mcp_servers"),
        ({"container": SECRET}, "container"),
        *(({"tools": [{"type": kind, "name": SECRET}]}, f"the hosted tool {kind}") for kind in (
            "web_search_20250305",
            "web_fetch_20250910",
            "code_execution_20250825",
            "computer_20250124",
            "text_editor_20241022",
            "tool_search_tool_bm25_20251119",
            "mcp_toolset",
        )),
        ({"tools": [{"name": "a", "input_schema": SECRET}]}, "input_schema that is no object"),
        ({"tools": [{"name": "a", "strict": SECRET}]}, "strict that is neither true nor false"),
        ({"tool_choice": {"type": SECRET}}, "the tool choice unknown"),
        ({"tool_choice": {"name": SECRET}}, "tool_choice without a type"),
        ({"model": 7}, "model that is no text"),
        ({"max_tokens": "7"}, "max_tokens that is no whole number"),
        ({"max_tokens": True}, "max_tokens that is no whole number"),
        ({"temperature": SECRET}, "temperature that is no number"),
        ({"temperature": True}, "temperature that is no number"),
        ({"top_p": float("inf")}, "top_p that is not finite"),
        ({"top_p": 10**400}, "top_p that is not finite"),
        ({"stop_sequences": [7]}, "stop_sequences that are no texts"),
        ({"stream": 1}, "stream that is neither"),
        ({"thinking": {"budget_tokens": 1}}, "thinking without a type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "1"}}, "budget_tokens that is no whole"),
        ({"output_config": {"format": {"type": "grammar"}}}, "the format grammar"),
        ({"metadata": SECRET}, "metadata that is no object"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_elsewhere_is_named_and_never_quoted(body, what):
    with pytest.raises(UntranslatableError) as caught:
        read_asking(body)
    assert what in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("bash_20250124", {"command", "restart"}),
        ("memory_20250818", {"command", "path", "old_path", "new_path"}),
        ("text_editor_20250124", {"command", "path"}),
        ("text_editor_20250728", {"command", "path", "old_str", "new_str", "insert_line"}),
        ("text_editor_20250429", {"command", "path", "file_text", "view_range"}),
    ],
)
def test_a_tool_of_anthropics_that_the_caller_executes_is_a_function(kind, needed):
    (tool,) = read_asking({"tools": [{"type": kind, "name": "it"}]}).tools
    assert tool.name == "it"
    assert tool.description
    assert needed <= tool.parameters["properties"].keys()
    assert write_asking(Asking("m", HELLO, (tool,)))["tools"][0]["input_schema"] == tool.parameters


@pytest.mark.parametrize(
    ("body", "reasoning"),
    [
        ({}, None),
        ({"thinking": None}, None),
        ({"thinking": {"type": "disabled"}}, Reasoning("none")),
        (
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
            Reasoning("none"),
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            Reasoning(budget=2048, wants_summary=True),
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}},
            Reasoning(budget=2048),
        ),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Reasoning()),
        ({"thinking": {"type": "adaptive"}}, Reasoning(wants_summary=True)),
        ({"thinking": {"type": "of_next_year"}}, Reasoning(wants_summary=True)),
        ({"output_config": {"effort": "max"}}, Reasoning("max")),
    ],
)
def test_thinking_is_read(body, reasoning):
    assert read_asking(body).reasoning == reasoning


@pytest.mark.parametrize(
    ("reasoning", "adaptive", "max_tokens", "thinking", "effort"),
    [
        (Reasoning("none"), True, 9000, {"type": "disabled"}, None),
        (Reasoning("none"), False, 9000, {"type": "disabled"}, None),
        (Reasoning("minimal"), True, 9000, {"type": "adaptive", "display": "omitted"}, "low"),
        (Reasoning("high"), True, 9000, {"type": "adaptive", "display": "omitted"}, "high"),
        (Reasoning("low"), False, 9000,
         {"type": "enabled", "budget_tokens": 4096, "display": "omitted"}, None),
        (Reasoning("high", wants_summary=True), False, 9000,
         {"type": "enabled", "budget_tokens": 8999}, None),
        (Reasoning("new"), False, 99_000,
         {"type": "enabled", "budget_tokens": 12_288, "display": "omitted"}, None),
        (Reasoning(), False, 99_000,
         {"type": "enabled", "budget_tokens": 12_288, "display": "omitted"}, None),
        (Reasoning("high"), False, 1024, None, None),
        (Reasoning(budget=2048, wants_summary=True), True, 9000,
         {"type": "enabled", "budget_tokens": 2048}, None),
        (Reasoning(wants_summary=True), True, 9000,
         {"type": "adaptive", "display": "summarized"}, None),
    ],
)  # fmt: skip
def test_thinking_is_written(reasoning, adaptive, max_tokens, thinking, effort):
    asking = Asking("m", HELLO, max_tokens=max_tokens, reasoning=reasoning)
    told = write_asking(asking, adaptive=adaptive)
    assert told.get("thinking") == thinking
    assert told.get("output_config", {}).get("effort") == effort


CALL = ToolCall("1", "t", "{}")
THOUGHT = Thinking("so", "c2ln")


@pytest.mark.parametrize(
    ("turns", "thinks"),
    [
        ([(THOUGHT, CALL)], True),
        ([(Thinking("", "redacted_thinking:x"), CALL)], True),
        ([(Text("words"),)], True),
        ([(CALL,), (Text("words"),)], True),
        ([(CALL,)], False),
        ([(Text("words"), THOUGHT, CALL)], False),
        ([(Thinking("without proof"), CALL)], False),
        ([(THOUGHT, CALL), (CALL,)], False),
    ],
)
def test_a_budget_is_left_out_where_a_call_has_lost_its_thought(turns, thinks):
    messages = [each for turn in turns for each in (*HELLO, Message("assistant", turn))]
    asking = Asking("m", (*messages, *HELLO), max_tokens=9000, reasoning=Reasoning("high"))
    assert ("thinking" in write_asking(asking, adaptive=False)) is thinks
    assert "thinking" in write_asking(asking)


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_a_format_is_read_where_either_api_has_it(place):
    told = {"type": "json_schema", "schema": {"type": "object"}}
    body = {"output_config": {"format": told}} if place == "output_config" else {place: told}
    assert read_asking(body).format == Format({"type": "object"})
    written = write_asking(
        Asking("m", HELLO, format=Format({"type": "object"}, "name", strict=True))
    )
    assert written["output_config"] == {"format": told}


@pytest.mark.parametrize(
    ("asking", "what"),
    [
        (Asking("m", HELLO, format=Format()), "a JSON answer without a schema"),
        (Asking("m", HELLO, temperature=1.1), "a temperature above 1"),
        (Asking("m", HELLO, stop=("a", "\n")), "a stop sequence of blanks"),
        (Asking("m", (Message("system", (Text(SECRET),)),)), "only the system speaks"),
        (Asking("m", (*HELLO, Message("assistant", (Text(SECRET),)))), "prefill"),
        (
            Asking("m", (Message("assistant", (Image(url=SECRET),)), *HELLO)),
            "a part of kind image",
        ),
        (Asking("m", (Message("system", (Image(url=SECRET),)), *HELLO)), "a part of kind image"),
        (Asking("m", (Message("user", (Thinking(SECRET),)),)), "a part of kind thinking"),
        (Asking("m", (Message("user", (Image(data=SECRET),)),)), "without its media type"),
        *(
            (
                Asking("m", (Message("assistant", (ToolCall("1", "t", arguments),)), *HELLO)),
                "a tool call whose arguments are",
            )
            for arguments in ("{" + SECRET, "7", "[]", '{"a":NaN}', '{"a":1e999}', "[" * 100_000)
        ),
    ],
)
def test_what_messages_cannot_say_is_named_and_never_quoted(asking, what):
    with pytest.raises(UntranslatableError) as caught:
        write_asking(asking)
    assert what in str(caught.value)
    assert SECRET not in str(caught.value)


def test_turns_alternate_and_results_come_first():
    asking = Asking(
        "m",
        (
            Message("system", (Text("one"),)),
            Message("user", (Text("a"), Text(" "), Text(""))),
            Message("user", (Text("b"),)),
            Message("assistant", (Thinking("lost"), ToolCall("1", "t", ""))),
            Message("assistant", (ToolCall("2", "t", '{"x": 1}'),)),
            Message("system", (Text("two"),)),
            Message("user", (Text("c"),)),
            Message("user", (ToolResult("1", ()),)),
            Message("assistant", (Text("\n"),)),
            Message("user", (ToolResult("2", (Text(" "), Text("d"))),)),
        ),
    )
    told = write_asking(asking)
    assert [part["text"] for part in told["system"]] == ["one", "two"]
    user, assistant, last = told["messages"]
    assert [part["text"] for part in user["content"]] == ["a", "b"]
    assert [part["input"] for part in assistant["content"]] == [{}, {"x": 1}]
    assert last["content"] == [
        {"type": "tool_result", "tool_use_id": "1", "content": []},
        {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "d"}]},
        {"type": "text", "text": "c"},
    ]


def test_a_schema_says_object_and_no_dialect_of_its_own():
    tools = (Tool("a"), Tool("b", "", {"$schema": "x", "anyOf": []}, strict=False))
    told = write_asking(Asking("m", HELLO, tools))["tools"]
    assert told == [
        {"name": "a", "input_schema": {"type": "object"}},
        {"name": "b", "input_schema": {"type": "object", "anyOf": []}},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "tools", "told"),
    [
        (None, None, 1, None),
        (None, True, 1, {"type": "auto", "disable_parallel_tool_use": False}),
        (None, False, 0, None),
        (ToolChoice("auto"), None, 0, None),
        (ToolChoice("none"), False, 1, {"type": "none"}),
        (ToolChoice("any"), None, 0, {"type": "any"}),
        (ToolChoice("any"), False, 1, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("named", "a"), None, 1, {"type": "tool", "name": "a"}),
    ],
)
def test_a_tool_choice_is_written(choice, parallel, tools, told):
    asking = Asking("m", HELLO, (Tool("a"),) * tools, choice, parallel)
    assert write_asking(asking).get("tool_choice") == told


@pytest.mark.parametrize(
    ("asked", "given", "told"),
    [
        (None, {}, DEFAULT_MAX_TOKENS),
        (None, {"max_tokens": 8192}, 8192),
        (5, {"max_tokens": 9}, 5),
    ],
)
def test_max_tokens_is_always_said(asked, given, told):
    assert write_asking(Asking("m", HELLO, max_tokens=asked), **given)["max_tokens"] == told


@pytest.mark.parametrize("content", ["", [], None, [{"type": "text", "text": ""}]])
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_turn_of_nothing_is_none(role, content):
    said = {"role": "user", "content": "hello"}
    body = {"system": content, "messages": [{"role": role, "content": content}, said]}
    assert read_asking(body).messages == HELLO


def test_a_thought_with_words_is_never_hidden():
    thought = Thinking("so", "redacted_thinking:x")
    told = write_asking(Asking("m", (Message("assistant", (thought,)), *HELLO)))
    block = {"type": "thinking", "thinking": "so", "signature": "redacted_thinking:x"}
    assert told["messages"][0]["content"] == [block]
    assert read_asking(told).messages[0].parts == (thought,)
