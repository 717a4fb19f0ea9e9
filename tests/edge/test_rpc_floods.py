"""One caller that asks as fast as it can, in whatever words, takes no more than its share of turns."""

from __future__ import annotations

import asyncio
import socket

import pytest

from brokerd.host.peers.peercred import peer_of
from brokerd.rpc.session import ANSWERS_HIGH, EVENTS_PER_TURN, RECV_CHUNK
from copilot_broker.wire import connection
from copilot_broker.wire.connection import ResponseReceived
from copilot_broker.wire.limits import MAX_LARGE_FRAME
from copilot_broker.wire.messages import Notification, Request, encode
from fakes.broker import a_lease
from fakes.rpc_door import PATIENCE, Door, until


CROWD = 60
SHARES = 3
"""Shares of a flood that may come before somebody else's turn: one that had begun, one of the turn
itself, and one that was decoded ahead."""


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        door.broker.at_hand = a_lease()
        yield door


@pytest.fixture
def decoded(monkeypatch):
    """How many messages the door has decoded, as a list of one."""
    count, decode = [0], connection.decode

    def counting(data, **more):
        count[0] += 1
        return decode(data, **more)

    monkeypatch.setattr(connection, "decode", counting)
    return count


def requests(method: str, params: object):
    return lambda number: encode(Request(number, method, params))


FLOODS = {
    "lending": requests("token.get", [{"account": "flood"}]),
    "status": requests("broker.status", [{}]),
    "hello": requests("broker.hello", [{}]),
    "unknown-method": requests("no.such", [{}]),
    "bad-params": requests("token.get", 7),
    "bad-values": requests("token.get", [{"min_valid": "long"}]),
    "unknown-notification": lambda _: encode(Notification("", [])),
    "odd-notification": lambda _: encode(Notification("stream.credit", [[1, 2]])),
    "credit-for-nothing": lambda _: encode(Notification("stream.credit", [{"stream": 9}])),
    "cancel-of-nothing": lambda _: encode(Notification("request.cancel", [{"msgid": 9}])),
}


def pour(client, frame) -> int:
    """Fill the client's socket with a flood of one kind; returns how many whole frames."""
    data = b"".join(frame(number) for number in range(20_000))
    taken = client.socket.send(data)
    count = 0
    while taken >= 0:
        taken -= len(frame(count))
        count += 1
    return count - 1


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("floods", [1, 5])
async def test_a_flood_keeps_nobody_waiting_for_more_than_its_share(door, decoded, kind, floods):
    bystander = await door.knock()
    flooders = [await door.knock() for _ in range(floods)]
    await until(lambda: door.server.connections == floods + 1)
    poured = [pour(flooder, FLOODS[kind]) for flooder in flooders]
    assert min(poured) > 4 * SHARES * EVENTS_PER_TURN
    bystander.wire.send_request("token.get", {"account": "me"})
    bystander.socket.send(bystander.wire.data_to_send())
    decoded[0] = 0
    await until(lambda: ("leasable", "me", 60.0) in door.broker.calls)
    assert decoded[0] <= floods * SHARES * EVENTS_PER_TURN
    assert isinstance(await bystander.event(), ResponseReceived)
    assert door.server.buffered < floods * (ANSWERS_HIGH + 2 * RECV_CHUNK)


async def test_a_crowd_of_floods_is_served_in_one_line(door, decoded):
    """Who has one question waits for a slice of time, not for a share of each of them."""
    bystander = await door.knock()
    flooders = [await door.knock() for _ in range(CROWD)]
    await until(lambda: door.server.connections == CROWD + 1)
    for flooder in flooders:
        assert pour(flooder, FLOODS["status"]) > 4 * EVENTS_PER_TURN
    bystander.wire.send_request("token.get", {"account": "me"})
    bystander.socket.send(bystander.wire.data_to_send())
    decoded[0] = 0
    await until(lambda: ("leasable", "me", 60.0) in door.broker.calls)
    assert decoded[0] < CROWD * EVENTS_PER_TURN / 2
    assert isinstance(await bystander.event(), ResponseReceived)


async def test_newcomers_who_have_hung_up_already_cost_no_look_at_them(tmp_path):
    looked_at = []

    def look(sock):
        looked_at.append(sock)
        return peer_of(sock)

    async with Door(tmp_path / "s", peers=look) as door:
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(door.path))
                caller.send(encode(Request(0, "broker.status", [{}])))
        staying = await door.knock()
        assert (await staying.call("broker.status")).error is None
        assert len(looked_at) == 1


async def test_a_flood_on_the_express_lane_is_one_request_a_turn(door):
    """Each request by itself, as fast as it is answered; others are asked for in between."""
    bystander, flooder = await door.knock(), await door.knock()
    for _ in range(2):
        await flooder.call("token.get", account="flood")  # it is known from now on
    await bystander.call("token.get", account="me")
    stop = False

    async def flood() -> None:
        while not stop:
            await flooder.call("token.get", account="flood")

    flooding = asyncio.create_task(flood())
    door.broker.calls.clear()
    await until(lambda: len(door.broker.calls) > 10)
    at = len(door.broker.calls)
    await bystander.call("token.get", account="me")
    assert door.broker.calls.index(("leasable", "me", 60.0)) - at <= SHARES
    stop = True
    await flooding


async def test_the_longest_prompt_on_its_way_keeps_nobody_waiting(door):
    """32 MiB come in pieces, and between two of them everybody else has a turn."""
    bystander, greedy = await door.knock(), await door.knock()
    body = b"x" * (MAX_LARGE_FRAME - 1024)
    greedy.wire.send_request("completion.create", {"body": body})
    sending = asyncio.create_task(greedy.flush())
    async with asyncio.timeout(PATIENCE):
        served = 0
        while not door.proxy.requests:
            assert (await bystander.call("token.get")).error is None
            served += not door.proxy.requests
        await sending
    assert served > 20
    assert door.proxy.requests[0].body == body


async def test_a_hundred_newcomers_a_turn_keep_nobody_waiting(door):
    """Those inside have their turn after each sixteen."""
    bystander = await door.knock()
    await bystander.call("token.get")
    crowd = [await door.knock() for _ in range(200)]
    bystander.wire.send_request("token.get", {"account": "me"})
    bystander.socket.send(bystander.wire.data_to_send())
    await until(lambda: ("leasable", "me", 60.0) in door.broker.calls)
    assert door.server.connections < len(crowd) / 2
    await until(lambda: door.server.connections == len(crowd) + 1)
