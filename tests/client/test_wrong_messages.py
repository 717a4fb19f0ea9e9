"""Messages that are wrong cost their sender a connection and us no memory."""

from __future__ import annotations

import gc
import tracemalloc

import msgpack
import pytest

from copilot_broker.wire.connection import Connection, RequestReceived, Role
from copilot_broker.wire.errors import RemoteProtocolError


TIMES = 20
LONG = 200_000
BEFORE = b"\x94\x00\x01\xa9token.get\x91\x82\xa1a" + msgpack.packb("x" * LONG)
"""A request whose params are about to go wrong, after a text that has its length."""

WRONG = {
    "text-not-utf-8": BEFORE + b"\xa1b\xa2\xff\xfe",
    "key-no-text": BEFORE + b"\x07\x07",
    "nested": b"\x91" * 4096,
    "half-nested": b"\x94\x00\x01" + b"\x91" * 900,
}


def hear(data: bytes) -> object:
    server = Connection(Role.SERVER)
    try:
        server.receive_data(data, 0.0)
        return server.next_event()
    except RemoteProtocolError as error:
        return error.code


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_leaves_nothing_behind(kind):
    said = {hear(WRONG[kind]), hear(WRONG[kind])}  # imports and caches are in place from here on
    assert said <= {"not_a_message", "too_deep"}
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(TIMES):
            hear(WRONG[kind])
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < LONG / 4


def test_a_request_in_two_pieces_is_one_request():
    frame = msgpack.packb([0, 1, "token.get", [{"account": "x" * 1000}]])
    for cut in (3, 20, len(frame) - 1):
        server = Connection(Role.SERVER)
        server.receive_data(frame[:cut], 0.0)
        server.receive_data(frame[cut:], 0.0)
        assert isinstance(server.next_event(), RequestReceived)
