"""Where rights depend on the model, a body that two readers could understand in two ways has none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.asked_model import asked_model
from brokerd.core.pacing.model_name import MAX_NAME


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-5","messages":[]}',
        '{"model":"gpt-5","messages":[]}',
        b'{"messages":[{"content":"which \\"model\\" are you?"}],"model":"gpt-5"}',
        b'{"messages":[],"mod\\u0065l":"gpt-5"}',
        b'{"model":"gpt-5","tools":[{"parameters":{"model":"gpt-6","Model":"gpt-7"}}]}',
        b'{"tools":[{"parameters":{"MODEL":{}}}],"model":"gpt-5"}',
    ],
)
def test_the_one_model_is_found(body):
    assert asked_model(body) == "gpt-5"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'["model","gpt-5"]',
        b'{"messages":[]}',
        b'{"messages":[{"model":"gpt-5"}]}',
        b'{"model":null}',
        b'{"model":["gpt-5"]}',
        b'{"model":"gpt-5","model":"gpt-6"}',
        b'{"model":"gpt-5","Model":"gpt-6"}',  # Go's parser would take the second one
        b'{"MODEL":"gpt-6","model":"gpt-5"}',
        b'{"MODEL":"gpt-6"}',
        b'{"model":"gpt-5","MOD\\u0045L":"gpt-6"}',
        b'{"model":"gpt-5","\\u004dodel":"gpt-6"}',
        b'{"model":"gpt-5","mode\\u006c":"gpt-6"}',
        b'{"model":"gpt-5","model":"gpt-5"',
        b'{"model":"' + b"g" * MAX_NAME + b'"}',  # one that may have been cut is none
        '{"model":"gpt-5"}'.encode("utf-16"),
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"gpt-5","model":"x"}',
        None,
        7,
        {"model": "gpt-5"},
    ],
)
def test_what_names_none_or_more_than_one_has_none(body):
    assert asked_model(body) == ""


keys = st.sampled_from(["model", "Model", "MODEL", "mOdel", "messages", "models", "n"])
members = st.lists(st.tuples(keys, st.sampled_from(["gpt-5", "gpt-6", None, 1, {"model": "x"}])))


@given(members, st.booleans())
def test_no_reader_takes_another_one_than_we_do(found, escaped):
    """The readers: first of two, last of two, and both with keys in any case."""
    text = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in found)
    if escaped:
        text = text.replace('"M', '"\\u004D').replace("el", "\\u0065l")
    asked = asked_model(f"{{{text}}}".encode())
    exact = [value for key, value in found if key == "model"]
    any_case = [value for key, value in found if key.lower() == "model"]
    if asked:
        assert {exact[0], exact[-1], any_case[0], any_case[-1]} == {asked}
    elif len(any_case) == 1 and exact:
        assert not isinstance(exact[0], str)


ENGINE = "/v1/engines/fim/completions"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", "fim"),
        (b'{"prompt": "x"}', "fim"),
        (b"not even JSON", "fim"),
        (b'{"model": "fim"}', "fim"),
        (b'{"model": "other"}', ""),
        (b'{"Model": "other"}', ""),
        (b'{"\\u006dodel": "other"}', ""),
        (b'{"model": "fim", "model": "other"}', ""),
        (None, ""),
    ],
)
def test_a_path_that_names_a_model_wins_unless_the_body_names_another(body, expected):
    for path in (ENGINE, "engines/fim/completions"):
        assert asked_model(body, path) == expected


def test_other_paths_name_none():
    for path in ("/chat/completions", "/v1/engines/../completions", None, 7):
        assert asked_model(b'{"model": "x"}', path) == "x"
        assert asked_model(b"{}", path) == ""
