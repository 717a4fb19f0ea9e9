"""The token machine: values in, values out, virtual time."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerd.core.machine import events as ev
from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.machine.effects import (
    ExchangeToken,
    IdentifyUser,
    LoadLogin,
    PollDeviceGrant,
    RequestDeviceCode,
    SaveLogin,
)
from brokerd.core.machine.states import (
    AwaitingUser,
    Exchanging,
    Loading,
    Minting,
    Ready,
    Saving,
    SignedOut,
)
from brokerd.core.machine.token_machine import ANSWER_TIMEOUT
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from fakes.machine import (
    BAD,
    BAD_REFRESH,
    CODE,
    COPILOT,
    DOWN,
    GONE,
    GRANT,
    LIMITED,
    LOCKED,
    LOGIN,
    NEW_PAIR,
    NEWER,
    NO_PLAN,
    NOT_FOUND,
    OLD_PAIR,
    USER,
    Bench,
    direct_token,
)


EMPTY_CODE = DeviceCode("x", "y", "z", float("nan"), -1.0)


# The way in.


def test_the_login_is_saved_before_it_is_used():
    bench = Bench()
    asked = [type(bench.do(ev.LoginRequested())[0])]
    asked += map(type, bench.answer(ev.DeviceCodeIssued, CODE))
    asked += map(type, bench.to_deadline())
    asked += map(type, bench.answer(ev.DeviceGranted, GRANT))
    asked += map(type, bench.answer(ev.UserIdentified, USER))
    assert bench.question.login == LOGIN
    asked += map(type, bench.answer(ev.LoginSaved))
    bench.answer(ev.TokenIssued, COPILOT)
    assert asked == [RequestDeviceCode, PollDeviceGrant, IdentifyUser, SaveLogin, ExchangeToken]
    assert bench.machine.lease(bench.now).token == COPILOT


def test_first_poll_waits_longer_than_the_interval():
    bench = Bench().code_issued()
    assert bench.machine.handle_timer(bench.now + 5.9) == []
    assert isinstance(bench.machine.handle_timer(bench.now + 6.0)[0], PollDeviceGrant)


def test_no_second_poll_while_one_is_open():
    bench = Bench().polling()
    assert bench.machine.handle_timer(bench.now + 60) == []


def test_pending_keeps_the_pace_and_slow_down_slows_it_for_good():
    bench = Bench().polling()
    bench.answer(ev.DeviceNotGranted, NotGranted("authorization_pending"))
    assert bench.machine.deadline() == pytest.approx(bench.now + 6.0)
    bench.to_deadline()
    bench.answer(ev.DeviceNotGranted, NotGranted("slow_down", 10.0))
    assert bench.machine.deadline() == pytest.approx(bench.now + 14.0)
    bench.to_deadline()
    bench.answer(ev.DeviceNotGranted, NotGranted("slow_down"))
    assert bench.machine.deadline() == pytest.approx(bench.now + 21.0)
    bench.to_deadline()
    bench.answer(ev.DeviceNotGranted, NotGranted("authorization_pending"))
    assert bench.machine.deadline() == pytest.approx(bench.now + 21.0)


@pytest.mark.parametrize(
    "error", ["access_denied", "expired_token", "token_expired", "incorrect_device_code",
              "incorrect_client_credentials", "unsupported_grant_type", "device_flow_disabled", "?"],
)  # fmt: skip
def test_any_other_answer_ends_the_login_and_says_why(error):
    bench = Bench().polling()
    assert bench.answer(ev.DeviceNotGranted, NotGranted(error)) == []
    assert isinstance(bench.state, SignedOut)
    assert bench.state.reason is not None
    assert bench.machine.deadline() is None


def test_a_code_nobody_approves_expires():
    bench = Bench().code_issued()
    started, polls = bench.now, 0
    while isinstance(bench.state, AwaitingUser):
        if bench.to_deadline():
            polls += 1
            bench.answer(ev.DeviceNotGranted, NotGranted("authorization_pending"))
    assert bench.state.reason.code == "expired_token"
    assert bench.now == pytest.approx(started + 900.0)
    assert polls == 149


def test_a_grant_that_arrives_after_expiry_still_counts():
    bench = Bench().polling()
    bench.machine.state = bench.state.__class__(
        CODE, bench.now + 1.0, bench.state.pacing, bench.state.retry
    )
    bench.now += 5.0
    bench.machine.handle_timer(bench.now)
    bench.answer(ev.DeviceGranted, GRANT)
    assert isinstance(bench.question, IdentifyUser)


def test_nonsense_in_the_device_code_is_replaced():
    bench = Bench()
    bench.do(ev.LoginRequested())
    bench.answer(ev.DeviceCodeIssued, EMPTY_CODE)
    assert bench.machine.deadline() == pytest.approx(bench.now + 6.0)
    assert bench.state.expires_at == bench.now + 900.0


# Failures at each step.


def test_network_failure_of_the_first_step_is_told_at_once():
    bench = Bench()
    bench.do(ev.LoginRequested())
    bench.fail(DOWN)
    assert bench.state == SignedOut(DOWN)
    assert isinstance(bench.do(ev.LoginRequested())[0], RequestDeviceCode)


def test_network_failure_of_a_poll_backs_off_and_goes_on():
    bench = Bench().polling()
    waits = []
    for _ in range(8):
        bench.fail(DOWN)
        waits.append(bench.machine.deadline() - bench.now)
        bench.to_deadline()
    assert waits[0] == pytest.approx(6.0)
    assert waits == sorted(waits)
    assert waits[-1] <= 30.0
    bench.answer(ev.DeviceGranted, GRANT)
    assert isinstance(bench.question, IdentifyUser)


@pytest.mark.parametrize("step", ["identifying", "saving", "minting"])
def test_transient_failure_keeps_the_login_and_asks_the_same_again(step):
    bench = Bench()
    getattr(bench, step)()
    first = bench.question
    bench.fail(DOWN)
    assert bench.machine.failure == DOWN
    assert 0.5 <= bench.machine.deadline() - bench.now <= 1.0
    assert type(bench.to_deadline()[0]) is type(first)
    assert bench.question.generation > first.generation


@pytest.mark.parametrize("step", ["polling", "identifying", "saving"])
def test_permanent_failure_ends_the_login(step):
    bench = Bench()
    getattr(bench, step)()
    bench.fail(GONE, permanent=True)
    assert bench.state == SignedOut(GONE)


def test_a_locked_store_is_retried_while_saving():
    bench = Bench().saving()
    bench.fail(LOCKED, permanent=True)
    assert isinstance(bench.state.step, Saving)
    bench.to_deadline()
    bench.answer(ev.LoginSaved)
    assert isinstance(bench.question, ExchangeToken)


def test_nothing_is_exchanged_while_unsaved():
    bench = Bench().saving()
    for _ in range(20):
        bench.fail(DOWN)
        assert isinstance(bench.to_deadline()[0], SaveLogin)
        assert not bench.machine.is_saved
    bench.answer(ev.LoginSaved)
    assert bench.machine.is_saved


def test_an_answer_that_never_comes_counts_as_a_failure():
    bench = Bench().minting()
    assert bench.machine.deadline() == bench.now + ANSWER_TIMEOUT
    stale = bench.question
    bench.to_deadline()
    assert bench.machine.failure.code == "no_answer"
    assert bench.do(ev.TokenIssued(stale.generation, COPILOT)) == []
    assert not isinstance(bench.state, Ready)


def test_refused_login_is_tried_once_and_the_store_is_asked_for_a_newer_one():
    bench = Bench().minting()
    bench.fail(BAD, permanent=True)
    assert isinstance(bench.question, LoadLogin)
    bench.answer(ev.LoginLoaded, LOGIN)
    assert bench.state == SignedOut(BAD)
    assert bench.do(ev.RefreshRequested()) == []


def test_refused_login_never_wins_over_a_newer_one_in_the_store():
    bench = Bench().ready()
    bench.to_deadline()
    bench.fail(BAD, permanent=True)
    bench.answer(ev.LoginLoaded, NEWER)
    assert bench.question.token == NEWER.token


@pytest.mark.parametrize("answer", [(ev.LoginLoaded, None), (ev.QuestionFailed, DOWN, False)])
def test_refused_login_and_no_newer_one_says_the_refusal(answer):
    bench = Bench().minting()
    bench.fail(BAD, permanent=True)
    bench.answer(*answer)
    assert bench.state == SignedOut(BAD)


def test_refused_exchange_keeps_the_login_and_waits_for_a_refresh():
    bench = Bench().minting()
    bench.fail(NO_PLAN, permanent=True)
    assert isinstance(bench.state.step, Minting)
    assert bench.machine.deadline() is None
    assert bench.do(ev.Resumed()) == []
    assert bench.do(ev.LeaseWanted()) == []
    assert isinstance(bench.do(ev.RefreshRequested())[0], ExchangeToken)


def test_refused_refresh_leaves_the_current_token_until_it_expires():
    bench = Bench().ready()
    bench.to_deadline()
    bench.fail(NO_PLAN, permanent=True)
    assert bench.machine.lease(bench.now)
    assert bench.to_deadline() == []
    assert bench.machine.lease(bench.now) is None
    assert bench.machine.failure == NO_PLAN


# Kept logins.


def test_a_kept_login_is_loaded_and_exchanged():
    bench = Bench()
    assert isinstance(bench.do(ev.LoginKept())[0], LoadLogin)
    assert bench.answer(ev.LoginLoaded, LOGIN) == [ExchangeToken(2, GRANT)]


def test_a_login_gone_from_its_store_is_said():
    bench = Bench()
    bench.do(ev.LoginKept())
    bench.answer(ev.LoginLoaded, None)
    assert bench.state.reason.code == "login_missing"


@pytest.mark.parametrize("permanent", [True, False])
def test_a_store_that_fails_to_load_is_retried_and_sooner_when_asked(permanent):
    bench = Bench()
    bench.do(ev.LoginKept())
    for _ in range(8):
        bench.fail(LOCKED, permanent=permanent)
        bench.to_deadline()
    bench.fail(LOCKED, permanent=permanent)
    assert bench.machine.deadline() > bench.now + 10
    assert bench.do(ev.LeaseWanted()) == []
    bench.now += 1.0
    assert isinstance(bench.do(ev.LeaseWanted())[0], LoadLogin)


def test_a_given_token_is_identified_saved_and_marked():
    bench = Bench()
    assert isinstance(bench.do(ev.TokenGiven(GRANT))[0], IdentifyUser)
    bench.answer(ev.UserIdentified, USER)
    assert bench.question.login.source == "token"


@pytest.mark.parametrize(
    ("told", "found", "kept"),
    [("", "repo,user", "repo,user"), ("read:user", "repo", "read:user"), ("", None, "")],
)
def test_scopes_that_the_grant_does_not_name_are_taken_from_the_user(told, found, kept):
    bench = Bench().identifying(GitHubToken("gho_canary", scope=told))
    bench.answer(ev.UserIdentified, User(42, "octocat", found))
    assert bench.question.login.token.scope == kept


@pytest.mark.parametrize("who_says_so", ["GitHub", "our clock"])
def test_repeated_slow_downs_tell_of_the_clock_when_the_code_expires(who_says_so):
    bench = Bench().polling()
    for error in ["slow_down", "slow_down", "expired_token"]:
        if error != "expired_token" or who_says_so == "GitHub":
            bench.answer(ev.DeviceNotGranted, NotGranted(error))
        else:
            bench.answer(ev.DeviceNotGranted, NotGranted("authorization_pending"))
            bench.now += 900.0
            bench.machine.handle_timer(bench.now)
        if isinstance(bench.state, AwaitingUser):
            bench.to_deadline()
    assert bench.state.reason.code == "expired_token"
    assert "timedatectl" in bench.state.reason.hint
    assert bench.state.reason.hint.endswith("run copilot-cred login")


# Ready.


def test_the_old_token_stays_leasable_while_the_new_one_is_asked_for():
    bench = Bench().ready()
    assert isinstance(bench.to_deadline()[0], ExchangeToken)
    assert bench.machine.lease(bench.now).token == COPILOT


def test_transient_failure_keeps_the_token_until_its_own_expiry():
    bench = Bench().ready()
    expires_at = bench.state.expires_at
    bench.to_deadline()
    while bench.now < expires_at:
        assert bench.machine.lease(bench.now)
        if bench.question:
            bench.fail(DOWN)
        bench.to_deadline()
    assert bench.machine.lease(bench.now) is None
    assert isinstance(bench.state, Exchanging)
    assert bench.machine.failure == DOWN


def test_upstreams_limit_is_kept_whoever_asks():
    bench = Bench().ready()
    bench.to_deadline()
    bench.fail(LIMITED)
    limit = bench.now + 600.0
    for event in (ev.RefreshRequested(), ev.FresherTokenWanted(), ev.Resumed(),
                  ev.TokenRejected(COPILOT), ev.LeaseWanted()):  # fmt: skip
        assert bench.do(event) == []
    bench.now = limit - 0.1
    assert bench.machine.handle_timer(bench.now) == []
    bench.now = limit
    assert isinstance(bench.machine.handle_timer(bench.now)[0], ExchangeToken)


def test_lifetime_is_counted_from_the_asking():
    bench = Bench().minting()
    asked_at = bench.now
    bench.now += 20.0
    bench.answer(ev.TokenIssued, COPILOT)
    assert bench.machine.lease(bench.now).expires_at_boot == asked_at + 1800.0


@pytest.mark.parametrize("lifetime", [0.0, -10.0, float("nan")])
def test_a_stillborn_token_is_a_transient_failure(lifetime):
    bench = Bench().minting()
    bench.answer(ev.TokenIssued, CopilotToken("x", lifetime, 1500.0, "https://api.example.com"))
    assert bench.machine.failure.code == "token_stillborn"
    assert bench.machine.deadline() > bench.now


def test_only_the_current_token_can_be_rejected():
    bench = Bench().ready()
    assert bench.do(ev.TokenRejected(CopilotToken("old", 1.0, 1.0, ""))) == []
    assert isinstance(bench.do(ev.TokenRejected(COPILOT))[0], ExchangeToken)
    assert bench.machine.lease(bench.now) is None
    assert bench.do(ev.TokenRejected(COPILOT)) == []


def test_a_run_of_young_rejections_is_paced():
    bench = Bench().ready()
    exchanges = 0
    for _ in range(50):
        exchanges += len(bench.do(ev.TokenRejected(COPILOT)))
        if bench.question:
            bench.answer(ev.TokenIssued, COPILOT)
        else:
            assert bench.machine.failure.code == "token_rejected_again"
            bench.now += 0.1
    assert exchanges <= 3


def test_a_fresher_token_is_asked_for_only_when_half_the_life_is_over():
    bench = Bench().ready()
    bench.now += 899.0
    assert bench.do(ev.FresherTokenWanted()) == []
    bench.now += 1.0
    assert isinstance(bench.do(ev.FresherTokenWanted())[0], ExchangeToken)
    assert bench.do(ev.FresherTokenWanted()) == []


def test_resume_asks_again_what_the_suspend_has_cut_off():
    bench = Bench().ready()
    bench.to_deadline()
    stale = bench.question
    bench.now += 86_400.0
    assert isinstance(bench.do(ev.Resumed())[0], ExchangeToken)
    assert bench.machine.failure.code == "resuming"
    assert bench.do(ev.TokenIssued(stale.generation, COPILOT)) == []
    bench.answer(ev.TokenIssued, COPILOT)
    assert bench.machine.failure is None


def test_resume_ends_a_long_backoff():
    bench = Bench().minting()
    for _ in range(10):
        bench.fail(DOWN)
        bench.to_deadline()
    bench.fail(DOWN)
    assert isinstance(bench.do(ev.Resumed(slept=False))[0], ExchangeToken)


@pytest.mark.parametrize(
    "step", ["code_issued", "polling", "identifying", "saving", "minting", "ready"]
)
def test_stale_answer_is_dropped_after_logout(step):
    bench = Bench()
    getattr(bench, step)()
    generation = bench.question.generation if bench.question else 1
    bench.do(ev.LogoutRequested())
    for answer in answers(generation):
        assert bench.do(answer) == []
    assert bench.state == SignedOut()
    assert bench.machine.deadline() is None


def answers(generation):
    return [
        ev.DeviceCodeIssued(generation, CODE),
        ev.DeviceGranted(generation, GRANT),
        ev.DeviceNotGranted(generation, NotGranted("access_denied")),
        ev.UserIdentified(generation, USER),
        ev.LoginSaved(generation),
        ev.LoginLoaded(generation, NEWER),
        ev.LoginLoaded(generation, None),
        ev.TokenIssued(generation, COPILOT),
        ev.TokenIssued(generation, CopilotToken("x", 0.5, 0.0, "https://api.example.com")),
        ev.DeviceNotGranted(generation, NotGranted("slow_down", 7.0)),
        ev.DeviceGranted(generation, OLD_PAIR),
        ev.LoginLoaded(generation, replace(LOGIN, token=OLD_PAIR), 4000.0),
        ev.LoginLoaded(generation, replace(LOGIN, token=OLD_PAIR), -5.0),
        ev.LoginRenewed(generation, NEW_PAIR),
        ev.LoginRenewed(generation, GitHubToken("ghu_canary", "ghr_canary", expires_in=0.001)),
        ev.TokenIssued(generation, direct_token(NEW_PAIR)),
        ev.TokenIssued(generation, direct_token(OLD_PAIR, 3600.0)),
        *(ev.QuestionFailed(generation, f, p) for f in (DOWN, LIMITED, BAD, BAD_REFRESH, NOT_FOUND, NO_PLAN, LOCKED) for p in (True, False)),
    ]  # fmt: skip


WISHES = [ev.LoginRequested(), ev.TokenGiven(GRANT), ev.LoginKept(), ev.LogoutRequested(), ev.LeaseWanted(),
          ev.FresherTokenWanted(), ev.RefreshRequested(), ev.TokenRejected(COPILOT), ev.Resumed(),
          ev.TokenRejected(direct_token(NEW_PAIR)), ev.Resumed(slept=False), ev.TokensDropped(),
          ev.Locked(LOCKED), ev.Unlocked()]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(WISHES), st.integers(0, len(answers(0)) - 1)),
            st.integers(-1, 0),
            st.sampled_from([0.0, 0.3, 2.0, 7.0, 200.0, 2000.0, 90_000.0]),
        ),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_random_events_never_raise_and_deadlines_are_ahead(steps, rng):
    bench = Bench(rng.random)
    for choice, lag, passed in steps:
        bench.now += passed
        bench.mode = rng.choice(["auto", "auto", "exchange", "direct"])
        generation = (bench.question.generation if bench.question else 5) + lag
        what = answers(generation)[choice] if isinstance(choice, int) else choice
        effects = bench.do(what)
        deadline = bench.machine.deadline()
        assert deadline is None or deadline >= bench.now
        assert all(e.generation <= bench.question.generation for e in effects)
        lease = bench.machine.lease(bench.now)
        assert lease is None or lease.expires_at_boot > bench.now
        if not isinstance(bench.state, SignedOut) and bench.machine.failure is None:
            assert deadline is not None, "an account that works towards a token never stalls"
        assert "canary" not in repr(bench.state) + repr(bench.question) + repr(what)


def test_a_year_of_refreshes_has_a_lease_at_every_step():
    rng = random.Random(7)
    bench = Bench(rng.random).ready()
    end, exchanges = bench.now + 365 * 86_400.0, 0
    while bench.now < end:
        bench.to_deadline()
        if bench.question is not None:
            exchanges += 1
            if rng.random() < 0.05:
                bench.fail(DOWN)
            else:
                bench.answer(ev.TokenIssued, COPILOT)
        assert bench.machine.lease(bench.now), "no lease"
    assert 21_000 <= exchanges <= 25_000


def test_a_loading_machine_is_not_called_refused():
    bench = Bench()
    bench.do(ev.LoginKept())
    assert bench.state.step == Loading()


def test_an_answer_to_another_kind_of_question_changes_nothing():
    bench = Bench().saving()
    question = bench.question
    bench.answer(ev.TokenIssued, COPILOT)
    assert bench.question is question
    assert isinstance(bench.state.step, Saving)


@pytest.mark.parametrize("step", ["code_issued", "polling", "saving", "minting", "ready"])
@pytest.mark.parametrize("event", [ev.LoginRequested(), ev.TokenGiven(GRANT), ev.LoginKept()])
def test_a_machine_that_has_begun_does_not_begin_again(step, event):
    bench = Bench()
    getattr(bench, step)()
    state, question = bench.state, bench.question
    assert bench.do(event) == []
    assert (bench.state, bench.question) == (state, question)


def test_a_suspend_does_not_give_up_a_poll_that_may_bring_the_grant():
    bench = Bench().polling()
    question = bench.question
    assert bench.do(ev.Resumed()) == []
    assert bench.question is question
