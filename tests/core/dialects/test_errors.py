"""A failure reads the same in every dialect, and nothing about it can raise."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.errors import (
    error_body,
    error_event,
    error_headers,
    is_in_dialect,
    status_of,
)
from brokerd.core.dialects.sse import SseReader
from brokerd.errors import ErrorClass, Failure


OPENAI_SHAPED = (Dialect.CHAT, Dialect.RESPONSES)


def failure(error_class=ErrorClass.USAGE, code="made_up", hint="Mend it: copilot-cred x", **more):
    return Failure(error_class, code, "it went wrong", hint, **more)


@pytest.mark.parametrize(
    ("error_class", "code", "status"),
    [
        (ErrorClass.USAGE, "bad_body", 400),
        (ErrorClass.USAGE, "model_not_found", 404),
        (ErrorClass.USAGE, "path_not_allowed", 404),
        (ErrorClass.USAGE, "request_too_large", 413),
        (ErrorClass.LOGIN_REQUIRED, "login_required", 403),
        (ErrorClass.DENIED, "model_not_granted", 403),
        (ErrorClass.DENIED, "key_missing", 401),
        (ErrorClass.DENIED, "key_revoked", 401),
        (ErrorClass.LOCKED, "locked", 503),
        (ErrorClass.TEMPORARY, "no_answer", 503),
        (ErrorClass.TEMPORARY, "request_rate", 429),
        (ErrorClass.TEMPORARY, "key_budget", 429),
        (ErrorClass.TEMPORARY, "cooling_down", 429),
        (ErrorClass.TEMPORARY, "user_weekly_rate_limited", 429),
        (ErrorClass.STORE_UNAVAILABLE, "store_unavailable", 503),
        (ErrorClass.MIN_VALID, "min_valid", 503),
        (ErrorClass.INTERNAL, "internal", 500),
    ],
)
def test_each_class_has_its_status(error_class, code, status):
    assert status_of(failure(error_class, code)) == status


@pytest.mark.parametrize("error_class", ErrorClass)
def test_no_class_is_forgotten(error_class):
    assert 400 <= status_of(failure(error_class)) <= 599


@pytest.mark.parametrize("dialect", OPENAI_SHAPED)
def test_openai_reads_message_type_code_and_param(dialect):
    told = json.loads(error_body(dialect, 400, failure()))
    assert told == {
        "error": {
            "message": "it went wrong. Mend it: copilot-cred x",
            "type": "invalid_request_error",
            "code": "made_up",
            "param": None,
        }
    }


def test_anthropic_reads_type_and_message():
    told = json.loads(error_body(Dialect.MESSAGES, 429, failure(), request_id="req_1"))
    assert told == {
        "type": "error",
        "error": {
            "type": "rate_limit_error",
            "message": "it went wrong. Mend it: copilot-cred x",
            "code": "made_up",
        },
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (402, "insufficient_quota", "billing_error"),
        (403, "permission_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large"),
        (422, "invalid_request_error", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (466, "invalid_request_error", "invalid_request_error"),
        (500, "server_error", "api_error"),
        (502, "server_error", "api_error"),
        (503, "server_error", "overloaded_error"),
        (504, "server_error", "timeout_error"),
    ],
)
def test_each_status_has_its_type(status, openai, anthropic):
    for dialect, kind in ((Dialect.CHAT, openai), (Dialect.MESSAGES, anthropic)):
        assert json.loads(error_body(dialect, status, failure()))["error"]["type"] == kind


IN_OPENAI = b'{"error":{"message":"no","code":"model_not_supported"}}\n'
IN_ANTHROPIC = b'{"type":"error","error":{"type":"api_error","message":"no"}}'


def test_what_upstream_said_in_the_dialect_passes_untouched():
    for body, dialect in ((IN_OPENAI, Dialect.CHAT), (IN_ANTHROPIC, Dialect.MESSAGES)):
        assert error_body(dialect, 400, failure(), body) is body


@pytest.mark.parametrize(
    "body",
    [
        b"off_topic",
        b"<html>Blocked</html>",
        b'{"message":"no","code":"x"}',
        b'{"error":"no"}',
        b'{"error":{"message":7}}',
        b"[1]",
        b"[" * 5000,
        b"\xff\xfe\x00",
        b" " * 70_000 + IN_OPENAI,
    ],
)
@pytest.mark.parametrize("dialect", Dialect)
def test_what_upstream_said_otherwise_is_told_by_us(dialect, body):
    assert not is_in_dialect(dialect, body)
    assert json.loads(error_body(dialect, 400, failure(), body))["error"]["code"] == "made_up"


def test_one_dialects_error_is_not_anothers():
    assert is_in_dialect(Dialect.CHAT, IN_OPENAI)
    assert not is_in_dialect(Dialect.MESSAGES, IN_OPENAI)


def test_what_an_sdk_reads_besides_is_kept():
    body = b'{"message":"no","param":"input","type":"odd_error","authorize_url":"https://a.test/"}'
    error = json.loads(error_body(Dialect.CHAT, 400, failure(), body))["error"]
    assert (error["param"], error["type"]) == ("input", "odd_error")
    assert error["authorize_url"] == "https://a.test/"


def one_event(text):
    [event] = SseReader().feed(text)
    return event.name, json.loads(event.data)


def test_a_chat_stream_ends_in_an_error_object():
    name, data = one_event(error_event(Dialect.CHAT, failure(ErrorClass.TEMPORARY)))
    assert name == ""
    assert data["error"]["type"] == "server_error"
    assert data["error"]["message"].startswith("it went wrong")


def test_a_responses_stream_ends_in_an_event_that_sdks_raise_on():
    text = error_event(Dialect.RESPONSES, failure(), sequence_number=7)
    name, data = one_event(text)
    assert (name, data["type"], data["sequence_number"]) == ("error", "error", 7)
    assert (data["code"], data["message"]) == (data["error"]["code"], data["error"]["message"])
    assert data["param"] is None


def test_a_messages_stream_ends_in_its_own_error_event():
    name, data = one_event(error_event(Dialect.MESSAGES, failure(ErrorClass.TEMPORARY)))
    assert (name, data["type"], data["error"]["type"]) == ("error", "error", "overloaded_error")


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.1, "1"), (1, "1"), (1.2, "2"), (465_000, "465000"), (-5, "1")]
)
def test_retry_after_is_whole_seconds_upwards(seconds, told):
    headers = error_headers(failure(ErrorClass.TEMPORARY, retry_after=seconds))
    assert headers["retry-after"] == told


@pytest.mark.parametrize("seconds", [None, float("inf"), float("nan")])
def test_no_time_is_no_header(seconds):
    assert "retry-after" not in error_headers(failure(retry_after=seconds))


def test_only_what_helps_is_to_be_tried_again():
    soon = error_headers(failure(ErrorClass.TEMPORARY, retry_after=60))
    assert "x-should-retry" not in soon
    assert "x-should-retry" not in error_headers(failure(ErrorClass.TEMPORARY))
    late = error_headers(failure(ErrorClass.TEMPORARY, retry_after=61))
    assert late["x-should-retry"] == "false"
    for each in (ErrorClass.LOCKED, ErrorClass.LOGIN_REQUIRED, ErrorClass.DENIED):
        assert error_headers(failure(each))["x-should-retry"] == "false"


def test_a_401_says_what_it_wants():
    assert error_headers(failure(code="key_missing"))["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in error_headers(failure(ErrorClass.LOGIN_REQUIRED))


@given(
    st.sampled_from(Dialect),
    st.integers(100, 999),
    st.builds(
        Failure,
        st.sampled_from(ErrorClass),
        st.text(),
        st.text(),
        st.text(),
        st.text() | st.none(),
        st.floats() | st.none(),
    ),
    st.binary(max_size=60),
)
def test_nothing_raises_and_all_is_json(dialect, status, given_failure, body):
    assert "error" in json.loads(error_body(dialect, status, given_failure, body))
    assert len(SseReader().feed(error_event(dialect, given_failure))) == 1
    assert error_headers(given_failure)["content-type"] == "application/json"


def test_dialect_of_a_path():
    assert Dialect.of("/v1/messages") is Dialect.MESSAGES
    assert Dialect.of("/responses") is Dialect.RESPONSES
    for path in ("/chat/completions", "/embeddings", "/completions", "/models"):
        assert Dialect.of(path) is Dialect.CHAT
