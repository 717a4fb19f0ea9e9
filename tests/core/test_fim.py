"""Fill-in-the-middle: what a body asks for, and a stream collected into one object."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core import fim
from brokerd.core.fim import WholeCompletion, read_fim
from brokerd.errors import BrokerError, PermanentError, TransientError


DONE = b"data: [DONE]\n\n"


def event(*choices, **more):
    chunk = {"id": "cmpl-1", "created": 5, "model": "m", "choices": list(choices), **more}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def choice(text="", index=0, finish=None, **more):
    return {"text": text, "index": index, "finish_reason": finish, "logprobs": None, **more}


def collected(*chunks):
    whole = WholeCompletion()
    for chunk in chunks:
        whole.feed(chunk)
    return json.loads(whole.end())


def test_who_asks_for_a_stream_has_the_body_untouched():
    body = b'{ "model":"m",  "stream" : true, "prompt":"a\\u0062" }'
    asked = read_fim(body)
    assert (asked.model, asked.wants_stream) == ("m", True)
    assert asked.body is body
    assert "prompt" not in repr(asked)


@pytest.mark.parametrize("said", [{}, {"stream": False}, {"stream": None}, {"stream": 1}])
def test_who_does_not_has_one_asked_for(said):
    asked = read_fim(json.dumps({"model": "m", "prompt": "x", "top_p": 0.1, **said}).encode())
    assert not asked.wants_stream
    assert json.loads(asked.body) == {"model": "m", "prompt": "x", "top_p": 0.1, "stream": True}


@pytest.mark.parametrize("body", [b"{}", b'{"model": 7}', b'{"model": null}'])
def test_a_body_may_name_no_model(body):
    assert read_fim(body).model == ""


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b'"x"', b"\xff", b"[" * 10_000, b"[" + b"{}," * 500_000]
)
def test_what_is_no_object_is_refused(body):
    with pytest.raises(PermanentError) as caught:
        read_fim(body)
    assert caught.value.failure.code == "bad_body"


def test_a_stream_is_collected_into_one_completion():
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert collected(
        b": hello\n\n",
        event(choice("ret"), usage=None),
        event(choice("urn €")),
        event(choice("", finish="stop", code_annotations=[1]), usage=usage, odd="kept"),
        DONE,
    ) == {
        "id": "cmpl-1",
        "created": 5,
        "model": "m",
        "object": "text_completion",
        "odd": "kept",
        "usage": usage,
        "choices": [{**choice("return €", finish="stop"), "code_annotations": [1]}],
    }


def test_choices_are_told_apart_and_sorted():
    told = collected(
        event(choice("b", 1)),
        event(choice("a", 0), choice("B", 1)),
        event(choice("", 1, "length"), choice("", 0, "stop")),
    )
    assert [(each["text"], each["finish_reason"]) for each in told["choices"]] == [
        ("a", "stop"),
        ("bB", "length"),
    ]


def test_logprobs_are_joined():
    first = {"tokens": ["a"], "token_logprobs": [-1.5], "x": 1}
    more = {"tokens": ["b"], "token_logprobs": [-2.5], "x": 2}
    told = collected(
        event(choice("a") | {"logprobs": first}), event(choice("b") | {"logprobs": more}), DONE
    )
    assert told["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"], "token_logprobs": [-1.5, -2.5], "x": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "cut", [b"", event(choice("a")), event(choice("a", 0, "stop"), choice("b", 1))]
)
def test_a_stream_that_ends_too_soon_is_no_answer(cut):
    with pytest.raises(TransientError) as caught:
        collected(cut)
    assert caught.value.failure.code == "upstream_cut"


def test_nothing_but_the_end_is_an_answer():
    assert collected(DONE)["choices"] == []


@pytest.mark.parametrize("data", [b"x", b"[]", b"{", b"7"])
def test_a_chunk_that_is_none_is_said(data):
    with pytest.raises(TransientError) as caught:
        collected(b"data: " + data + b"\n\n", DONE)
    assert caught.value.failure.code == "bad_answer"


def test_an_error_among_the_events_is_raised():
    error = {"error": {"code": "rate_limited", "message": "too many"}}
    with pytest.raises(BrokerError) as caught:
        collected(event(choice("a")), b"data: " + json.dumps(error).encode() + b"\n\n", DONE)
    assert caught.value.failure.code == "rate_limited"


def test_an_endless_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(fim, "MAX_TEXT", 200)
    with pytest.raises(TransientError) as caught:
        collected(event(choice("a" * 300)))
    assert caught.value.failure.code == "upstream_too_long"


@given(st.lists(st.integers(0, 400), max_size=8))
def test_how_reads_cut_it_changes_nothing(at):
    stream = event(choice("grün ")) + event(choice("€", finish="stop")) + DONE
    cuts = [0, *sorted(min(each, len(stream)) for each in at), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(cuts) if a < b]
    assert collected(*chunks)["choices"][0]["text"] == "grün €"
