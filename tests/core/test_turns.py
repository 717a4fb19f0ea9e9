"""Who began the last turn; whether there is an image in it."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core import turns
from brokerd.core.turns import (
    has_image,
    initiator,
    may_be_agents,
    may_have_image,
    read_turn,
)


def body_of(*messages, **more):
    return json.dumps({"model": "gpt-4o", "messages": list(messages), **more}).encode()


def user(content="hello"):
    return {"role": "user", "content": content}


TEXT = {"type": "text", "text": "what is this image?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "42"}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (user(), ("user", "last_role_user")),
        (user([TEXT]), ("user", "last_role_user")),
        (user([TEXT, IMAGE]), ("user", "last_role_user")),
        (user([]), ("user", "last_role_user")),
        (user(None), ("user", "last_role_user")),
        ({"role": "user"}, ("user", "last_role_user")),
        (user([RESULT]), ("agent", "last_is_tool_results")),
        (user([RESULT, RESULT]), ("agent", "last_is_tool_results")),
        (user([RESULT, TEXT]), ("user", "last_role_user")),
        (user([TEXT, RESULT]), ("user", "last_role_user")),
        (user([RESULT, "tool_result"]), ("user", "last_role_user")),
        (user(RESULT), ("user", "last_role_user")),
        (user([{"type": ["tool_result"]}]), ("user", "last_role_user")),
        ({"role": "assistant", "content": "I"}, ("agent", "last_role_assistant")),
        ({"role": "assistant", "tool_calls": []}, ("agent", "last_role_assistant")),
        ({"role": "tool", "tool_call_id": "c", "content": "42"}, ("agent", "last_role_tool")),
        ({"role": "function", "name": "f", "content": "42"}, ("agent", "last_role_function")),
        ({"role": "system", "content": "x"}, ("user", "last_role_system")),
        ({"role": "developer", "content": "x"}, ("user", "last_role_developer")),
        ({"role": "critic", "content": "x"}, ("user", "last_role_unknown")),
        ({"role": "Assistant"}, ("user", "last_role_unknown")),
        ({"role": "tool "}, ("user", "last_role_unknown")),
        ({"role": ""}, ("user", "last_role_unknown")),
        ({"role": ["tool"]}, ("user", "bad_message")),
        ({"role": None}, ("user", "bad_message")),
        ({"content": "x"}, ("user", "bad_message")),
        ({}, ("user", "bad_message")),
        ("tool", ("user", "bad_message")),
        (None, ("user", "bad_message")),
        (["role", "tool"], ("user", "bad_message")),
    ],
)
def test_the_last_message_tells(last, expected):
    assert initiator(body_of(last)) == expected
    agentic = [user(), {"role": "assistant"}, {"role": "tool"}]
    assert initiator(body_of(*agentic, last)) == expected, "earlier messages tell nothing"


OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "42"}
INPUT_IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (user(), ("user", "last_role_user")),
        ({"type": "message", **user()}, ("user", "last_role_user")),
        ({"type": "message", "role": "assistant"}, ("agent", "last_role_assistant")),
        (OUTPUT, ("agent", "last_is_tool_output")),
        ({**OUTPUT, "type": "custom_tool_call_output"}, ("agent", "last_is_tool_output")),
        *(
            ({"type": f"{kind}_output"}, ("agent", "last_is_tool_output"))
            for kind in ("local_shell_call", "computer_call", "shell_call", "apply_patch_call")
        ),
        ({"type": "mcp_call_output", "id": "m"}, ("agent", "last_is_tool_output")),
        ({"type": "mcp_approval_response", "approve": True}, ("user", "bad_message")),
        ({"type": "output"}, ("user", "bad_message")),
        ({"type": "output_text"}, ("user", "bad_message")),
        ({**OUTPUT, "role": "user"}, ("user", "last_role_user")),
        ({"type": "function_call", "name": "f"}, ("user", "bad_message")),
        ({"type": ["function_call_output"]}, ("user", "bad_message")),
        ("function_call_output", ("user", "bad_message")),
    ],
)
def test_the_last_item_of_responses_tells(last, expected):
    body = json.dumps({"model": "m", "input": [user(), last]}).encode()
    assert initiator(body) == expected
    assert expected[0] == "user" or may_be_agents(body)


def test_the_text_of_responses_is_a_persons():
    assert not may_be_agents(b'{"max_output_tokens": 9, "input": "why"}')
    assert initiator(b'{"input": "call a tool for the assistant"}') == ("user", "no_messages")
    assert initiator(body_of(user(), input=[OUTPUT])) == ("user", "last_role_user")


@pytest.mark.parametrize(
    "items",
    [
        [user([TEXT, INPUT_IMAGE])],
        [user([INPUT_IMAGE]), OUTPUT],
        [{**OUTPUT, "output": [INPUT_IMAGE]}],
    ],
)
def test_an_image_among_items_is_seen(items):
    assert has_image(json.dumps({"input": items}).encode())
    assert not has_image(json.dumps({"input": [{**OUTPUT, "output": "an image"}]}).encode())


def test_a_person_after_a_tool_is_a_person():
    """Some clients call every turn after the first an agent's, which bills it wrong."""
    history = [user(), {"role": "assistant", "tool_calls": [{}]}, {"role": "tool"}]
    assert (
        initiator(body_of(*history, {"role": "assistant", "content": "done"}, user()))[0] == "user"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"nonsense", "not_json"),
        (b'{"messages": [{"role": "tool"}]', "not_json"),
        (b'{"messages": [{"role": "tool"}]} x', "not_json"),
        (b'\xef\xbb\xbf{"messages": [{"role": "tool"}]}', "not_json"),
        (b'{"messages": [{"role": "tool", "content": "\xff"}]}', "not_json"),
        ('{"messages": [{"role": "tool"}]}'.encode("utf-16"), "not_json"),
        (b'{"a": ' + b"9" * 100_000 + b', "messages": [{"role": "tool"}]}', "not_json"),
        (b'{"a": ' + b"[" * 200_000, "too_deep"),
        (b'{"a": ' + b'{"a":' * 200_000, "too_deep"),
        (b"null", "no_messages"),
        (b"[]", "no_messages"),
        (b'["messages"]', "no_messages"),
        (b'"messages"', "no_messages"),
        (b"{}", "no_messages"),
        (b'{"messages": []}', "no_messages"),
        (b'{"messages": {"role": "tool"}}', "no_messages"),
        (b'{"messages": "tool"}', "no_messages"),
        (b'{"Messages": [{"role": "tool"}]}', "no_messages"),
        (b'{"messages": [{"role": "user"}], "messages": [{"role": "tool"}]}', "duplicate_keys"),
        (b'{"messages": [{"role": "user", "role": "tool"}]}', "duplicate_keys"),
    ],
)
def test_what_cannot_be_read_for_sure_is_a_persons(body, reason):
    assert read_turn(body) == ("user", reason, False)
    assert not has_image(body)


