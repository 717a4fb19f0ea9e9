"""The repairs of requests: each on and off, and nothing else of a request changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.repairs import NAMES, REPAIRS
from brokerd.core.repairs.asking import request_repairs
from brokerd.core.repairs.exact import edited


MESSAGES, RESPONSES, CHAT = "/v1/messages", "/responses", "/chat/completions"
HELLO = {"role": "user", "content": "hello"}
MARK = {"cache_control": {"type": "ephemeral"}}
TEXT = {"type": "text", "text": "x"}


def system(content="be kind"):
    return {"role": "system", "content": content}


def texts(*words, **more):
    return [{"type": "text", "text": each, **more} for each in words]


def tool(**schema):
    return {"name": "look", "input_schema": {"type": "object", **schema}}


DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
MARKED = {**TEXT, **MARK}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
FUNCTION = {"type": "function", "name": "f"}

CASES = [
    (
        "system_in_messages",
        MESSAGES,
        {"messages": [HELLO, system(), HELLO, system(texts("b"))]},
        {"messages": [HELLO, HELLO], "system": texts("be kind", "b")},
    ),
    (
        "system_in_messages",
        MESSAGES,
        {"system": "a", "messages": [system(), HELLO]},
        {"system": texts("a", "be kind"), "messages": [HELLO]},
    ),
    (
        "system_in_messages",
        MESSAGES,
        {"system": texts("a", **MARK), "messages": [system(""), system(), HELLO]},
        {"system": [*texts("a", **MARK), *texts("be kind")], "messages": [HELLO]},
    ),
    (
        "hosted_tools",
        RESPONSES,
        {"tools": [FUNCTION, {"type": "web_search"}, {"type": "namespace", "tools": []}]},
        {"tools": [FUNCTION, {"type": "namespace", "tools": []}]},
    ),
    *(
        ("hosted_tools", RESPONSES, {"tools": [{"type": kind}], "tool_choice": "auto"}, {})
        for kind in (
            "web_search_preview", "web_search_2025_08_26", "file_search", "code_interpreter",
            "computer_use_preview", "image_generation", "mcp",
        )
    ),
    (
        "hosted_tools",
        RESPONSES,
        {"tools": [FUNCTION, {"type": "web_search"}], "tool_choice": {"type": "web_search"}},
        {"tools": [FUNCTION]},
    ),
    (
        "hosted_tools",
        RESPONSES,
        {
            "tools": [FUNCTION, {"type": "mcp"}],
            "tool_choice": {"type": "allowed_tools", "tools": [FUNCTION, {"type": "mcp"}]},
        },
        {
            "tools": [FUNCTION],
            "tool_choice": {"type": "allowed_tools", "tools": [FUNCTION]},
        },
    ),
    (
        "hosted_tools",
        MESSAGES,
        {"tools": [SEARCH, tool()], "tool_choice": {"type": "tool", "name": "web_search"}},
        {"tools": [tool()]},
    ),
    (
        "hosted_tools",
        MESSAGES,
        {"tools": [SEARCH, tool()], "tool_choice": {"type": "tool", "name": "look"}},
        {"tools": [tool()], "tool_choice": {"type": "tool", "name": "look"}},
    ),
    ("hosted_tools", MESSAGES, {"tools": [SEARCH], "tool_choice": {"type": "any"}}, {}),
    ("store_off", RESPONSES, {"store": True}, {"store": False}),
    (
        "tool_schema",
        MESSAGES,
        {"tools": [tool(**DIALECT, properties={"$schema": DIALECT, "a": {"anyOf": [DIALECT]}})]},
        {"tools": [tool(properties={"$schema": {}, "a": {"anyOf": [{}]}})]},
    ),
    (
        "cache_control",
        MESSAGES,
        {
            "tools": [{**tool(), **MARK}],
            "system": [MARKED],
            "messages": [{"role": "user", "content": [MARKED] * 4}],
        },
        {
            "tools": [tool()],
            "system": [TEXT],
            "messages": [{"role": "user", "content": [MARKED] * 4}],
        },
    ),
    (
        "cache_control",
        MESSAGES,
        {"system": [{**TEXT, "cache_control": {"type": "ephemeral", "scope": "global"}}]},
        {"system": [MARKED]},
    ),
]  # fmt: skip

UNTOUCHED = [
    (MESSAGES, {"messages": [HELLO], "system": "a"}),
    (MESSAGES, {"messages": [{"role": "user", "content": '{"role": "system"}'}]}),
    (MESSAGES, {"messages": [{"role": "user", "content": [MARKED] * 4}]}),
    (MESSAGES, {"tools": [tool(), {"type": "bash_20250124", "name": "bash"}]}),
    (MESSAGES, {"tools": [tool(properties={"$schema": {}, "scope": {}})]}),
    (MESSAGES, {"tools": [tool(properties={"a": {"default": {"$schema": "x"}}})]}),
    (MESSAGES, {"metadata": {"role": "system"}, "messages": "x"}),
    (MESSAGES, {"tools": 7, "x": {"type": "web_search_20250305", "$schema": 1}}),
    (RESPONSES, {"tools": [FUNCTION, {"type": "custom", "name": "c"}], "store": False}),
    (RESPONSES, {"metadata": {"store": True}}),
    (RESPONSES, {"input": [{"type": "web_search_call", "id": "x"}]}),
    (CHAT, {"store": True, "messages": [system()], "tools": [{"type": "web_search"}]}),
]


def repaired(path, body, enabled=NAMES, headers=None):
    return request_repairs(path, enabled)(body, headers or {})


def written(body):
    return json.dumps(body, separators=(",", ":")).encode()


@pytest.mark.parametrize(("name", "path", "before", "after"), CASES)
def test_repair_of_a_body(name, path, before, after):
    more = {"model": "m", "unknown": [1.0, {"é": None}]}
    told = repaired(path, written(before | more))
    assert json.loads(told.body) == after | more
    assert told.names == (name,)


@pytest.mark.parametrize(("name", "path", "before", "_after"), CASES)
def test_switched_off_it_is_the_same_body(name, path, before, _after):
    body = written(before)
    told = repaired(path, body, set(NAMES) - {name})
    assert told.body is body
    assert told.names == ()


@pytest.mark.parametrize(("path", "body"), UNTOUCHED)
def test_what_needs_nothing_is_the_same_object(path, body):
    for text in (written(body), json.dumps(body).encode()):
        assert repaired(path, text).body is text


def test_several_are_made_at_once_and_in_order():
    body = {
        "messages": [system([MARKED]), {"role": "user", "content": [MARKED] * 4}],
        "tools": [SEARCH, tool(**DIALECT)],
    }
    told = repaired(MESSAGES, written(body))
    assert told.names == ("system_in_messages", "hosted_tools", "tool_schema", "cache_control")
    after = json.loads(told.body)
    assert after["system"] == [TEXT]
    assert after["messages"] == [{"role": "user", "content": [MARKED] * 4}]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (
            "claude-code-20250219,interleaved-thinking-2025-05-14",
            "interleaved-thinking-2025-05-14",
        ),
        (
            "interleaved-thinking-2025-05-14, x ,advanced-tool-use-2025-11-20",
            "interleaved-thinking-2025-05-14, advanced-tool-use-2025-11-20",
        ),
        ("structured-outputs-2025-11-13", None),
    ],
)
def test_betas_are_filtered(sent, kept):
    headers = {"anthropic-beta": sent, "x": "y"}
    told = repaired(MESSAGES, b"{}", headers=headers)
    assert told.headers == ({"anthropic-beta": kept} if kept else {}) | {"x": "y"}
    assert told.names == ("anthropic_betas",)
    assert headers["anthropic-beta"] == sent  # not changed in place


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
def test_good_betas_are_the_same_headers(path):
    headers = {"anthropic-beta": "context-management-2025-06-27,interleaved-thinking-2025-05-14"}
    assert repaired(path, b"{}", headers=headers).headers is headers


def test_switched_off_all_betas_go_up():
    headers = {"anthropic-beta": "x"}
    told = repaired(MESSAGES, b"{}", set(NAMES) - {"anthropic_betas"}, headers)
    assert told.headers is headers


@pytest.mark.parametrize(
    "body",
    [
        b'{"store":true,"store":true}',
        b'{"store":true,"x":NaN}',
        b'{"store":true,"x":"\xff"}',
        b'{"store":true',
        b'[{"store":true}]',
        b'{"store":true,"x":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"store":true,"x":[' + b"1," * 600_000 + b"1]}",
        b'{"store":true,"x":' + b"1" * 5000 + b"}",
    ],
    ids=["twice", "nan", "no utf-8", "cut", "list", "deep", "many", "long"],
)
def test_what_cannot_be_written_exactly_is_left_alone(body):
    told = repaired(RESPONSES, body)
    assert told.body is body
    assert told.names == ()


@pytest.mark.parametrize(
    "text",
    [
        "1.0", "1e5", "1E+400", "-0", "-0.0", "0.10", "12345678901234567890123", "1.5e-7",
        '"\\ud800"', '"é\U0001f600"', '"\\n"', "[]", "{}", "null", "[1.0,true]",
    ],
)  # fmt: skip
def test_everything_else_of_a_body_survives(text):
    body = f'{{"a":{text},"store":true,"b":[{text}]}}'.encode()
    told = repaired(RESPONSES, body).body
    assert told == body.replace(b'"store":true', b'"store":false')


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None, categories=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(values)
def test_json_is_written_as_it_was_read(value):
    body = json.dumps({"v": value}, separators=(",", ":")).encode()
    assert json.loads(edited(body, lambda fields: True)) == {"v": value}
    assert edited(body, lambda fields: False) is body


def test_the_list_says_what_each_is():
    assert set(NAMES) == set(REPAIRS)
    for name, repair in REPAIRS.items():
        assert repair.name == name
        assert repair.what
        assert repair.why
        assert repair.stage in ("request", "answer")
