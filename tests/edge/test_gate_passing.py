"""Keys that pass, at the gate: each where it is good and nowhere else, and never more than before."""

from __future__ import annotations

import logging

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.audit import BY_MESSAGE_ID, flaws
from brokerd.core.keys import DAY, Key, Spent, day_of
from brokerd.core.passing import MINTED_MAX, RUNS_MAX, KeptRun, Passing, PassingKey, Process
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, PermanentError, TransientError
from brokerd.gate import Gate
from fakes.key_store import FakeKeyStore


NOON = 20_000 * DAY + DAY // 2
HERE, THERE = "127.0.0.1:40001", "127.0.0.1:40002"
AIDER = Passing("aider")
MODELS = Passing("tool", models=("gpt-*",))


class Bench:
    """A gate, and a caller on RPC that asks for keys."""

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.now, self.wall, self.drawn = 1000.0, float(NOON), 0
        self.gate = Gate(
            rules,
            own_uid=1000,
            clock=lambda: self.now,
            wall=lambda: self.wall,
            keys=FakeKeyStore(),
            random=self.draw,
        )
        self.asker = self.connect("rpc")
        self.revoked: list[str] = []

    def draw(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")

    def connect(self, listener: str = "http-run", at: str = ""):
        return self.gate.admit(Peer(pid=42, uid=1000, gid=1000), listener, at)

    def lease(self, wanted: Passing = AIDER, at: str = HERE) -> tuple[PassingKey, str]:
        return self.gate.passing.lease(
            self.asker,
            wanted,
            at=at,
            process=Process(42, 7, "b"),
            on_revoked=lambda: self.revoked.append(at),
        )

    def mint(self, wanted: Passing = MODELS, lasts: int = 3600) -> tuple[PassingKey, str]:
        return self.gate.passing.mint(self.asker, wanted, lasts)

    def keep(self, name: str = "ci") -> str:
        return self.gate.create_key(lambda created, digest: Key(name, digest, created))[1]

    def code(self, caller, secret: str) -> str:
        with pytest.raises(PermanentError) as caught:
            self.gate.with_key(caller, secret)
        assert caught.value.failure.error_class is ErrorClass.DENIED
        assert not secret or secret not in str(caught.value)
        return caught.value.failure.code


@pytest.fixture
def bench(caplog):
    caplog.set_level(logging.INFO)
    return Bench()


def records(caplog):
    """What the audit log got, by name; none of it may be flawed."""
    found = []
    for record in caplog.records:
        fields = {k: v for k, v in vars(record).items() if k.isupper()}
        if event := BY_MESSAGE_ID.get(str(fields.get("MESSAGE_ID"))):
            assert not flaws(record.getMessage(), fields)
            found.append((event.name, fields))
    return found


# -- where a key is good -------------------------------------------------------------------------


def test_each_key_is_good_where_it_belongs_and_nowhere_else(bench):
    kept, (_, minted) = bench.keep(), bench.mint()
    (_, here), (_, there) = bench.lease(), bench.lease(at=THERE)
    outside = [bench.connect("http"), bench.connect("http-tcp")]
    at_here, at_there = bench.connect(at=HERE), bench.connect(at=THERE)
    for caller in outside:
        for key in (kept, minted):
            assert bench.gate.with_key(caller, key).scope is Scope.COMPLETE
        for key in (here, there):
            assert bench.code(caller, key) == "key_elsewhere"
    for caller, own, other in ((at_here, here, there), (at_there, there, here)):
        assert bench.gate.with_key(caller, own).peer.key.startswith("run:aider")
        for key in (kept, minted, other):
            assert bench.code(caller, key) == "key_elsewhere"
        assert bench.code(caller, "") == "key_missing"
        assert bench.code(caller, "cpb_" + "A" * 43) == "key_unknown"


@pytest.mark.parametrize(
    ("rule", "scope"),
    [
        (Rule(listener="http-run", scope=Scope.ADMIN), Scope.COMPLETE),
        (Rule(listener="http-run", scope=Scope.STATUS), Scope.STATUS),
        (Rule(uid=1000, scope=Scope.STATUS), Scope.STATUS),
        (Rule(unit="x.service", scope=Scope.STATUS), Scope.STATUS),
    ],
)
def test_rules_take_away_from_a_run_and_never_give(caplog, rule, scope):
    bench = Bench()
    _, text = bench.lease()
    bench.gate.regrant([rule])
    assert bench.gate.with_key(bench.connect(at=HERE), text).scope is scope


def test_limits_are_the_intersection_of_all(bench):
    bench.gate.regrant([Rule(models=("gpt-4*",)), Rule(accounts=("home", "work"))])
    _, text = bench.lease(Passing("a", models=("*-mini",), account="work", requests_per_minute=1))
    caller = bench.gate.with_key(bench.connect(at=HERE), text)
    assert caller.account == "work"
    for model, account in (("gpt-4.1", "work"), ("o3-mini", "work"), ("gpt-4-mini", "home")):
        with pytest.raises(PermanentError):
            caller.check("completion.create", account, model)
    caller.check("completion.create", "work", "gpt-4-mini")
    with pytest.raises(TransientError) as caught:
        caller.check("completion.create", "work", "gpt-4-mini")
    assert caught.value.failure.code == "request_rate"


def test_a_budget_is_of_one_key_and_ends_with_it(bench):
    wanted = Passing("a", budget=100)
    (key, text), (_, other) = bench.lease(wanted), bench.lease(wanted, THERE)
    caller = bench.gate.with_key(bench.connect(at=HERE), text)
    caller.spend(100)
    assert bench.gate.passing.spent(key.name) == 100
    with pytest.raises(TransientError) as caught:
        caller.check("completion.create", None, "m")
    assert caught.value.failure.code == "key_budget"
    assert caught.value.failure.retry_after == DAY / 2
    bench.gate.with_key(bench.connect(at=THERE), other).check("completion.create", None, "m")
    bench.gate.passing.end(key, "ended")
    assert bench.gate.passing.spent(key.name) == 0
    caller.spend(5)
    assert bench.gate.passing.spent(key.name) == 0, "nothing is kept of what is gone"


# -- the end -------------------------------------------------------------------------------------


def test_with_its_end_everybody_at_its_address_is_closed(bench, caplog):
    (key, text), (_, other) = bench.lease(), bench.lease(at=THERE)
    closed = []
    callers = [bench.connect(at=HERE), bench.connect(at=HERE), bench.connect(at=THERE)]
    for number, caller in enumerate(callers):
        caller.on_revoked = lambda number=number: closed.append(number)
    bench.gate.with_key(callers[0], text)
    bench.gate.with_key(callers[2], other)
    bench.wall += 90
    assert bench.gate.passing.end(key, "ended") == 2
    assert sorted(closed) == [0, 1], "also who has shown no key"
    assert bench.code(bench.connect(at=HERE), text) == "key_unknown"
    (ended,) = [fields for name, fields in records(caplog) if name == "run-ended"]
    assert (ended["KEY"], ended["REASON"]) == ("run:aider", "ended")
    assert (ended["LIFETIME"], ended["COUNT"]) == (90, 2)
    assert bench.revoked == [], "that is for a person's wish"
    bench.gate.with_key(callers[2], other).prove_valid()


def test_a_person_can_end_a_run_and_a_minted_key(bench, caplog):
    (run, text), (minted, other) = bench.lease(), bench.mint()
    caller, closed = bench.connect("http"), []
    caller.on_revoked = lambda: closed.append(1)
    keyed = bench.gate.with_key(caller, other)
    assert bench.gate.revoke_key(run.name) == 0
    assert bench.revoked == [HERE]
    assert bench.gate.revoke_key(minted.name) == 1
    assert closed == [1]
    with pytest.raises(PermanentError):
        keyed.prove_valid()
    assert bench.gate.list_keys() == []
    assert bench.code(bench.connect(at=HERE), text) == "key_unknown"
    assert [name for name, _ in records(caplog)].count("key-revoked") == 2
    with pytest.raises(PermanentError) as caught:
        bench.gate.revoke_key(run.name)
    assert caught.value.failure.code == "key_not_found"


def test_a_name_is_given_again_when_its_key_is_gone(bench):
    first, second = bench.lease()[0], bench.lease(at=THERE)[0]
    assert (first.name, second.name) == ("run:aider", "run:aider:2")
    bench.gate.passing.end(first, "ended")
    assert bench.lease()[0].name == "run:aider"


def test_there_are_no_more_runs_than_that(bench):
    runs = [bench.lease(at=f"127.0.0.1:{port}")[0] for port in range(1, RUNS_MAX + 1)]
    with pytest.raises(TransientError) as caught:
        bench.lease()
    assert caught.value.failure.code == "too_many_runs"
    bench.mint()
    bench.gate.passing.end(runs[0], "ended")
    bench.lease()


def test_a_lease_is_written_down_with_who_asked_and_holds_no_text(bench, caplog):
    _, text = bench.lease()
    _, minted = bench.mint()
    (leased,) = [fields for name, fields in records(caplog) if name == "run-leased"]
    assert (leased["KEY"], leased["PEER_PID"], leased["ADDRESS"]) == ("run:aider", 42, HERE)
    (made,) = [fields for name, fields in records(caplog) if name == "key-minted"]
    assert (made["KEY"], made["LIFETIME"]) == ("get:tool", 3600)
    assert text not in caplog.text
    assert minted not in caplog.text
    held = repr(vars(bench.gate.passing))
    assert text not in held
    assert minted not in held


def test_a_run_of_the_daemon_before_is_held_as_it_was(bench):
    (key, text), used = bench.lease(Passing("a", budget=10)), Spent(day_of(NOON), 10)
    other = Bench()
    other.gate.passing.restore(KeptRun(key, used), lambda: None)
    assert other.gate.passing.runs == (KeptRun(key, used),)
    caller = other.gate.with_key(other.connect(at=HERE), text)
    with pytest.raises(TransientError):
        caller.check("completion.create", None, "m")


# -- minted keys ---------------------------------------------------------------------------------


def test_who_asks_the_same_gets_the_same_key_for_half_of_its_life(bench):
    first = bench.mint()
    bench.wall += 1799
    assert bench.mint() == first
    for other in (
        Passing("other", models=("gpt-*",)),
        Passing("tool", models=("o3",)),
        Passing("tool", models=("gpt-*",), account="work"),
    ):
        assert bench.mint(other)[1] != first[1]
    assert bench.mint(lasts=7200)[1] != first[1]
    bench.wall += 1
    second = bench.mint()
    assert second[1] != first[1]
    caller = bench.connect("http-tcp")
    for _, text in (first, second):
        bench.gate.with_key(caller, text)
    bench.wall += 1800
    assert bench.code(caller, first[1]) == "key_expired"
    assert bench.mint() != first
    assert first[0] not in [key for key, _ in bench.gate.list_keys()]


def test_after_the_clock_was_set_back_nobody_gets_a_key_for_longer_than_asked(bench):
    first = bench.mint()
    bench.wall -= 7200
    second = bench.mint()
    assert second[1] != first[1]
    assert second[0].expires == bench.wall + 3600


@pytest.mark.parametrize("rules", [(), (Rule(uid=1000, scope=Scope.COMPLETE),)])
def test_what_was_begun_with_a_minted_key_outlives_it_whoever_mints_next(bench, caplog, rules):
    _, text = bench.mint(lasts=60)
    caller, closed = bench.connect("http-tcp"), []
    caller.on_revoked = lambda: closed.append(1)
    bench.gate.with_key(caller, text)
    bench.wall += 60
    bench.mint(Passing("other", models=("*",)))
    bench.gate.regrant(rules)
    assert closed == [], "an answer that is under way is not cut"
    assert bench.code(caller, text) == "key_expired"
    assert bench.code(bench.connect("http-tcp"), text) == "key_unknown"
    assert "peer-denied" not in [name for name, _ in records(caplog)]


def test_a_minted_key_is_for_its_models_alone(bench):
    _, text = bench.mint()
    caller = bench.gate.with_key(bench.connect("http"), text)
    caller.check("completion.create", None, "gpt-x")
    with pytest.raises(PermanentError):
        caller.check("completion.create", None, "o3")


def test_there_are_no_more_minted_keys_than_that(bench):
    for number in range(MINTED_MAX):
        bench.mint(Passing(f"n{number}", models=("*",)))
    with pytest.raises(TransientError) as caught:
        bench.mint()
    failure = caught.value.failure
    assert (failure.code, failure.retry_after) == ("too_many_minted", 3600)
    bench.lease()
    bench.wall += 3600
    bench.mint()
    assert len(bench.gate.passing.keys) == 2
