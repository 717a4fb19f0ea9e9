"""Responses: streams as Copilot sends them, and as clients expect them."""

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
from brokerd.core.dialects.responses import EventReader, EventWriter
from fakes.conversations import cut_everywhere, normal


def stream(*events):
    """Write events as upstream does."""
    lines = []
    for number, (kind, fields) in enumerate(events):
        data = {"type": f"response.{kind}", "sequence_number": number, **fields}
        lines.append(f"event: response.{kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n")
    return "".join(lines).encode()


def read(raw):
    reader = EventReader()
    return normal(reader.feed(raw) + reader.end())


def started(**more):
    return {
        "response": {
            "id": "resp_1",
            "object": "response",
            "created_at": 7,
            "model": "gpt-5.2",
            "status": "in_progress",
            "output": [],
            **more,
        }
    }


def ended(*output, status="completed", **more):
    return {
        **started(status=status, output=list(output), **more),
        "copilot_quota_snapshots": {"premium": {"remaining": 1}},
    }


def added(index, item):
    return "output_item.added", {"output_index": index, "item": item}


def done(index, item):
    return "output_item.done", {"output_index": index, "item": item}


def delta(kind, index, text, **more):
    return f"{kind}.delta", {"output_index": index, "item_id": f"x{text}", "delta": text, **more}


def message(*texts):
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": content}


def call(arguments, call_id="call_1"):
    return {
        "id": f"fc{arguments}",
        "type": "function_call",
        "call_id": call_id,
        "name": "f",
        "arguments": arguments,
    }


def thoughts(*texts, proof=""):
    summary = [{"type": "summary_text", "text": text} for text in texts]
    return {"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": proof}


CREATED = ("created", started())
BEGUN = Begun("resp_1", "gpt-5.2", 7)

