"""Responses: what is written is read again with the same meaning, whatever is said."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.dialects.meaning import (
    Asking,
    Begun,
    CallBegun,
    Image,
    Piece,
    Stopped,
    UntranslatableError,
)
from brokerd.core.dialects.responses import (
    EventReader,
    EventWriter,
    read_answer,
    read_asking,
    write_answer,
    write_asking,
)
from fakes.conversations import Can, answers, askings, law, normal, streams


CAN = Can(
    result_errors=False,
    budgets=False,
    empty_schema=False,
    stops=False,
    usage_wish=False,
    answer_stops=("end", "length", "tool", "filter"),
    stop_sequence=False,
    half_usage=False,
    early_usage=False,
    alternating="calls",
)


def told_usage(usage):
    """What is not known is 0 here, if anything is known."""
    if usage.prompt is None:
        return usage
    counts = ("cached", "cache_written", "reasoning")
    return replace(usage, **{name: getattr(usage, name) or 0 for name in counts})


def told(value):
    """The same as this dialect tells it."""
    if isinstance(value, Asking):
        return replace(
            value,
            tools=tuple(replace(tool, strict=bool(tool.strict)) for tool in value.tools),
            temperature=None if value.temperature == 1 else value.temperature,
            top_p=None if value.top_p == 1 else value.top_p,
        )
    value = replace(value, id=f"resp_{value.id}") if hasattr(value, "id") else value
    return replace(value, usage=told_usage(value.usage))


def through_json(value):
    return json.loads(json.dumps(value))


@law(25)
@given(askings(CAN))
def test_askings(asking):
    again = read_asking(through_json(write_asking(asking)))
    assert normal(again) == told(normal(asking))


@law(30)
@given(answers(CAN))
def test_answers(answer):
    again = read_answer(through_json(write_answer(answer)))
    assert normal(again) == told(normal(answer))


def read(raw, sizes=(2**20,)):
    reader, events, at = EventReader(), [], 0
    while at < len(raw):
        size = sizes[len(events) % len(sizes)]
        events += reader.feed(raw[at : at + size])
        at += size
    return events + reader.end()


def written(events, **options):
    """Written one at a time, as they come."""
    writer = EventWriter("asked", **options)
    return b"".join(writer.write([event]) for event in events)


@law(30)
@given(streams(CAN), st.lists(st.integers(1, 700), min_size=1, max_size=4))
def test_streams(events, sizes):
    events = list(events)
    raw = written(events)
    expected = [
        told(event) if isinstance(event, Begun | Stopped) else event for event in normal(events)
    ]
    assert normal(read(raw)) == expected
    assert normal(read(raw, sizes)) == expected


@law(25)
@given(streams(CAN))
def test_every_byte_may_be_a_read_of_its_own(events):
    raw = written(events)
    assert read(raw, [1]) == read(raw)


@law(30)
@given(streams(CAN))
def test_a_stream_ends_with_what_the_whole_answer_would_be(events):
    events = list(events)
    raw = written(events)
    *_, last = (json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: "))
    if not isinstance(events[-1], Stopped):
        assert last["type"] == "response.failed"
        return
    answer = read_answer(last["response"])
    assert through_json(write_answer(answer)) == last["response"]


@law(30)
@given(streams(CAN))
def test_ids_places_and_numbers_of_a_stream(events):
    raw = written(events)
    told = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]
    names = [line[7:].decode() for line in raw.split(b"\n") if line.startswith(b"event: ")]
    assert names == [event["type"] for event in told]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    ids, done = {}, set()
    for event in told:
        if "output_index" not in event:
            continue
        index = event["output_index"]
        id_ = event.get("item_id") or event["item"]["id"]
        if event["type"] == "response.output_item.added":
            assert index == len(ids)
            ids[index] = id_
        assert ids[index] == id_
        assert index not in done
        if event["type"] == "response.output_item.done":
            done.add(index)
    assert len(set(ids.values())) == len(ids)
    last = told[-1]
    if last["type"] != "response.failed":
        assert done == set(ids)
        assert [item["id"] for item in last["response"]["output"]] == [
            ids[i] for i in range(len(ids))
        ]
    responses = [event["response"] for event in told if "response" in event]
    for name in ("id", "model", "created_at"):
        assert len({response[name] for response in responses}) == 1


@law(30)
@given(answers(Can()))
def test_what_has_no_words_here_is_the_nearest(answer):
    again = read_answer(through_json(write_answer(answer)))
    assert normal(again).parts == normal(answer).parts
    nearest = {"sequence": "end", "pause": "length"}
    assert again.stop == nearest.get(answer.stop, answer.stop)


@law(25)
@given(askings(Can(stops=True)))
def test_any_asking_is_written_or_refused_for_its_stop_sequences(asking):
    if asking.stop:
        with pytest.raises(UntranslatableError, match="stop sequences"):
            write_asking(asking)
    else:
        body = write_asking(asking)
        assert body["store"] is False
        assert body["include"] == ["reasoning.encrypted_content"]
        assert None not in body.values()
        images = [p for m in asking.messages for p in m.parts if isinstance(p, Image)]
        assert json.dumps(body).count('"input_image"') >= len(images)


@law(30)
@given(streams(replace(CAN, alternating="all")))
def test_words_and_calls_stay_whole_however_parts_alternate(events):
    def told(events):
        found = {}
        for event in events:
            if isinstance(event, Piece):
                key = event.part if event.kind == "arguments" else event.kind
                found[key] = found.get(key, "") + event.text
        calls = [event for event in events if isinstance(event, CallBegun)]
        words = [found.get(kind) for kind in ("text", "refusal", "thinking")]
        return words, [(call.id, call.name, found.get(call.part)) for call in calls]

    assert told(read(written(events))) == told(events)
