"""Usage and `[DONE]` by byte scan."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.usage_tail import HEAD, TAIL, TOKENS_MAX, Usage, UsageTail


COUNTS = {
    "prompt_tokens": 12,
    "completion_tokens": 34,
    "total_tokens": 46,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
USAGE = Usage(prompt=12, completion=34, cached=5, total=46)


def event(**fields):
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def text_event(text="hi"):
    return event(choices=[{"index": 0, "delta": {"content": text}}], usage=None)


DONE = b"data: [DONE]\n\n"
STREAM = (
    b": ping\n\n"
    + event(choices=[], prompt_filter_results=[])
    + text_event()
    + text_event("\u20ac \U0001f600")
    + event(choices=[{"finish_reason": "stop", "delta": {}}], usage=COUNTS)
    + DONE
)


def seen(*chunks):
    tail = UsageTail()
    for chunk in chunks:
        tail.feed(chunk)
    assert tail.size == sum(map(len, chunks))
    return tail.usage(), tail.is_done


def test_a_stream_tells_both():
    assert seen(STREAM) == (USAGE, True)


def test_a_json_answer_tells_usage():
    body = json.dumps({"choices": [{"message": {"content": "x" * 20_000}}], "usage": COUNTS})
    assert seen(body.encode()) == (USAGE, False)
    assert seen(json.dumps(json.loads(body), indent=2).encode()) == (USAGE, False)


def test_nothing_tells_nothing():
    assert seen() == (None, False)
    assert seen(b"502 Bad Gateway") == (None, False)


@pytest.mark.parametrize("crlf", [b"\n", b"\r\n", b"\r"])
def test_every_line_ending_of_event_streams_counts(crlf):
    assert seen(STREAM.replace(b"\n", crlf)) == (USAGE, True)


@pytest.mark.parametrize(
    "end", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE] \n", b"data: [DONE]\n\n: bye\n\n"]
)
def test_done_in_each_of_its_forms(end):
    assert seen(text_event(), end)[1]
    assert seen(end)[1], "also as the first line of all"


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE",
        b"data: [DONE]x\n",
        b"xdata: [DONE]\n",
        b": data: [DONE]\n",
        b"event: [DONE]\n",
        text_event("\ndata: [DONE]\n"),
    ],
)
def test_what_only_looks_like_done_is_not(end):
    assert not seen(text_event(), end)[1]


def test_done_at_the_first_byte_of_the_tail_may_be_in_the_middle_of_a_line():
    filler = b"data: [DONE]\n".ljust(TAIL, b".")
    assert not seen(b"x", filler)[1]
    assert seen(b"\n", b"\n", filler[:-1])[1]


def test_the_last_usage_counts():
    later = {**COUNTS, "completion_tokens": 99}
    assert seen(event(usage=COUNTS), event(usage=later))[0] == Usage(12, 99, 5, 46)


def test_null_and_unreadable_ones_are_passed_over():
    rest = b'data: {"usage": null}\n\ndata: {"usage": {}}\n\ndata: {"usage": {"prompt_tok'
    assert seen(event(usage=COUNTS), rest)[0] == USAGE


def test_usage_may_be_followed_by_more():
    more = {"token_details": [{"token_type": "input", "token_count": 12}], "total_nano_aiu": 1}
    events = event(usage=COUNTS, copilot_usage=more, model="gpt"), event(choices=[]), DONE
    assert seen(*events) == (USAGE, True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt_tokens": 1}, Usage(1, None, None, None)),
        ({"total_tokens": 3, "prompt_tokens_details": None}, Usage(None, None, None, 3)),
        ({"total_tokens": 3, "prompt_tokens_details": []}, Usage(None, None, None, 3)),
        ({"total_tokens": 0}, Usage(None, None, None, 0)),
        ({"total_tokens": 3, "prompt_tokens": -1}, Usage(None, None, None, 3)),
        ({"total_tokens": 3, "prompt_tokens": True}, Usage(None, None, None, 3)),
        ({"total_tokens": 3, "prompt_tokens": "1"}, Usage(None, None, None, 3)),
        ({"total_tokens": 3, "prompt_tokens": 1.5}, Usage(None, None, None, 3)),
        ({"total_tokens": "3"}, None),
        ({}, None),
    ],
)
def test_counts_that_are_missing_or_odd(fields, expected):
    assert seen(event(usage=fields))[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        '"usage":{"total_tokens":666}',
        '\\"usage":{"total_tokens":666}',
        '\n"usage": {"total_tokens": 666}\n',
        'x"usage',
    ],
)
def test_a_model_cannot_write_usage(text):
    assert seen(text_event(text))[0] is None
    assert seen(event(**{text: {"total_tokens": 666}}))[0] is None
    assert seen(event(usage=COUNTS), text_event(text))[0] == USAGE


def test_a_deep_usage_is_no_error():
    assert seen(b'data: {"usage": {"a": ' + b"[" * 6000)[0] is None


def test_only_a_tail_is_kept():
    tail = UsageTail()
    for size in (997, 1, 200):
        for _ in range(1000):
            tail.feed(b"x" * size)
            assert sum(map(len, tail._last)) + len(tail._last) * 64 <= 2 * TAIL + 64
            assert len(tail._first) <= HEAD
    tail.feed(b"x" * 1_000_000)
    assert list(map(len, tail._last)) == [TAIL]
    tail.feed(STREAM)
    assert (tail.usage(), tail.is_done) == (USAGE, True)


def test_usage_further_back_than_the_tail_goes_uncounted():
    assert seen(event(usage=COUNTS), b"." * TAIL) == (None, False)
    assert seen(event(usage=COUNTS), b"." * (TAIL - 300))[0] == USAGE


@st.composite
def cut_up(draw):
    """Bytes of a likely stream, and some way in which reads may cut them."""
    pieces = st.sampled_from(
        [
            DONE,
            text_event(),
            text_event('"usage":{"total_tokens":666}'),
            event(usage=COUNTS),
            event(usage={"total_tokens": 7}),
            b": ping\n\n",
            b"\r\n",
            b"\\",
            b"x" * 3000,
            b"y" * TAIL,
        ]
    )
    whole = b"".join(draw(st.lists(pieces | st.binary(max_size=20), max_size=12)))
    at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    chunks = [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]
    return whole, [chunk for chunk in chunks if chunk]


@given(cut_up())
def test_how_reads_cut_the_bytes_changes_nothing(given_bytes):
    whole, chunks = given_bytes
    assert seen(*chunks) == seen(whole)


def test_byte_by_byte_is_the_same():
    assert seen(*(bytes([byte]) for byte in STREAM)) == seen(STREAM)


# Other dialects.

STARTED = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 200,
    "cache_read_input_tokens": 3000,
    "output_tokens": 1,
}


def named(name, **fields):
    return f"event: {name}\n".encode() + event(type=name, **fields)


def messages(filler=1, delta=None):
    return (
        named("message_start", message={"id": "m", "content": [], "usage": STARTED})
        + named("content_block_delta", delta={"text": "x" * 100}) * filler
        + named(
            "message_delta",
            delta={"stop_reason": "end_turn"},
            usage=delta or {"output_tokens": 42},
        )
        + named("message_stop")
    )


@pytest.mark.parametrize("filler", [0, 1, 15, 60, 3000])
def test_a_stream_of_messages_tells_the_prompt_first(filler):
    expected = Usage(prompt=3210, completion=42, cached=3000, total=3252, written=200)
    assert seen(messages(filler))[0] == expected
    stream = messages(filler)
    assert seen(*(stream[at : at + 7] for at in range(0, len(stream), 7)))[0] == expected


def test_what_the_end_of_messages_says_again_counts():
    again = {**STARTED, "input_tokens": 20, "output_tokens": 42, "cache_read_input_tokens": None}
    assert seen(messages(500, again))[0] == Usage(3220, 42, 3000, 3262, 200)


def test_a_stream_of_messages_that_broke_off_tells_what_it_told():
    stream = messages(500)
    assert seen(stream[: len(stream) // 2])[0] == Usage(3210, 1, 3000, 3211, 200)


@pytest.mark.parametrize("size", [10, 50_000])
def test_a_whole_message_tells_usage_last_whatever_its_tools_say(size):
    body = {
        "type": "message",
        "content": [
            {"type": "text", "text": '"message_start"' + "x" * size},
            {"type": "tool_use", "input": {"usage": {"input_tokens": 666, "output_tokens": 6}}},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 7},
    }
    assert seen(json.dumps(body).encode())[0] == Usage(5, 7, None, 12)


RESPONSE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 20},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 34,
}


def test_responses_tell_it_in_their_last_event_and_whole():
    response = {"id": "r", "output": ["x" * 20_000], "usage": RESPONSE, "metadata": {}}
    begun = {**response, "output": [], "usage": None}
    stream = (
        named("response.created", response=begun)
        + named("response.output_text.delta", delta="hi") * 500
        + named("response.completed", response=response, copilot_quota_snapshots={"chat": {}})
    )
    expected = Usage(prompt=30, completion=4, cached=20, total=34)
    assert seen(stream)[0] == expected
    assert seen(json.dumps(response).encode())[0] == expected


def test_embeddings_have_no_completion():
    body = {
        "data": [{"embedding": [0.25] * 5000}],
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }
    assert seen(json.dumps(body).encode())[0] == Usage(9, None, None, 9)


@pytest.mark.parametrize("odd", [-1, True, "1", 1.5, None, [], {}, TOKENS_MAX + 1])
def test_odd_counts_of_other_dialects_are_none(odd):
    assert seen(event(usage={"input_tokens": odd, "output_tokens": 3}))[0] == Usage(
        None, 3, None, None
    )
    assert seen(event(usage={"input_tokens": odd}))[0] is None
