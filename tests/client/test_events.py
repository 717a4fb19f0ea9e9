"""Server-sent events: any way of cutting the bytes gives the same events."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_broker import InternalError
from copilot_broker.calls import events
from copilot_broker.calls.events import EventDecoder, EventReader


SSE = {"content-type": "text/event-stream; charset=utf-8"}


def payloads(chunks) -> list[bytes]:
    decoder = EventDecoder()
    found = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return found + decoder.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b": ping\n\ndata: a\n: ping\ndata: b\n\n", [b"a\nb"]),
        (b"event: x\nid: 1\nretry: 3\ndata: a\n\n", [b"a"]),
        (b"event: nothing\n\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data\n\n", [b""]),
        (b"database: a\n\n", []),
        (b"data: a\n\ndata: without its empty line", [b"a", b"without its empty line"]),
        (b"data: a\n\ndata: without\n", [b"a", b"without"]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
@given(places=st.lists(st.integers(0, 200), max_size=8))
def test_stream_means_the_same_however_it_is_cut(stream, expected, places):
    assert payloads(cut(stream, places)) == expected
    assert payloads([bytes([byte]) for byte in stream]) == expected


OBJECTS = st.lists(
    st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3), max_size=5
)


@given(
    objects=OBJECTS,
    ends=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    done=st.booleans(),
    places=st.lists(st.integers(0, 5000), max_size=20),
)
def test_objects_come_out_as_they_went_in(objects, ends, done, places):
    lines = [b"data: " + json.dumps(value).encode() + ends + ends for value in objects]
    if done:
        lines += [b": bye" + ends, b"data: [DONE]" + ends + ends, b"data: {}" + ends + ends]
    reader = EventReader(SSE)
    found = [event for chunk in cut(b"".join(lines), places) for event in reader.feed(chunk)]
    assert found + reader.finish() == objects
    assert reader.done is done


def test_what_is_no_object_is_passed_over_and_what_is_no_json_is_named():
    reader = EventReader(SSE)
    assert reader.feed(b'data: null\n\ndata:\n\ndata: 1\n\ndata: {"a": 1}\n\n') == [{"a": 1}]
    with pytest.raises(InternalError, match="bad_event"):
        reader.feed(b"data: {secret\n\n")


def test_json_that_is_no_stream_is_one_event():
    reader = EventReader({"content-type": "application/json"})
    assert reader.feed(b'{"a":') == []
    assert reader.feed(b" 1}") == []
    assert reader.finish() == [{"a": 1}]


def test_event_without_end_is_bounded(monkeypatch):
    monkeypatch.setattr(events, "MAX_EVENT", 1000)
    decoder = EventDecoder()
    for _ in range(100):
        assert decoder.feed(b": comments do not count\n" * 10 + b"data: a\n\n") == [b"a"]
    decoder.feed(b"data: " + b"x" * 900)
    with pytest.raises(InternalError, match="event_too_long"):
        decoder.feed(b"x" * 200)
