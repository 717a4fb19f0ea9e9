"""Streamed answers of Messages: every kind of event, and what strict clients wait for."""

from __future__ import annotations

import json

import pytest

from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Piece,
    Stopped,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.messages import EventReader, EventWriter
from tests.fakes.conversations import cut_everywhere, normal


SECRET = "CANARY of the person"


def event(name, **data):
    return f"event: {name}\ndata: {json.dumps({'type': name, **data}, ensure_ascii=False)}\n\n"


def start(index, kind, **block):
    return event("content_block_start", index=index, content_block={"type": kind, **block})


def delta(index, kind, **more):
    return event("content_block_delta", index=index, delta={"type": kind, **more})


def stop(index):
    return event("content_block_stop", index=index)


def ending(reason="end_turn", sequence=None, **usage):
    return event(
        "message_delta", delta={"stop_reason": reason, "stop_sequence": sequence}, usage=usage
    ) + event("message_stop")


MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "content": [],
    "model": "claude-sonnet-4.5",
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 90,
        "output_tokens": 1,
    },
}
BEGIN = event("message_start", message=MESSAGE)
BEGUN = Begun("msg_01", "claude-sonnet-4.5", usage=Usage(100, cached=90, cache_written=0))
REAL = (
    BEGIN
    + start(0, "thinking", thinking="", signature="")
    + event("ping")
    + delta(0, "thinking_delta", thinking="I lo")
    + delta(0, "thinking_delta", thinking="ök 漢")
    + delta(0, "signature_delta", signature="c2ln")
    + stop(0)
    + start(1, "redacted_thinking", data="b3BhcXVl")
    + stop(1)
    + start(2, "text", text="", copilot_annotations={"IPCodeCitations": []})
    + delta(2, "text_delta", text="Let me 👩‍🚀")
    + delta(2, "citations_delta", citation={"type": "char_location"})
    + event("of_next_year", index=9)
    + delta(2, "delta_of_next_year", text=SECRET)
    + stop(2)
    + start(3, "tool_use", id="toolu_1", name="look", input={})
    + delta(3, "input_json_delta", partial_json="")
    + delta(3, "input_json_delta", partial_json='{"at":')
    + delta(3, "input_json_delta", partial_json='"ü"}')
    + stop(3)
    + start(4, "tool_use", id="toolu_2", name="now", input={})
    + delta(4, "input_json_delta", partial_json="")
    + stop(4)
    + ending("tool_use", output_tokens=40, output_tokens_details={"thinking_tokens": 7})
    + "data: [DONE]\n\n"
)
MEANT = [
    BEGUN,
    Piece(0, "thinking", "I lo"),
    Piece(0, "thinking", "ök 漢"),
    Piece(0, "proof", "c2ln"),
    Piece(1, "proof", "redacted_thinking:b3BhcXVl"),
    Piece(2, "text", "Let me 👩‍🚀"),
    CallBegun(3, "toolu_1", "look"),
    Piece(3, "arguments", '{"at":'),
    Piece(3, "arguments", '"ü"}'),
    CallBegun(4, "toolu_2", "now"),
    Piece(4, "arguments", "{}"),
    Stopped("tool", Usage(100, 40, cached=90, cache_written=0, reasoning=7)),
]


def read(*chunks):
    reader = EventReader()
    found = [e for c in chunks for e in reader.feed(c.encode() if isinstance(c, str) else c)]
    return found + reader.end()


def written(*events, model="asked"):
    """Write events one by one; return the data of what came, after a look at its form."""
    writer = EventWriter(model)
    raw = b"".join(writer.write([event]) for event in events).decode()
    found = []
    for text in raw.split("\n\n")[:-1]:
        name, data = text.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_real_stream_is_read_however_it_is_cut():
    chunkings = cut_everywhere(REAL.encode())
    assert read(*next(chunkings)) == MEANT
    for chunks in chunkings:
        assert read(*chunks) == MEANT


def test_it_is_written_as_anthropic_would():
    told = written(*MEANT)
    begin = MESSAGE | {"usage": MESSAGE["usage"] | {"output_tokens": 0}}
    assert told[0] == {"type": "message_start", "message": begin}
    assert [(t["index"], t["content_block"]) for t in told if "content_block" in t] == [
        (0, {"type": "thinking", "thinking": "", "signature": ""}),
        (1, {"type": "redacted_thinking", "data": "b3BhcXVl"}),
        (2, {"type": "text", "text": ""}),
        (3, {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}),
        (4, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}),
    ]
    assert [t["delta"] for t in told if t["type"] == "content_block_delta"] == [
        {"type": "thinking_delta", "thinking": "I lo"},
        {"type": "thinking_delta", "thinking": "ök 漢"},
        {"type": "signature_delta", "signature": "c2ln"},
        {"type": "text_delta", "text": "Let me 👩‍🚀"},
        {"type": "input_json_delta", "partial_json": '{"at":'},
        {"type": "input_json_delta", "partial_json": '"ü"}'},
        {"type": "input_json_delta", "partial_json": "{}"},
    ]
    assert told[-2:] == [
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 0,
                "output_tokens": 40,
                "output_tokens_details": {"thinking_tokens": 7},
            },
        },
        {"type": "message_stop"},
    ]


