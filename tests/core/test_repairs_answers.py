"""The repairs of whole answers and of refusals: each on and off, and sound ones the same object."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.repairs import NAMES
from brokerd.core.repairs.answering import answer_repairs
from brokerd.errors import ErrorClass, Failure
from brokerd.simulator import chat, quirks, responses
from brokerd.simulator.embeddings import embeddings
from brokerd.simulator.refusals import NAMES as REFUSALS
from brokerd.simulator.refusals import named


CHAT, RESPONSES, MESSAGES, EMBEDDINGS = (
    "/chat/completions", "/responses", "/v1/messages", "/embeddings",
)  # fmt: skip
JSON = {"content-type": "application/json", "x-request-id": "r1"}
SAID = chat.Said("sim-chat", ["Hello", " é", " world"], 7)


def whole(*names):
    return quirks.bend_whole(chat.whole(SAID), names)


def written(body):
    return json.dumps(body, ensure_ascii=False).encode()


def repaired(path, body, *, enabled=NAMES, request=b"{}", status=200, headers=JSON, **more):
    repairs = answer_repairs(path, enabled, request, more.pop("dialect", None))
    assert repairs.wants_whole(status, headers)
    return *repairs.whole(status, headers, body, **more), repairs.fired


# Chat.


@pytest.mark.parametrize("body", [written(whole()), written(whole("tool_repeat", "annotations"))])
def test_a_sound_answer_is_the_same_object(body):
    headers, told, fired = repaired(CHAT, body)
    assert told is body
    assert headers is JSON
    assert fired == []


def test_object_and_index_are_added():
    headers, body, fired = repaired(
        CHAT, written(whole("bare")), headers={**JSON, "content-length": "999"}
    )
    told = json.loads(body)
    assert told == whole()
    assert fired == ["chunk_object"]
    assert headers == JSON


def test_two_choices_become_one():
    _, body, fired = repaired(CHAT, written(whole("two_choices")))
    [choice] = json.loads(body)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Hello é world"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert fired == ["merged_choices"]


def test_calls_of_each_choice_are_kept():
    body = whole("two_choices")
    third = {**body["choices"][1], "index": 2}
    first = {**body["choices"][0], "message": {"role": "assistant", "content": None}}
    body["choices"] = [first, body["choices"][1], third]
    [choice] = json.loads(repaired(CHAT, written(body))[1])["choices"]
    assert len(choice["message"]["tool_calls"]) == 2
    assert choice["message"]["content"] is None


def test_two_bare_choices_become_one():
    _, body, fired = repaired(CHAT, written(whole("two_choices", "bare")))
    [choice] = json.loads(body)["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "tool_calls")
    assert fired == ["merged_choices", "chunk_object"]


def test_choices_that_were_asked_for_stay():
    body = written(whole("two_choices"))
    assert repaired(CHAT, body, request=b'{"n": 2}')[1] is body


def test_anthropics_answer_becomes_openais():
    _, body, fired = repaired(CHAT, written(whole("anthropic")))
    told = json.loads(body)
    assert told["object"] == "chat.completion"
    [choice] = told["choices"]
    assert choice["message"]["content"] == "Hello é world"
    assert choice["finish_reason"] == "stop"
    assert told["usage"]["prompt_tokens"] == 7
    assert fired == ["anthropic_chat"]


@pytest.mark.parametrize(
    ("name", "quirk"),
    [
        ("chunk_object", "bare"),
        ("merged_choices", "two_choices"),
        ("anthropic_chat", "anthropic"),
    ],
)
def test_switched_off_it_is_the_same_answer(name, quirk):
    body = written(whole(quirk))
    headers, told, fired = repaired(CHAT, body, enabled=set(NAMES) - {name})
    assert (told, fired) == (body, [])
    assert told is body
    assert headers is JSON


@pytest.mark.parametrize("body", [b"", b"[]", b"no JSON", b'{"type":"message"}', b'{"choices":7}'])
def test_what_is_no_answer_is_the_same_object(body):
    assert repaired(CHAT, body)[1] is body


def test_what_is_never_changed_need_not_be_whole():
    for path, request in ((RESPONSES, b""), (MESSAGES, b""), (EMBEDDINGS, b"{}"), ("/x", b"")):
        assert not answer_repairs(path, NAMES, request).wants_whole(200, JSON)
    assert not answer_repairs(CHAT, (), b"").wants_whole(200, JSON)
    assert not answer_repairs(CHAT, (), b"").wants_whole(400, JSON)
    events = {"content-type": "text/event-stream; charset=utf-8"}
    assert not answer_repairs(CHAT, NAMES, b"").wants_whole(200, events)


# Embeddings.

BASE64 = b'{"input":[[1,2,3]],"encoding_format": "base64"}'
VECTORS = embeddings("sim-embedding", ["a", "b"], 5)


def test_embeddings_asked_for_in_base64_are_so():
    _, body, fired = repaired(EMBEDDINGS, written(VECTORS), request=BASE64)
    told = json.loads(body)
    assert fired == ["embeddings_base64"]
    assert told | {"data": 0} == VECTORS | {"data": 0}
    for new, old in zip(told["data"], VECTORS["data"], strict=True):
        numbers = struct.unpack("<5f", base64.b64decode(new["embedding"]))
        assert numbers == pytest.approx(old["embedding"])
        assert new["index"] == old["index"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"embedding":"AAAA"}]}',
        b'{"data":[{"embedding":[1,"x"]}]}',
        b'{"data":[{"embedding":[1e300]}]}',
        b'{"data":[{"embedding":[',
    ],
)
def test_other_vectors_are_the_same_object(body):
    assert repaired(EMBEDDINGS, body, request=BASE64)[1] is body


def test_switched_off_embeddings_stay_numbers():
    repairs = answer_repairs(EMBEDDINGS, set(NAMES) - {"embeddings_base64"}, BASE64)
    assert not repairs.wants_whole(200, JSON)
    body = written(VECTORS)
    assert repairs.whole(200, JSON, body) == (JSON, body)


# Refusals.

TEXT = {"content-type": "text/plain; charset=utf-8", "content-length": "9", "x-request-id": "r1"}


def refusal_body(fault):
    return fault.body.encode() if isinstance(fault.body, str) else json.dumps(fault.body).encode()


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("dialect", Dialect)
def test_every_refusal_is_json_of_the_dialect(name, dialect):
    fault = named(name, 0)
    if fault.status is None or fault.status < 400:
        return
    _, body, _ = repaired(
        CHAT, refusal_body(fault), status=fault.status, headers=TEXT, dialect=dialect
    )
    told = json.loads(body)
    assert told["error"]["message"]
    assert dialect != "messages" or (told["type"] == "error" and told["error"]["type"])


def test_a_text_is_told_as_an_error():
    headers, body, fired = repaired(CHAT, b"off_topic", status=400, headers=TEXT)
    error = json.loads(body)["error"]
    assert "400: off_topic" in error["message"]
    assert "copilot-cred" in error["message"]
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "r1"
    assert "content-length" not in headers
    assert fired == ["json_errors"]


def test_json_that_is_called_text_keeps_its_bytes():
    body = b'{"error":{"message":"no","code":"x"}}\n'
    headers, told, fired = repaired(CHAT, body, status=400, headers=TEXT)
    assert told is body
    assert headers["content-type"] == "application/json"
    assert fired == ["json_errors"]


def test_a_good_error_is_the_same_object():
    body = b'{"error":{"message":"no"}}'
    headers, told, fired = repaired(
        CHAT, body, status=429, headers=JSON,
        refusal=Failure(ErrorClass.TEMPORARY, "rate_limited", "no"),
    )  # fmt: skip
    assert told is body
    assert headers is JSON
    assert fired == []


def test_the_brokers_word_on_it_is_told():
    refusal = Failure(ErrorClass.TEMPORARY, "rate_limited", "too much", "Wait", None, 5.5)
    headers, body, _ = repaired(MESSAGES, b"busy", status=429, headers=TEXT, refusal=refusal)
    told = json.loads(body)
    assert told["error"]["type"] == "rate_limit_error"
    assert told["error"]["message"] == "too much. Wait"
    assert told["request_id"] == "r1"
    assert headers["retry-after"] == "6"


def test_upstreams_own_retry_after_stays():
    refusal = Failure(ErrorClass.TEMPORARY, "rate_limited", "too much", retry_after=5)
    date = "Mon, 05 Jan 2026 12:00:00 GMT"
    headers, _, _ = repaired(
        CHAT, b"busy", status=429, headers={**TEXT, "retry-after": date}, refusal=refusal
    )
    assert headers["retry-after"] == date


def test_an_error_of_the_other_dialect_is_told_in_the_callers():
    body = b'{"error":{"message":"no","code":"model_not_supported"}}'
    _, told, fired = repaired(CHAT, body, status=400, headers=JSON, dialect=Dialect.MESSAGES)
    assert json.loads(told)["type"] == "error"
    assert fired == ["json_errors"]


def test_switched_off_errors_stay_as_they_are():
    repairs = answer_repairs(CHAT, set(NAMES) - {"json_errors"}, b"")
    body = b"off_topic"
    headers, told = repairs.whole(400, TEXT, body)
    assert told is body
    assert headers is TEXT


def test_responses_in_one_object_have_nothing_to_mend():
    body = written(responses.whole(SAID))
    assert answer_repairs(RESPONSES, NAMES, b"").whole(200, JSON, body)[1] is body
