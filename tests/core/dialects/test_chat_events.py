"""Streams of Chat Completions: as Copilot sends them, and as strict clients want them."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given

from brokerd.core.dialects.chat import EventReader, EventWriter
from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Piece,
    Stopped,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.sse import SseReader, sse
from fakes.conversations import Can, cut_everywhere, law, normal, streams


STOPS = {"sequence": "end", "pause": "length"}


def read(chunks):
    reader = EventReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return normal([*events, *reader.end()])


def as_chat_counts(early: Usage, late: Usage) -> Usage:
    told = {name: value for name, value in vars(late).items() if value is not None}
    usage = replace(early, **told)
    if usage.prompt is None and usage.completion is None:
        return Usage()
    return Usage(usage.prompt or 0, usage.completion or 0, usage.cached, None, usage.reasoning)


def proof_of(events):
    """The proof of a stream's thoughts: only a single one can have it."""
    thoughts = {e.part for e in events if getattr(e, "kind", "") == "thinking"}
    proofs = [e for e in events if isinstance(e, Piece) and e.kind == "proof"]
    return proofs if len(thoughts) <= 1 and len({e.part for e in proofs}) == 1 else []


def proof_last(events):
    rest = [e for e in events if not (isinstance(e, Piece) and e.kind == "proof")]
    return [*rest[:-1], *proof_of(events), rest[-1]]


def as_chat_says(events):
    """What of a stream Chat Completions has words for.

    Nothing tells one text from the next: a part ends where another kind or call begins. A proof
    is told last, and of a single thought alone.
    """
    begun, *rest = proof_last(events)
    told = [replace(begun, usage=Usage())]
    calls: dict[int, int] = {}
    parts = 0
    last_kind, last_part, unproven = "", -1, None
    for event in rest:
        if isinstance(event, CallBegun):
            calls[event.part] = parts
            told.append(replace(event, part=parts))
            last_kind, parts = "", parts + 1
        elif isinstance(event, Piece) and event.kind == "arguments":
            told.append(replace(event, part=calls[event.part]))
        elif isinstance(event, Piece):
            if event.kind != last_kind:
                last_part, is_new = parts, True
                if event.kind == "proof" and unproven is not None:
                    last_part, is_new = unproven, False
                if event.kind in ("thinking", "proof"):
                    unproven = last_part if event.kind == "thinking" else None
                last_kind, parts = event.kind, parts + is_new
            told.append(replace(event, part=last_part))
        elif isinstance(event, Stopped):
            usage = as_chat_counts(begun.usage, event.usage)
            told.append(Stopped(STOPS.get(event.stop, event.stop), usage))
        else:
            told.append(replace(event, type=event.type or "server_error"))
    return normal(told)


ONE_PROOF = Can(alternating="calls", thinking="first")


@law()
@given(streams(ONE_PROOF))
def test_what_is_written_is_read(events):
    raw = EventWriter("asked").write(events)
    assert read([raw]) == as_chat_says(events)


@law()
@given(streams())
def test_whatever_alternates_no_word_is_lost(events):
    def words(events, kind):
        return "".join(e.text for e in events if isinstance(e, Piece) and e.kind == kind)

    writer = EventWriter("asked")
    found = read([writer.write([event]) for event in events])
    for kind in ("text", "refusal", "thinking", "arguments"):
        assert words(found, kind) == words(events, kind)
    assert words(found, "proof") == words(proof_of(events), "proof")
    calls = {e.part: (e.id, e.name) for e in events if isinstance(e, CallBegun)}
    again = {e.part: (e.id, e.name) for e in found if isinstance(e, CallBegun)}
    assert list(calls.values()) == list(again.values())
    for one, other in zip(calls, again, strict=True):
        assert words([e for e in events if getattr(e, "part", -1) == one], "arguments") == words(
            [e for e in found if getattr(e, "part", -1) == other], "arguments"
        )


@law(15)
@given(streams(replace(ONE_PROOF, mixed_turns=False)))
def test_reads_may_cut_anywhere(events):
    raw = EventWriter("asked").write(events)
    expected = read([raw])
    assert read([raw[i : i + 1] for i in range(len(raw))]) == expected
    for place in range(1, len(raw), 7):
        assert read([raw[:place], raw[place:]]) == expected


