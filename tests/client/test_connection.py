"""The sans-IO connection: both directions, any split of the bytes, and everything that is not allowed."""

from __future__ import annotations

import io
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.wire_pairs import ConnectionPair, errors, events_of, maps, values
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    Ignored,
    NotificationReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    StreamCancel,
    StreamCredit,
    StreamData,
    StreamEnd,
)
from copilot_broker.wire.errors import LocalProtocolError, RemoteProtocolError
from copilot_broker.wire.limits import FRAME_TIMEOUT, MAX_CREDIT, MAX_FRAME, STREAM_WINDOW, Limits
from copilot_broker.wire.messages import ErrorInfo


DENIED = ErrorInfo(
    ErrorClass.DENIED, "no_seat", "no Copilot seat", "Ask your admin", "https://x/", 1.5
)


@given(st.text(max_size=20), maps, values)
def test_request_and_result_arrive_as_sent(method, params, result):
    pair = ConnectionPair()
    msgid = pair.client.send_request(method, params)
    assert pair.to_server() == [RequestReceived(msgid, method, params)]
    pair.server.send_result(msgid, result)
    assert pair.to_client() == [ResponseReceived(msgid, result, None)]
    assert pair.client.requests_in_flight == pair.server.requests_in_flight == 0


@given(errors)
def test_error_arrives_as_sent(error):
    pair = ConnectionPair()
    msgid = pair.ask("token.get")
    pair.server.send_error(msgid, error)
    assert pair.to_client() == [ResponseReceived(msgid, None, error)]


def test_answers_may_overtake_each_other():
    pair = ConnectionPair()
    first, second = pair.ask("account.list"), pair.ask("token.get")
    pair.server.send_result(second, 2)
    pair.server.send_result(first, 1)
    assert pair.to_client() == [
        ResponseReceived(second, 2, None),
        ResponseReceived(first, 1, None),
    ]


def test_stream_carries_chunks_in_order_and_one_end():
    pair = ConnectionPair()
    msgid = pair.ask("completion.create")
    stream = pair.server.open_stream(msgid, 200, {"content-type": "text/event-stream"})
    pair.server.send_stream_data(stream, b"one")
    pair.server.send_stream_data(stream, {"event": "two"})
    pair.server.end_stream(stream, DENIED)
    pair.server.end_stream(stream)  # a second end is not sent
    opened = {"stream": stream, "status": 200, "headers": {"content-type": "text/event-stream"}}
    assert pair.to_client() == [
        ResponseReceived(msgid, opened, None),
        StreamData(stream, 0, b"one", 3),
        StreamData(stream, 1, {"event": "two"}, len(msgpack.packb({"event": "two"}))),
        StreamEnd(stream, DENIED),
    ]
    assert not pair.client.open_streams | pair.server.open_streams


def test_stream_waits_for_credit_and_goes_on_with_it():
    pair = ConnectionPair()
    stream = pair.open_stream()
    assert pair.server.stream_credit(stream) == STREAM_WINDOW
    assert pair.server.send_stream_data(stream, bytes(STREAM_WINDOW))
    with pytest.raises(LocalProtocolError, match="no_credit"):
        pair.server.send_stream_data(stream, b"x")
    (data,) = pair.to_client()
    pair.client.grant_credit(stream, data.cost)
    assert pair.to_server() == [StreamCredit(stream, STREAM_WINDOW)]
    assert pair.server.stream_credit(stream) == STREAM_WINDOW
    assert pair.server.send_stream_data(stream, b"x")
    assert [event.seq for event in pair.to_client()] == [1]


def test_credit_saturates():
    pair = ConnectionPair()
    stream = pair.open_stream()
    pair.client.grant_credit(stream, 2**40)
    pair.to_server()
    assert pair.server.stream_credit(stream) == MAX_CREDIT


def test_other_requests_pass_a_stream_without_credit():
    pair = ConnectionPair()
    stream = pair.open_stream()
    pair.server.send_stream_data(stream, bytes(STREAM_WINDOW))
    msgid = pair.ask("token.get")
    pair.server.send_result(msgid, {})
    assert pair.to_client()[-1] == ResponseReceived(msgid, {}, None)


def test_cancelled_stream_ends_by_itself():
    pair = ConnectionPair()
    stream = pair.open_stream()
    pair.client.cancel_stream(stream)
    pair.server.send_stream_data(stream, b"crossed with the cancel")
    assert pair.to_server() == [StreamCancel(stream)]
    assert pair.server.send_stream_data(stream, b"late") is False
    assert pair.server.stream_credit(stream) == 0
    assert pair.to_client()[-1] == StreamEnd(stream, None)


def test_streams_never_share_an_id():
    pair = ConnectionPair()
    first = pair.open_stream()
    pair.server.end_stream(first)
    assert pair.open_stream() != first


