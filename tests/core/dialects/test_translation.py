"""From each dialect to each other and back: what both have words for keeps its meaning.

What only one of two dialects can say is tried by that dialect's own laws.
"""

import json
from dataclasses import fields, replace
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.dialects import sse
from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Format,
    Piece,
    Stopped,
    Text,
    ToolChoice,
    ToolResult,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.translation import AnswerStream, Translation
from brokerd.errors import ErrorClass, Failure
from fakes.conversations import Can, answers, askings, cut_everywhere, law, normal, streams


PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/v1/messages"}
PAIRS = [(one, other) for one in PATHS for other in PATHS if one != other]
ALL = {name: import_module(f"brokerd.core.dialects.{name}") for name in PATHS}
NOW = 1_700_000_000

CAN = {
    "chat": Can(
        mixed_turns=False, thinking="first", result_images=False, result_errors=False,
        summaries=False, empty_schema=False, choice_without_tools=False, neighbouring_texts=False,
        answer_stops=("end", "length", "tool", "filter"), cache_written=False, half_usage=False,
        alternating="calls", early_usage=False, hidden_thoughts=False, usage_wish=False,
    ),
    "responses": Can(
        result_errors=False, budgets=False, empty_schema=False, stops=False, usage_wish=False,
        answer_stops=("end", "length", "tool", "filter"), stop_sequence=False, half_usage=False,
        alternating="calls", early_usage=False, choice_without_tools=False, late_proof=False,
    ),
    "messages": Can(
        any_json=False, efforts=("none", "low", "medium", "high", "xhigh"), budgets=False,
        empty_schema=False, format_strict=False, format_description=False, image_detail=False,
        refusals=False, thoughts_without_proof=False, usage_wish=False, answer_refusals=False,
        created=False, system="first", choice_without_tools=False, early_usage=False,
        alternating="calls", late_proof=False,
    ),
}  # fmt: skip
"""What each has words for, and says in the same order again."""

RANKS = ("none", "first", "calls", "user", "many", "any", "all")


def both(one, other):
    """What two dialects have words for."""
    told = {}
    for field in fields(Can):
        a, b = getattr(CAN[one], field.name), getattr(CAN[other], field.name)
        if isinstance(a, bool):
            told[field.name] = a and b
        elif isinstance(a, tuple):
            told[field.name] = tuple(each for each in a if each in b)
        else:
            told[field.name] = min(a, b, key=RANKS.index)
    return Can(**told)


ABLE = {
    "capabilities": {
        "limits": {"max_output_tokens": 200_000},
        "supports": {
            "thinking": True,
            "adaptive_thinking": True,
            "max_thinking_budget": 32_000,
            "reasoning_effort": ["none", "minimal", "low", "medium", "high", "xhigh"],
        },
    }
}
"""A model that takes whatever is asked of it."""


def worded(asking):
    """Leave no text blank, nor a stop sequence: Messages refuse them."""
    messages = [
        replace(message, parts=tuple(map(_worded, message.parts))) for message in asking.messages
    ]
    return replace(asking, messages=tuple(messages), stop=tuple(f"x{s}" for s in asking.stop))


def _worded(part):
    if isinstance(part, Text):
        return replace(part, text=f"x{part.text}")
    if isinstance(part, ToolResult):
        return replace(part, content=tuple(map(_worded, part.content)))
    return part


def alike(asking, pair):
    """Leave out what no two have the same word for: names of formats, and defaults."""
    tools = tuple(replace(tool, strict=bool(tool.strict)) for tool in asking.tools)
    choice, parallel, format_ = asking.tool_choice, asking.parallel_calls, asking.format
    reasoning = asking.reasoning
    if "messages" in pair:
        format_ = format_ and Format(format_.schema)
        if choice is None and parallel is not None:
            choice = ToolChoice("auto")
        if choice is not None and choice.kind == "none":
            parallel = None
        if reasoning is not None and reasoning.effort == "none":
            reasoning = replace(reasoning, wants_summary=False)
    return normal(
        replace(
            asking,
            tools=tools,
            tool_choice=choice,
            parallel_calls=parallel,
            format=format_,
            reasoning=reasoning,
            temperature=None if asking.temperature == 1 else asking.temperature,
            top_p=None if asking.top_p == 1 else asking.top_p,
            max_tokens=asking.max_tokens or ABLE["capabilities"]["limits"]["max_output_tokens"],
        )
    )


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@given(data=st.data())
@law(12)
def test_a_request_goes_there_and_back(pair, data):
    said, spoken = pair
    asking = data.draw(askings(both(*pair)).map(worded))
    asking = ALL[said].read_asking(ALL[said].write_asking(asking))
    there = Translation(PATHS[said], PATHS[spoken], _written(said, asking), ABLE)
    heard = ALL[spoken].read_asking(json.loads(there.body))
    assert alike(heard, pair) == alike(asking, pair)
    back = Translation(PATHS[spoken], PATHS[said], there.body, ABLE)
    again = ALL[said].read_asking(json.loads(back.body))
    assert alike(again, pair) == alike(asking, pair)