EXACT = replace(
    ONE_PROOF,
    hidden_thoughts=False,
    mixed_turns=False,
    neighbouring_texts=False,
    late_proof=False,
    alternating="none",
    early_usage=False,
    half_usage=False,
    cache_written=False,
    answer_stops=("end", "length", "tool", "filter"),
)


@law()
@given(streams(EXACT))
def test_what_it_can_say_is_not_changed(events):
    assert read([EventWriter("asked").write(events)]) == normal(proof_last(events))


SAMPLE = (
    Begun("r1", "gpt-4o", 7, Usage(prompt=9)),
    Piece(0, "thinking", "h"),
    Piece(0, "thinking", "m"),
    Piece(0, "proof", "x"),
    Piece(0, "proof", "yz"),
    Piece(1, "text", 'é"\n\ndata: [DONE]\n\n😀'),
    Piece(2, "refusal", "no"),
    CallBegun(3, "c1", "weather"),
    CallBegun(4, "c2", "time"),
    Piece(3, "arguments", '{"a'),
    Piece(4, "arguments", "{}"),
    Piece(3, "arguments", '":1}'),
    Stopped("tool", Usage(completion=4)),
)


def test_every_kind_of_event_cut_at_every_byte():
    raw = EventWriter("asked").write(SAMPLE)
    expected = as_chat_says(SAMPLE)
    assert expected[1:-1] == normal(proof_last(SAMPLE))[1:-1]
    for chunks in cut_everywhere(raw):
        assert read(chunks) == expected


def chunks_of(raw):
    """The chunks of a stream as a strict client sees them; the last is what `[DONE]` is."""
    found = [event.data for event in SseReader().feed(raw)]
    return [json.loads(data) if data != b"[DONE]" else None for data in found]


@law()
@given(streams())
def test_what_strict_clients_ask_of_a_stream(events):
    chunks = chunks_of(EventWriter("asked").write(events))
    if isinstance(events[-1], Broken):
        assert set(chunks.pop()) == {"error"}
    else:
        assert chunks.pop() is None
    begun = events[0]
    about = {
        "id": begun.id,
        "object": "chat.completion.chunk",
        "created": begun.created,
        "model": begun.model,
    }
    assert all(about.items() <= chunk.items() for chunk in chunks)
    said = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert said[0]["delta"]["role"] == "assistant"
    assert all(each["index"] == 0 for each in said)
    reasons = [each["finish_reason"] for each in said]
    if isinstance(events[-1], Stopped):
        assert reasons.pop()
    assert set(reasons) <= {None}
    with_usage = [chunk for chunk in chunks if "usage" in chunk]
    assert with_usage in ([], [chunks[-1]])
    assert all(chunk["choices"] == [] for chunk in with_usage)
    begun_calls = set()
    for each in said:
        for call in each["delta"].get("tool_calls", ()):
            if call["index"] not in begun_calls:
                assert call["index"] == len(begun_calls)
                assert call["id"]
                assert call["type"] == "function"
                assert call["function"]["name"]
                begun_calls.add(call["index"])


@pytest.mark.parametrize("wants_usage", [True, False])
def test_usage_only_where_it_is_wanted(wants_usage):
    raw = EventWriter("asked", wants_usage=wants_usage).write(SAMPLE)
    assert (b'"usage"' in raw) is wants_usage
    usage = Usage(9, 4) if wants_usage else Usage()
    assert read([raw])[-1] == Stopped("tool", usage)


def test_a_proof_is_one_piece_whoever_cut_it():
    deltas = [
        chunk["choices"][0]["delta"]
        for chunk in chunks_of(EventWriter("m").write(SAMPLE))
        if chunk and chunk["choices"]
    ]
    assert [delta["reasoning_opaque"] for delta in deltas if "reasoning_opaque" in delta] == [
        "xyz"
    ]


@pytest.mark.parametrize(
    "thoughts",
    [
        [Piece(0, "proof", "x"), Piece(1, "proof", "y")],
        [Piece(0, "thinking", "a"), Piece(0, "proof", "x"), Piece(1, "thinking", "b")],
    ],
)
def test_no_proof_is_told_of_several_thoughts(thoughts):
    raw = EventWriter("m").write([Begun("r", "m"), *thoughts, Stopped("end")])
    assert b"reasoning_opaque" not in raw