def test_errors_become_text_when_the_hello_asks():
    pair = ConnectionPair()
    pair.server.apply_hello({"errors": "text"})
    msgid = pair.ask("token.get")
    pair.server.send_error(msgid, DENIED)
    raw = msgpack.unpackb(pair.server.data_to_send())
    assert raw == [1, msgid, "no_seat: no Copilot seat. Ask your admin", None]


def test_stream_ends_in_text_too():
    pair = ConnectionPair()
    pair.server.apply_hello({"errors": "text"})
    stream = pair.open_stream()
    pair.server.end_stream(stream, DENIED)
    raw = msgpack.unpackb(pair.server.data_to_send())
    assert raw == [2, "stream.end", [{"stream": stream, "error": str(DENIED)}]]


def test_notifications_are_wrapped_when_the_hello_asks():
    pair = ConnectionPair()
    code = "require('copilot_broker').on(...)"
    pair.server.apply_hello({"notify": ["nvim_exec_lua", [code]]})
    stream = pair.open_stream()
    pair.server.send_stream_data(stream, {"event": "token"})
    raw = msgpack.unpackb(pair.server.data_to_send())
    data = {"stream": stream, "seq": 0, "chunk": {"event": "token"}}
    assert raw == [2, "nvim_exec_lua", [code, ["stream.data", data]]]


@pytest.mark.parametrize(
    "notify", ["nvim_exec_lua", ["f"], ["f", [1]], [1, []], ["f", ["x" * 9000]]]
)
def test_bad_wrapper_changes_nothing(notify):
    server = Connection(Role.SERVER)
    with pytest.raises(RemoteProtocolError, match="bad_hello"):
        server.apply_hello({"notify": notify, "errors": "text"})
    server.receive_data(msgpack.packb([0, 1, "broker.status", []]), 0.0)
    server.send_error(1, DENIED)
    assert msgpack.unpackb(server.data_to_send())[2] == DENIED.to_map()


@pytest.mark.parametrize("params", [[], [{}], [None], [[]]])
def test_shapes_of_no_params(params):
    server = Connection(Role.SERVER)
    server.receive_data(msgpack.packb([0, 7, "broker.status", params]), 0.0)
    assert events_of(server) == [RequestReceived(7, "broker.status", {})]


@pytest.mark.parametrize("params", [None, {}, 1, "x", [1], [{}, {}], [[1]], [{b"k": 1}]])
def test_odd_params_are_refused_and_the_connection_goes_on(params):
    server = Connection(Role.SERVER)
    server.receive_data(msgpack.packb([0, 7, "token.get", params]), 0.0)
    assert events_of(server) == [Ignored()]
    kind, msgid, error, result = msgpack.unpackb(server.data_to_send())
    assert (kind, msgid, error["class"], error["code"], result) == (1, 7, 2, "bad_params", None)
    server.receive_data(msgpack.packb([0, 7, "token.get", [{}]]), 0.0)
    assert len(events_of(server)) == 1


def test_unknown_notifications_and_keys_are_ignored():
    pair = ConnectionPair()
    pair.server.receive_data(msgpack.packb([2, "from.the.future", [{"a": 1}]]), 0.0)
    pair.server.receive_data(msgpack.packb([2, "stream.cancel", [{"stream": 99}]]), 0.0)
    assert events_of(pair.server) == [Ignored(), Ignored()]
    pair.client.receive_data(msgpack.packb([2, "from.the.future", [{"a": 1}]]), 0.0)
    assert events_of(pair.client) == [NotificationReceived("from.the.future", {"a": 1})]


def test_unknown_class_of_a_newer_broker_is_internal():
    pair = ConnectionPair()
    msgid = pair.ask("token.get")
    error = {"class": 77, "code": "new", "message": "m", "more": 1}
    pair.client.receive_data(msgpack.packb([1, msgid, error, None]), 0.0)
    (event,) = events_of(pair.client)
    assert event.error == ErrorInfo(ErrorClass.INTERNAL, "new", "m")


# -- any split ------------------------------------------------------------------------------


def conversation() -> tuple[bytes, bytes]:
    """All that a client and a server of every kind of message say."""
    pair = ConnectionPair()
    pair.client.send_request("broker.hello", {"protocol": 1, "client": "é" * 40})
    watch = pair.client.send_request("token.watch", {"account": None})
    prompt = {"body": bytes(MAX_FRAME + 5000), "x": [{}, [[1.5]]]}
    pair.client.send_request("completion.create", prompt)
    for number in range(50):
        pair.client.send_request("token.get", {"min_valid": number / 7})
    asked = pair.client.data_to_send()
    pair.server.receive_data(asked, 0.0)
    events_of(pair.server)
    stream = pair.server.open_stream(watch)
    for number in range(40):
        pair.server.send_stream_data(stream, {"event": "token", "n": number})
        pair.server.send_stream_data(stream, bytes(number))
        pair.server.send_result(number + 3, {"n": "x" * number})
    pair.server.end_stream(stream, DENIED)
    return asked, pair.server.data_to_send()