def _written(name, asking):
    return json.dumps(ALL[name].write_asking(asking)).encode()


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@given(data=st.data())
@law(20)
def test_an_answer_goes_there_and_back(pair, data):
    said, spoken = pair
    can = both(*pair)
    if "chat" in pair:  # which has words before a no, whatever came first
        can = replace(can, answer_refusals=False)
    answer = data.draw(answers(can))
    raw = json.dumps(ALL[spoken].write_answer(answer)).encode()
    for one, other in ((said, spoken), (spoken, said)):
        raw = translation(one, other).whole(raw)
        heard = normal(ALL[one].read_answer(json.loads(raw)))
        assert heard.parts == normal(answer).parts
        assert (heard.stop, heard.model) == (answer.stop, answer.model)
        assert counted(heard.usage) == counted(answer.usage)
        assert heard.created in {answer.created or NOW, 0 if one == "messages" else NOW}


def translation(said, spoken):
    field = "input" if said == "responses" else "messages"
    body = {"model": "m", field: [{"role": "user", "content": "x"}], "max_tokens": 5}
    return Translation(PATHS[said], PATHS[spoken], json.dumps(body).encode(), now=NOW)


def counted(usage: Usage):
    """What a dialect has to name is 0 where it is not known."""
    return tuple(each or 0 for each in (usage.prompt, usage.completion, usage.cached))


def words_of(events, pair):
    """What is said in a stream, part by part, with its proof, wherever that stands, and its end.

    Messages have no word of their own for a no; and no proof is told of what broke off.
    """
    parts, calls = {}, {}
    for event in events:
        if isinstance(event, CallBegun):
            calls[event.part] = (event.id, event.name)
            parts.setdefault((event.part, "arguments"), "")
        elif isinstance(event, Piece):
            key = (event.part, event.kind)
            parts[key] = parts.get(key, "") + event.text
    told = []
    proof = "".join(text for (_, kind), text in parts.items() if kind == "proof")
    for (part, said), text in sorted(parts.items(), key=lambda item: item[0][0]):
        kind = "text" if said == "refusal" and "messages" in pair else said
        if kind == "arguments":
            told.append((calls[part], text))
        elif kind == "proof":
            continue
        elif told and told[-1][0] == kind:
            told[-1] = (kind, told[-1][1] + text)
        elif text:
            told.append((kind, text))
    last = events[-1]
    if isinstance(last, Broken):
        return told, last.message, last.code
    return told, proof, last.stop, counted(last.usage)


def assert_same(heard, meant, pair):
    """Hear what was meant; of what broke off, Messages do not tell what waited for a call."""
    told, expected = words_of(heard, pair), words_of(meant, pair)
    if isinstance(meant[-1], Broken) and "messages" in pair:
        (told, *end), (expected, *expected_end) = told, expected
        assert end == expected_end
        assert len(told) <= len(expected)
        for (kind, text), (expected_kind, whole) in zip(told, expected, strict=False):
            assert kind == expected_kind
            assert whole.startswith(text)
        return
    assert told == expected


def stream_of(said, spoken):
    return AnswerStream(
        Dialect.of(PATHS[said]), ALL[spoken].EventReader(), ALL[said].EventWriter("m"), NOW
    )


def fed(said, spoken, chunks):
    stream = stream_of(said, spoken)
    told = b"".join(map(stream.feed, chunks)) + stream.end()
    assert stream.is_over
    return told


def heard_in(name, raw):
    reader = ALL[name].EventReader()
    return normal(reader.feed(raw) + reader.end())


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@given(data=st.data(), sizes=st.lists(st.integers(1, 900), min_size=1, max_size=4))
@law(20)
def test_a_stream_goes_there_and_back_wherever_it_is_cut(pair, data, sizes):
    said, spoken = pair
    events = data.draw(streams(both(*pair)))
    raw = ALL[spoken].EventWriter("m").write(events)
    there = fed(said, spoken, [raw])
    assert fed(said, spoken, pieces(raw, sizes)) == there
    assert_same(heard_in(said, there), events, pair)
    back = fed(spoken, said, pieces(there, sizes))
    assert_same(heard_in(spoken, back), events, pair)


def pieces(raw, sizes):
    found, at = [], 0
    while at < len(raw):
        size = sizes[len(found) % len(sizes)]
        found.append(raw[at : at + size])
        at += size
    return found


