"""The fast path's few bytes equal those of the whole implementation."""

from __future__ import annotations

import subprocess
import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.wire_pairs import errors, maps, values
from copilot_broker.wire.connection import Connection, RequestReceived, Role
from copilot_broker.wire.messages import Response, encode
from copilot_broker.wire.mini import MAX_RESPONSE, decode_response, encode_get


texts = st.none() | st.text(max_size=300)
seconds = st.floats(0, 1e6)


def without_none(**params):
    return {key: value for key, value in params.items() if value is not None}


@given(seconds, texts, texts)
def test_request_is_byte_for_byte_the_same(min_valid, account, reject):
    client = Connection(Role.CLIENT)
    client.send_request(
        "token.get", without_none(min_valid=min_valid, account=account, reject=reject)
    )
    assert encode_get(min_valid, account, reject) == client.data_to_send()


def test_long_texts_have_long_headers():
    for size in (31, 32, 255, 256, 65535, 65536):
        server = Connection(Role.SERVER)
        server.receive_data(encode_get(1.0, None, "x" * size), 0.0)
        assert server.next_event() == RequestReceived(
            0, "token.get", {"min_valid": 1.0, "reject": "x" * size}
        )


@given(errors | st.none(), maps | values)
def test_response_is_read_the_same(error, result):
    frame = encode(Response(0, error and error.to_map(), result))
    assert decode_response(frame) == tuple(msgpack.unpackb(frame)[2:])


@given(maps)
def test_every_prefix_waits_for_more(result):
    frame = encode(Response(0, None, result))
    assert all(decode_response(frame[:end]) is None for end in range(len(frame)))


@pytest.mark.parametrize(
    "value",
    [
        [1] * 20,
        [[1] * 70_000],
        {str(i): i for i in range(20)},
        {str(i): 0 for i in range(9_000)},
        -1,
        -33,
        -(2**15),
        -(2**31),
        2**32,
        1.5,
    ],
)
def test_every_width_of_number_and_length(value):
    assert decode_response(encode(Response(0, None, value))) == (None, value)


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error_or_waits(data):
    try:
        decode_response(data)
    except ValueError:
        pass
    except Exception as error:
        pytest.fail(repr(error))


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400",
        msgpack.packb([1, 1, None, {}]),
        msgpack.packb([0, 0, "m", []]),
        b"\x94\x01\x00\xc0" + b"\x91" * 60,
        b"\x94" + bytes(MAX_RESPONSE),
        b"\x94\x01\x00\xc0\xc1",
        b"\x94\x01\x00\xc0\x81\x90\xc0",
        b"\x94\x01\x00\xc0\xd4\x01\x00",
    ],
)
def test_what_is_no_answer_is_refused(data):
    with pytest.raises(ValueError):
        decode_response(data)


def test_fast_path_imports_next_to_nothing():
    heavy = "msgpack asyncio socket json re dataclasses argparse enum pathlib inspect"
    code = (
        "import sys; before = set(sys.modules)\n"
        "import copilot_broker.wire.mini, copilot_broker.wire.address\n"
        f"print(*sorted(set({heavy.split()!r}) & (set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