RENAMED = stream(
    CREATED,
    ("in_progress", started(id="resp_other")),
    added(0, {"id": "a", "type": "reasoning", "summary": [], "encrypted_content": "early"}),
    (
        "reasoning_summary_part.added",
        {"item_id": "b", "output_index": 0, "summary_index": 0, "part": {"text": ""}},
    ),
    delta("reasoning_summary_text", 0, "Fir", summary_index=0),
    delta("reasoning_summary_text", 0, "st.", summary_index=0),
    delta("reasoning_summary_text", 0, "Next.", summary_index=1),
    ("reasoning_summary_text.done", {"output_index": 0, "summary_index": 1, "text": "Next."}),
    done(0, {**thoughts("First.", "Next.", proof="gAAAAAB"), "id": "c"}),
    added(1, {"id": "d", "type": "message", "role": "assistant", "content": []}),
    ("content_part.added", {"item_id": "e", "output_index": 1, "content_index": 0, "part": {}}),
    delta("output_text", 1, "Gr", content_index=0, logprobs=[], obfuscation="xyz"),
    delta("output_text", 1, "üße 👩‍🚀", content_index=0),
    ("output_text.done", {"item_id": "f", "output_index": 1, "text": "Grüße 👩‍🚀"}),
    done(1, {**message("Grüße 👩‍🚀"), "id": "g"}),
    added(2, {**call(""), "id": "h"}),
    delta("function_call_arguments", 2, '{"a":'),
    delta("function_call_arguments", 2, "1}"),
    ("function_call_arguments.done", {"output_index": 2, "arguments": '{"a":1}'}),
    done(2, {**call('{"a":1}'), "id": "i"}),
    (
        "completed",
        ended(
            thoughts("First.", "Next.", proof="gAAAAAB"),
            message("Grüße 👩‍🚀"),
            call('{"a":1}'),
            usage={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        ),
    ),
)


def test_another_id_in_every_event_is_the_same_item():
    expected = [
        BEGUN,
        Piece(0, "thinking", "First.\n\nNext."),
        Piece(0, "proof", "gAAAAAB"),
        Piece(1, "text", "Grüße 👩‍🚀"),
        CallBegun(2, "call_1", "f"),
        Piece(2, "arguments", '{"a":1}'),
        Stopped("tool", Usage(3, 4)),
    ]
    assert read(RENAMED) == expected
    for number, chunks in enumerate(cut_everywhere(RENAMED)):
        if number > 1 and number % 61:
            continue  # each of them is a stream of its own
        reader = EventReader()
        found = [event for chunk in chunks for event in reader.feed(chunk)]
        assert normal(found + reader.end()) == expected


HI = message("Hi there")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # Nothing in pieces
        ([("completed", ended(HI))], [Piece(0, "text", "Hi there")]),
        ([done(0, HI), ("completed", ended(HI))], [Piece(0, "text", "Hi there")]),
        # Without its end
        (
            [delta("output_text", 0, "Hi"), ("completed", ended(HI))],
            [Piece(0, "text", "Hi there")],
        ),
        # The end is of another place
        (
            [
                delta("reasoning_summary_text", 0, "hm", summary_index=0),
                delta("output_text", 1, "Hi there", content_index=0),
                done(1, HI),
                ("completed", ended(HI)),
            ],
            [Piece(0, "thinking", "hm"), Piece(1, "text", "Hi there")],
        ),
        # More after it was done
        (
            [done(0, HI), delta("output_text", 0, "!"), ("completed", ended(HI))],
            [Piece(0, "text", "Hi there")],
        ),
        # Several parts of one message, and a no
        (
            [
                delta("output_text", 0, "a", content_index=0),
                delta("refusal", 0, "b", content_index=1),
                delta("output_text", 0, "c", content_index=0),
                ("completed", ended()),
            ],
            [Piece(0, "text", "a"), Piece(1, "refusal", "b"), Piece(0, "text", "c")],
        ),
        # Thoughts themselves; then again as a summary
        (
            [
                delta("reasoning_text", 0, "raw", content_index=0),
                delta("reasoning_summary_text", 0, "sum", summary_index=0),
                (
                    "completed",
                    ended({"type": "reasoning", "content": [{"text": "raw"}], "summary": []}),
                ),
            ],
            [Piece(0, "thinking", "raw")],
        ),
        # Hidden thoughts
        (
            [added(0, thoughts()), done(0, thoughts(proof="p")), ("completed", ended())],
            [Piece(0, "proof", "p")],
        ),
        ([added(0, thoughts()), done(0, thoughts()), ("completed", ended())], []),
        # Calls side by side, one of them only at its end; one without arguments
        (
            [
                added(0, call("")),
                delta("function_call_arguments", 0, '{"a"'),
                delta("function_call_arguments", 1, "{"),
                delta("function_call_arguments", 0, ":1}"),
                done(1, call("{}", "call_2")),
                added(2, call("", "call_3")),
                done(2, call("", "call_3")),
                ("completed", ended(call('{"a":1}'))),
            ],
            [
                CallBegun(0, "call_1", "f"),
                Piece(0, "arguments", '{"a":1}'),
                CallBegun(1, "call_2", "f"),
                Piece(1, "arguments", "{}"),
                CallBegun(2, "call_3", "f"),
                Piece(2, "arguments", "{}"),
            ],
        ),
        # What upstream did by itself, and what nobody knows
        (
            [
                added(0, {"type": "web_search_call", "id": "ws"}),
                ("web_search_call.searching", {"output_index": 0}),
                done(0, {"type": "web_search_call", "id": "ws"}),
                delta("output_text", 1, "Hi"),
                ("unheard.of", {"x": [1]}),
                ("completed", ended()),
            ],
            [Piece(0, "text", "Hi")],
        ),
    ],
)
def test_what_upstream_may_leave_out_or_add(events, expected):
    has_calls = any(isinstance(event, CallBegun) for event in expected)
    stopped = Stopped("tool" if has_calls else "end")
    assert read(stream(CREATED, *events)) == [BEGUN, *expected, stopped]


@pytest.mark.parametrize(
    ("reason", "stop"), [("max_output_tokens", "length"), ("content_filter", "filter")]
)
def test_an_answer_that_was_cut(reason, stop):
    last = ended(status="incomplete", incomplete_details={"reason": reason})
    assert read(stream(CREATED, ("incomplete", last))) == [BEGUN, Stopped(stop)]