def test_the_model_is_the_one_asked_for_where_no_other_is_told():
    (chunk,) = chunks_of(EventWriter("asked").write([Begun("r1", "")]))
    assert chunk["model"] == "asked"


def test_broken_has_no_end_after_it():
    raw = EventWriter("m").write([Broken("too much", "rate_limited", "limit")])
    assert chunks_of(raw) == [
        {"error": {"message": "too much", "type": "limit", "code": "rate_limited", "param": None}}
    ]


def test_half_a_character_is_written():
    raw = EventWriter("m").write(
        [Begun("r", "m"), Piece(0, "text", "\ud83d"), Piece(0, "text", "\ude00")]
    )
    halves = [chunk["choices"][0]["delta"]["content"] for chunk in chunks_of(raw)]
    assert "".join(halves).encode("utf-16", "surrogatepass").decode("utf-16") == "😀"


def stream(*chunks, done=True, **about):
    about = {"id": "r1", "model": "gpt-4o", "created": 7, **about}
    raw = b"".join(sse(json.dumps({**about, **chunk}).encode()) for chunk in chunks)
    return raw + (sse(b"[DONE]") if done else b"")


def delta(reason=None, **fields):
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def call(index=0, **fields):
    function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    told = {"function": function, **fields}
    return delta(tool_calls=[told if index is None else {"index": index, **told}])