def test_later_counts_replace_earlier_ones():
    last = ending(input_tokens=20, cache_read_input_tokens=80, output_tokens=5)
    assert read(BEGIN, last)[-1].usage == Usage(100, 5, cached=80, cache_written=0)


def test_a_prompt_of_no_tokens_is_one_not_counted_yet():
    message = MESSAGE | {"usage": {"input_tokens": 0, "output_tokens": 0}}
    assert read(event("message_start", message=message), ending(output_tokens=2)) == [
        Begun("msg_01", "claude-sonnet-4.5"),
        Stopped("end", Usage(None, 2)),
    ]


def test_a_stop_sequence_is_told():
    assert read(BEGIN, ending("stop_sequence", "END"))[-1].stop_sequence == "END"


@pytest.mark.parametrize(
    ("stream", "meant"),
    [
        (delta(0, "text_delta", text="a") + ending(), [Begun("", ""), Piece(0, "text", "a")]),
        (BEGIN + BEGIN + ending(), [BEGUN]),
        (BEGIN + start(0, "text", text="a") + ending(), [BEGUN, Piece(0, "text", "a")]),
        (
            BEGIN + delta(0, "thinking_delta", thinking="a") + ending(),
            [BEGUN, Piece(0, "thinking", "a")],
        ),
        (
            BEGIN + start(0, "thinking", thinking="", signature="s") + ending(),
            [BEGUN, Piece(0, "proof", "s")],
        ),
        (
            BEGIN + start(0, "text") + stop(0) + start(1, "text", text="b") + ending(),
            [BEGUN, Piece(0, "text", "b")],
        ),
        (
            BEGIN + start(0, "tool_use", id="1", name="t", input={"a": 1}) + ending(),
            [BEGUN, CallBegun(0, "1", "t"), Piece(0, "arguments", '{"a":1}')],
        ),
        (
            BEGIN + start(0, "text", text="a") + start(0, "text", text="b") + ending(),
            [BEGUN, Piece(0, "text", "a"), Piece(1, "text", "b")],
        ),
        (BEGIN + 'event: ping\ndata: {}\n\n: comment\n\ndata: {"a": 1}\n\n' + ending(), [BEGUN]),
        (BEGIN + ending().replace("event: message_stop", "event: other"), [BEGUN]),
        (BEGIN + ending().partition("event: message_stop")[0], [BEGUN]),
        (BEGIN + ending() + delta(0, "text_delta", text=SECRET), [BEGUN]),
    ],
)
def test_what_is_missing_or_too_much_is_tolerated(stream, meant):
    found = read(stream)
    assert found[:-1] == meant
    assert isinstance(found[-1], Stopped)


def test_a_call_is_why_it_stopped_where_nothing_says():
    call = start(0, "tool_use", id="1", name="t", input={})
    assert read(BEGIN + call + event("message_stop"))[-1].stop == "tool"


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (
            {"type": "overloaded_error", "message": "Overloaded"},
            Broken("Overloaded", "", "overloaded_error"),
        ),
        ({"message": "no", "code": "c"}, Broken("no", "c")),
        (None, Broken("")),
    ],
)
@pytest.mark.parametrize("name", ["error", ""])
def test_an_error_is_the_end(error, broken, name):
    raw = f"data: {json.dumps({'error': error} | ({'type': name} if name else {}))}\n\n"
    assert read(BEGIN, raw, REAL) == [BEGUN, broken]


@pytest.mark.parametrize("upto", ["message_delta", "content_block_stop", "message_start"])
def test_a_stream_that_stops_before_its_end_is_broken(upto):
    last = read(REAL[: REAL.rindex(f"event: {upto}")])[-1]
    assert (last.code, last.type) == ("upstream_cut", "api_error")


@pytest.mark.parametrize(
    "raw",
    [
        "data: " + SECRET + "\n\n",
        "data: [1]\n\n",
        "data: " + "[" * 100_000 + "\n\n",
        start(0, "server_tool_use", name=SECRET),
        start(0, SECRET),
        event("content_block_start", index=0),
        event("content_block_start", index=SECRET, content_block={"type": "text"}),
        event("content_block_start", index=0, content_block=SECRET),
        event("content_block_delta", index=0, delta=SECRET),
        delta(0, "input_json_delta", partial_json=SECRET),
        start(0, "text", text=SECRET) + delta(0, "thinking_delta", thinking=SECRET),
        delta(0, "text_delta", text=7),
        event("message_start", message=SECRET),
        event("message_delta", delta=SECRET),
        event("message_delta", delta={}, usage={"output_tokens": SECRET}),
        event("error", error=SECRET),
    ],
)
def test_what_nobody_could_mean_is_refused_and_never_quoted(raw):
    with pytest.raises(UntranslatableError) as caught:
        read(raw)
    assert SECRET not in str(caught.value)