SAID = (
    Begun("r1", "gpt-4o"),
    Piece(0, "thinking", "h\u00e4"),
    Piece(0, "thinking", "m\U0001f680"),
    Piece(0, "proof", "xyz"),
    Piece(1, "text", '\u00e9"\n\ndata: [DONE]\n\n\U0001f600\u6f22'),
    Piece(2, "refusal", "no \u2028"),
    CallBegun(3, "call_1", "weather"),
    Piece(3, "arguments", '{"a":'),
    Piece(3, "arguments", '"\U0001f680"}'),
    CallBegun(4, "call_2", "time"),
    Piece(4, "arguments", "{}"),
)  # fmt: skip
"""Every kind of event that an answer has; letters of one to four bytes."""
ENDS = (Stopped("tool", Usage(9, 4)), Stopped("length", Usage(9, 4)), Broken("it broke", "code"))


@pytest.mark.parametrize("end", ENDS, ids=["tool", "length", "broken"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_event_cut_at_every_byte(pair, end):
    said, spoken = pair
    events = (*SAID, end)
    raw = ALL[spoken].EventWriter("m").write(events)
    there = fed(said, spoken, [raw])
    assert words_of(heard_in(said, there), pair) == words_of(events, pair)
    assert fed(said, spoken, pieces(raw, [1])) == there
    for number, chunks in enumerate(cut_everywhere(raw)):
        if number % 29 == 0:  # each is a stream of its own; the readers' own tests try them all
            assert fed(said, spoken, chunks) == there


@pytest.mark.parametrize("said", PATHS)
def test_the_time_of_an_answer_that_names_none_is_now(said):
    spoken = "chat" if said == "messages" else "messages"
    events = (Begun("r1", "m"), Piece(0, "text", "hi"), Stopped("end", Usage(1, 2)))
    raw = ALL[spoken].EventWriter("m").write(events)
    begun, *_ = heard_in(said, fed(said, spoken, [raw]))
    assert begun.created == (0 if said == "messages" else NOW)
    if spoken == "messages":
        stream = translation(said, spoken).stream()
        begun, *_ = heard_in(said, stream.feed(raw))
        assert begun.created == NOW


def test_what_came_before_an_event_that_cannot_be_read_is_told():
    raw = ALL["chat"].EventWriter("m").write((Begun("r1", "m"), Piece(0, "text", "hi")))
    stream = stream_of("messages", "chat")
    told = stream.feed(raw + b"data: nonsense\n\n" + raw)
    assert stream.is_over
    *before, last = heard_in("messages", told)
    assert before[1:] == [Piece(0, "text", "hi")]
    assert last.message == "the answer cannot be translated: a chunk that is not JSON"
    assert stream.feed(raw) == b""


def test_an_event_without_an_end_is_an_error(monkeypatch):
    stream = stream_of("messages", "chat")
    with monkeypatch.context() as patched:
        patched.setattr(sse, "MAX_EVENT", 100)
        told = stream.feed(b"data: " + b"x" * 200)
    assert "more than 100 bytes" in heard_in("messages", told)[-1].message


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_stream_that_stops_is_an_error_and_no_end(pair):
    said, spoken = pair
    stream = translation(said, spoken).stream()
    told = stream.end()
    assert isinstance(heard_in(said, told)[-1], Broken)
    assert stream.end() == b""
    stream = translation(said, spoken).stream()
    failure = Failure(ErrorClass.TEMPORARY, "upstream_cut", "the answer was cut off")
    told = stream.broken(failure)
    assert heard_in(said, told)[-1].code == "upstream_cut"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nonsense", b'{"model":"m","model":"n"}', b"[" * 100_000, b'"\xff"',
     b'{"messages": [' + b"{}," * 500_001 + b"{}]}"],
    ids=["empty", "list", "nonsense", "twice", "deep", "bytes", "many"],
)  # fmt: skip
def test_what_is_no_request_is_said_to_be_none(body):
    with pytest.raises(UntranslatableError):
        Translation("/v1/messages", "/chat/completions", body)


def test_half_a_surrogate_pair_gets_through():
    body = rb'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"\ud83d"}]}'
    translated = Translation("/v1/messages", "/chat/completions", body)
    assert rb"\ud83d" in translated.body


def test_messages_are_told_what_the_model_can():
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    entry = {"capabilities": {"limits": {"max_output_tokens": 4321}}}
    translated = Translation("/chat/completions", "/v1/messages", body, entry)
    assert json.loads(translated.body)["max_tokens"] == 4321


def test_what_the_model_does_not_take_is_not_sent():
    body = {
        "model": "gpt-4.1",
        "max_tokens": 32_000,
        "thinking": {"type": "enabled", "budget_tokens": 31_999},
        "messages": [{"role": "user", "content": "x"}],
    }
    entry = {
        "capabilities": {
            "limits": {"max_output_tokens": 16_384},
            "supports": {"tool_calls": True, "parallel_tool_calls": True},
        }
    }
    raw = json.dumps(body).encode()
    translated = Translation("/v1/messages", "/chat/completions", raw, entry)
    assert json.loads(translated.body) == {
        "model": "gpt-4.1",
        "max_tokens": 16_384,
        "messages": [{"role": "user", "content": "x"}],
    }