def test_a_flood_of_values_is_not_read(monkeypatch):
    flood = b'{"messages": [' + b"{}," * 1_000_000 + b'{"role": "tool"}]}'
    monkeypatch.setattr(turns, "_DECODER", None)
    assert read_turn(flood) == ("user", "too_many_items", False)


def test_a_long_text_is_read():
    text = "a, b [c] {d} \\ \u20ac" * 20_000 + "x" * 3_000_000
    assert initiator(body_of(user(text), {"role": "tool", "content": text}))[0] == "agent"


def test_a_big_image_is_read():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000_000}}
    turn = read_turn(body_of(user([TEXT, image])))
    assert turn == ("user", "last_role_user", True)


@pytest.mark.parametrize(
    "content",
    [
        [IMAGE],
        [TEXT, IMAGE, TEXT],
        [{"type": "image", "source": {}}],
        [{"type": "input_image", "image_url": "https://example.com/x.png"}],
        [{"image_url": {"url": "x"}}],
        [{"type": ["odd"], "image_url": {"url": "x"}}],
        [{**RESULT, "content": [{"type": "image", "source": {}}]}],
    ],
)
def test_an_image_part_anywhere_is_seen(content):
    assert has_image(body_of(user(content)))
    assert has_image(body_of(user(content), {"role": "assistant", "content": "a cat"}, user()))


@pytest.mark.parametrize(
    "content",
    [
        "an image_url of an image",
        [TEXT],
        [{"type": "text", "text": '{"type": "image_url"}'}],
        ["image_url"],
        [{"type": "file", "name": "image"}],
        [{"type": ["image"]}],
        [{**RESULT, "content": "image"}],
        [{**RESULT, "content": [{**RESULT, "content": [IMAGE]}]}],
        {"type": "image_url"},
        None,
    ],
)
def test_the_word_alone_is_no_image(content):
    body = body_of(user(content), "image_url", None, tools=[{"name": "image", "type": "image"}])
    assert may_have_image(body)
    assert not has_image(body)


def test_without_the_word_nothing_is_read_for_an_image(monkeypatch):
    monkeypatch.setattr(turns, "_DECODER", None)
    assert not has_image(body_of(user()))


def test_one_pass_answers_both_questions(monkeypatch):
    passes = []

    class Counting:
        def decode(self, text):
            passes.append(len(text))
            return json.loads(text)

    monkeypatch.setattr(turns, "_DECODER", Counting())
    assert read_turn(body_of(user([RESULT, IMAGE]))) == ("user", "last_role_user", True)
    assert len(passes) == 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["tool", "user"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "type", "image_url", "text"]), inner
        )
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_reading_never_raises_and_agent_needs_an_agents_role(body):
    who, reason, _ = read_turn(body)
    assert who in ("user", "agent")
    assert reason.isidentifier()
    if who == "agent":
        last = json.loads(body)["messages"][-1]
        assert (
            last["role"] in ("assistant", "tool", "function") or reason == "last_is_tool_results"
        )


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_a_body_of_messages_is_read_without_raising(messages):
    body = json.dumps({"messages": messages}).encode()
    read_turn(body + b" ")
    assert has_image(body) in (True, False)


def test_deep_nesting_leaves_the_recursion_limit_alone():
    before = sys.getrecursionlimit()
    read_turn(b"[" * 1_000_000)
    assert sys.getrecursionlimit() == before


WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "tool",
        "function",
        "tool_result",
        "system",
        "hello",
        "as",
        "sistant",
        "\\u0061",
        "ä",
    ]
)
PARTS = st.lists(st.fixed_dictionaries({"type": WORDS, "text": WORDS}), max_size=2)


@given(
    st.lists(
        st.fixed_dictionaries({"role": WORDS, "content": st.one_of(WORDS, PARTS)}), max_size=3
    ),
    st.booleans(),
)
def test_what_names_no_agent_is_a_persons(messages, is_ascii):
    body = json.dumps({"messages": messages}, ensure_ascii=is_ascii).encode()
    if not may_be_agents(body):
        assert initiator(body)[0] == "user"


def test_a_role_in_escapes_is_seen():
    body = b'{"messages": [{"role": "\\u0061ssistant"}]}'
    assert b"assistant" not in body
    assert may_be_agents(body)
    assert initiator(body)[0] == "agent"
    assert not may_be_agents(body_of(user()))
