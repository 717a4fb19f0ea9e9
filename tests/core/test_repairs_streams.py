"""The repairs of streams: each on and off, cut at every byte; sound ones pass as the same objects."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.repairs import NAMES, sse_events
from brokerd.core.repairs.answering import answer_repairs
from brokerd.simulator import chat, quirks, responses
from brokerd.simulator.bending import anthropic_events
from brokerd.simulator.settings import Settings
from fakes.simulated_chat import events, spoken


CHAT, RESPONSES, MESSAGES = "/chat/completions", "/responses", "/v1/messages"
SAID = chat.Said("sim-chat", ["Hello", " é", ' "object":', "\n\n", "world"], 7)
WORDS = 'Hello é "object":\n\nworld'
TOOLS = b'{"tools":[{}],"stream":true}'
PLAIN = b'{"stream":true}'


def writes(*names, path=CHAT):
    """Each event of a stream with these quirks, as bytes."""
    if path == CHAT:
        told = chat.events(SAID)
    elif path == RESPONSES:
        told = responses.events(SAID, {})
    else:
        told = anthropic_events(chat.events(SAID))
    bent = quirks.bend_events(told, names, is_chat=path == CHAT)
    return chat.sse_writes(bent, Settings(), crlf="crlf" in names)


def run(chunks, *, path=CHAT, enabled=NAMES, request=TOOLS):
    """Feed chunks: (what came of each and at the end, names of repairs)."""
    repairs = answer_repairs(path, enabled, request)
    stream = repairs.stream()
    told = [stream.feed(each) for each in chunks] + [stream.end()]
    return told, repairs.fired


def mended(*names, path=CHAT, **more):
    """The events of a stream with these quirks after repair: (data, names of repairs)."""
    told, fired = run(writes(*names, path=path), path=path, **more)
    return events(b"".join(told).decode()), fired


def same(told, chunks):
    *chunked, end = told
    return end == b"" and all(a is b for a, b in zip(chunked, chunks, strict=True))


SOUND = [
    (),
    ("crlf",),
    ("comments",),
    ("tool_repeat",),
    ("annotations", "usage_details"),
    ("references", "errors", "confirmation", "function_role"),
    ("error_midstream",),
    ("no_done", "finish_content_filter"),
]


@pytest.mark.parametrize("request_", [TOOLS, PLAIN])
@pytest.mark.parametrize("names", SOUND)
def test_a_sound_chat_stream_is_the_same_objects(names, request_):
    chunks = writes(*names)
    told, fired = run(chunks, request=request_)
    assert same(told, chunks)
    assert fired == []


@pytest.mark.parametrize("names", SOUND)
def test_a_sound_chat_stream_in_one_read_is_the_same_object(names):
    chunks = [b"".join(writes(*names))]
    assert same(run(chunks)[0], chunks)


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("names", [(), ("crlf",), ("comments",)])
def test_a_sound_stream_cut_anywhere_is_the_same_bytes(path, names):
    whole = b"".join(writes(*names, path=path))
    for at in range(1, len(whole)):
        told, fired = run([whole[:at], whole[at:]], path=path)
        assert b"".join(told) == whole
        assert fired == []
    assert b"".join(run([bytes([each]) for each in whole], path=path)[0]) == whole


def test_once_known_to_be_sound_cut_events_pass_as_they_come():
    whole = b"".join(writes())
    first = whole.index(b"\n\n") + 2
    chunks = [whole[: first + 9], *(whole[at : at + 7] for at in range(first + 9, len(whole), 7))]
    assert same(run(chunks, request=PLAIN)[0], chunks)


def test_what_is_held_back_ends_with_the_event():
    whole = b"".join(writes())
    first = whole.index(b"\n\n") + 2
    stream = answer_repairs(CHAT, NAMES, TOOLS).stream()
    assert stream.feed(whole[: first - 1]) == b""
    assert stream.feed(whole[first - 1 : first + 5]) == whole[:first]
    assert stream.feed(whole[first + 5 :]) == whole[first:]


def test_streams_of_which_nothing_changes_are_not_looked_at():
    assert answer_repairs(MESSAGES, NAMES, TOOLS).stream() is None
    assert answer_repairs("/completions", NAMES, TOOLS).stream() is None
    assert answer_repairs(CHAT, {"stable_ids"}, TOOLS).stream() is None
    assert answer_repairs(RESPONSES, set(NAMES) - {"stable_ids"}, TOOLS).stream() is None


# Each repair.


def test_empty_choices_are_dropped():
    told, fired = mended("prompt_filter")
    assert all(each["choices"] for each in told[:-1])
    assert spoken(told) == WORDS
    assert fired == ["empty_choices"]


def test_usage_without_choices_is_kept():
    usage = b'data: {"choices":[],"usage":{"total_tokens":1}}\n\n'
    for chunks in ([usage, *writes()], [*writes(), usage]):
        assert same(run(chunks)[0], chunks)


def test_choices_null_is_kept():
    chunks = writes("references", "prompt_filter")
    told, _ = run(chunks)
    assert b"copilot_references" in b"".join(told)


def test_object_and_index_are_added():
    told, fired = mended("bare")
    assert told == events(b"".join(writes()).decode())
    assert fired == ["chunk_object"]


def test_a_second_choice_becomes_part_of_the_first():
    told, fired = mended("two_choices")
    choices = [choice for each in told[:-1] for choice in each["choices"]]
    assert {each["index"] for each in choices} == {0}
    reasons = [each["finish_reason"] for each in choices if each["finish_reason"]]
    assert set(reasons) == {"tool_calls"}
    assert spoken(told) == WORDS
    assert fired == ["merged_choices"]


def test_a_second_bare_choice_becomes_part_of_the_first():
    told, fired = mended("two_choices", "bare", "prompt_filter", "comments", "crlf")
    choices = [choice for each in told[:-1] for choice in each["choices"]]
    assert {each["index"] for each in choices} == {0}
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert {"empty_choices", "chunk_object"} <= set(fired)


def call(choice, number, **more):
    calls = [{"index": number, **more}]
    return {"index": choice, "delta": {"tool_calls": calls}, "finish_reason": None}


def chunk(*choices):
    body = {"object": "chat.completion.chunk", "choices": choices}
    return b"data: %b\n\n" % json.dumps(body).encode()


def numbers(told):
    return [
        each["index"]
        for data in events(b"".join(told).decode())
        for choice in data["choices"]
        for each in choice["delta"].get("tool_calls", ())
    ]


def test_calls_of_several_choices_are_numbered_anew():
    chunks = [
        chunk(call(0, 0, id="a", function={"name": "f"})),
        chunk(call(0, 1, id="b", function={"name": "f"})),
        chunk(call(0, 1, function={"arguments": "{}"})),
        chunk(call(1, 0, id="c", function={"name": "f"})),
        chunk(call(1, 0, function={"arguments": "{}"})),
        chunk(call(2, 0, id="d", function={"name": "f"})),
        chunk(call(0, 1, function={"arguments": "{}"})),
    ]
    told, fired = run(chunks)
    assert numbers(told) == [0, 1, 1, 2, 2, 3, 1]
    assert fired == ["merged_choices"]
    assert told[0] is chunks[0]


def test_parallel_calls_of_one_choice_are_the_same_objects():
    chunks = [chunk(call(0, number, id="x")) for number in (0, 1, 2, 1, 15)]
    chunks.append(chunk({"index": 0, "delta": {}, "finish_reason": "stop"}))
    assert same(run(chunks)[0], chunks)


def test_two_choices_in_one_chunk_become_one():
    text = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    told, _ = run([chunk(text, call(1, 0, id="c"))])
    [data] = events(b"".join(told).decode())
    [choice] = data["choices"]
    assert choice["delta"]["content"] == "a"
    assert choice["delta"]["tool_calls"][0]["id"] == "c"


@pytest.mark.parametrize("request_", [PLAIN, b'{"tools":[{}],"n":2}'])
def test_choices_stay_where_no_tools_are_or_several_were_asked_for(request_):
    chunks = writes("two_choices")
    assert same(run(chunks, request=request_)[0], chunks)


def test_anthropics_stream_becomes_openais():
    told, fired = mended(
        "anthropic", request=b'{"model":"m","stream_options":{"include_usage": true}}'
    )
    assert told[-1] == "[DONE]"
    assert spoken(told) == WORDS
    reasons = [c["finish_reason"] for each in told[:-1] for c in each["choices"]]
    assert [each for each in reasons if each] == ["stop"]
    assert {each["object"] for each in told[:-1]} == {"chat.completion.chunk"}
    assert told[-2]["usage"]["prompt_tokens"] == 7
    assert fired == ["anthropic_chat"]


def test_anthropics_stream_that_cannot_be_read_ends_in_an_error():
    first, *_ = writes("anthropic")
    told, _ = run([first, b'event: x\ndata: {"type":"message_delta","delta":7}\n\n', first])
    assert "error" in events(b"".join(told).decode())[-1]


def ids(told):
    """Every id of a responses stream: those of items, those of the response."""
    items, own = [], []
    for each in told:
        items += [each["item_id"]] if "item_id" in each else []
        items += [each["item"]["id"]] if "item" in each else []
        if "response" in each:
            own.append(each["response"]["id"])
            items += [item["id"] for item in each["response"]["output"]]
    return items, own


def test_ids_of_responses_stay_what_they_were_first():
    before, _ = mended("unstable_ids", path=RESPONSES, enabled={"stable_ids"})
    items, own = ids(before)
    assert len(items) > 8
    assert set(items) == {f"msg_{SAID.id.removeprefix('chatcmpl-')}-2"}
    assert set(own) == {f"resp_{SAID.id.removeprefix('chatcmpl-')}-0"}


def test_only_the_ids_are_changed():
    stable, fired = mended("unstable_ids", path=RESPONSES)
    assert fired == ["stable_ids"]
    sound = json.dumps(events(b"".join(writes(path=RESPONSES)).decode()))
    [msg], [resp] = (set(each) for each in ids(stable))
    text = json.dumps(stable).replace(msg, msg[:-2]).replace(resp, resp[:-2])
    assert text == sound


def test_only_items_may_change_their_ids():
    chunks = writes("unstable_ids", path=RESPONSES)
    steady = [each.replace(b'-1"', b'-0"') for each in chunks]  # in_progress as created
    told, fired = run(steady, path=RESPONSES)
    items, _ = ids(events(b"".join(told).decode()))
    assert len(set(items)) == 1
    assert fired == ["stable_ids"]


def test_several_items_keep_their_own_ids():
    def item(kind, place, name, **more):
        body = {"type": f"response.{kind}", "output_index": place, **more}
        if name:
            body["item"] = {"id": name, "type": "reasoning"}
        return b"data: %b\n\n" % json.dumps(body).encode()

    chunks = [
        item("output_item.added", 0, "a1"),
        item("output_item.done", 0, "a2"),
        item("output_item.added", 1, "b1"),
        item("reasoning_summary_text.delta", 1, "", item_id="b2", delta="x"),
        item("output_item.done", 1, "b3"),
    ]
    told, _ = run(chunks, path=RESPONSES)
    assert ids(events(b"".join(told).decode()))[0] == ["a1", "a1", "b1", "b1", "b1"]
    assert told[0] is chunks[0]


def test_a_sound_responses_stream_is_the_same_objects():
    for names in ((), ("comments",), ("crlf",), ("error_midstream",)):
        chunks = writes(*names, path=RESPONSES)
        told, fired = run(chunks, path=RESPONSES)
        assert same(told, chunks)
        assert fired == []


REPAIRED = [
    ("empty_choices", CHAT, ("prompt_filter",)),
    ("chunk_object", CHAT, ("bare",)),
    ("merged_choices", CHAT, ("two_choices",)),
    ("anthropic_chat", CHAT, ("anthropic",)),
    ("stable_ids", RESPONSES, ("unstable_ids",)),
]


@pytest.mark.parametrize(("name", "path", "names"), REPAIRED)
def test_switched_off_it_is_the_same_stream(name, path, names):
    chunks = writes(*names, path=path)
    repairs = answer_repairs(path, set(NAMES) - {name}, TOOLS)
    stream = repairs.stream()
    if stream is not None:
        assert same([*(stream.feed(each) for each in chunks), stream.end()], chunks)
    assert repairs.fired == []


@pytest.mark.parametrize(("name", "path", "names"), REPAIRED)
@pytest.mark.parametrize("more", [(), ("comments", "crlf")])
def test_cut_at_every_byte_it_is_repaired_all_the_same(name, path, names, more):
    chunks = writes(*names, *more, path=path)
    whole = b"".join(chunks)
    together, fired = run([whole], path=path)
    assert fired == [name]
    assert b"".join(together) != whole
    wanted = without_ids(b"".join(together))
    for at in range(1, len(whole), 1 if not more else 7):
        assert without_ids(b"".join(run([whole[:at], whole[at:]], path=path)[0])) == wanted
    singly, _ = run([bytes([each]) for each in whole], path=path)
    assert without_ids(b"".join(singly)) == wanted


def without_ids(told):
    return [
        each if isinstance(each, str) else {**each, "created": 0} for each in events(told.decode())
    ]


def spaced(chunks):
    """The same events as another JSON library writes them."""
    return [re.sub(rb'(?<!\\)":', b'" : ', each).replace(b"[{", b"[ {") for each in chunks]


@pytest.mark.parametrize(("name", "path", "names"), REPAIRED)
def test_written_with_spaces_it_is_repaired_all_the_same(name, path, names):
    chunks = writes(*names, path=path)
    told, fired = run(spaced(chunks), path=path)
    assert fired == [name]
    assert without_ids(b"".join(told)) == without_ids(b"".join(run(chunks, path=path)[0]))


def test_a_bare_stream_with_calls_is_numbered_like_any():
    told, fired = mended("bare", "tool_repeat")
    assert told == events(b"".join(writes("tool_repeat")).decode())
    assert fired == ["chunk_object"]


def test_what_is_no_stream_of_events_is_let_go(monkeypatch):
    monkeypatch.setattr(sse_events, "MAX_EVENT", 100)
    for path in (CHAT, RESPONSES):
        chunks = [b"x" * 60, b"y" * 60, b"z" * 60]
        told, _ = run(chunks, path=path)
        assert told == [b"", b"x" * 60 + b"y" * 60, b"z" * 60, b""]


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_the_end_without_a_blank_line_is_sent(path):
    assert run([b": hello\n"], path=path)[0] == [b"", b": hello\n"]


pieces = st.sampled_from(
    [b"\n", b"\r\n", b"\n\n", b": c\n\n", b"event: x\n", b"data: ", b'{"choices":[{', b'"index":1',
     b'"object":"x"}]}\n\n', b'data: {"choices":[]}', b'data: {"item_id":"a"}\n\n', b"data: 1\r\n\r\n",
     b'"tool_calls":[{', b"\xc3", b'{"type":"response.created","response":{"id":"r"}}\n\n']
)  # fmt: skip


@given(st.lists(pieces | st.binary(max_size=5), max_size=25), st.sampled_from([CHAT, RESPONSES]))
def test_whatever_no_repair_is_for_comes_out_as_it_went_in(given_pieces, path):
    told, fired = run(given_pieces, path=path, enabled={"merged_choices", "stable_ids"})
    if not fired:
        assert b"".join(told) == b"".join(given_pieces)


@given(st.lists(pieces | st.binary(max_size=5), max_size=25), st.sampled_from([CHAT, RESPONSES]))
def test_nothing_raises(given_pieces, path):
    told, _ = run(given_pieces, path=path)
    assert all(isinstance(each, bytes) for each in told)
