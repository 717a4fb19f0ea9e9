"""A rule's budget: together for all that it is about, until the day ends, through restarts."""

from __future__ import annotations

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.access.settings import nonsense
from brokerd.core.keys import DAY, Key, digest_of, text_of
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.gate import Gate
from brokerd.gate.keyring import WRITE_EVERY
from fakes.key_store import FakeKeyStore


NOON = 20_000 * DAY + DAY // 2
RULE = Rule(where="config.toml:12", unit="app-*.scope", budget=100)
ASKING = "completion.create"


class Bench:
    """A gate whose clocks the test moves."""

    def __init__(self, *rules: Rule, store: FakeKeyStore | None = None) -> None:
        self.store = store or FakeKeyStore()
        self.now, self.wall = 1000.0, float(NOON)
        self.gate = Gate(
            rules,
            own_uid=1000,
            clock=lambda: self.now,
            wall=lambda: self.wall,
            keys=self.store,
        )

    def caller(self, unit="app-a.scope", listener="rpc"):
        return self.gate.admit(Peer(pid=7, uid=1000, gid=1000, unit=unit, comm="a"), listener)


def refused(caller) -> TransientError:
    with pytest.raises(TransientError) as raised:
        caller.check(ASKING)
    return raised.value


@pytest.mark.parametrize("listener", ["rpc", "http"])
def test_who_has_used_it_up_is_told_until_when(listener):
    bench = Bench(RULE)
    caller = bench.caller(listener=listener)
    caller.check(ASKING)
    caller.spend(99)
    caller.check(ASKING)
    caller.spend(1)
    failure = refused(caller).failure
    assert (failure.error_class, failure.code) == (ErrorClass.TEMPORARY, "budget")
    assert failure.retry_after == DAY / 2
    assert "config.toml:12 allows 100 tokens a day" in failure.message
    assert "copilot-cred" in failure.hint
    caller.check("models.list")
    bench.wall += DAY / 2
    caller.check(ASKING)


def test_it_is_one_for_all_that_it_is_about_and_for_nobody_else():
    bench = Bench(RULE)
    one, two, other = bench.caller(), bench.caller("app-b.scope"), bench.caller("mine.service")
    assert (one.has_budget, other.has_budget) == (True, False)
    one.spend(60)
    two.spend(60)
    other.spend(1000)
    refused(one)
    refused(two)
    other.check(ASKING)


def test_a_lower_one_holds_beside_a_higher_one():
    bench = Bench(RULE, Rule(where="b", budget=10))
    caller = bench.caller()
    caller.spend(10)
    assert refused(caller).failure.message.startswith("b allows 10 tokens")
    assert bench.gate.explain(caller.peer, "rpc").rights.budget == 10


def test_who_may_not_ask_at_all_is_told_that():
    bench = Bench(RULE, Rule(scope=Scope.STATUS))
    caller = bench.caller()
    caller.spend(1000)
    with pytest.raises(PermanentError, match="scope_too_low"):
        caller.check(ASKING)


def test_a_refusal_for_the_budget_takes_nothing_of_the_rate():
    bench = Bench(Rule(where="r", requests_per_minute=1), RULE)
    caller = bench.caller()
    caller.spend(100)
    for _ in range(3):
        assert refused(caller).failure.code == "budget"
    bench.wall += DAY
    caller.check(ASKING)
    assert refused(caller).failure.code == "request_rate"


def test_who_has_one_is_lent_no_token_for_nobody_counts_its_use():
    caller = Bench(RULE).caller()
    assert caller.scope is Scope.COMPLETE
    with pytest.raises(PermanentError, match="scope_too_low"):
        caller.check("token.get")
    key, problem = nonsense(Rule(scope=Scope.TOKEN, unit="a", budget=1))
    assert key == "scope"
    assert "at most complete beside budget: nobody counts" in problem


def test_a_restart_forgets_nothing_and_neither_does_a_new_limit_or_line():
    bench = Bench(RULE)
    bench.caller().spend(70)
    bench.gate.close()
    again = Bench(Rule(where="config.toml:99", unit="app-*.scope", budget=80), store=bench.store)
    caller = again.caller()
    caller.check(ASKING)
    caller.spend(10)
    refused(caller)
    again.gate.regrant([Rule(where="config.toml:99", unit="app-*.scope", budget=1000)])
    caller.check(ASKING)


def test_what_is_spent_is_written_now_and_then_and_yesterdays_not_any_more():
    bench = Bench(RULE)
    caller = bench.caller()
    for _ in range(50):
        caller.spend(1)
    assert bench.store.saves == 1
    bench.now += WRITE_EVERY
    caller.spend(1)
    assert bench.store.saves == 2
    assert bench.store.kept.of_rules["unit app-*.scope"].tokens == 51
    bench.wall += DAY
    bench.gate.close()
    Bench(store=bench.store).gate.close()
    bench.now += WRITE_EVERY
    caller.spend(5)
    assert [each.tokens for each in bench.store.kept.of_rules.values()] == [5]


def test_keys_that_could_not_be_read_are_never_written_over_for_the_sake_of_a_budget():
    text = text_of(b"k" * 32)
    store = FakeKeyStore()
    Bench(store=store).gate.create_key(lambda created, _: Key("ci", digest_of(text), created))
    broken = PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "keys_broken", "no"))
    store.faults = [broken]
    bench = Bench(RULE, store=store)
    bench.caller().spend(60)
    bench.gate.close()
    assert [key.name for key in store.kept.keys] == ["ci"]
    bench.gate.read_keys()
    bench.caller().spend(40)
    refused(bench.caller())
    bench.gate.close()
    assert [key.name for key in store.kept.keys] == ["ci"]
    assert store.kept.of_rules["unit app-*.scope"].tokens == 100


def test_a_key_spends_its_own_and_the_rules_budgets():
    store = FakeKeyStore()
    bench = Bench(Rule(where="all", budget=50), store=store)
    _, text = bench.gate.create_key(lambda created, digest: Key("ci", digest, created, budget=80))
    caller = bench.caller(listener="http-tcp")
    keyed = bench.gate.with_key(caller, text)
    keyed.spend(50)
    assert refused(keyed).failure.code == "budget"
    bench.gate.regrant([])
    keyed.check(ASKING)
    keyed.spend(30)
    assert refused(keyed).failure.code == "key_budget"
