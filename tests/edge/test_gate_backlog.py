"""A crowd that leaves at once: its records follow, a few a round, in order, and all of them."""

from __future__ import annotations

import asyncio

from brokerd.core.peer import Peer
from brokerd.gate import Gate
from brokerd.gate.backlog import PER_ROUND, WAITING_MAX, Backlog


CROWD = 50


class FakeProcess:
    """A hold on a process that is let go of once."""

    closed = False

    def fileno(self) -> int:
        return -1

    def is_alive(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


def crowd(gate):
    callers = []
    for number in range(CROWD):
        peer = Peer(number, 1000, 1000, pidfd=FakeProcess())
        caller = gate.admit(peer, "rpc")
        for _ in range(number + 1):
            caller.grant("token.get", "default", "aaaaaaaa")
        callers.append(caller)
    return callers


def lent(trail):
    return [(each["PEER_PID"], each["COUNT"]) for each in trail.of("token-total")]


EACH = [(number, number + 1) for number in range(CROWD)]


async def test_a_round_of_the_loop_writes_a_few_and_lets_go_of_all(audit_trail):
    gate = Gate(own_uid=1000)
    callers = crowd(gate)
    for caller in callers:
        caller.close()
    assert gate.connections == 0
    assert not any(caller.peer.is_alive() for caller in callers)
    assert PER_ROUND < CROWD / 10
    assert lent(audit_trail) == EACH[:PER_ROUND]
    rounds = 0
    while len(lent(audit_trail)) < CROWD:
        before = len(lent(audit_trail))
        await asyncio.sleep(0)
        assert len(lent(audit_trail)) - before <= PER_ROUND
        rounds += 1
        assert rounds <= CROWD
    assert lent(audit_trail) == EACH


async def test_a_grant_does_not_wait_behind_them(audit_trail):
    gate = Gate(own_uid=1000)
    *leaving, staying = crowd(gate)
    for caller in leaving:
        caller.close()
    staying.grant("token.get", "work", "bbbbbbbb")
    assert audit_trail.entries[-1][0] == "token-granted"
    assert audit_trail.entries[-1][1]["ACCOUNT"] == "work"
    gate.close()


async def test_one_that_leaves_is_written_at_once_again_when_the_crowd_is_through(audit_trail):
    gate = Gate(own_uid=1000)
    *leaving, last = crowd(gate)
    for caller in leaving:
        caller.close()
    gate.catch_up()
    await asyncio.sleep(0)
    last.close()
    assert lent(audit_trail) == EACH


async def test_the_end_of_the_gate_writes_what_waits(audit_trail):
    gate = Gate(own_uid=1000)
    for caller in crowd(gate):
        caller.close()
    gate.close()
    gate.close()
    assert lent(audit_trail) == EACH


def test_without_a_loop_nothing_waits(audit_trail):
    for caller in crowd(Gate(own_uid=1000)):
        caller.close()
    assert lent(audit_trail) == EACH


async def test_no_more_wait_than_are_allowed_and_none_is_lost():
    backlog, written = Backlog(), []
    for number in range(WAITING_MAX + 100):
        backlog.add(lambda number=number: written.append(number))
    assert len(backlog) == WAITING_MAX
    assert len(written) == 100
    backlog.catch_up()
    assert written == list(range(WAITING_MAX + 100))