ASKED, ANSWERED = conversation()


def replay(role: Role, pieces: list[bytes]) -> list:
    connection = Connection(role)
    if role is Role.CLIENT:
        for _ in range(53):
            connection.send_request("m", {})
    seen = []
    for piece in pieces:
        connection.receive_data(piece, 0.0)
        seen += events_of(connection)
    return seen


WHOLE = {
    role: replay(role, [data]) for role, data in ((Role.SERVER, ASKED), (Role.CLIENT, ANSWERED))
}


@pytest.mark.parametrize("role", Role)
@given(fractions=st.lists(st.floats(0, 1, exclude_max=True), max_size=60))
def test_any_split_of_the_bytes_gives_the_same_events(role, fractions):
    data = ASKED if role is Role.SERVER else ANSWERED
    edges = [0, *sorted({1 + int(part * (len(data) - 1)) for part in fractions}), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if a != b]
    assert replay(role, pieces) == WHOLE[role]


def test_byte_by_byte_gives_the_same_events():
    pieces = [ANSWERED[i : i + 1] for i in range(len(ANSWERED))]
    assert replay(Role.CLIENT, pieces) == WHOLE[Role.CLIENT]
    assert (len(WHOLE[Role.SERVER]), len(WHOLE[Role.CLIENT])) == (53, 122)


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_waited_for_and_never_crashes(garbage):
    server = Connection(Role.SERVER)
    try:
        server.receive_data(garbage, 0.0)
    except RemoteProtocolError:
        assert isinstance(events_of(server)[-1], ConnectionEnded)
    events_of(server)


def outcome(pieces):
    """What a server makes of the bytes: its events, and the error that ended them."""
    server = Connection(Role.SERVER)
    seen, error = [], None
    for piece in pieces:
        try:
            server.receive_data(piece, 0.0)
        except RemoteProtocolError as raised:
            error = raised.code
        for event in events_of(server):
            if isinstance(event, ConnectionEnded) and event.error is not None:
                error = event.error.code
            elif not isinstance(event, ConnectionEnded):
                seen.append(event)
    return seen, error, server.data_to_send()


@given(
    st.one_of(st.integers(-1, 3), st.booleans()),
    st.one_of(st.integers(-1, 2**32), st.booleans(), st.none()),
    st.one_of(st.text(max_size=12), st.binary(max_size=12), st.integers(-9, 9)),
    st.one_of(values, maps.map(lambda found: [found]), st.just([]), st.just([{}, {}])),
    st.sampled_from([b"", b"\x94", b"\xc1"]),
)
def test_one_piece_means_what_many_mean(kind, msgid, method, params, more):
    """A request that comes whole is not walked first; nobody must notice."""
    data = msgpack.packb([kind, msgid, method, params], use_bin_type=True) + more
    assert outcome([data]) == outcome([data[:1], data[1:]])


@pytest.mark.parametrize(
    "inside",
    [
        msgpack.ExtType(5, b"x"),
        msgpack.Timestamp(1, 0),
        {"a": {"b": {"c": {}}}},
        {"a": [[[]]]},
        {"a": b"\x00", "b": "text", "c": None, "d": 1.5, "e": True},
        {1: 2},
    ],
)
def test_odd_values_mean_the_same_in_one_piece(inside):
    for params in ([inside], [{"key": inside}], [{"headers": {"key": inside}}]):
        data = msgpack.packb([0, 7, "token.get", params], use_bin_type=True)
        assert outcome([data]) == outcome([data[:1], data[1:]])


# -- rules and ends ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        [3, 1, "m", []],
        [0, -1, "m", []],
        [0, 2**32, "m", []],
        [0, "1", "m", []],
        [0, True, "m", []],
        [False, 1, "m", []],
        [0, 1, 5, []],
        [0, 1, "m"],
        [2, 1, []],
        [2, "m", [], 4],
        [1, 1, None, None],
        [],
        [[]],
    ],
)
def test_server_refuses_what_is_no_message_for_it(frame):
    server = Connection(Role.SERVER)
    with pytest.raises(RemoteProtocolError):
        server.receive_data(msgpack.packb(frame), 0.0)
    assert server.data_to_send() == b""


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ([0, 1, "m", []], "wrong_direction"),
        ([1, 9, None, None], "unknown_msgid"),
        ([2, "stream.data", [{"stream": 9, "seq": 0, "chunk": b""}]], "unknown_stream"),
        ([2, "stream.data", [{"stream": 1, "seq": 1, "chunk": b""}]], "lost_chunk"),
    ],
)
def test_client_refuses_what_a_broker_never_sends(frame, code):
    pair = ConnectionPair()
    pair.open_stream()
    with pytest.raises(RemoteProtocolError, match=code):
        pair.client.receive_data(msgpack.packb(frame), 0.0)