def shape(told):
    """Say in short what was written of the content."""
    out = []
    for t in told:
        if t["type"] == "content_block_start":
            out.append(f"{t['index']} {t['content_block']['type']}")
        elif t["type"] == "content_block_delta":
            out.append(next(text for key, text in t["delta"].items() if key != "type"))
        elif t["type"] == "content_block_stop":
            out.append(f"{t['index']} over")
    return out


CALLS = [CallBegun(0, "a", "t"), CallBegun(1, "b", "t")]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (  # words do not wait for a call that is whole
            [CALLS[0], Piece(0, "arguments", '{"a":1} '), Piece(1, "text", "x")],
            ["0 tool_use", '{"a":1} ', "0 over", "1 text", "x"],
        ),
        (  # but for one that is not
            [CALLS[0], Piece(0, "arguments", '{"a":{}'), Piece(1, "text", "x")],
            ["0 tool_use", '{"a":{}'],
        ),
        (
            [*CALLS, Piece(1, "arguments", "{"), Piece(0, "arguments", "{"),
             Piece(1, "arguments", "}"), Piece(0, "arguments", "}"), Piece(1, "arguments", "\n")],
            ["0 tool_use", "{", "}", "0 over", "1 tool_use", "{}\n"],
        ),
        (  # a text that goes on later is a further block
            [Piece(0, "text", "x"), Piece(1, "thinking", "y"), Piece(0, "text", "z")],
            ["0 text", "x", "0 over", "1 thinking", "y", "1 over", "2 text", "z"],
        ),
        (  # a proof is told as a whole, at the end of its thought
            [Piece(0, "thinking", "y"), Piece(0, "proof", "p"), Piece(0, "proof", "q"),
             Piece(1, "refusal", "no")],
            ["0 thinking", "y", "pq", "0 over", "1 text", "no"],
        ),
        (
            [Piece(0, "proof", "p"), Piece(1, "text", "x")],
            ["0 thinking", "p", "0 over", "1 text", "x"],
        ),
        ([Piece(0, "text", ""), Piece(1, "text", "x")], ["0 text", "x"]),
        ([Piece(0, "arguments", "{}"), Piece(1, "text", "x")], ["0 text", "x"]),
        (
            [CALLS[0], Piece(0, "arguments", "{}"), Piece(1, "text", "x"),
             Piece(0, "arguments", " ")],
            ["0 tool_use", "{}", "0 over", "1 text", "x"],
        ),
    ],
)  # fmt: skip
def test_one_block_is_open_at_a_time(events, told):
    assert shape(written(Begun("i", "m"), *events)) == told


def test_what_still_waits_at_the_end_is_told_then():
    told = written(Begun("i", "m"), *CALLS, Piece(1, "arguments", "{}"), Stopped("tool"))
    assert shape(told) == ["0 tool_use", "0 over", "1 tool_use", "{}", "1 over"]
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


def test_an_empty_answer_has_a_beginning_and_an_end():
    told = written(Begun("i", ""), Stopped("end"))
    assert [t["type"] for t in told] == ["message_start", "message_delta", "message_stop"]
    assert told[0]["message"]["model"] == "asked"
    assert told[0]["message"]["usage"] == {"input_tokens": 0, "output_tokens": 0}


@pytest.mark.parametrize("first", [Stopped("end"), Piece(0, "text", "x"), CallBegun(0, "a", "t")])
def test_a_beginning_is_never_left_out(first):
    assert next(t["type"] for t in written(first)) == "message_start"


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (Broken("no", "c", "t"), {"type": "api_error", "message": "no", "code": "c"}),
        (
            Broken("no", "", "rate_limit_error"),
            {"type": "rate_limit_error", "message": "no"},
        ),
        (Broken("no"), {"type": "api_error", "message": "no"}),
    ],
)
def test_an_error_is_told_and_nothing_after_it(broken, error):
    told = written(Begun("i", "m"), Piece(0, "text", "x"), broken)
    assert told[-1] == {"type": "error", "error": error}


def test_a_call_that_ends_an_answer_waits_for_its_result():
    told = written(*CALLS, Stopped("end"))
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


def test_half_a_letter_is_written_as_its_escape():
    raw = EventWriter("m").write([Piece(0, "text", "\ud83d"), Piece(0, "text", "漢")])
    assert b'"text":"\\ud83d"' in raw
    assert "漢".encode() in raw
    assert normal(read(raw))[1] == Piece(0, "text", "\ud83d漢")


def test_a_long_call_beside_others_is_not_tried_again_and_again():
    writer = EventWriter("m")
    writer.write([*CALLS, Piece(0, "arguments", '{"a":"')])
    for _ in range(2000):
        writer.write([Piece(1, "arguments", "}")])
    assert writer._open.tried == 1
