"""Server-sent events: the same whatever the line ends are and wherever a read was cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.dialects import sse as module
from brokerd.core.dialects.sse import SseEvent, SseReader, TooLongError, sse
from fakes.conversations import cut_everywhere


def read(chunks):
    reader = SseReader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", []),
        (b"data: a\n\n", [("", b"a")]),
        (b"data:a\n\n", [("", b"a")]),
        (b"data:  a \n\n", [("", b" a ")]),
        (b"data\n\n", [("", b"")]),
        (b"data:\n\n", [("", b"")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"data: a:b\n\n", [("", b"a:b")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", b"a"), ("", b"b")]),
        (b"data: a\nevent:x\n\n", [("x", b"a")]),
        (b"event: x\nevent: y\ndata: a\n\n", [("y", b"a")]),
        (b"event: x\n\ndata: a\n\n", [("", b"a")]),
        (b": hello\n\n:\n\ndata: a\n: more\n\n", [("", b"a")]),
        (b"id: 7\nretry: 10\nDATA: b\ndatum: c\n data: d\ndata: a\n\n", [("", b"a")]),
        (b"\n\n\n\ndata: a\n\n\n", [("", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("", b"a")]),
        (b"data: a\n\ndata: b\n", [("", b"a")]),
        (b"data: a\n\ndata: b", [("", b"a")]),
        (
            b"data: \xf0\x9f\x98\x80\x85\xe2\x80\xa8\x0b\x0c\x1c\n\n",
            [("", b"\xf0\x9f\x98\x80\x85\xe2\x80\xa8\x0b\x0c\x1c")],
        ),
        (b"event: \xff\ndata: a\n\n", [("\ufffd", b"a")]),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_wherever_they_are_cut(raw, expected, end):
    raw = raw.replace(b"\n", end)
    expected = [SseEvent(*each) for each in expected]
    for chunks in cut_everywhere(raw):
        assert read(chunks) == expected


def test_line_ends_of_all_kinds_in_one_stream():
    raw = b"data: a\r\ndata: b\n\rdata: c\r\r\ndata: d\n\r\n"
    for chunks in cut_everywhere(raw):
        assert read(chunks) == [("", b"a\nb"), ("", b"c"), ("", b"d")]


def test_an_empty_read_tells_nothing():
    assert read([b"data: a\r", b"", b"\n", b"", b"\r", b"\n", b"data: b\r\n\r\n"]) == [
        ("", b"a"),
        ("", b"b"),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "message_stop", "é"]),
            st.binary(max_size=20).filter(lambda raw: b"\n" not in raw and b"\r" not in raw),
        ),
        max_size=4,
    ),
    st.lists(st.integers(0, 100), max_size=5),
)
def test_what_is_written_is_read(events, cuts):
    raw = b"".join(sse(data, name) for name, data in events)
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    chunks = [raw[a:b] for a, b in itertools.pairwise(places)]
    assert read(chunks) == events


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"data: ", *[b"x" * 10] * 10], id="one line"),
        pytest.param([b"data: xxxxxxxxx\n"] * 7, id="many lines"),
        pytest.param([b"data:\n"] * 21, id="many empty lines"),
        pytest.param([b"data:" + b"x" * 200 + b"\n\n"], id="whole at once"),
        pytest.param([b"event:" + b"x" * 200 + b"\n"], id="a name"),
        pytest.param([b":" + b"x" * 50] * 3, id="a comment without an end"),
    ],
)
def test_too_long_an_event(monkeypatch, chunks):
    monkeypatch.setattr(module, "MAX_EVENT", 100)
    with pytest.raises(TooLongError):
        read(chunks)


def test_many_events_are_not_too_long(monkeypatch):
    monkeypatch.setattr(module, "MAX_EVENT", 100)
    raw = b"event: x\ndata: xxxxxxxxx\n\n: comment\n\n"
    assert len(read([raw] * 50)) == 50
    assert len(read([raw * 50])) == 50
