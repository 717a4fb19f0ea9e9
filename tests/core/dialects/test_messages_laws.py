"""Messages says what was meant: whatever it writes, it reads as the same again."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Format,
    Message,
    Piece,
    Reasoning,
    Stopped,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.messages import (
    EventReader,
    EventWriter,
    read_answer,
    read_asking,
    write_answer,
    write_asking,
)
from brokerd.core.dialects.messages.telling import DEFAULT_MAX_TOKENS
from tests.fakes.conversations import (
    Can,
    answers,
    askings,
    cut_everywhere,
    law,
    normal,
    streams,
)


ASKABLE = Can(
    any_json=False,
    efforts=("none", "low", "medium", "high", "xhigh"),
    empty_schema=False,
    format_strict=False,
    format_description=False,
    image_detail=False,
    refusals=False,
    thoughts_without_proof=False,
    usage_wish=False,
)
ANSWERABLE = Can(answer_refusals=False, created=False)


def is_blank(part):
    return isinstance(part, Text) and not part.text.strip()


def as_messages(asking):
    """Say the same as Messages would: what its docstring tells is lost."""
    system = [p for m in asking.messages if m.role == "system" for p in m.parts if not is_blank(p)]
    messages = [Message("system", tuple(system))] if system else []
    for message in asking.messages:
        parts = tuple(part for part in map(tidy, message.parts) if not is_blank(part))
        if message.role != "system" and parts:
            messages.append(Message(message.role, parts))
    messages = normal(replace(asking, messages=tuple(messages))).messages
    messages = [Message(m.role, results_first(m.parts)) for m in messages]
    choice, parallel = asking.tool_choice, asking.parallel_calls
    if not asking.tools and (choice is None or choice.kind in {"auto", "none"}):
        choice = parallel = None
    if choice is None and parallel is not None:
        choice = ToolChoice("auto")
    if choice is not None and choice.kind == "none":
        parallel = None
    reasoning = asking.reasoning
    if reasoning is not None and reasoning.effort == "none":
        reasoning = Reasoning("none")
    said = [m.parts for m in messages if m.role == "assistant"][-1:]
    calls = [part for parts in said for part in parts if isinstance(part, ToolCall)]
    if calls and reasoning and reasoning.budget and not isinstance(said[0][0], Thinking):
        reasoning = None
    return replace(
        asking,
        messages=tuple(messages),
        tools=tuple(replace(tool, strict=tool.strict or None) for tool in asking.tools),
        tool_choice=choice,
        parallel_calls=parallel,
        max_tokens=asking.max_tokens or DEFAULT_MAX_TOKENS,
        format=asking.format and Format(asking.format.schema),
        reasoning=reasoning,
    )


def tidy(part):
    """Leave out the blanks in a result that has more than one text."""
    if isinstance(part, ToolResult) and len(part.content) > 1:
        return replace(part, content=tuple(p for p in part.content if not is_blank(p)))
    return part


def results_first(parts):
    results = [part for part in parts if isinstance(part, ToolResult)]
    return (*results, *(part for part in parts if not isinstance(part, ToolResult)))


@law(25)
@given(askings(ASKABLE))
def test_an_asking_is_read_as_it_was_written(asking):
    expected = as_messages(asking)
    try:
        told = write_asking(asking)
    except UntranslatableError:
        roles = [m.role for m in expected.messages if m.role != "system"]
        assert not roles or roles[-1] == "assistant" or any(not s.strip() for s in asking.stop)
        return
    read = read_asking(told)
    assert read == expected
    assert read_asking(write_asking(read)) == read
    roles = [message["role"] for message in told["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))
    assert set(roles) <= {"user", "assistant"}


@law(25)
@given(askings(Can()))
def test_whatever_is_asked_is_written_or_refused(asking):
    try:
        told = write_asking(asking)
    except UntranslatableError:
        return
    assert read_asking(write_asking(read_asking(told))) == read_asking(told)


def counted(usage):
    """Fill in what Messages requires."""
    prompt = max(usage.prompt or 0, (usage.cached or 0) + (usage.cache_written or 0))
    return replace(usage, prompt=prompt, completion=usage.completion or 0)


@law(40)
@given(answers(ANSWERABLE))
def test_an_answer_is_read_as_it_was_written(answer):
    expected = replace(normal(answer), usage=counted(answer.usage))
    assert read_answer(write_answer(answer)) == expected


def heard(events):
    """Put a stream together as a whole answer, and how it began."""
    parts: dict[int, list] = {}
    begun = stopped = None
    for event in events:
        match event:
            case Begun():
                begun = event
            case CallBegun():
                parts[event.part] = [event.id, event.name, "arguments", ""]
            case Piece():
                part = parts.setdefault(event.part, [])
                if not part or part[-2] != event.kind:
                    part += [event.kind, ""]
                part[-1] += event.text
            case _:
                stopped = event
    return begun, [parts[number] for number in sorted(parts)], stopped


def expected_events(events):
    """Say which events Messages gives back, neighbouring pieces put together."""
    begun, *rest, last = events
    usage = begun.usage if begun.usage.prompt else Usage()
    if isinstance(last, Stopped):
        known = {key: n for key, n in vars(last.usage).items() if n is not None}
        last = replace(last, usage=counted(replace(begun.usage, **known)))
    else:  # a type that clients know
        last = replace(last, type="api_error")
    return normal([replace(begun, usage=usage), *rest, last])


def rendered(events):
    writer = EventWriter("asked")
    return b"".join(writer.write([event]) for event in events)


def read(chunks):
    reader = EventReader()
    found = [event for chunk in chunks for event in reader.feed(chunk)]
    return found + reader.end()


IN_ORDER = replace(ANSWERABLE, alternating="none", late_proof=False)


@law(40)
@given(streams(IN_ORDER), st.data())
def test_a_stream_is_read_as_it_was_written(events, data):
    raw = rendered(events)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=6)) | {0, len(raw)})
    chunks = [raw[one:other] for one, other in itertools.pairwise(cuts)]
    found = normal(read(chunks))
    expected = expected_events(events)
    if isinstance(expected[-1], Broken):
        # What still waited for its turn is not told: proofs, and all after a call cut short.
        expected, expected_end = expected[:-1], expected[-1]
        assert found[-1] == expected_end
        assert_begins(heard(found)[1], heard(expected)[1])
        return
    assert found == expected


def assert_begins(told, meant):
    """Check that nothing was told but what was meant, as far as it went."""
    assert len(told) <= len(meant)
    for number, part in enumerate(told):
        assert meant[number][: len(part) - 1] == part[:-1]
        assert meant[number][len(part) - 1].startswith(part[-1])


@law(40)
@given(streams(replace(ANSWERABLE, alternating="calls", late_proof=False)))
def test_calls_that_alternate_come_out_one_after_the_other(events):
    if isinstance(events[-1], Broken):
        return
    begun, parts, stopped = heard(read([rendered(events)]))
    expected = expected_events(events)
    assert begun == expected[0]
    assert stopped == expected[-1]
    assert parts == heard(expected)[1]


@law(40)
@given(streams(Can()))
def test_nothing_is_lost_of_parts_that_alternate_in_any_way(events):
    if isinstance(events[-1], Broken):
        return
    blocks, is_open = 0, False
    raw = rendered(events)
    for event in raw.split(b"\n\n")[:-1]:
        name, data = event.split(b"\n")
        if name == b"event: content_block_start":
            assert not is_open
            assert b'"index":%d' % blocks in data
            is_open = True
        elif name == b"event: content_block_stop":
            assert b'"index":%d' % blocks in data
            is_open, blocks = False, blocks + 1
    assert not is_open

    def said(events, kinds):
        return sorted("".join(e.text for e in events if isinstance(e, Piece) and e.kind in kinds))

    found = read([raw])
    for kinds in ({"text", "refusal"}, {"thinking"}, {"proof"}, {"arguments"}):
        assert said(found, kinds) == said(events, kinds)


WHOLE = (
    Begun("msg_1", "m", usage=Usage(prompt=9)),
    Piece(0, "thinking", "é漢"),
    Piece(0, "proof", "c2ln"),
    Piece(1, "text", "👩‍🚀 data: \n\n"),
    CallBegun(2, "call_1", "look"),
    Piece(2, "arguments", '{"ü":1}'),
    Stopped("tool", Usage(9, 4)),
)


def test_bytes_may_be_cut_everywhere():
    raw = rendered(WHOLE)
    for chunks in cut_everywhere(raw):
        assert normal(read(chunks)) == list(WHOLE)


@pytest.mark.parametrize("places", [0, 1])
def test_a_stream_cut_off_is_never_a_clean_end(places):
    raw = rendered(WHOLE)
    end = raw.index(b"event: message_delta")
    for place in range(places, end, 7):
        assert isinstance(read([raw[:place]])[-1], Broken)
