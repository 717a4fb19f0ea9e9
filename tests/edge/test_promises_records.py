"""As many records as things that happened: nothing is written down twice, nothing is left out."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.peer import Peer
from brokerd.errors import PermanentError
from brokerd.gate import Gate


OWN = 1000
LISTENERS = ("rpc", "http", "sandbox")
ADMIN = ("account.login", "account.logout", "broker.refresh")
ACCOUNTS = ("default", "work")
FINGERPRINTS = ("aaaaaaaa", "bbbbbbbb", "cccccccc")


class Day:
    """What many callers do at one gate, and what of it is to be found in the audit log."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.gate = Gate([Rule(unit="tame-*", scope=Scope.COMPLETE)], own_uid=OWN)
        self.callers = []
        self.happened: Counter[str] = Counter()

    def connect(self) -> None:
        uid = self.dice.choice([OWN, OWN, OWN, 1001])
        unit = self.dice.choice(["tame-x.service", "wild.service"])
        try:
            peer = Peer(7, uid, uid, unit=unit, sandbox="none")
            self.callers.append(self.gate.admit(peer, self.dice.choice(LISTENERS)))
        except PermanentError:
            self.happened["peer-denied"] += 1

    def ask(self) -> None:
        caller, account = self.dice.choice(self.callers), self.dice.choice(ACCOUNTS)
        operation = self.dice.choice(["token.get", "completion.create", *ADMIN])
        try:
            caller.check(operation, account)
        except PermanentError:
            self.happened["operation-denied"] += 1
            return
        if operation == "token.get":
            caller.grant("token.get", account, self.dice.choice(FINGERPRINTS))
        elif operation == "completion.create":
            caller.complete(account)
        self.happened["operation-granted" if operation in ADMIN else operation] += 1

    def leave(self) -> None:
        caller = self.callers.pop(self.dice.randrange(len(self.callers)))
        caller.close()


@pytest.mark.parametrize("seed", range(20))
def test_records_add_up_to_the_requests(seed, audit_trail):
    day = Day(seed)
    for _ in range(300):
        day.dice.choice([day.connect, *([day.ask] * 6 if day.callers else [])])()
        if len(day.callers) > 8:
            day.leave()
    while day.callers:
        day.leave()
    day.gate.close()
    names = Counter(audit_trail.names())
    for name in ("peer-denied", "operation-denied", "operation-granted"):
        assert count(audit_trail, name) == day.happened[name] > 0
    assert count(audit_trail, "token-total") == day.happened["token.get"] > 0
    assert count(audit_trail, "completion-total") == day.happened["completion.create"] > 0
    assert names["token-granted"] == names["token-total"]
    assert names["completion-granted"] == names["completion-total"]


def count(trail, name):
    return sum(fields.get("COUNT", 1) for fields in trail.of(name))


def test_each_record_says_who_through_what_and_to_what_end(audit_trail):
    day = Day(1)
    while not {"peer-denied", "operation-denied", "token.get"} <= set(day.happened):
        day.connect()
        if day.callers:
            day.ask()
    for name in ("peer-denied", "operation-denied", "token-granted"):
        for fields in audit_trail.of(name):
            assert fields["LISTENER"] in LISTENERS
            assert fields["PEER_PID"] == 7
            assert fields["PEER_UNIT"] in ("tame-x.service", "wild.service")
            assert ("REASON" in fields) is name.endswith("-denied")
            assert ("TOKEN_FP" in fields) is (name == "token-granted")
