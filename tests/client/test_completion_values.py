"""A completion as a value: what is sent for a body, what is read out of an answer or a refusal."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_broker import (
    Completion,
    Denied,
    ErrorClass,
    InternalError,
    LoginRequired,
    Temporary,
    UpstreamRefused,
    UsageError,
)
from copilot_broker.calls import completion
from copilot_broker.calls.answers import is_error, text_in
from copilot_broker.calls.completion import body_of
from copilot_broker.calls.models import ModelList


def answer(value, status=200, headers=None) -> Completion:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Completion(status, headers or {}, body, "default")


@pytest.mark.parametrize(
    ("given_body", "sent"),
    [
        (b'{ "a" : \xff }', b'{ "a" : \xff }'),
        (bytearray(b"a"), b"a"),
        (memoryview(b"abc")[1:], b"bc"),
        ("ä", b"\xc3\xa4"),
        ({"b": "ä", "a": [1, None]}, '{"b":"ä","a":[1,null]}'.encode()),
    ],
)
def test_body_is_sent_as_given(given_body, sent):
    assert body_of(given_body) == sent


@pytest.mark.parametrize("body", [None, 1, {"a": object()}, "\ud800", {"a": "\ud800"}, [1]])
def test_body_that_cannot_be_sent_is_a_usage_error(body):
    with pytest.raises(UsageError, match="bad_body"):
        body_of(body)


def test_body_too_large_for_the_wire_is_not_sent(monkeypatch):
    monkeypatch.setattr(completion, "MAX_BODY", 10)
    assert body_of(b"x" * 10)
    with pytest.raises(UsageError, match="body_too_large"):
        body_of(b"x" * 11)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"choices": [{"index": 0, "message": {"content": "Hi"}}]}, "Hi"),
        ({"choices": [{"message": {"content": "Hi"}}]}, "Hi"),
        (
            {
                "choices": [
                    {"index": 1, "message": {"content": "two"}},
                    {"index": 0, "message": {"content": "one"}},
                ]
            },
            "one",
        ),
        ({"choices": [{"message": {"content": "one"}}, {"message": {"content": "two"}}]}, "one"),
        (
            {  # a model that speaks and calls a tool, in two choices of one index
                "choices": [
                    {"index": 0, "message": {"content": None, "tool_calls": []}},
                    {"index": 0, "message": {"content": "Hi"}},
                ]
            },
            "Hi",
        ),
        ({"choices": [{"index": 0, "message": {"content": None}}]}, ""),
        ({"choices": [{"index": 0, "message": None}]}, ""),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "Hi"}, {}, 1]}}]}, "Hi"),
        # Anthropic's shape: a whole answer, and events of a stream
        ({"type": "message", "content": [{"type": "text", "text": "Hi"}]}, "Hi"),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}, "Hi"),
        ({"type": "content_block_delta", "delta": {"thinking": "Hm"}}, ""),
        ({"type": "message_start", "message": {"content": []}}, ""),
        ({"type": "response.output_text.delta", "delta": "of another API"}, "of another API"),
        ({"type": "response.function_call_arguments.delta", "delta": "{}"}, ""),
        ({"choices": []}, ""),
        ({"choices": None}, ""),
        ({"choices": [None, 1]}, ""),
        ({}, ""),
        ([], ""),
    ],
)
def test_text_forgives_what_copilot_is_known_for(value, text):
    assert answer(value).text == text


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "message", "content", "index", "text"]), inner
            )
        ),
    )
)
def test_text_is_text_whatever_the_answer_holds(value):
    assert isinstance(answer(value).text, str)


@pytest.mark.parametrize(
    ("event", "is_one"),
    [
        ({"choices": [], "error": {"message": "slow down"}}, True),
        ({"error": "slow down"}, True),
        ({"choices": [], "error": None}, False),
        ({"choices": []}, False),
        ({"type": "error", "code": "x", "message": "slow down"}, True),
        ({"type": "response.failed", "response": {"error": {"code": "x"}}}, True),
        ({"type": "response.created", "error": None, "delta": {}}, False),
        ({"type": ["error"]}, False),
    ],
)
def test_error_among_the_events_is_told_from_others(event, is_one):
    assert is_error(event) is is_one
    assert text_in(event) == ""


def test_error_under_200_is_no_empty_text():
    with pytest.raises(
        UpstreamRefused, match="upstream_error: GitHub Copilot broke off"
    ) as caught:
        _ = answer({"error": {"message": "no"}}).text
    assert (caught.value.status, caught.value.error_class) == (200, ErrorClass.TEMPORARY)


def test_answer_that_is_no_json_is_named():
    for taken in (lambda: answer(b"<html>").json(), lambda: answer(b"<html>").text):
        with pytest.raises(InternalError, match="not_json"):
            taken()


def test_repr_shows_neither_body_nor_headers():
    found = Completion(200, {"x-request-id": "canary"}, b"canary", "work")
    assert repr(found) == "Completion(status=200, account='work')"


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"status": 200, "headers": {}},
        {"status": "200", "body": b""},
        {"status": 200, "headers": [], "body": b""} | {"headers": [1]},
    ],
)
def test_result_that_is_no_completion_is_the_brokers_fault(result):
    with pytest.raises(InternalError, match="bad_answer"):
        Completion.from_result(result)


EXPLAINED = {
    "class": 5,
    "code": "no_seat",
    "message": "nobody has given you a seat",
    "hint": "Ask your administrator; then: copilot-cred refresh",
    "url": "https://github.com/settings/copilot",
    "retry_after": 60.0,
}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (2, UsageError),
        (4, LoginRequired),
        (5, Denied),
        (7, Temporary),
        (1, InternalError),
        (9, InternalError),  # no refusal of upstream's is a broken store
        (99, InternalError),  # of a newer broker
    ],
)
def test_refusal_is_what_the_broker_makes_of_it(number, kind):
    result = {"status": 403, "body": b"no", "refusal": {**EXPLAINED, "class": number}}
    found = Completion.from_result(result)
    with pytest.raises(UpstreamRefused) as caught:
        found.raise_for_status()
    error = caught.value
    assert error is found.refusal
    assert isinstance(error, kind)
    assert error.error_class is kind.error_class
    assert (error.status, error.code, error.message) == (
        403,
        "no_seat",
        "nobody has given you a seat",
    )
    assert (error.hint, error.url, error.retry_after) == (
        EXPLAINED["hint"],
        EXPLAINED["url"],
        60.0,
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.status) == (type(error), str(error), 403)
    assert (again.url, again.retry_after) == (error.url, 60.0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Denied), (403, Denied), (429, Temporary), (500, Temporary), (302, Temporary)],
)
def test_refusal_that_comes_unexplained_is_only_named(status, kind):
    found = Completion.from_result({"status": status, "body": b'{"error": {"code": "own"}}'})
    for refused in (found, answer(b"", status)):
        with pytest.raises(UpstreamRefused, match=f"answered {status}") as caught:
            refused.raise_for_status()
        assert isinstance(caught.value, kind)
        assert (caught.value.status, caught.value.code) == (status, f"upstream_{status}")
    assert found.refusal.code == f"upstream_{status}"


def test_refusal_as_one_string_is_understood_too():
    """So it comes for who wants errors as text."""
    found = Completion.from_result({"status": 429, "body": b"", "refusal": "slow: down. Wait"})
    assert found.refusal.message == "slow: down. Wait"


@pytest.mark.parametrize("status", [200, 201, 299])
def test_what_is_no_refusal_is_not_raised(status):
    found = answer({}, status)
    found.raise_for_status()
    assert found.ok
    assert Completion.from_result({"status": status, "body": b""}).refusal is None


def test_text_of_a_refusal_is_no_empty_text():
    with pytest.raises(UpstreamRefused):
        _ = answer({"error": {"message": "no"}}, 400).text


MODELS = [{"id": "gpt-4.1"}, {"id": "x", "policy": None}]


def test_list_of_models_tells_its_age_and_why_it_is_old():
    found = ModelList.from_result({"account": "work", "models": MODELS, "age": 7})
    assert (found.account, found.models, found.age, found.failure) == ("work", MODELS, 7.0, None)
    error = {"class": 7, "code": "upstream_429", "message": "slow down", "retry_after": 9}
    old = ModelList.from_result(
        {"account": "work", "models": MODELS, "age": 900.5, "error": error}
    )
    assert isinstance(old.failure, Temporary)
    assert (old.age, old.failure.code, old.failure.retry_after) == (900.5, "upstream_429", 9.0)
    assert "gpt-4.1" not in repr(old)


def test_list_of_models_of_an_older_broker_has_no_age():
    assert ModelList.from_result({"models": MODELS}).age == 0.0


@pytest.mark.parametrize("result", [None, [], {}, {"models": {}}, {"models": [1]}])
def test_result_that_lists_no_models_is_the_brokers_fault(result):
    with pytest.raises(InternalError, match=r"models\.list"):
        ModelList.from_result(result)
