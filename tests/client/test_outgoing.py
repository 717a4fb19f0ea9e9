"""A stream's chunks in a hurry are the very bytes that the encoder would have made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.wire_pairs import ConnectionPair, events_of
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import (
    Connection,
    Ignored,
    RequestCancel,
    ResponseReceived,
    Role,
)
from copilot_broker.wire.errors import LocalProtocolError, RemoteProtocolError
from copilot_broker.wire.limits import MAX_LARGE_FRAME, STREAM_WINDOW
from copilot_broker.wire.messages import encode
from copilot_broker.wire.outgoing import OutgoingStream, notification


EDGES = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32]

wrappers = st.none() | st.tuples(
    st.text(max_size=40), st.lists(st.text(max_size=400), max_size=18)
)


@given(
    stream=st.integers(1, 2**32) | st.sampled_from(EDGES[1:]),
    seq=st.integers(0, 2**40) | st.sampled_from(EDGES),
    chunk=st.binary(max_size=70) | st.sampled_from([bytes(size) for size in EDGES[:8]]),
    wrapper=wrappers,
)
def test_a_chunk_is_the_bytes_of_the_encoder(stream, seq, chunk, wrapper):
    outgoing = OutgoingStream(stream, STREAM_WINDOW, wrapper)
    outgoing.seq = seq
    params = {"stream": stream, "seq": seq, "chunk": chunk}
    assert outgoing.data(chunk) == encode(notification("stream.data", params, wrapper))
    assert (outgoing.seq, outgoing.credit) == (seq + 1, STREAM_WINDOW - len(chunk))


def test_a_hello_in_mid_stream_changes_the_wrapping_from_then_on():
    pair = ConnectionPair()
    stream = pair.open_stream()
    pair.server.send_stream_data(stream, b"before")
    pair.server.apply_hello({"notify": ["f", ["x"]]})
    pair.server.send_stream_data(stream, b"after")
    first = encode(
        notification("stream.data", {"stream": stream, "seq": 0, "chunk": b"before"}, None)
    )
    second = encode(
        notification("stream.data", {"stream": stream, "seq": 1, "chunk": b"after"}, ("f", ["x"]))
    )
    assert pair.server.data_to_send() == first + second


def test_more_keys_go_with_the_head_of_a_stream():
    pair = ConnectionPair()
    msgid = pair.ask("completion.create")
    stream = pair.server.open_stream(msgid, 200, {"a": "b"}, account="work")
    result = {"stream": stream, "status": 200, "headers": {"a": "b"}, "account": "work"}
    assert pair.to_client() == [ResponseReceived(msgid, result, None)]


def test_a_client_has_no_streams_to_send():
    with pytest.raises(LocalProtocolError, match="wrong_role"):
        Connection(Role.CLIENT).send_stream_data(1, b"x")


def test_a_request_that_waits_can_be_cancelled_and_is_answered_all_the_same():
    pair = ConnectionPair()
    msgid = pair.ask("completion.create")
    pair.client.cancel_request(msgid)
    assert pair.to_server() == [RequestCancel(msgid)]
    pair.server.send_result(msgid, {})
    assert pair.to_client() == [ResponseReceived(msgid, {}, None)]
    pair.client.cancel_request(msgid)
    assert pair.client.data_to_send() == b""


def test_a_cancel_that_crosses_with_the_answer_is_nothing():
    pair = ConnectionPair()
    msgid = pair.ask("completion.create")
    pair.server.send_result(msgid, {})
    pair.client.cancel_request(msgid)
    assert pair.to_server() == [Ignored()]


def test_a_prompt_that_is_too_long_is_answered_before_the_end():
    pair = ConnectionPair()
    msgid = pair.client.send_request("completion.create", {"body": bytes(MAX_LARGE_FRAME)})
    with pytest.raises(RemoteProtocolError, match="frame_too_large"):
        pair.server.receive_data(pair.client.data_to_send()[:100], 0.0)
    events_of(pair.server)
    (answer,) = pair.to_client()
    assert answer.msgid == msgid
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.USAGE, "frame_too_large")


def test_a_discarded_connection_holds_and_tells_nothing():
    pair = ConnectionPair()
    stream = pair.open_stream()
    pair.server.send_stream_data(stream, b"x")
    pair.server.receive_data(b"\x94\x00", 0.0)
    pair.server.discard()
    assert (pair.server.buffered, pair.server.data_to_send()) == (0, b"")
    assert pair.server.send_stream_data(stream, b"late") is False
    assert pair.server.stream_credit(stream) == 0
    assert pair.server.deadline() is None
    assert events_of(pair.server) == []


def test_quiet_is_what_holds_and_owes_nothing():
    pair = ConnectionPair()
    assert pair.server.is_quiet
    msgid = pair.ask("token.get")
    assert not pair.server.is_quiet
    pair.server.send_result(msgid, {})
    assert not pair.server.is_quiet  # not sent yet
    pair.to_client()
    assert pair.server.is_quiet
    pair.server.receive_data(b"\x94", 0.0)
    assert not pair.server.is_quiet
