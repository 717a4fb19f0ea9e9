"""However often somebody administers or looks: the records stay few, and their counts add up."""

from __future__ import annotations

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.peer import Peer
from brokerd.gate import Gate
from brokerd.gate.caller import TOLD_MAX
from brokerd.gate.repeats import WINDOW
from brokerd.gate.verdicts import OF_ALL
from fakes.rpc_door import Door


OWN = 1000


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def gate(now):
    return Gate(own_uid=OWN, clock=lambda: now[0])


def peer(pid=7):
    return Peer(pid, OWN, OWN, unit="agent.service", sandbox="none")


def told(trail):
    found = trail.of("operation-granted")
    return [(each["OPERATION"], each["ACCOUNT"], each["COUNT"]) for each in found]


def total(trail):
    return sum(count for _, _, count in told(trail))


def test_two_who_look_in_a_loop_are_a_few_records(gate, now, audit_trail):
    callers = [gate.admit(peer(pid), "rpc") for pid in (1, 2)]
    for number in range(1000):
        callers[number % 2].check(("grant.list", "account.list")[number // 2 % 2])
        now[0] += 0.1
    for caller in callers:
        caller.close()
    assert total(audit_trail) == 1000
    assert len(told(audit_trail)) <= 2 * 2 * 2 * 2, "of each connection and kind two a minute"


def test_the_first_for_each_account_is_told_at_once_and_the_rest_at_the_close(gate, audit_trail):
    caller = gate.admit(peer(), "rpc")
    for account in (None, "work", "work", "work", None):
        caller.check("account.logout", account)
    first = [("account.logout", "(default)", 1), ("account.logout", "work", 1)]
    assert told(audit_trail) == first
    caller.close()
    caller.close()
    assert sorted(told(audit_trail)[2:]) == [
        ("account.logout", "(default)", 1),
        ("account.logout", "work", 2),
    ]


def test_after_a_minute_it_is_news_again(gate, now, audit_trail):
    caller = gate.admit(peer(), "rpc")
    for _ in range(3):
        caller.check("account.list")
    now[0] += WINDOW
    caller.check("account.list")
    assert [count for _, _, count in told(audit_trail)] == [1, 2, 1]


def test_new_rules_end_the_count_and_it_has_the_rights_of_its_time(gate, audit_trail):
    caller = gate.admit(peer(), "rpc")
    for _ in range(3):
        caller.check("account.list")
    gate.regrant([Rule(unit="agent.service", scope=Scope.STATUS)])
    caller.close()
    assert total(audit_trail) == 3
    assert {each["SCOPE"] for each in audit_trail.of("operation-granted")} == {"admin"}


def test_to_connect_anew_each_time_does_not_help(gate, now, audit_trail):
    for pid in range(500):
        caller = gate.admit(peer(pid), "rpc")
        caller.check("account.list")
        caller.check("account.list")
        caller.close()
    assert len(told(audit_trail)) == OF_ALL
    gate.close()
    assert told(audit_trail)[OF_ALL:] == [("account.list", "(default)", 1000 - OF_ALL)]
    assert audit_trail.of("operation-granted")[-1]["PEER_PID"] == 499, "the last of them"


def test_names_that_are_thought_up_are_not_kept_for_ever(gate, audit_trail):
    caller = gate.admit(peer(), "rpc")
    for number in range(10 * TOLD_MAX):
        caller.check("account.logout", f"a{number}")
    assert len(caller._told) <= TOLD_MAX
    assert len(told(audit_trail)) == OF_ALL
    caller.close()
    gate.close()
    assert total(audit_trail) == 10 * TOLD_MAX


def test_denials_and_grants_of_one_operation_are_counted_apart(gate, audit_trail):
    caller = gate.admit(peer(), "rpc")
    caller.check("account.list")
    gate.explain(peer(), "rpc")
    tame = gate.admit(peer(8), "agents")
    with pytest.raises(Exception, match="scope_too_low"):
        tame.check("account.list")
    assert audit_trail.names() == ["operation-granted", "operation-denied"]


async def test_asking_in_a_loop_over_the_wire_is_two_records(tmp_path, audit_trail):
    async with Door(tmp_path / "s") as door:
        client = await door.knock()
        for _ in range(200):
            assert (await client.call("grant.explain", unit="x.service")).error is None
    assert [operation for operation, _, _ in told(audit_trail)] == ["grant.list"] * 2
    assert total(audit_trail) == 200
