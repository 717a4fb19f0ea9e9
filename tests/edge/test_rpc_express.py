"""The express lane gives the very bytes of the long way, asks the gate alike, and knows its limits."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerd.broker import Broker
from brokerd.core.peer import Peer
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import GitHubToken, IndexEntry, Login, User
from brokerd.gate import Gate
from brokerd.rpc.express import KNOWN_MAX, REQUEST_MAX, ExpressLane
from brokerd.rpc.methods import Call, Methods
from copilot_broker.wire.connection import Connection, ResponseReceived, Role
from fakes.broker import CANARY, FakeBroker, a_lease, signed_out
from fakes.clock import FakeClock, settle
from fakes.github import FakeGitHub
from fakes.rpc_door import Door, until
from fakes.store import FakeIndex, FakeStore, FakeStores


HEADERS = {"Editor-Version": "copilot-broker/1.2.3", "X-GitHub-Api-Version": "2025-05-01"}


def request(msgid: int = 1, params: dict | None = None, method: str = "token.get") -> bytes:
    return msgpack.packb([0, msgid, method, [{"min_valid": 60.0} if params is None else params]])


def a_caller(listener: str = "rpc", process=None):
    return Gate(own_uid=1000).admit(Peer(7, 1000, 1000, pidfd=process), listener)


def long_way(broker, data: bytes, headers=HEADERS) -> bytes:
    """What the door answers where there is no express lane."""
    methods = Methods(
        broker,
        None,
        version="1",
        headers_for_client=lambda: headers,
        login_request=None,
        extra_status=None,
        about_app=None,
    )
    wire = Connection(Role.SERVER)
    wire.receive_data(data, 0.0)
    event = wire.next_event()
    result = methods.begin(Call(a_caller(), event.method, event.params))
    wire.send_result(event.msgid, result)
    return wire.data_to_send()


@pytest.fixture
def broker():
    broker = FakeBroker.__new__(FakeBroker)
    broker.calls, broker.at_hand, broker.on_change_callbacks = [], a_lease(), []
    return broker


@pytest.fixture
def lane(broker):
    return ExpressLane(broker, lambda: HEADERS)


texts = st.text(max_size=300)
leases = st.builds(
    a_lease,
    token=texts,
    token_id=st.text("0123456789abcdef", min_size=8, max_size=8),
    expires_at=st.integers(1 << 16, (1 << 32) - 1),
    expires_in=st.floats(0, 1e9),
    api_base=texts,
    completions_base=texts,
    account=texts,
    clamped=st.booleans(),
    cooldown_until=st.none() | st.integers(0, (1 << 63) - 1),
)


@settings(deadline=None, max_examples=200)
@given(
    lease=leases,
    msgid=st.integers(0, 2**32 - 1) | st.sampled_from([127, 128, 255, 256, 65535, 65536]),
    asked=st.tuples(
        st.none() | st.text(max_size=20),
        st.floats(0, 1),
        st.dictionaries(
            st.text(max_size=5).filter(lambda key: key != "reject"),
            st.integers(-(2**63), 2**64 - 1),
        ),
    ),
    headers=st.dictionaries(texts, texts, max_size=20),
)
def test_the_answer_is_byte_for_byte_that_of_the_long_way(lease, msgid, asked, headers):
    account, share, more = asked
    broker = FakeBroker.__new__(FakeBroker)
    broker.calls, broker.at_hand, broker.on_change_callbacks = [], lease, []
    lane = ExpressLane(broker, lambda: headers)
    params = {**more, "account": account, "min_valid": lease.expires_in * share}
    data = request(msgid, params)
    assert lane.answer(data, a_caller()) is None
    lane.learn(data)
    answer = lane.answer(data, a_caller())
    if answer is None:
        assert len(data) > REQUEST_MAX
    else:
        assert answer == long_way(broker, data, headers)
        for later in (
            {"expires_in": lease.expires_in / 2 + 1},
            {"cooldown_until": None if lease.cooldown_until else lease.expires_at},
        ):
            broker.at_hand = a_lease(**{**vars(lease), **later})
            if params["min_valid"] <= broker.at_hand.expires_in:
                assert lane.answer(data, a_caller()) == long_way(broker, data, headers)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_neither_answered_nor_learnt(data):
    broker = FakeBroker.__new__(FakeBroker)
    broker.calls, broker.at_hand, broker.on_change_callbacks = [], a_lease(), []
    lane = ExpressLane(broker, lambda: HEADERS)
    lane.learn(request())
    lane.learn(data)
    assert lane.answer(data, a_caller()) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x94",
        request()[:-1],
        request() + b"\x94",
        request() * 2,
        request(params={"min_valid": 60.0, "reject": "0a1b2c3d"}),
        request(params={"min_valid": "60"}),
        request(params={"min_valid": -1}),
        request(params={"account": 7}),
        request(params={"x": "y" * REQUEST_MAX}),
        request(method="token.watch"),
        msgpack.packb([0, 1, "token.get", []])[:-1] + b"\x91\xc1",
        msgpack.packb([0, 1, "token.get", 7]),
        msgpack.packb([0, True, "token.get", [{}]]),
        msgpack.packb([0, -1, "token.get", [{}]]),
        msgpack.packb([1, 1, "token.get", [{}]]),
        msgpack.packb([2, "token.get", [{}]]),
        # msgids that are not in their shortest form: the long way answers them in that
        b"\x94\x00\xcc\x01" + request()[3:],
        b"\x94\x00\xcd\x00\x01" + request()[3:],
        b"\x94\x00\xce\x00\x00\x00\x01" + request()[3:],
        b"\x94\x00\xcf" + bytes(7) + b"\x01" + request()[3:],
        b"\x94\xcc\x00\x01" + request()[3:],
        b"\xdc\x00\x04\x00\x01" + request()[3:],
    ],
    ids=lambda data: data[:12].hex() + f"-{len(data)}",
)
def test_what_is_odd_is_left_to_the_long_way(lane, data):
    lane.learn(data)
    assert lane.answer(data, a_caller()) is None
    lane.learn(request())
    assert lane.answer(data, a_caller()) is None
    assert lane.answer(request(), a_caller()) is not None


def test_where_the_broker_would_wait_nothing_is_answered(lane, broker):
    lane.learn(request())
    broker.at_hand = None
    assert lane.answer(request(), a_caller()) is None
    broker.at_hand = a_lease(expires_in=59.9)
    assert lane.answer(request(), a_caller()) is None


def test_requests_are_remembered_up_to_a_bound(lane):
    for number in range(KNOWN_MAX + 1):
        lane.learn(request(params={"min_valid": float(number)}))
    assert len(lane._known) == KNOWN_MAX
    assert lane.answer(request(params={"min_valid": 0.0}), a_caller()) is None
    assert lane.answer(request(params={"min_valid": float(KNOWN_MAX)}), a_caller()) is not None


def test_no_token_stays_when_the_broker_has_changed(lane, broker):
    lane.learn(request())
    assert CANARY.encode() in lane.answer(request(), a_caller())
    assert CANARY in str(lane._answers)
    for callback in broker.on_change_callbacks:
        callback()
    assert CANARY not in str(vars(lane))


def test_a_new_token_is_answered_at_once(lane, broker):
    lane.learn(request())
    lane.answer(request(), a_caller())
    broker.at_hand = a_lease(token="tid=second")
    assert b"tid=second" in lane.answer(request(), a_caller())


def test_a_github_token_is_never_answered(lane, broker):
    """Not even where the same account was lent a token right before."""
    lane.learn(request())
    assert lane.answer(request(), a_caller()) is not None
    broker.at_hand = a_lease(is_direct=True)
    caller = a_caller()
    for _ in range(2):
        assert lane.answer(request(), caller) is None
    assert caller._granted == {}
    assert CANARY not in str([answer[1:] for answer in lane._answers.values()])


def test_a_cool_down_is_answered_as_soon_as_it_begins_and_ends(lane, broker):
    lane.learn(request())
    for when in (None, 1_900_000_000, 1_900_000_060, None):
        broker.at_hand = a_lease(cooldown_until=when)
        answer = msgpack.unpackb(lane.answer(request(), a_caller()))
        assert answer[3]["cooldown_until"] == when


def test_new_headers_are_answered_when_told_of():
    broker = FakeBroker.__new__(FakeBroker)
    broker.calls, broker.at_hand, broker.on_change_callbacks = [], a_lease(), []
    headers = {"Editor-Version": "one"}
    lane = ExpressLane(broker, lambda: headers)
    lane.learn(request())
    lane.answer(request(), a_caller())
    headers["Editor-Version"] = "two"
    lane.forget()
    assert lane.answer(request(), a_caller()) == long_way(broker, request(), headers)


def test_numbers_of_an_odd_size_go_the_long_way(lane, broker):
    lane.learn(request())
    for expires_at in (0, 65535, 1 << 32):
        broker.at_hand = a_lease(expires_at=expires_at)
        assert lane.answer(request(), a_caller()) is None


def test_a_token_that_looks_like_an_answer_goes_the_long_way(lane, broker):
    """Cut open at the wrong place, the answer would be another one."""
    numbers = struct.pack(">I12sd", 1_900_000_000, b"\xaaexpires_in\xcb", 0.0)
    odd = (b"\xaaexpires_at\xce" + numbers).decode("latin-1")
    for token in (odd, odd.encode("latin-1").decode("utf-8", "replace")):
        broker.at_hand = a_lease(token=token)
        lane.learn(request())
        answer = lane.answer(request(), a_caller())
        assert answer is None or answer == long_way(broker, request())


# -- the gate ---------------------------------------------------------------------------------


class Process:
    alive = True

    def fileno(self):
        return -1

    def is_alive(self):
        return self.alive

    def close(self):
        pass


def test_the_gate_is_asked_and_told(lane, caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    lane.learn(request())
    assert lane.answer(request(), a_caller("http")) is None
    process = Process()
    caller = a_caller(process=process)
    for _ in range(3):
        assert lane.answer(request(), caller) is not None
    process.alive = False
    assert lane.answer(request(), caller) is None
    caller.close()
    assert [(r.message, getattr(r, "COUNT", None)) for r in caplog.records] == [
        ("token granted", None),
        ("token lent", 3),
    ]


async def test_a_scope_that_is_too_low_is_denied_as_ever(tmp_path, caplog):
    async with Door(tmp_path / "s") as door:
        door.broker.at_hand = a_lease()
        first = await door.knock()
        await first.call("token.get", min_valid=60.0)
        assert (await first.call("token.get", min_valid=60.0)).error is None
    async with Door(tmp_path / "t") as door:
        door.broker.at_hand = a_lease()
        await door.server.serve(door.socket, "http")
        client = await door.knock()
        for _ in range(3):
            answer = await client.call("token.get", min_valid=60.0)
            assert answer.error.code == "scope_too_low"
    denied = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert [(r.message, r.COUNT) for r in denied] == [("operation denied", n) for n in (1, 2)]


# -- over a socket ----------------------------------------------------------------------------


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        door.broker.at_hand = a_lease()
        yield door


@pytest.fixture
def ways(monkeypatch):
    """How many requests went each way."""
    counts = {"express": 0, "long": 0}
    answer, begin = ExpressLane.answer, Methods.begin

    def counting_answer(self, data, caller):
        found = answer(self, data, caller)
        counts["express"] += found is not None
        return found

    def counting_begin(self, call):
        counts["long"] += 1
        return begin(self, call)

    monkeypatch.setattr(ExpressLane, "answer", counting_answer)
    monkeypatch.setattr(Methods, "begin", counting_begin)
    return counts


async def test_the_first_goes_the_long_way_and_the_others_do_not(door, ways):
    clients = [await door.knock() for _ in range(2)]
    for _ in range(3):
        for client in clients:
            assert (await client.call("token.get", min_valid=60.0)).result["token"] == CANARY
    assert ways == {"express": 5, "long": 1}


async def test_several_requests_at_once_go_the_long_way_in_order(door, ways):
    client = await door.knock()
    await client.call("token.get", min_valid=60.0)
    msgids = [client.wire.send_request("token.get", {"min_valid": 60.0}) for _ in range(5)]
    await client.flush()
    assert [(await client.event()).msgid for _ in msgids] == msgids
    assert ways == {"express": 0, "long": 6}


async def test_a_request_in_two_pieces_goes_the_long_way(door, ways):
    client = await door.knock()
    await client.call("token.get", min_valid=60.0)
    client.wire.send_request("token.get", {"min_valid": 60.0})
    data = client.wire.data_to_send()
    await client.send(data[:9])
    await until(lambda: door.server.buffered == 9)
    await client.send(data[9:])
    assert isinstance(await client.event(), ResponseReceived)
    assert ways == {"express": 0, "long": 2}


async def test_behind_a_request_that_waits_the_long_way_is_taken(door, ways):
    """It knows which msgids are in use."""
    client = await door.knock()
    await client.call("token.get", min_valid=60.0)
    door.broker.may_answer.clear()
    waiting = await client.ask("broker.refresh")
    await until(lambda: door.broker.waiting == 1)
    assert (await client.call("token.get", min_valid=60.0)).error is None
    assert ways["express"] == 0
    client.wire._unanswered.discard(waiting)
    client.socket.send(request(waiting))
    assert await client.is_closed()  # msgid_in_use


async def test_the_order_of_last_words_is_kept(tmp_path, ways):
    async with Door(tmp_path / "s", connections=2) as door:
        door.broker.at_hand = a_lease()
        first, second = await door.knock(), await door.knock()
        for client in (first, second, first):
            await client.call("token.get", min_valid=60.0)
        assert (await (await door.knock()).call("token.get", min_valid=60.0)).error is None
        assert await second.is_closed()
        assert ways["express"] == 3


async def test_beside_sixteen_streams_a_request_is_refused_as_ever(door, ways):
    client = await door.knock()
    await client.call("token.get", min_valid=60.0)
    for _ in range(16):
        await client.call("token.watch")
    answer = await client.call("token.get", min_valid=60.0)
    assert answer.error.code == "too_many_requests"


async def test_a_stop_refuses_on_the_express_lane_too(door, ways):
    client = await door.knock()
    await client.call("token.get", min_valid=60.0)
    await client.call("token.get", min_valid=60.0)
    assert ways["express"] == 1
    busy = await door.knock()
    door.broker.may_answer.clear()
    await busy.ask("broker.refresh")
    await until(lambda: door.broker.waiting == 1)
    drain = asyncio.create_task(door.server.drain(1000))
    await asyncio.sleep(0)
    answer = await client.call("token.get", min_valid=60.0)
    assert answer.error.code == "shutting_down"
    door.broker.may_answer.set()
    await drain


async def test_a_caller_that_never_reads_loses_nothing(door, ways):
    door.broker.at_hand = a_lease(token="x" * 8000)
    client = await door.knock()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await client.call("token.get", min_valid=60.0)
    msgids = []
    for _ in range(60):
        msgids.append(await client.ask("token.get", min_valid=60.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert ways["express"] > 5
    assert [(await client.event()).msgid for _ in msgids] == msgids
    await until(lambda: door.server.buffered == 0)


async def test_an_error_is_told_the_long_way(door, ways):
    client = await door.knock()
    await client.call("token.get", min_valid=60.0)
    door.broker.at_hand = None
    door.broker.lease_answer = signed_out()
    answer = await client.call("token.get", min_valid=60.0)
    assert answer.error.code == "login_required"


# -- the broker's side ------------------------------------------------------------------------


@pytest.fixture
async def world():
    clock = FakeClock()
    github, store, index = FakeGitHub(clock), FakeStore(), FakeIndex()
    login = Login("github.com", User(42, "octocat"), GitHubToken("gho_kept"), "app")
    store.items[login.key] = login
    index.put("default", IndexEntry("github.com", 42, "octocat", "memory", "app"))
    index.default = "default"
    broker = Broker(
        clock=clock,
        github=lambda host: github,
        stores=FakeStores(store),
        index=index,
        settings=lambda name: AccountSettings(),
        random=random.Random(1),
    )
    broker.clock, broker.github = clock, github
    task = asyncio.create_task(broker.run())
    await settle()
    yield broker
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settle()


async def test_at_hand_is_what_lease_would_lend(world):
    lease, expires_at, expires_in = world.leasable(None, 60.0)
    lent = await world.lease(None)
    assert (lease.token, lease.token_id, lease.host) == (lent.token, lent.token_id, lent.host)
    assert (expires_at, expires_in) == (lent.expires_at, lent.expires_in)
    assert world.leasable(None, 60.0)[0] is lease
    await world.clock.advance(0.5)
    again = world.leasable("default", 60.0)
    assert again[2] == expires_in - 0.5
    assert again[1] == expires_at
    world.clock.jump_wall(100)
    assert world.leasable(None, 60.0)[1] == expires_at + 100


async def test_nothing_is_at_hand_where_lease_would_wait_or_refuse(world):
    assert world.leasable("nobody", 60.0) is None
    assert world.leasable(None, 1e6) is None
    assert world.leasable(None, -1.0) is None
    assert world.leasable(None, float("nan")) is None


async def test_a_rejected_token_is_not_at_hand(world):
    lease = world.leasable(None, 60.0)[0]
    world.github.gate = asyncio.Event()
    world.reject("default", lease.token_id)
    assert world.leasable(None, 60.0) is None
    world.github.gate.set()
    await settle()
    assert world.leasable(None, 60.0)[0].token != lease.token


async def test_after_a_suspend_the_long_way_looks_at_the_clock_first(world):
    assert world.leasable(None, 60.0) is not None
    world.clock.suspend(30.0)
    assert world.leasable(None, 60.0) is None
    await world.lease(None)
    await settle()
    assert world.leasable(None, 60.0) is not None


async def test_an_expired_token_is_not_at_hand(world):
    life = world.leasable(None, 0.0)[2]
    world.github.gate = asyncio.Event()  # no other one comes
    await world.clock.advance(life - 0.25)
    assert world.leasable(None, 0.0) is not None
    await world.clock.advance(0.5)
    assert world.leasable(None, 0.0) is None


async def test_what_is_at_hand_goes_with_the_login(world):
    assert world.leasable(None, 60.0) is not None
    await world.logout()
    assert world.leasable(None, 60.0) is None
    assert "tid=" not in str(vars(world._leases))


async def test_names_that_nobody_has_are_not_remembered(world):
    for number in range(1000):
        world.leasable(f"name{number}", 60.0)
    assert len(world._leases._at_hand) <= 64