@pytest.mark.parametrize(
    ("raw", "broken"),
    [
        (
            stream(("failed", ended(status="failed", error={"code": "c", "message": "m"}))),
            Broken("m", "c"),
        ),
        (b'data: {"type":"error","code":"c","message":"m","param":null}\n\n', Broken("m", "c")),
        (
            b'data: {"type":"error","error":{"code":"c","message":"m","type":"t"}}\n\n',
            Broken("m", "c", "t"),
        ),
        (b'data: {"type":"error","error":{}}\n\n', Broken("upstream gives no reason")),
        (b"", Broken("the stream ended before the answer did", "upstream_cut")),
        (b"data: [DONE]\n\n", Broken("the stream ended before the answer did", "upstream_cut")),
    ],
)
def test_an_answer_that_breaks(raw, broken):
    assert read(stream(CREATED) + raw)[-1] == broken
    reader = EventReader()
    for chunk in (stream(CREATED), raw):
        reader.feed(chunk)
    reader.end()
    assert reader.feed(stream(("completed", ended(HI)))) == []
    assert reader.end() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        stream(delta("output_text", "0", "x")),
        stream(("output_text.delta", {"output_index": 0, "delta": 3})),
        stream(done(0, {"type": "custom_tool_call", "call_id": "c", "name": "n"})),
        stream(("completed", ended(status="queued"))),
    ],
)
def test_what_nobody_can_read(raw):
    with pytest.raises(UntranslatableError):
        EventReader().feed(raw)


def test_a_stream_that_does_not_say_its_name():
    raw = stream(delta("output_text", 0, "a"), ("completed", ended()))
    assert read(raw) == [Begun("", ""), Piece(0, "text", "a"), Stopped("end")]


def written(*events):
    raw = EventWriter("asked").write(events)
    return [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]


def test_every_event_of_a_stream_for_a_client():
    told = written(
        Begun("msg_1", "m", 7, Usage(prompt=3)),
        Piece(0, "thinking", "h"),
        Piece(0, "thinking", "m"),
        Piece(0, "proof", "sealed"),
        Piece(1, "text", "He"),
        Piece(1, "text", "llo"),
        Piece(2, "refusal", "no"),
        CallBegun(3, "call_1", "mcp__docs_-_search"),
        Piece(3, "arguments", '{"a":'),
        Piece(3, "arguments", "1}"),
        CallBegun(4, "call_2", "g"),
        Stopped("tool", Usage(completion=4)),
    )
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "content_part.added",
        "refusal.delta",
        "output_text.done",
        "content_part.done",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert told[8]["item"] == {
        "id": "rs_msg_1_0",
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "sealed",
    }
    text = {"item_id": "msg_msg_1_1", "output_index": 1, "content_index": 0, "logprobs": []}
    assert told[11] == {
        "type": "response.output_text.delta",
        "sequence_number": 11,
        **text,
        "delta": "He",
    }
    assert told[15] == {
        "type": "response.output_text.done",
        "sequence_number": 15,
        **text,
        "text": "Hello",
    }
    assert told[17] == {
        "type": "response.refusal.done",
        "sequence_number": 17,
        "item_id": "msg_msg_1_1",
        "output_index": 1,
        "content_index": 1,
        "refusal": "no",
    }
    assert told[20]["item"]["arguments"] == ""
    assert told[23] == {
        "type": "response.function_call_arguments.done",
        "sequence_number": 23,
        "item_id": "fc_msg_1_2",
        "output_index": 2,
        "name": "search",
        "arguments": '{"a":1}',
    }
    assert told[26]["arguments"] == told[27]["item"]["arguments"] == "{}"
    last = told[-1]["response"]
    ids = [item["id"] for item in last["output"]]
    assert ids == ["rs_msg_1_0", "msg_msg_1_1", "fc_msg_1_2", "fc_msg_1_3"]
    assert last["usage"]["total_tokens"] == 7
    assert last["model"] == "m"


