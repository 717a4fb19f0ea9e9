"""A lock: no secret stays in a machine that is not on its way to a store, and none is asked for."""

from dataclasses import asdict

import pytest

from brokerd.core.machine import events as ev
from brokerd.core.machine.effects import ExchangeToken, LoadLogin, RenewToken, SaveLogin
from brokerd.core.machine.states import Exchanging, Loading, Ready, SignedOut
from brokerd.errors import ErrorClass, Failure
from fakes.machine import (
    BAD_REFRESH,
    COPILOT,
    DOWN,
    GRANT,
    LIMITED,
    LOCKED,
    LOGIN,
    NEW_PAIR,
    USER,
    Bench,
)


REASON = Failure(ErrorClass.LOCKED, "broker_locked", "the broker is locked")
WISHES = [
    ev.LoginRequested(),
    ev.TokenGiven(GRANT),
    ev.LoginKept(),
    ev.LeaseWanted(),
    ev.FresherTokenWanted(),
    ev.RefreshRequested(),
    ev.TokenRejected(COPILOT),
    ev.TokensDropped(),
    ev.Resumed(),
    ev.Resumed(slept=False),
    ev.Locked(REASON),
]


def lock(bench):
    bench.do(ev.Locked(REASON))
    return bench


def held_of(bench):
    """What the machine holds, secrets and all."""
    return str(asdict(bench.state)) + str(bench.question and asdict(bench.question))


def is_empty(bench):
    return bench.machine.is_withdrawn and "canary" not in held_of(bench)


BEGINNINGS = {
    "ready": Bench.ready,
    "minting": Bench.minting,
    "polling": Bench.polling,
    "identifying": Bench.identifying,
    "signed out": lambda bench: bench,
    "loading": lambda bench: bench.do(ev.LoginKept()) and bench,
}


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_locked_machine_holds_nothing_and_asks_nothing_whatever_comes(begin):
    bench = Bench()
    begin(bench)
    was_ready = bench.machine.lease(bench.now) is not None
    assert was_ready == (begin is Bench.ready)
    generation = bench.question.generation if bench.question else 1
    assert lock(bench).question is None
    for wish in WISHES:
        bench.now += 3600.0
        assert not bench.do(wish), wish
        assert not bench.machine.handle_timer(bench.now)
        assert is_empty(bench)
        assert bench.lease() is None
    bench.do(ev.TokenIssued(generation, COPILOT))
    bench.do(ev.UserIdentified(generation, USER))
    bench.do(ev.LoginLoaded(generation, LOGIN))
    assert is_empty(bench)
    assert bench.machine.deadline() is None


def test_after_the_lock_the_login_is_loaded_and_exchanged():
    bench = lock(Bench().ready())
    assert bench.machine.failure is REASON
    bench.now += 10.0
    bench.do(ev.Unlocked())
    assert isinstance(bench.question, LoadLogin)
    bench.answer(ev.LoginLoaded, LOGIN)
    assert isinstance(bench.question, ExchangeToken)
    bench.answer(ev.TokenIssued, COPILOT)
    assert isinstance(bench.state, Ready)
    assert bench.machine.failure is None


def test_an_unlock_without_a_lock_changes_nothing():
    for bench in (Bench().ready(), Bench().minting(), Bench()):
        before = bench.state, bench.question
        bench.do(ev.Unlocked())
        assert (bench.state, bench.question) == before


def test_a_limit_of_upstreams_outlives_the_lock():
    bench = Bench().minting()
    bench.fail(LIMITED)
    lock(bench)
    until = bench.now + LIMITED.retry_after
    bench.now += 10.0
    bench.do(ev.Unlocked())
    assert isinstance(bench.question, LoadLogin), "the store is no upstream"
    bench.answer(ev.LoginLoaded, LOGIN)
    assert bench.question is None
    bench.do(ev.RefreshRequested())
    assert bench.question is None
    assert bench.to_deadline()
    assert bench.now == until
    assert isinstance(bench.question, ExchangeToken)


def test_a_renewal_that_was_asked_for_is_saved_first():
    bench = lock(Bench().renewing())
    assert isinstance(bench.question, RenewToken), "its answer may hold the only living tokens"
    assert bench.lease() is None
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    assert isinstance(bench.question, SaveLogin)
    assert not bench.machine.is_withdrawn
    bench.fail(LOCKED, permanent=True)
    bench.do(ev.RefreshRequested())
    bench.to_deadline()
    assert bench.question.login.token == NEW_PAIR, "saving it is never given up"
    bench.answer(ev.LoginSaved)
    assert is_empty(bench)
    assert bench.state.retry.at is None


def test_a_renewal_that_fails_is_not_tried_again_before_the_end():
    for failure, is_permanent in ((DOWN, False), (BAD_REFRESH, True)):
        bench = lock(Bench().renewing())
        bench.fail(failure, permanent=is_permanent)
        assert is_empty(bench)
        bench.do(ev.Unlocked())
        assert isinstance(bench.question, LoadLogin)


def test_a_renewal_that_waits_for_its_turn_is_given_up():
    bench = Bench().renewing()
    bench.fail(DOWN)
    assert bench.question is None
    assert is_empty(lock(bench))


def test_a_login_that_was_approved_is_saved_and_not_used():
    bench = lock(Bench().saving())
    assert isinstance(bench.question, SaveLogin)
    bench.answer(ev.LoginSaved)
    assert is_empty(bench)
    assert isinstance(bench.state.step, Loading)


def test_a_login_that_cannot_be_saved_ends_as_ever():
    bench = lock(Bench().saving())
    bench.refuse(DOWN)
    assert bench.state == SignedOut(DOWN)


def test_signing_out_ends_the_lock_of_nothing():
    bench = lock(Bench().ready())
    bench.do(ev.LogoutRequested())
    assert bench.state == SignedOut()
    bench.do(ev.Unlocked())
    assert bench.state == SignedOut()
    assert bench.question is None


# Dropped tokens.


def test_a_dropped_token_is_replaced_at_once():
    bench = Bench().ready()
    bench.now += 100.0
    bench.do(ev.TokensDropped())
    assert bench.lease() is None
    assert isinstance(bench.question, ExchangeToken)


def test_a_direct_token_is_dropped_too():
    bench = Bench(mode="direct").minting()
    bench.answer(ev.TokenIssued, COPILOT)
    bench.do(ev.TokensDropped())
    assert bench.lease() is None


def test_a_drop_asks_no_earlier_than_upstream_permits():
    bench = Bench().ready()
    bench.to_deadline()
    bench.fail(LIMITED)
    bench.do(ev.TokensDropped())
    assert bench.lease() is None
    assert bench.question is None
    assert bench.machine.deadline() == bench.now + LIMITED.retry_after
    assert bench.machine.failure == LIMITED


def test_a_run_of_drops_is_paced():
    bench = Bench().ready()
    for _ in range(2):
        bench.do(ev.TokensDropped())
        if bench.question is not None:
            bench.answer(ev.TokenIssued, COPILOT)
    assert bench.question is None
    assert bench.machine.failure.code == "token_dropped_again"
    assert bench.machine.deadline() > bench.now


def test_what_is_no_token_is_not_dropped():
    for bench in (Bench(), Bench().saving(), Bench().minting()):
        before = bench.state, bench.question
        bench.do(ev.TokensDropped())
        assert (bench.state, bench.question) == before
    assert isinstance(bench.state, Exchanging)
