"""However often somebody is refused: the records stay few, and their counts add up."""

from __future__ import annotations

import gc
import weakref

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.peer import Peer
from brokerd.errors import PermanentError
from brokerd.gate import Gate
from brokerd.gate.repeats import KEYS_MAX, WINDOW, Repeats
from brokerd.gate.verdicts import OF_ALL
from fakes.rpc_door import Door


OWN = 1000


class Now:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def gate(now):
    return Gate([Rule(listener="agents", scope=Scope.STATUS)], own_uid=OWN, clock=now)


def peer(pid=7, uid=OWN):
    return Peer(pid, uid, uid, unit="agent.service", sandbox="none")


def refuse(caller, operation="token.get", times=1):
    for _ in range(times):
        with pytest.raises(PermanentError):
            caller.check(operation)


def send_away(gate, times=1, **who):
    for _ in range(times):
        with pytest.raises(PermanentError):
            gate.admit(peer(**who), "rpc")


def counts(trail, name="operation-denied"):
    return [fields["COUNT"] for fields in trail.of(name)]


def test_a_thousand_denials_over_three_connections_are_a_thousand(gate, now, audit_trail):
    callers = [gate.admit(peer(pid), "agents") for pid in (1, 2, 3)]
    for number in range(1000):
        refuse(callers[number % 3], ("token.get", "token.watch")[number % 2])
        now.seconds += 0.2
    for caller in callers:
        caller.close()
    found = counts(audit_trail)
    assert sum(found) == 1000
    assert len(found) <= 3 * 2 * 2 * 4, "of each connection and kind two a minute, and 200 s"
    for pid, of_each in ((1, 334), (2, 333), (3, 333)):
        mine = [each for each in audit_trail.of("operation-denied") if each["PEER_PID"] == pid]
        assert sum(each["COUNT"] for each in mine) == of_each


def test_the_first_is_told_at_once_and_the_rest_when_the_connection_closes(gate, audit_trail):
    caller = gate.admit(peer(), "agents")
    refuse(caller, times=5)
    assert counts(audit_trail) == [1]
    refuse(caller, "completion.create")
    assert counts(audit_trail) == [1, 1], "another operation is news"
    caller.close()
    caller.close()
    assert counts(audit_trail) == [1, 1, 4]
    assert audit_trail.of("operation-denied")[2]["OPERATION"] == "token.get"


@pytest.mark.parametrize("event", ["denial", "another denial", "connection", "stranger"])
def test_after_a_minute_whatever_happens_brings_the_count(gate, now, audit_trail, event):
    caller = gate.admit(peer(), "agents")
    refuse(caller, times=13)
    now.seconds += WINDOW - 0.1
    gate.admit(peer(8), "agents")
    assert counts(audit_trail) == [1]
    now.seconds += 0.1
    match event:
        case "denial":
            refuse(caller)
        case "another denial":
            refuse(caller, "completion.create")
        case "connection":
            gate.admit(peer(8), "agents")
        case "stranger":
            send_away(gate, uid=1)
    assert counts(audit_trail) == [1, 12, *([1] if "denial" in event else [])]
    caller.close()
    assert sum(counts(audit_trail)) == 13 + ("denial" in event)


def test_new_rules_end_the_count_and_it_has_the_rights_of_its_time(gate, audit_trail):
    caller = gate.admit(peer(), "agents")
    refuse(caller, times=3)
    gate.regrant([Rule(listener="agents", scope=Scope.COMPLETE)])
    refuse(caller, times=2)
    caller.close()
    told = [(each["SCOPE"], each["COUNT"]) for each in audit_trail.of("operation-denied")]
    assert told == [("status", 1), ("status", 2), ("complete", 1), ("complete", 1)]


def test_to_connect_anew_each_time_does_not_help(gate, now, audit_trail):
    for pid in range(500):
        caller = gate.admit(peer(pid), "agents")
        refuse(caller, times=2)
        caller.close()
        now.seconds += 0.01
    assert counts(audit_trail) == [1] * OF_ALL
    now.seconds += WINDOW
    gate.admit(peer(), "agents")
    assert counts(audit_trail) == [1] * OF_ALL + [1000 - OF_ALL]
    assert audit_trail.of("operation-denied")[-1]["PEER_PID"] == 499, "the last of them"


def test_a_storm_of_strangers_is_two_records_for_each_of_them(gate, now, audit_trail):
    send_away(gate, 400, uid=1)
    send_away(gate, 300, uid=2)
    assert counts(audit_trail, "peer-denied") == [1, 1]
    now.seconds += WINDOW
    send_away(gate, 1, uid=1)
    assert counts(audit_trail, "peer-denied") == [1, 1, 399, 299, 1]
    assert {each["PEER_UID"] for each in audit_trail.of("peer-denied")} == {1, 2}


def test_the_end_of_the_gate_leaves_nothing_uncounted(gate, audit_trail):
    send_away(gate, 4, uid=1)
    callers = [gate.admit(peer(pid), "agents") for pid in range(OF_ALL + 5)]
    for caller in callers:
        refuse(caller, times=3)
        caller.close()
    gate.close()
    gate.close()
    assert sum(counts(audit_trail, "peer-denied")) == 4
    assert sum(counts(audit_trail)) == 3 * (OF_ALL + 5)


def test_a_refused_caller_is_forgotten_when_it_has_closed(gate):
    caller = gate.admit(peer(), "agents")
    refuse(caller, times=3)
    caller.close()
    left = weakref.ref(caller)
    del caller
    gc.collect()
    assert left() is None


def test_no_more_is_held_than_is_allowed_and_nothing_is_lost():
    told = []
    repeats = Repeats(1)
    for key in range(KEYS_MAX + 10):
        repeats.tell(key, told.append, 0.0)
        repeats.tell(key, told.append, 0.0)
    assert len(told) == KEYS_MAX + 20
    repeats.end_all()
    assert sum(told) == 2 * (KEYS_MAX + 10)


async def test_a_thousand_denials_over_three_sockets_are_a_thousand(tmp_path, audit_trail):
    async with Door(tmp_path / "s") as door:
        await door.server.serve(door.socket, "http")
        clients = [await door.knock() for _ in range(3)]
        for number in range(1000):
            answer = await clients[number % 3].call("token.get")
            assert answer.error.code == "scope_too_low"
    assert sum(counts(audit_trail)) == 1000
    assert len(counts(audit_trail)) <= 12, "two of each, or a few more where that took minutes"