def test_msgid_in_use_is_refused():
    server = Connection(Role.SERVER)
    server.receive_data(msgpack.packb([0, 1, "m", []]), 0.0)
    events_of(server)
    with pytest.raises(RemoteProtocolError, match="msgid_in_use"):
        server.receive_data(msgpack.packb([0, 1, "m", []]), 0.0)


def test_events_before_garbage_are_still_delivered():
    server = Connection(Role.SERVER)
    server.receive_data(msgpack.packb([0, 1, "m", []]) + b"GET / HTTP/1.1\r\n", 0.0)
    request, ended = events_of(server)
    assert request.method == "m"
    assert ended.error.code == "not_a_message"


def test_frames_are_decoded_no_faster_than_events_are_fetched():
    server = Connection(Role.SERVER)
    frames = b"".join(msgpack.packb([0, i, "m", []]) for i in range(1000))
    server.receive_data(frames, 0.0)
    assert server.requests_in_flight <= Limits().queued_events
    assert server.deadline() is None
    assert [event.msgid for event in events_of(server)] == list(range(1000))


@pytest.mark.parametrize(
    "message",
    [[2, "", []], [2, "from.the.future", [{}]], [2, "stream.credit", [{"stream": 9}]], [2, "", 1]],
)
def test_what_is_ignored_is_decoded_no_faster_either(message):
    server = Connection(Role.SERVER)
    frame = msgpack.packb(message)
    server.receive_data(frame * 1000, 0.0)
    assert server.buffered == (1000 - Limits().queued_events) * len(frame)
    assert events_of(server) == [Ignored()] * 1000


def test_what_is_refused_at_once_is_decoded_no_faster_either():
    server = Connection(Role.SERVER)
    server.receive_data(b"".join(msgpack.packb([0, i, "m", 1]) for i in range(1000)), 0.0)
    answers = list(msgpack.Unpacker(io.BytesIO(server.data_to_send())))
    assert len(answers) == Limits().queued_events
    assert events_of(server) == [Ignored()] * 1000


def test_role_decides_what_may_be_sent():
    pair = ConnectionPair()
    with pytest.raises(LocalProtocolError, match="wrong_role"):
        pair.server.send_request("m", {})
    with pytest.raises(LocalProtocolError, match="wrong_role"):
        pair.client.apply_hello({})
    with pytest.raises(LocalProtocolError, match="no_such_request"):
        pair.server.send_result(1, None)
    with pytest.raises(LocalProtocolError, match="not_encodable"):
        pair.client.send_request("m", {"x": object()})
    assert pair.client.data_to_send() + pair.server.data_to_send() == b""


def test_end_between_frames_is_clean_and_inside_one_is_not():
    clean = Connection(Role.SERVER)
    clean.receive_data(msgpack.packb([0, 1, "m", []]), 0.0)
    clean.receive_data(b"", 0.0)
    assert events_of(clean)[-1] == ConnectionEnded(None)
    cut = Connection(Role.SERVER)
    cut.receive_data(b"\x94\x00", 0.0)
    with pytest.raises(RemoteProtocolError, match="cut_off"):
        cut.receive_data(b"", 0.0)
    assert len(events_of(cut)) == 1


def test_nothing_happens_after_the_end():
    server = Connection(Role.SERVER)
    server.receive_data(b"", 0.0)
    server.receive_data(msgpack.packb([0, 1, "m", []]), 0.0)
    assert events_of(server) == [ConnectionEnded(None)]


def test_half_frame_has_a_deadline_and_idle_has_none():
    server = Connection(Role.SERVER)
    assert server.deadline() is None
    frame = msgpack.packb([0, 1, "token.get", [{}]])
    server.receive_data(frame[:3], 100.0)
    server.receive_data(frame[3:6], 105.0)  # trickling on wins no time
    assert server.deadline() == 100.0 + FRAME_TIMEOUT
    server.handle_timer(109.9)
    server.receive_data(frame[6:] + frame[:1], 109.95)
    assert server.deadline() == 109.95 + FRAME_TIMEOUT
    with pytest.raises(RemoteProtocolError, match="frame_timeout"):
        events_of(server), server.handle_timer(120.0)
    assert server.deadline() is None


def test_secrets_are_in_no_repr():
    pair = ConnectionPair()
    msgid = pair.client.send_request("account.login", {"token": "gho_canary"})
    asked = pair.to_server()
    pair.server.send_result(msgid, {"token": "tid=canary"})
    answered = pair.to_client()
    assert "canary" not in repr(asked) + repr(answered) + repr(pair.client) + repr(pair.server)
