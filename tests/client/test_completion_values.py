"""A completion as a value: what is sent for a body, what is read out of an answer or a refusal."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_broker import (
    Completion,
    CopilotBrokerError,
    Denied,
    ErrorClass,
    InternalError,
    Temporary,
    UpstreamRefused,
    UsageError,
)
from copilot_broker.calls import completion
from copilot_broker.calls.completion import body_of, text_in
from copilot_broker.calls.refusals import MAX_MESSAGE, refusal_of, retry_after_of


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


def test_error_in_an_event_is_raised():
    with pytest.raises(UpstreamRefused, match=r"rate_limited.*slow down") as caught:
        text_in({"choices": [], "error": {"message": "slow down", "code": "rate_limited:x"}})
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


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UsageError),
        (401, Denied),
        (402, Denied),
        (403, Denied),
        (404, UsageError),
        (408, Temporary),
        (413, UsageError),
        (421, Temporary),
        (422, Denied),
        (424, Temporary),
        (429, Temporary),
        (466, Denied),
        (499, Temporary),
        (500, Temporary),
        (503, Temporary),
        (302, Temporary),
    ],
)
def test_refusal_is_an_exception_of_its_class(status, kind):
    with pytest.raises(UpstreamRefused, match=str(status)) as caught:
        answer(b"", status).raise_for_status()
    error = caught.value
    assert isinstance(error, kind)
    assert error.error_class is kind.error_class
    assert (error.status, error.code) == (status, f"upstream_{status}")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.status) == (type(error), str(error), status)


@pytest.mark.parametrize("status", [200, 201, 299])
def test_what_is_no_refusal_is_not_raised(status):
    found = answer({}, status)
    found.raise_for_status()
    assert found.ok


def test_text_of_a_refusal_is_no_empty_text():
    with pytest.raises(UpstreamRefused):
        _ = answer({"error": {"message": "no"}}, 400).text


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            b'{"error":{"message":"Unknown model.","code":"model_not_supported"}}',
            "model_not_supported",
            "GitHub Copilot answered 400: Unknown model",
        ),
        (b'{"message":"Too much","code":"x_y:z"}', "x_y", "GitHub Copilot answered 400: Too much"),
        (b'{"error":"plain"}', "upstream_400", "GitHub Copilot answered 400: plain"),
        (b'"quoted"', "upstream_400", "GitHub Copilot answered 400: quoted"),
        (b"off_topic\n", "upstream_400", "GitHub Copilot answered 400: off_topic"),
        (b"<html>big</html>", "upstream_400", "GitHub Copilot answered 400"),
        (b'{"error":{"code":5,"message":[]}}', "upstream_400", "GitHub Copilot answered 400"),
        (b"[1]", "upstream_400", "GitHub Copilot answered 400"),
        (b"", "upstream_400", "GitHub Copilot answered 400"),
        (b"a\x1b[2J\r\nb\xe2\x80\xae", "upstream_400", "GitHub Copilot answered 400: a [2J b"),
    ],
)
def test_refusal_is_read_in_all_its_shapes(body, code, message):
    error = refusal_of(400, {}, body)
    assert (error.code, error.message) == (code, message)


@given(st.binary(max_size=300) | st.text().map(lambda text: json.dumps({"error": text}).encode()))
def test_refusal_is_one_short_printable_line(body):
    error = refusal_of(503, {}, body * 5)
    assert len(error.message) < MAX_MESSAGE + 40
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in str(error))


def test_address_that_an_agent_wants_visited_is_kept():
    for body in ({"authorize_url": "https://x/y"}, {"error": {"authorize_url": "https://x/y"}}):
        assert refusal_of(401, {}, json.dumps(body).encode()).url == "https://x/y"
    assert refusal_of(401, {}, b'{"authorize_url": "javascript:1"}').url is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("465000", 465000.0),
        (" 7 ", 7.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert retry_after_of({"retry-after": text}, now=1445412480.0) == seconds


def test_refusal_says_when_to_come_back():
    error = refusal_of(429, {"retry-after": "12"}, b"")
    assert error.retry_after == 12.0
    assert isinstance(error, CopilotBrokerError)
    assert refusal_of(429, {}, b"").retry_after is None