BEGUN = Begun("r1", "gpt-4o", 7)
END = delta("stop")
TOOL = delta("tool_calls")
CALLED = CallBegun(0, "c1", "weather")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            stream(
                {
                    "choices": [],
                    "id": "",
                    "created": 0,
                    "model": "",
                    "prompt_filter_results": [{}],
                },
                delta(role="assistant", content=""),
                delta(content="hi"),
                END,
            ),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end")],
            id="a first chunk without choices",
        ),
        pytest.param(
            stream({"choices": None, "copilot_references": []}, delta(content="hi"), END),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end")],
            id="choices that are null",
        ),
        pytest.param(
            b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
            b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
            [Begun("", ""), Piece(0, "text", "hi"), Stopped("end")],
            id="chunks without id, object or index",
        ),
        pytest.param(
            b": keepalive\r\n\r\n" + stream(delta(content="hi"), END).replace(b"\n", b"\r\n"),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end")],
            id="a comment and other line ends",
        ),
        pytest.param(
            stream(
                delta(content="hi"),
                delta("stop"),
                {
                    "choices": [],
                    "usage": {
                        "prompt_tokens": 9,
                        "completion_tokens": 4,
                        "prompt_tokens_details": {"cached_tokens": 3},
                        "completion_tokens_details": {"reasoning_tokens": 2},
                    },
                    "copilot_usage": {"total_nano_aiu": 5},
                },
            ),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end", Usage(9, 4, 3, None, 2))],
            id="usage in a chunk of its own",
        ),
        pytest.param(
            stream(
                delta(content="hi") | {"usage": None},
                delta("stop")
                | {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "reasoning_tokens": 2}},
            ),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end", Usage(9, 4, reasoning=2))],
            id="usage in the last chunk",
        ),
        pytest.param(
            stream(
                delta(reasoning_text="h"),
                delta(reasoning_text="m", reasoning_opaque="xyz"),
                delta(content="hi"),
                END,
            ),
            [
                BEGUN,
                Piece(0, "thinking", "hm"),
                Piece(0, "proof", "xyz"),
                Piece(1, "text", "hi"),
                Stopped("end"),
            ],
            id="thoughts",
        ),
        pytest.param(
            stream(
                delta(reasoning_text="hm"),
                delta(content="hi"),
                delta(reasoning_opaque="xyz"),
                delta(content="ho"),
                END,
            ),
            [
                BEGUN,
                Piece(0, "thinking", "hm"),
                Piece(1, "text", "hi"),
                Piece(0, "proof", "xyz"),
                Piece(2, "text", "ho"),
                Stopped("end"),
            ],
            id="a proof that comes late",
        ),
        pytest.param(
            stream(delta(reasoning_opaque="xyz"), delta(content="hi", reasoning_text=None), END),
            [BEGUN, Piece(0, "proof", "xyz"), Piece(1, "text", "hi"), Stopped("end")],
            id="hidden thoughts",
        ),
        pytest.param(
            stream(delta(reasoning_content="h", reasoning="h"), delta(reasoning="m"), END),
            [BEGUN, Piece(0, "thinking", "hm"), Stopped("end")],
            id="the thoughts of others",
        ),
        pytest.param(
            stream(
                call(id="c1", type="function", name="weather", arguments=""),
                call(arguments="{"),
                call(arguments="}"),
                TOOL,
            ),
            [BEGUN, CALLED, Piece(0, "arguments", "{}"), Stopped("tool")],
            id="a tool call",
        ),
        pytest.param(
            stream(
                call(id="c1", name="weather"), call(id="c1", name="weather", arguments="{}"), TOOL
            ),
            [BEGUN, CALLED, Piece(0, "arguments", "{}"), Stopped("tool")],
            id="a tool call that names itself again",
        ),
        pytest.param(
            stream(
                call(None, id="c1", name="weather"),
                call(None, arguments="{"),
                call(None, id="c2", name="time"),
                call(None, id="c1", arguments="}"),
                TOOL,
            ),
            [
                BEGUN,
                CALLED,
                Piece(0, "arguments", "{"),
                CallBegun(1, "c2", "time"),
                Piece(0, "arguments", "}"),
                Stopped("tool"),
            ],
            id="tool calls without an index",
        ),
        pytest.param(
            stream(
                call(id="c1", name="weather", arguments="{}"),
                call(id="c2", name="time", arguments="[]"),
                call(arguments=" "),
                TOOL,
            ),
            [
                BEGUN,
                CALLED,
                Piece(0, "arguments", "{}"),
                CallBegun(1, "c2", "time"),
                Piece(1, "arguments", "[] "),
                Stopped("tool"),
            ],
            id="tool calls that all have index 0",
        ),
        pytest.param(
            stream(call(id="c1", arguments="{"), call(name="weather"), call(arguments="}"), TOOL),
            [BEGUN, CALLED, Piece(0, "arguments", "{}"), Stopped("tool")],
            id="a name that comes late",
        ),
        pytest.param(
            stream(call(name="weather"), call(1, name="time"), TOOL, id="a:b"),
            [
                replace(BEGUN, id="a:b"),
                CallBegun(0, "call_a_b_0", "weather"),
                CallBegun(1, "call_a_b_1", "time"),
                Stopped("tool"),
            ],
            id="tool calls without an id",
        ),
        pytest.param(
            stream(
                delta(content="let me see"),
                {
                    "choices": [
                        {"index": 0, "delta": {}, "finish_reason": "stop"},
                        {
                            "index": 1,
                            "delta": {
                                "tool_calls": [
                                    {
                                        "index": 0,
                                        "id": "c1",
                                        "function": {"name": "weather", "arguments": "{}"},
                                    }
                                ]
                            },
                        },
                        {
                            "index": 2,
                            "delta": {
                                "tool_calls": [
                                    {"index": 0, "function": {"name": "time"}, "id": "c2"}
                                ]
                            },
                        },
                    ]
                },
                {
                    "choices": [
                        {
                            "index": 1,
                            "delta": {
                                "tool_calls": [{"index": 0, "function": {"arguments": " "}}]
                            },
                            "finish_reason": "tool_calls",
                        }
                    ]
                },
            ),
            [
                BEGUN,
                Piece(0, "text", "let me see"),
                CallBegun(1, "c1", "weather"),
                Piece(1, "arguments", "{}"),
                CallBegun(2, "c2", "time"),
                Piece(1, "arguments", " "),
                Stopped("tool"),
            ],
            id="Claude's answer in several choices",
        ),
        pytest.param(
            stream(
                delta(function_call={"name": "weather", "arguments": ""}),
                delta(function_call={"arguments": "{}"}),
                delta("function_call"),
            ),
            [
                BEGUN,
                CallBegun(0, "call_r1_0", "weather"),
                Piece(0, "arguments", "{}"),
                Stopped("tool"),
            ],
            id="a function call",
        ),
        pytest.param(
            stream(delta(role="function", content="x", name="f"), delta(content="hi"), END),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end")],
            id="what an agent did",
        ),
        pytest.param(
            stream(delta(refusal="no"), delta("content_filter")),
            [BEGUN, Piece(0, "refusal", "no"), Stopped("filter")],
            id="a refusal and a filter",
        ),
        pytest.param(
            stream(delta(content="hi"), delta("length"), done=False),
            [BEGUN, Piece(0, "text", "hi"), Stopped("length")],
            id="no [DONE] after a reason",
        ),
        pytest.param(
            stream(delta(content="hi")),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end")],
            id="[DONE] without a reason",
        ),
        pytest.param(
            stream(delta(content="hi"), END) + stream(delta(content="more")),
            [BEGUN, Piece(0, "text", "hi"), Stopped("end")],
            id="more after [DONE]",
        ),
        pytest.param(
            stream(delta(content="hi"), done=False),
            [
                BEGUN,
                Piece(0, "text", "hi"),
                Broken("the stream broke off before its end", "stream_cut"),
            ],
            id="cut off",
        ),
        pytest.param(
            b"",
            [Broken("the stream broke off before its end", "stream_cut")],
            id="nothing",
        ),
        pytest.param(
            stream({"choices": []}),
            [Broken("the stream ended without an answer", "stream_cut")],
            id="no answer",
        ),
        pytest.param(
            stream(
                delta(content="hi"),
                {"error": {"message": "m", "code": "c", "type": "t"}},
                delta(content="more"),
                END,
            ),
            [BEGUN, Piece(0, "text", "hi"), Broken("m", "c", "t")],
            id="an error in the middle",
        ),
        pytest.param(
            stream({"error": {"message": None, "code": 429}}),
            [Broken("upstream gave an error without words", "429")],
            id="an error without words",
        ),
        pytest.param(
            b'event: error\ndata: {"message":"m","code":"c"}\n\n',
            [Broken("m", "c")],
            id="an error by its name",
        ),
        pytest.param(
            stream({"error": "m"}),
            [Broken("m")],
            id="an error in a word",
        ),
        pytest.param(
            stream(delta(content="hi"), delta("error"), END),
            [BEGUN, Piece(0, "text", "hi"), Broken("the model failed to answer", "error")],
            id="an error as the reason",
        ),
    ],
)
def test_streams(raw, expected):
    assert read([raw]) == expected
    assert read([raw[i : i + 1] for i in range(len(raw))]) == expected


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"data: {\n\n", "a chunk that is not JSON"),
        (b"data: \xff\n\n", "a chunk that is not JSON"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "a chunk that is not JSON"),
        (b"data: []\n\n", "a chunk that is not an object"),
        (
            b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n',
            "the Messages API",
        ),
        (stream({"choices": {}}), "choices that"),
        (stream({"choices": [{"delta": []}]}), "a delta"),
        (stream(delta(content=7)), "a content"),
        (stream(delta(audio={})), "audio"),
        (stream(delta(tool_calls=[{"index": 0, "type": "custom"}])), "of type custom"),
        (stream(delta(tool_calls=[{"index": "0"}])), "an index"),
        (stream(call(id="c1", arguments="{}"), TOOL), "without a name"),
        (stream(call(id="c1", arguments="{}"), TOOL, done=False), "without a name"),
    ],
)
def test_what_cannot_be_said_is_named(raw, named):
    with pytest.raises(UntranslatableError) as raised:
        read([raw])
    assert named.removeprefix("an ") in str(raised.value)


@pytest.mark.parametrize("odd", [None, True, 7, -1, "", "x", [], ["x"], [{}], {}, {"id": []}])
@pytest.mark.parametrize(
    "path",
    [
        ("id",),
        ("created",),
        ("usage",),
        ("error",),
        ("choices",),
        ("choices", 0, "index"),
        ("choices", 0, "delta"),
        ("choices", 0, "finish_reason"),
        ("choices", 0, "delta", "role"),
        ("choices", 0, "delta", "content"),
        ("choices", 0, "delta", "tool_calls"),
        ("choices", 0, "delta", "tool_calls", 0, "index"),
        ("choices", 0, "delta", "tool_calls", 0, "function"),
        ("choices", 0, "delta", "tool_calls", 0, "function", "arguments"),
    ],
    ids=str,
)
def test_odd_values_are_read_or_named_and_nothing_else(path, odd):
    chunk = {"id": "r1", "usage": {}, **call(id="c1", name="f", arguments="{}")}
    *way, last = path
    inside = chunk
    for key in way:
        inside = inside[key]
    inside[last] = odd
    with contextlib.suppress(UntranslatableError):
        EventWriter("m").write(read([stream(chunk, END)]))
