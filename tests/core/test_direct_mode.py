"""The machine in direct mode: chosen, learned, and told when it cannot be."""

import pytest

from brokerd.core.machine import events as ev
from brokerd.core.machine.effects import ExchangeToken, LoadLogin, PrepareDirect
from brokerd.core.machine.states import SignedOut
from brokerd.core.tokens import GitHubToken
from fakes.machine import (
    BAD,
    COPILOT,
    DOWN,
    GRANT,
    LIMITED,
    LOGIN,
    NEWER,
    NO_PLAN,
    NOT_FOUND,
    Bench,
    direct_token,
)


DIRECT = direct_token(GRANT)
PAT = GitHubToken("github_pat_canary")


@pytest.mark.parametrize(
    ("token", "mode", "kind"),
    [
        (GRANT, "auto", ExchangeToken),
        (GRANT, "exchange", ExchangeToken),
        (GRANT, "direct", PrepareDirect),
        (PAT, "auto", PrepareDirect),
        (PAT, "direct", PrepareDirect),
        (GitHubToken("ghs_canary"), "auto", PrepareDirect),
    ],
)
def test_the_way_is_chosen_by_configuration_and_kind(token, mode, kind):
    bench = Bench(mode=mode).minting(token)
    assert type(bench.question) is kind
    assert bench.question.token == token
    assert not bench.machine.is_direct, "nothing was learned"


def test_an_unknown_exchange_turns_to_direct_use_at_once_and_remembers_it():
    bench = Bench().minting()
    assert isinstance(bench.refuse(NOT_FOUND)[0], PrepareDirect)
    assert bench.machine.is_direct
    bench.answer(ev.TokenIssued, DIRECT)
    assert bench.lease().token == DIRECT
    assert bench.machine.is_direct
    assert isinstance(bench.to_deadline()[0], PrepareDirect)


def test_a_remembered_login_is_not_exchanged_again():
    bench = Bench()
    bench.do(ev.LoginKept())
    remembered = LOGIN.__class__(**{**vars(LOGIN), "is_direct": True})
    assert isinstance(bench.answer(ev.LoginLoaded, remembered)[0], PrepareDirect)


def test_a_held_token_stays_leasable_while_direct_use_is_prepared():
    bench = Bench().ready()
    bench.to_deadline()
    bench.refuse(NOT_FOUND)
    assert isinstance(bench.question, PrepareDirect)
    assert bench.lease().token == COPILOT


def test_an_unknown_exchange_is_a_refusal_where_only_exchange_is_configured():
    bench = Bench(mode="exchange").minting()
    bench.refuse(NOT_FOUND)
    assert bench.machine.failure == NOT_FOUND
    assert bench.machine.deadline() is None
    assert not bench.machine.is_direct


def test_a_404_of_direct_use_does_not_go_round_in_circles():
    bench = Bench().minting()
    bench.refuse(NOT_FOUND)
    bench.refuse(NOT_FOUND)
    assert bench.question is None
    assert bench.machine.failure == NOT_FOUND


def test_a_transient_404_teaches_nothing():
    bench = Bench().minting()
    bench.fail(NOT_FOUND)
    assert isinstance(bench.to_deadline()[0], ExchangeToken)


@pytest.mark.parametrize("start", ["auto", "exchange"])
def test_the_mode_is_asked_anew_at_each_minting(start):
    bench = Bench(mode=start).ready()
    bench.mode = "direct"
    assert isinstance(bench.to_deadline()[0], PrepareDirect)
    bench.answer(ev.TokenIssued, DIRECT)
    bench.mode = "exchange"
    assert isinstance(bench.to_deadline()[0], ExchangeToken)
    bench.answer(ev.TokenIssued, COPILOT)
    assert bench.lease().token == COPILOT


def test_a_token_for_direct_use_only_is_not_sent_to_the_exchange():
    bench = Bench(mode="exchange").saving(PAT)
    assert bench.answer(ev.LoginSaved) == []
    assert bench.machine.failure.code == "direct_token_refused"
    assert bench.machine.deadline() is None
    assert bench.do(ev.LeaseWanted()) == []
    assert bench.do(ev.RefreshRequested()) == []


@pytest.mark.parametrize("mode", ["auto", "direct"])
def test_a_changed_configuration_is_noticed_by_who_wants_a_token(mode):
    bench = Bench(mode="exchange").saving(PAT)
    bench.answer(ev.LoginSaved)
    bench.mode = mode
    assert isinstance(bench.do(ev.LeaseWanted())[0], PrepareDirect)
    bench.refuse(NO_PLAN)
    assert bench.do(ev.LeaseWanted()) == [], "but a refusal is not asked for again"


def test_a_rejected_direct_token_is_looked_into():
    bench = Bench(mode="direct").ready(GRANT, DIRECT)
    bench.now += 100.0
    assert isinstance(bench.do(ev.TokenRejected(DIRECT))[0], PrepareDirect)
    assert bench.lease().token == DIRECT, "there is no other to be had"
    bench.refuse(BAD)
    assert bench.lease() is None
    assert isinstance(bench.question, LoadLogin), "one request, and no further"
    bench.answer(ev.LoginLoaded, LOGIN)
    assert bench.state == SignedOut(BAD)


def test_a_refused_direct_login_never_wins_over_a_newer_one():
    bench = Bench(mode="direct").minting()
    bench.refuse(BAD)
    bench.answer(ev.LoginLoaded, NEWER)
    assert bench.question.token == NEWER.token


def test_a_direct_token_that_only_copilot_refuses_stays_and_is_looked_into_once_a_minute():
    bench = Bench(mode="direct").ready(GRANT, DIRECT)
    began, asked_at = bench.now, []
    for _ in range(2000):
        if bench.do(ev.TokenRejected(DIRECT)):
            asked_at.append(bench.now)
            assert isinstance(bench.question, PrepareDirect)
            assert bench.do(ev.TokenRejected(DIRECT)) == [], "one question at a time"
            bench.answer(ev.TokenIssued, DIRECT)
        assert bench.lease().token == DIRECT
        assert bench.machine.failure is None
        bench.now += 0.1
    assert asked_at == pytest.approx([began + 60.0 * n for n in range(4)], abs=0.5)


def test_a_doubted_direct_token_is_not_asked_about_before_github_permits():
    bench = Bench(mode="direct").ready(GRANT, DIRECT)
    bench.to_deadline()
    bench.fail(LIMITED)
    bench.now += 100.0
    assert bench.do(ev.TokenRejected(DIRECT)) == []
    assert bench.lease().token == DIRECT
    bench.now += 500.0
    assert bench.machine.handle_timer(bench.now), "after the 600 s that GitHub named"


def test_a_doubt_changes_nothing_of_what_was_refused_for_good():
    bench = Bench(mode="direct").ready(GRANT, DIRECT)
    bench.to_deadline()
    bench.refuse(NO_PLAN)
    assert bench.do(ev.TokenRejected(DIRECT)) == []
    assert bench.lease().token == DIRECT


def test_a_suspend_asks_for_direct_use_again():
    bench = Bench(mode="direct").minting()
    first = bench.question
    bench.now += 10.0
    assert isinstance(bench.do(ev.Resumed())[0], PrepareDirect)
    assert bench.question.generation > first.generation


def test_a_failing_preparation_leaves_the_token_leasable():
    bench = Bench(mode="direct").ready(GRANT, DIRECT)
    bench.to_deadline()
    bench.fail(DOWN)
    assert bench.lease().token == DIRECT
