"""Bombs are refused when their header is read: nothing is allocated, and time stays linear."""

from __future__ import annotations

import time
import tracemalloc

import msgpack
import pytest
from hypothesis import given

from client.wire_pairs import values
from copilot_broker.wire.connection import Connection, Role
from copilot_broker.wire.errors import RemoteProtocolError
from copilot_broker.wire.limits import MAX_DEPTH, MAX_FRAME, MAX_ITEMS, MAX_LARGE_FRAME, Limits
from copilot_broker.wire.prescan import Prescan


MIB = 1024 * 1024


def refused(data: bytes, role: Role = Role.SERVER) -> tuple[str, int]:
    """The code that refuses `data`, and the peak of bytes allocated meanwhile."""
    connection = Connection(role)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError) as caught:
            connection.receive_data(data, 0.0)
        return caught.value.code, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HEAD = b"\x94\x00\x01\xa9token.get"
BOMBS = {
    "bin of 1 GB": (HEAD + b"\x91\xc6\x40\x00\x00\x00", "frame_too_large"),
    "str of 4 GB": (HEAD + b"\x91\xdb\xff\xff\xff\xff", "frame_too_large"),
    "array of 4 G": (b"\xdd\xff\xff\xff\xff", "too_many_items"),
    "map of 4 G": (HEAD + b"\xdf\xff\xff\xff\xff", "too_many_items"),
    "tower of arrays": (HEAD + b"\x91" * 200_000, "too_deep"),
    "tower of maps": (HEAD + b"\x81\xa1k" * 50_000, "too_deep"),
    "empty arrays": (HEAD + b"\xdc\xff\xff" + b"\x90" * 65535, "too_many_items"),
    "many small lists": (
        HEAD + b"\xdc\x10\x00" + (b"\x9f" + b"\x80" * 15) * 4096,
        "too_many_items",
    ),
    "nothing but bytes": (
        HEAD + b"\x91\xc6\x00\x04\x00\x00" + bytes(MAX_FRAME),
        "frame_too_large",
    ),
    "extension": (HEAD + b"\x91\xd4\x01\x00", "bad_type"),
    "timestamp": (HEAD + b"\x91\xd6\xff\x00\x00\x00\x00", "bad_type"),
    "never used": (b"\x91\xc1", "bad_type"),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", "not_a_message"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", "not_a_message"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_without_allocating(name):
    data, code = BOMBS[name]
    found, peak = refused(data)
    assert found == code
    assert peak < len(data) * 2 + 64 * 1024


@pytest.mark.parametrize("name", ["bin of 1 GB", "tower of arrays", "array of 4 G"])
def test_client_refuses_bombs_too(name):
    assert refused(BOMBS[name][0], Role.CLIENT)[0] == BOMBS[name][1]


def test_largest_allowed_message_stays_near_a_mebibyte():
    data = msgpack.packb([0, 1, "token.get", [{"x": [{}] * (MAX_ITEMS - 10)}]])
    connection = Connection(Role.SERVER)
    tracemalloc.start()
    try:
        connection.receive_data(data, 0.0)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
    assert connection.next_event() is not None


def test_only_a_prompt_may_be_long():
    body = bytes(MAX_FRAME)
    large = Connection(Role.SERVER)
    large.receive_data(msgpack.packb([0, 1, "completion.create", [{"body": body}]]), 0.0)
    assert large.next_event().params["body"] == body
    assert (
        refused(msgpack.packb([0, 1, "xcompletion.create", [{"body": body}]]))[0]
        == "frame_too_large"
    )
    assert (
        refused(msgpack.packb([2, "completion.create", [{"body": body}]]))[0] == "frame_too_large"
    )
    claim = (
        msgpack.packb([0, 1, "completion.create"])[1:]
        + b"\xc6"
        + (MAX_LARGE_FRAME + 1).to_bytes(4, "big")
    )
    assert refused(b"\x94" + claim)[0] == "frame_too_large"


def test_depth_bound_is_exact():
    def nested(depth: int) -> bytes:
        return b"\x91" * depth + b"\xc0"

    scan = Prescan(Limits(), lambda _: False)
    assert scan.find_end(bytearray(nested(MAX_DEPTH))) == MAX_DEPTH + 1
    with pytest.raises(RemoteProtocolError, match="too_deep"):
        scan.find_end(bytearray(nested(MAX_DEPTH + 1)))


@given(values)
def test_end_is_where_the_encoder_stopped(value):
    frame = msgpack.packb([value])
    scan = Prescan(Limits(depth=100), lambda _: False)
    assert scan.find_end(bytearray(frame + b"\x90\xc1")) == len(frame)


@given(values)
def test_no_prefix_of_a_message_has_an_end(value):
    frame = msgpack.packb([value])
    scan = Prescan(Limits(depth=100), lambda _: False)
    grown = bytearray()
    ends = []
    for byte in frame:
        grown.append(byte)
        ends.append(scan.find_end(grown))
    assert ends == [None] * (len(frame) - 1) + [len(frame)]


def test_byte_by_byte_costs_the_same_work():
    """Counted in looks at the buffer, which a machine's load does not change."""
    looks = 0

    class Counting(bytearray):
        def __getitem__(self, key):
            nonlocal looks
            looks += 1
            return super().__getitem__(key)

    frame = msgpack.packb([0, 1, "m", [{"x": [1] * 10_000, "b": bytes(2000)}]])
    scan = Prescan(Limits(), lambda _: False)
    grown = Counting()
    for byte in frame:
        grown.append(byte)
        end = scan.find_end(grown)
    assert end == len(frame)
    assert looks <= 2 * len(frame)


def test_what_a_frame_still_lacks_is_told():
    frame = msgpack.packb([0, 1, "m", [{"b": bytes(2000)}]])
    scan = Prescan(Limits(), lambda _: False)
    assert scan.missing(bytearray()) == 0
    assert scan.find_end(bytearray(frame[:100])) is None
    assert scan.missing(bytearray(frame[:100])) == len(frame) - 100


def test_refusing_is_quick():
    began = time.process_time()
    for data, _ in BOMBS.values():
        refused(data)
    assert time.process_time() - began < 2