@pytest.mark.parametrize(
    ("events", "order"),
    [
        # Calls whose arguments come by turns stay open together
        (
            [
                CallBegun(0, "call_0", "f"),
                Piece(0, "arguments", '{"a"'),
                CallBegun(1, "call_1", "f"),
                Piece(0, "arguments", ":1}"),
                Piece(1, "arguments", "{}"),
            ],
            ["+fc0", "+fc1", "-fc0", "-fc1"],
        ),
        (
            [
                CallBegun(0, "call_0", "f"),
                CallBegun(1, "call_1", "f"),
                Piece(0, "arguments", "{}"),
            ],
            ["+fc0", "+fc1", "-fc0", "-fc1"],
        ),
        # Blanks after a call that was done change nothing
        (
            [
                CallBegun(0, "call_0", "f"),
                Piece(0, "arguments", "{}"),
                CallBegun(1, "call_1", "f"),
                Piece(0, "arguments", " "),
                Piece(1, "arguments", "{}"),
            ],
            ["+fc0", "-fc0", "+fc1", "-fc1"],
        ),
        # Thoughts wait for their proof; what is still being told is done before them
        (
            [Piece(0, "thinking", "a"), Piece(1, "text", "b"), Piece(0, "proof", "p")],
            ["+rs0", "+msg1", "-msg1", "-rs0"],
        ),
        (
            [
                Piece(0, "thinking", "a"),
                Piece(1, "text", "b"),
                Piece(0, "proof", "p"),
                Piece(1, "text", "c"),
            ],
            ["+rs0", "+msg1", "-rs0", "-msg1"],
        ),
        # Words after a call are another message
        (
            [
                Piece(0, "text", "a"),
                CallBegun(1, "call_1", "f"),
                Piece(1, "arguments", "{}"),
                Piece(0, "text", "b"),
            ],
            ["+msg0", "-msg0", "+fc1", "-fc1", "+msg2", "-msg2"],
        ),
    ],
)
def test_an_item_is_done_before_the_next_where_it_can_be(events, order):
    told = written(Begun("i", "m"), *events, Stopped("end"))
    seen = [
        {"added": "+", "done": "-"}[event["type"].rpartition(".")[2]]
        + event["item"]["id"].replace("_i_", "")
        for event in told
        if "output_item" in event["type"]
    ]
    assert seen == order


def test_an_end_by_a_limit_leaves_the_last_item_open():
    told = written(
        Begun("i", ""),
        Piece(0, "text", "a"),
        CallBegun(1, "c", "f"),
        Piece(1, "arguments", '{"a'),
        Stopped("length"),
    )
    assert told[-1]["type"] == "response.incomplete"
    response = told[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert response["model"] == "asked"
    assert response["usage"] is None


@pytest.mark.parametrize("before", [[], [Begun("i", "m"), Piece(0, "text", "a")]])
def test_a_break_is_told_in_every_way_that_clients_know(before):
    *_, error, failed = written(*before, Broken("it broke", "boom", "server_error"))
    assert error == {
        "type": "error",
        "sequence_number": error["sequence_number"],
        "code": "boom",
        "message": "it broke",
        "param": None,
        "error": {"type": "server_error", "code": "boom", "message": "it broke", "param": None},
    }
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "boom", "message": "it broke"}
    assert failed["response"]["id"] == ("resp_i" if before else "resp_0")


def test_half_a_surrogate_pair_is_written_and_read():
    events = [Begun("resp_1", "m"), Piece(0, "text", "\ud83d"), Stopped("end")]
    assert read(EventWriter("m").write(events)) == events


def test_thoughts_after_their_proof_are_thoughts_of_their_own():
    told = written(
        Begun("i", "m"),
        Piece(0, "thinking", "a"),
        Piece(0, "proof", "p"),
        Piece(1, "text", "t"),
        Piece(0, "thinking", "b"),
        Stopped("end"),
    )
    first, _, second = told[-1]["response"]["output"]
    assert (first["summary"][0]["text"], first["encrypted_content"]) == ("a", "p")
    assert second["summary"][0]["text"] == "b"
    assert "encrypted_content" not in second


def test_what_the_simulator_sends():
    from brokerd.simulator.chat import Said
    from brokerd.simulator.responses import events

    said = Said("m", ("Hel", "lo"), 3, "chatcmpl-1", 7)
    raw = b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in events(said, {"premium": {}})
    )
    begun, *pieces, stopped = read(raw)
    assert begun == Begun("resp_1", "m", 7)
    assert pieces == [Piece(0, "text", "Hello")]
    assert stopped == Stopped("end", Usage(3, 2, 0, None, 0))


def test_thoughts_that_have_their_proof_are_told_before_a_break():
    events = [Begun("resp_1", "m"), Piece(0, "proof", "p"), Broken("it broke")]
    assert read(EventWriter("m").write(events)) == events
