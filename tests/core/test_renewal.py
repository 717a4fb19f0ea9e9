"""Expiring GitHub tokens: renewed ahead of expiry or on a 401, saved before use, never lost."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.machine import events as ev
from brokerd.core.machine.effects import (
    ExchangeToken,
    LoadLogin,
    PrepareDirect,
    RenewToken,
    SaveLogin,
)
from brokerd.core.machine.renewal import expiry_of_kept, expiry_of_new, is_due, lead, renewed
from brokerd.core.machine.states import Exchanging, Minting, Ready, Renewing, Saving, SignedOut
from brokerd.core.machine.token_machine import ANSWER_TIMEOUT
from brokerd.core.tokens import CopilotToken, GitHubToken
from brokerd.errors import ErrorClass, Failure
from fakes.machine import (
    BAD,
    BAD_REFRESH,
    COPILOT,
    DOWN,
    GONE,
    HOURS_8,
    LIMITED,
    LOCKED,
    LOGIN,
    NEW_PAIR,
    NEWER,
    NO_PLAN,
    OLD_PAIR,
    Bench,
    direct_token,
)


FRESH = CopilotToken("tid=canary-2:mac", 1800.0, 1500.0, "https://api.example.com")
BAD_CLIENT = Failure(ErrorClass.USAGE, "incorrect_client_credentials", "unknown client_id")
RENEWED = replace(LOGIN, token=NEW_PAIR)


# The rules.


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [(28_800.0, 600.0), (2_400.0, 600.0), (400.0, 100.0), (None, 600.0), (math.nan, 600.0), (-1.0, 600.0)],
)  # fmt: skip
def test_the_lead_is_ten_minutes_or_a_quarter_of_a_short_life(expires_in, seconds):
    assert lead(GitHubToken("x", "y", expires_in=expires_in)) == seconds


def test_due_is_what_can_be_renewed_and_is_about_to_expire():
    assert not is_due(OLD_PAIR, 1601.0, 1000.0)
    assert is_due(OLD_PAIR, 1600.0, 1000.0)
    assert is_due(OLD_PAIR, 500.0, 1000.0)
    assert not is_due(OLD_PAIR, None, 1000.0)
    assert not is_due(replace(OLD_PAIR, refresh_token=None), 500.0, 1000.0)


@given(st.floats())
def test_any_number_gives_an_expiry_or_none(seconds):
    kept = expiry_of_kept(seconds, 1000.0)
    assert kept is None or math.isfinite(kept)
    new = expiry_of_new(GitHubToken("x", expires_in=seconds), 1000.0)
    assert new is None or math.isfinite(new)
    assert new is None or new >= 1060.0
    assert expiry_of_kept(None, 1000.0) is None
    assert expiry_of_new(GitHubToken("x"), 1000.0) is None


def test_an_answer_without_refresh_token_or_scope_keeps_the_old_ones():
    old = replace(LOGIN, token=replace(OLD_PAIR, scope="user"), is_direct=True)
    new = renewed(old, GitHubToken("ghu_new"))
    assert new.token == GitHubToken("ghu_new", "ghr_canary_1", scope="user")
    assert new == replace(old, token=new.token), "all else stays"


# Ahead of expiry.


def test_a_pair_is_renewed_saved_and_only_then_used():
    bench = Bench().renewing()
    assert bench.question == RenewToken(bench.question.generation, "app", OLD_PAIR)
    assert bench.now == 1006.0 + 1500.0 * 19, "the first refresh with less than 600 s left"
    asked_at = bench.now
    bench.now += 2.0
    assert isinstance(bench.answer(ev.LoginRenewed, NEW_PAIR)[0], SaveLogin)
    assert bench.question.login == RENEWED
    assert not bench.machine.is_saved
    assert isinstance(bench.answer(ev.LoginSaved)[0], ExchangeToken)
    assert bench.question.token == NEW_PAIR
    assert bench.machine.is_saved
    bench.answer(ev.TokenIssued, FRESH)
    assert bench.lease().token == FRESH
    assert bench.state.login_expires_at == asked_at + HOURS_8
    bench.to_deadline()
    assert isinstance(bench.question, ExchangeToken), "not renewed again before it is due"


def test_the_current_token_stays_leasable_through_all_of_it():
    bench = Bench().renewing()
    assert bench.lease().token == COPILOT
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    assert isinstance(bench.state.step, Saving)
    assert bench.lease().token == COPILOT
    assert bench.machine.can_freshen(bench.now), "a fresher one is coming"
    bench.answer(ev.LoginSaved)
    assert bench.state.step == Minting(RENEWED, is_renewed=True)
    assert bench.lease().token == COPILOT


@pytest.mark.parametrize("expires_in", [599.0, 0.0, -1e9])
def test_a_kept_login_that_is_about_to_expire_is_renewed_first(expires_in):
    bench = Bench().loaded(OLD_PAIR, expires_in)
    assert isinstance(bench.question, RenewToken)


@pytest.mark.parametrize("expires_in", [601.0, 1e12, math.nan, math.inf, None])
def test_a_kept_login_with_time_or_nonsense_is_used_as_it_is(expires_in):
    bench = Bench().loaded(OLD_PAIR, expires_in)
    assert isinstance(bench.question, ExchangeToken)


@pytest.mark.parametrize("pair", [OLD_PAIR, replace(OLD_PAIR, refresh_token=None)])
def test_a_login_that_cannot_be_renewed_is_used_to_its_end(pair):
    bench = Bench().loaded(replace(pair, refresh_token=None), -5.0)
    assert isinstance(bench.question, ExchangeToken)
    bench.refuse(BAD)
    assert isinstance(bench.question, LoadLogin)


@pytest.mark.parametrize("expires_in", [59.0, 0.001, 0.0, -7.0, math.nan])
def test_a_renewed_token_with_an_absurd_life_is_used_all_the_same(expires_in):
    bench = Bench().renewing()
    bench.answer(ev.LoginRenewed, replace(NEW_PAIR, expires_in=expires_in))
    bench.now += 50.0
    bench.answer(ev.LoginSaved)
    assert isinstance(bench.question, ExchangeToken)
    bench.answer(ev.TokenIssued, FRESH)
    assert isinstance(bench.to_deadline()[0], ExchangeToken)


def test_a_granted_token_with_an_absurd_life_is_used_all_the_same():
    bench = Bench().minting(replace(OLD_PAIR, expires_in=-7.0))
    assert isinstance(bench.question, ExchangeToken)


def test_a_pair_that_expires_before_its_store_comes_back_is_renewed_again():
    bench = Bench().renewing()
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    bench.now += HOURS_8
    bench.answer(ev.LoginSaved)
    assert bench.question == RenewToken(bench.question.generation, "app", NEW_PAIR)


def test_a_refresh_asked_for_by_a_person_renews_first_where_that_is_due():
    bench = Bench().ready(replace(OLD_PAIR, expires_in=1000.0))
    bench.now += 760.0
    assert isinstance(bench.do(ev.RefreshRequested())[0], RenewToken)


# Saving.


@pytest.mark.parametrize("failure", [DOWN, LOCKED, GONE])
@pytest.mark.parametrize("permanent", [True, False])
def test_saving_the_new_pair_is_never_given_up(failure, permanent):
    bench = Bench().renewing()
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    for _ in range(100):
        bench.fail(failure, permanent=permanent)
        assert bench.machine.failure == failure
        assert not bench.machine.is_saved
        while bench.question is None:
            assert bench.machine.deadline() - bench.now <= 30.0
            bench.to_deadline()
        assert isinstance(bench.question, SaveLogin)
        assert bench.question.login == RENEWED
    assert isinstance(bench.state, Exchanging), "the Copilot token has expired meanwhile"
    bench.answer(ev.LoginSaved)
    assert bench.question.token == NEW_PAIR


def test_a_token_that_expires_during_a_renewal_keeps_the_step_and_the_question():
    bench = Bench().renewing()
    question = bench.question
    bench.now = bench.state.expires_at
    bench.machine._patient_until = bench.now + 50.0
    bench.machine.handle_timer(bench.now)
    assert isinstance(bench.state, Exchanging)
    assert isinstance(bench.state.step, Renewing)
    assert bench.question is question
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    assert bench.question.login == RENEWED


# When GitHub refuses the old token.


def test_a_401_is_answered_by_one_renewal():
    bench = Bench().ready(OLD_PAIR)
    bench.to_deadline()
    bench.refuse(BAD)
    assert bench.question.token == OLD_PAIR
    assert bench.state.step.refused == BAD
    assert bench.lease().token == COPILOT
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    bench.answer(ev.LoginSaved)
    bench.refuse(BAD)
    assert isinstance(bench.question, LoadLogin), "not renewed once more"
    bench.answer(ev.LoginLoaded, RENEWED)
    assert bench.state == SignedOut(BAD)


def test_after_a_success_the_next_401_is_answered_by_a_renewal_again():
    bench = Bench().renewing()
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    bench.answer(ev.LoginSaved)
    bench.answer(ev.TokenIssued, FRESH)
    bench.to_deadline()
    bench.refuse(BAD)
    assert bench.question.token == NEW_PAIR
    assert isinstance(bench.question, RenewToken)


def test_a_refused_token_is_not_used_while_its_renewal_waits():
    bench = Bench().minting(OLD_PAIR)
    bench.refuse(BAD)
    for _ in range(5):
        bench.fail(DOWN)
        assert isinstance(bench.to_deadline()[0], RenewToken)


def test_a_dead_refresh_token_asks_the_store_for_a_newer_login():
    bench = Bench().renewing()
    bench.refuse(BAD_REFRESH)
    assert isinstance(bench.question, LoadLogin)
    bench.answer(ev.LoginLoaded, NEWER)
    assert bench.question.token == NEWER.token


@pytest.mark.parametrize("kept", [replace(LOGIN, token=OLD_PAIR), None])
def test_a_dead_refresh_token_and_no_newer_login_ends_it(kept):
    bench = Bench().renewing()
    bench.refuse(BAD_REFRESH)
    bench.answer(ev.LoginLoaded, kept)
    assert bench.state == SignedOut(BAD_REFRESH)


def test_what_the_store_adds_to_the_refused_token_makes_no_newer_login_of_it():
    bench = Bench().renewing()
    bench.refuse(BAD_REFRESH)
    kept = replace(LOGIN, token=replace(OLD_PAIR, scope="user", expires_at=1.0))
    bench.answer(ev.LoginLoaded, kept)
    assert bench.state == SignedOut(BAD_REFRESH)


# When the renewal fails for other reasons.


def test_a_failing_renewal_is_retried_while_the_token_is_held():
    bench = Bench().renewing()
    waits = []
    for _ in range(4):
        bench.fail(DOWN)
        waits.append(bench.machine.deadline() - bench.now)
        assert bench.lease().token == COPILOT
        assert isinstance(bench.to_deadline()[0], RenewToken)
    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_the_old_token_serves_while_its_renewal_fails_and_none_is_held():
    bench = Bench().loaded(OLD_PAIR, 300.0)
    bench.fail(DOWN)
    assert bench.question.token == OLD_PAIR
    assert isinstance(bench.question, ExchangeToken)
    bench.answer(ev.TokenIssued, COPILOT)
    assert bench.lease()
    assert bench.machine.failure == DOWN
    assert isinstance(bench.to_deadline()[0], RenewToken)
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    assert bench.question.login == RENEWED


def test_the_old_token_does_not_serve_when_it_has_expired():
    bench = Bench().loaded(OLD_PAIR, 10.0)
    bench.now += 10.0
    bench.fail(LIMITED)
    assert bench.question is None
    assert isinstance(bench.state.step, Renewing)
    assert isinstance(bench.to_deadline()[0], RenewToken)


def test_a_renewal_whose_turn_has_come_goes_before_the_old_token():
    bench = Bench().loaded(OLD_PAIR, 2000.0)
    bench.answer(ev.TokenIssued, COPILOT)
    bench.to_deadline()
    bench.fail(DOWN)
    bench.now += 400.0
    bench.machine.handle_timer(bench.now)
    assert isinstance(bench.state, Exchanging)
    assert isinstance(bench.question, RenewToken)
    bench.fail(DOWN)
    assert isinstance(bench.question, ExchangeToken)


def test_a_refusal_of_the_old_token_does_not_hurry_a_renewal_that_waits():
    bench = Bench().loaded(OLD_PAIR, 300.0)
    bench.fail(DOWN)
    bench.refuse(BAD)
    assert bench.question is None
    assert isinstance(bench.to_deadline()[0], RenewToken)
    assert bench.now == 1000.5


def test_github_s_limit_is_kept_by_whatever_is_asked_instead():
    bench = Bench().loaded(OLD_PAIR, 590.0)
    bench.fail(replace(LIMITED, retry_after=300.0))
    limit = bench.now + 300.0
    for event in (ev.RefreshRequested(), ev.LeaseWanted(), ev.Resumed()):
        assert bench.do(event) == []
    bench.to_deadline()
    assert bench.now == limit
    assert isinstance(bench.question, ExchangeToken), "290 s of the old token's life are left"


def test_a_limit_of_the_exchange_holds_the_renewal_back_too():
    bench = Bench().loaded(OLD_PAIR, 300.0)
    bench.fail(DOWN)
    assert isinstance(bench.question, ExchangeToken)
    bench.fail(LIMITED)
    limit = bench.now + 600.0
    bench.do(ev.RefreshRequested())
    assert bench.machine.deadline() == limit
    assert isinstance(bench.to_deadline()[0], RenewToken), "it has expired meanwhile"


def test_a_renewal_refused_for_another_reason_leaves_the_old_token_in_use():
    bench = Bench().renewing()
    bench.refuse(BAD_CLIENT)
    assert isinstance(bench.question, ExchangeToken)
    bench.answer(ev.TokenIssued, FRESH)
    assert isinstance(bench.to_deadline()[0], ExchangeToken), "not renewed by itself any more"
    bench.fail(DOWN)
    assert isinstance(bench.do(ev.RefreshRequested())[0], RenewToken), "but when somebody asks"


def test_a_refused_token_whose_renewal_is_refused_for_another_reason_is_kept():
    bench = Bench().minting(OLD_PAIR)
    bench.refuse(BAD)
    bench.refuse(BAD_CLIENT)
    assert bench.machine.failure == BAD_CLIENT
    assert bench.machine.deadline() is None
    assert bench.state.step.login.token == OLD_PAIR
    assert isinstance(bench.do(ev.RefreshRequested())[0], RenewToken)


def test_a_refused_exchange_does_not_renew():
    bench = Bench().ready(OLD_PAIR)
    bench.to_deadline()
    bench.refuse(NO_PLAN)
    assert isinstance(bench.state.step, Minting)
    assert bench.question is None


# Answers that are lost or late.


def test_a_lost_answer_is_followed_by_the_refusal_of_the_old_refresh_token():
    bench = Bench().renewing()
    bench.now += ANSWER_TIMEOUT
    bench.machine.handle_timer(bench.now)
    assert bench.machine.failure.code == "no_answer"
    assert isinstance(bench.to_deadline()[0], RenewToken)
    bench.refuse(BAD_REFRESH)
    assert isinstance(bench.question, LoadLogin)


def test_a_suspend_does_not_give_up_a_renewal_that_may_hold_the_only_living_pair():
    bench = Bench().renewing()
    question = bench.question
    bench.now += 3600.0
    assert bench.do(ev.Resumed()) == []
    assert bench.question is question
    assert bench.machine.deadline() == bench.now + ANSWER_TIMEOUT
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    assert bench.question.login == RENEWED
    assert bench.state.login_expires_at < bench.now + HOURS_8, "counted from the asking"


@pytest.mark.parametrize("answered", [False, True])
def test_a_rejected_token_disturbs_no_renewal(answered):
    bench = Bench().renewing()
    if answered:
        bench.answer(ev.LoginRenewed, NEW_PAIR)
    question = bench.question
    assert bench.do(ev.TokenRejected(COPILOT)) == []
    assert bench.question is question
    assert bench.lease() is None
    if not answered:
        bench.answer(ev.LoginRenewed, NEW_PAIR)
    bench.answer(ev.LoginSaved)
    bench.answer(ev.TokenIssued, FRESH)
    assert bench.lease().token == FRESH


def test_a_rejected_token_is_replaced_with_the_old_login_while_the_renewal_waits():
    bench = Bench().renewing()
    bench.fail(DOWN)
    assert isinstance(bench.do(ev.TokenRejected(COPILOT))[0], ExchangeToken)


def test_rejections_while_the_renewal_waits_are_paced_too():
    bench = Bench(mode="direct").renewing(direct_token(OLD_PAIR))
    bench.fail(DOWN)
    questions = 0
    for _ in range(50):
        questions += len(bench.do(ev.TokenRejected(direct_token(OLD_PAIR, 86_400.0))))
        if bench.question:
            bench.answer(ev.TokenIssued, direct_token(OLD_PAIR))
    assert questions <= 3


@pytest.mark.parametrize("event", [ev.TokenRejected(COPILOT), None])
def test_the_end_of_a_copilot_token_is_not_the_end_of_what_is_known_of_the_login(event):
    bench = Bench().ready(OLD_PAIR)
    bench.to_deadline()
    bench.refuse(NO_PLAN)
    bench.to_deadline() if event is None else bench.do(event)
    assert isinstance(bench.state, Exchanging)
    assert bench.state.login_expires_at == 1006.0 + HOURS_8


def test_logout_ends_a_renewal():
    bench = Bench().renewing()
    generation = bench.question.generation
    bench.do(ev.LogoutRequested())
    assert bench.do(ev.LoginRenewed(generation, NEW_PAIR)) == []
    assert bench.state == SignedOut()


# In direct mode, where the token that is lent is the GitHub token.


def test_a_direct_token_is_renewed_before_it_expires():
    bench = Bench(mode="direct").ready(OLD_PAIR, direct_token(OLD_PAIR))
    assert bench.lease().expires_at_boot == 1006.0 + HOURS_8
    assert isinstance(bench.to_deadline()[0], RenewToken)
    assert bench.now == 1006.0 + HOURS_8 - 600.0
    assert bench.lease(), "it is alive until the answer"


def test_a_direct_token_is_dead_once_its_successor_is_issued():
    bench = Bench(mode="direct").renewing(direct_token(OLD_PAIR))
    bench.answer(ev.LoginRenewed, NEW_PAIR)
    assert bench.lease() is None
    assert bench.state == Exchanging(bench.state.step, bench.state.retry, bench.now + HOURS_8)
    bench.answer(ev.LoginSaved)
    assert bench.question == PrepareDirect(bench.question.generation, NEW_PAIR)
    bench.answer(ev.TokenIssued, direct_token(NEW_PAIR))
    assert bench.lease().token.value == NEW_PAIR.value


def test_a_direct_token_that_github_refuses_is_not_lent_during_its_renewal():
    bench = Bench(mode="direct").ready(OLD_PAIR, direct_token(OLD_PAIR))
    bench.do(ev.TokenRejected(direct_token(OLD_PAIR)))
    bench.refuse(BAD)
    assert isinstance(bench.question, RenewToken)
    assert bench.lease() is None


def test_a_direct_token_whose_renewal_was_refused_serves_to_its_end():
    bench = Bench(mode="direct").renewing(direct_token(OLD_PAIR))
    bench.refuse(BAD_CLIENT)
    bench.answer(ev.TokenIssued, direct_token(OLD_PAIR))
    assert bench.machine.deadline() == 1006.0 + HOURS_8


def test_a_direct_token_without_refresh_token_is_looked_at_when_it_expires():
    pair = replace(OLD_PAIR, refresh_token=None)
    bench = Bench(mode="direct").ready(pair, direct_token(pair))
    assert isinstance(bench.to_deadline()[0], PrepareDirect)
    assert bench.now == 1006.0 + HOURS_8
    bench.answer(ev.TokenIssued, direct_token(pair))
    assert bench.lease().expires_at_boot == bench.now + 86_400.0, "our clock was wrong"


def test_months_of_renewals_have_a_lease_at_every_step():
    bench = Bench().ready(OLD_PAIR)
    end, serial, renewals = bench.now + 90 * 86_400.0, 1, 0
    while bench.now < end:
        bench.to_deadline()
        match bench.question:
            case RenewToken(token=token):
                assert token.refresh_token == f"ghr_canary_{serial}"
                serial += 1
                renewals += 1
                pair = GitHubToken(f"ghu_canary_{serial}", f"ghr_canary_{serial}", HOURS_8)
                bench.answer(ev.LoginRenewed, pair)
                assert bench.lease()
                bench.answer(ev.LoginSaved)
                bench.answer(ev.TokenIssued, COPILOT)
            case ExchangeToken():
                bench.answer(ev.TokenIssued, COPILOT)
        assert isinstance(bench.state, Ready)
        assert bench.lease()
    assert 270 <= renewals <= 300
