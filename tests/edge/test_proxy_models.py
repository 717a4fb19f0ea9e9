"""Lists of models: asked for seldom, once at a time, and an old one beats none."""

import asyncio
import contextlib
import logging

import pytest

from brokerd.core.refusals import Refusal
from brokerd.core.refused_calls import refused_call
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError
from brokerd.proxy.catalogue import AGAIN_AFTER, FRESH_FOR, MIN_AGE
from brokerd.proxy.lender import MIN_VALID
from fakes.broker import a_lease, a_view, signed_out
from fakes.clock import FakeClock, settle
from fakes.github import transient
from fakes.proxied import (
    FIRST,
    SECOND,
    FakeLender,
    Ticker,
    failure_of,
    fields,
    proxy_of,
    refused,
    request,
)


A, B = [{"id": "a"}], [{"id": "b"}]


def rejected(code="copilot_token_rejected"):
    error_class = ErrorClass.DENIED if code == "copilot_token_rejected" else ErrorClass.TEMPORARY
    failure = Failure(error_class, code, "refused", "Run: copilot-cred refresh")
    return (TransientError if error_class is ErrorClass.TEMPORARY else PermanentError)(failure)


def limited(retry_after=100.0, *, status=429, limits="account"):
    failure = Failure(ErrorClass.TEMPORARY, "rate_limited", "no", "Later", None, retry_after)
    return refused_call(status, Refusal(failure, limits))


def at_rest(*answers):
    """A proxy whose lender has one token for ever."""
    ticker = Ticker()
    proxy, copilot, lender = proxy_of(lender=FakeLender(FIRST), ticker=ticker)
    copilot.models_answers = list(answers)
    return proxy, copilot, lender, ticker


async def test_models_are_listed_for_an_account():
    proxy, copilot, lender = proxy_of(lender=FakeLender(a_lease(account="work")))
    copilot.models_answers = [A]
    found = await proxy.models("work")
    assert (found.account, found.models, found.age, found.failure) == ("work", A, 0.0, None)
    assert lender.calls == [("work", MIN_VALID, None)]


# Tokens that are refused.


@pytest.mark.parametrize("code", ["copilot_token_rejected", "misdirected"])
async def test_models_are_asked_for_once_more_with_a_new_token(code):
    proxy, copilot, lender = proxy_of()
    copilot.models_answers = [rejected(code), A]
    assert (await proxy.models(None)).models == A
    assert copilot.models_calls == [
        ("github.com", lease.api_base, lease.token, False) for lease in (FIRST, SECOND)
    ]
    assert lender.calls[1:] == [("default", MIN_VALID, FIRST.token_id)]
    assert (await proxy.models(None)).models == A, "kept for the host it came from"
    assert len(copilot.models_calls) == 2


async def test_models_are_asked_for_no_third_time():
    proxy, copilot, lender = proxy_of()
    copilot.models_answers = [rejected(), rejected("misdirected")]
    assert (await failure_of(proxy.models(None))).code == "misdirected"
    assert (len(copilot.models_calls), len(lender.calls)) == (2, 2)


async def test_models_are_not_asked_for_again_with_the_same_token():
    proxy, copilot, _, _ = at_rest(rejected())
    assert (await failure_of(proxy.models(None))).code == "copilot_token_rejected"
    assert len(copilot.models_calls) == 1


async def test_other_refusals_of_models_are_told_as_they_are():
    proxy, copilot, lender = proxy_of()
    copilot.models_answers = [transient("rate_limited")]
    assert (await failure_of(proxy.models(None))).code == "rate_limited"
    assert (len(copilot.models_calls), len(lender.calls)) == (1, 1)


async def test_a_refresh_that_fails_is_told_for_models():
    proxy, copilot, _ = proxy_of(lender=FakeLender(FIRST, signed_out()))
    copilot.models_answers = [rejected()]
    assert (await failure_of(proxy.models(None))).error_class is ErrorClass.LOGIN_REQUIRED
    assert len(copilot.models_calls) == 1


async def test_a_direct_token_is_sent_as_one():
    proxy, copilot, _ = proxy_of(lender=FakeLender(a_lease(is_direct=True)))
    await proxy.models(None)
    await proxy.enable_model(None, "m")
    assert copilot.models_calls[0][3] is copilot.enable_calls[0][4] is True


# A list is kept.


async def test_a_list_is_good_for_ten_minutes():
    proxy, copilot, _, ticker = at_rest(A, B)
    for passed, models, age in (
        (0, A, 0),
        (FRESH_FOR - 1, A, FRESH_FOR - 1),
        (1, B, 0),
        (5, B, 5),
    ):
        ticker.now += passed
        found = await proxy.models(None)
        assert (found.models, found.age, found.failure) == (models, age, None)
    assert len(copilot.models_calls) == 2


async def test_a_fresh_one_can_be_demanded_unless_this_one_is():
    proxy, copilot, _, ticker = at_rest(A, B)
    await proxy.models(None)
    ticker.now += MIN_AGE - 1
    found = await proxy.models(None, fresh=True)
    assert (found.models, found.age, found.failure) == (A, MIN_AGE - 1, None)
    ticker.now += 1
    assert (await proxy.models(None, fresh=True)).models == B
    assert (await proxy.models(None)).models == B
    assert len(copilot.models_calls) == 2


@pytest.mark.parametrize("failure", [None, transient("network_down"), rejected()])
@pytest.mark.parametrize("has_list", [True, False])
async def test_a_greedy_caller_is_one_request_in_ten_seconds(failure, has_list):
    answers = [A, *[failure or B] * 2] if has_list else [failure or B] * 2
    proxy, copilot, _, ticker = at_rest(*answers)
    if has_list:
        await proxy.models(None)
        ticker.now += MIN_AGE
    for period in (1, 2):
        for number in range(100):
            found = None
            with contextlib.suppress(BrokerError):
                found = await proxy.models(None, fresh=True)
            assert found is not None or failure is not None
            if found is not None:
                assert found.models == (A if failure else B)
                assert found.failure == (failure and failure.failure)
                passed = (number + has_list * bool(failure) * 100) * MIN_AGE / 100
                assert failure or found.age == pytest.approx(passed)
            ticker.now += MIN_AGE / 100
        ticker.now += 0.001  # what floating-point numbers lose
        assert len(copilot.models_calls) == has_list + period


async def test_a_refusal_of_a_newer_list_takes_none_from_who_is_content_with_the_old_one():
    proxy, copilot, _, ticker = at_rest(A, rejected())
    await proxy.models(None)
    ticker.now += MIN_AGE
    assert (await failure_of(proxy.models(None, fresh=True))).code == "copilot_token_rejected"
    found = await proxy.models(None)
    assert (found.models, found.age) == (A, MIN_AGE)
    assert len(copilot.models_calls) == 2


async def test_what_keeps_us_from_asking_is_not_kept():
    proxy, copilot, _ = proxy_of(lender=FakeLender(FIRST, signed_out(), FIRST))
    copilot.models_answers = [rejected(), A]
    assert (await failure_of(proxy.models(None))).error_class is ErrorClass.LOGIN_REQUIRED
    assert (await proxy.models(None, fresh=True)).models == A


async def test_accounts_have_their_own():
    proxy, _, lender, _ = at_rest(A, B)
    await proxy.models(None)
    lender.leases = [a_lease(account="work")]
    assert (await proxy.models("work")).models == B


@pytest.mark.parametrize("change", ["host", "person", "app", "mode"])
async def test_another_login_or_host_means_another_list(change):
    proxy, copilot, lender, _ = at_rest(A, B)
    await proxy.models(None)
    if change == "host":
        lender.leases = [a_lease(api_base="https://moved.example.test")]
    elif change == "mode":
        lender.leases = [a_lease(api_base=FIRST.api_base, is_direct=True)]
    elif change == "person":
        lender.views = [a_view(user_id=7)]
    else:
        lender.views = [a_view(client_id="other")]
    assert (await proxy.models(None)).models == B
    assert (await proxy.models(None)).models == B
    assert len(copilot.models_calls) == 2


async def test_many_who_ask_at_once_are_one_question():
    proxy, copilot, _, _ = at_rest(A, B)
    copilot.models_gate = asyncio.Event()
    asking = [asyncio.create_task(proxy.models(None, fresh=True)) for _ in range(100)]
    await settle()
    asking[0].cancel()  # takes nothing from the others
    await settle()
    copilot.models_gate.set()
    found = await asyncio.gather(*asking[1:])
    assert all(one.models == A for one in found)
    assert len(copilot.models_calls) == 1


async def test_an_error_is_everybodys_who_asked():
    proxy, copilot, _, ticker = at_rest(rejected(), A)
    copilot.models_gate = asyncio.Event()
    asking = [asyncio.create_task(failure_of(proxy.models(None))) for _ in range(3)]
    await settle()
    copilot.models_gate.set()
    assert {one.code for one in await asyncio.gather(*asking)} == {"copilot_token_rejected"}
    assert len(copilot.models_calls) == 1
    ticker.now += MIN_AGE
    assert (await proxy.models(None)).models == A, "and is kept for a moment only"


# An old one beats none.


@pytest.mark.parametrize("code", ["network_down", "upstream_500", "bad_answer"])
async def test_an_old_list_is_kept_where_github_does_not_tell(code):
    proxy, copilot, _, ticker = at_rest(A, transient(code), transient(code), B)
    await proxy.models(None)
    ticker.now += FRESH_FOR
    for _ in range(3):
        found = await proxy.models(None)
        assert (found.models, found.age, found.failure.code) == (A, FRESH_FOR, code)
    assert len(copilot.models_calls) == 2
    ticker.now += AGAIN_AFTER
    assert (await proxy.models(None)).failure.code == code
    ticker.now += MIN_AGE
    found = await proxy.models(None, fresh=True)
    assert (found.models, found.failure) == (B, None)
    assert len(copilot.models_calls) == 4


@pytest.mark.parametrize("account", [None, "default"])
async def test_an_old_list_is_shown_while_no_token_comes(account):
    proxy, copilot, lender, ticker = at_rest(A)
    await proxy.models(None)
    ticker.now += 5
    lender.leases = [transient("network_down")]
    found = await proxy.models(account, fresh=True)
    assert (found.account, found.models, found.age) == ("default", A, 5.0)
    assert found.failure.code == "network_down"
    assert (await failure_of(proxy.models("work"))).code == "network_down"
    lender.leases = [signed_out()]
    assert (await failure_of(proxy.models(account))).error_class is ErrorClass.LOGIN_REQUIRED
    assert len(copilot.models_calls) == 1


@pytest.mark.parametrize("has_list", [True, False])
async def test_a_limit_of_the_list_is_obeyed(has_list):
    answers = ([A] if has_list else []) + [limited(100.0), B]
    proxy, copilot, _, ticker, clock = paced(*answers)
    if has_list:
        await proxy.models(None)
        await pass_by(ticker, clock, FRESH_FOR)
    asked = len(answers) - 1
    for passed, left in ((0, 100), (40, 60), (59, 1)):
        await pass_by(ticker, clock, passed)
        for fresh in (False, True):
            if has_list:
                found = await proxy.models(None, fresh=fresh)
                assert found.models == A
                failure = found.failure
            else:
                failure = await failure_of(proxy.models(None, fresh=fresh))
            assert (failure.code, failure.retry_after) == ("rate_limited", left)
        assert len(copilot.models_calls) == asked
    await pass_by(ticker, clock, 1)
    found = await proxy.models(None)
    assert (found.models, found.failure) == (B, None)


# The pacing gate is everybody's.


def paced(*answers):
    ticker, clock = Ticker(), FakeClock()
    proxy, copilot, lender = proxy_of(lender=FakeLender(FIRST), ticker=ticker, clock=clock)
    copilot.models_answers = list(answers)
    return proxy, copilot, lender, ticker, clock


async def pass_by(ticker, clock, seconds):
    ticker.now += seconds
    await clock.advance(seconds)


async def cool_down(proxy, copilot, seconds=100):
    copilot.answers = [refused(429, b"slow down", **{"retry-after": str(seconds)})]
    (await proxy.open(request())).close()


async def test_nothing_small_is_sent_into_a_pause():
    proxy, copilot, _, ticker, clock = paced(A, B)
    await proxy.models(None)
    await pass_by(ticker, clock, MIN_AGE)
    await cool_down(proxy, copilot)
    found = await proxy.models(None, fresh=True)
    assert (found.models, found.failure.code) == (A, "cooling_down")
    assert found.failure.retry_after == 100
    assert (await failure_of(proxy.enable_model(None, "m"))).code == "cooling_down"
    assert (len(copilot.models_calls), copilot.enable_calls) == (1, [])
    await pass_by(ticker, clock, 101)
    assert (await proxy.models(None, fresh=True)).models == B
    assert await proxy.enable_model(None, "m") == ("default", "enabled")
    assert proxy.pacing("default").in_flight == 0


@pytest.mark.parametrize("call", ["list", "terms"])
async def test_a_limit_met_by_a_small_call_holds_back_everything(call):
    proxy, copilot, *_ = paced()
    copilot.models_answers, copilot.enable_answers = [limited()], [limited()]
    asked = proxy.models(None) if call == "list" else proxy.enable_model(None, "m")
    assert (await failure_of(asked)).code == "rate_limited"
    assert proxy.pacing("default").cooldown_in == 100
    assert (await failure_of(proxy.open(request()))).code == "cooling_down"
    assert (await failure_of(proxy.enable_model(None, "m"))).code == "cooling_down"
    assert copilot.calls == []
    assert len(copilot.models_calls) + len(copilot.enable_calls) == 1


async def test_a_provider_that_takes_no_more_holds_back_what_names_no_model_only():
    proxy, copilot, *_ = paced()
    copilot.enable_answers = [limited(status=503, limits="model")]
    assert (await failure_of(proxy.enable_model(None, "m"))).code == "rate_limited"
    held_back = await failure_of(proxy.enable_model(None, "m"))
    assert held_back.code == "cooling_down"
    assert "for what names no model for another" in held_back.message
    assert len(copilot.enable_calls) == 1
    (await proxy.open(request(b'{"model": "m"}'))).close()


async def test_a_list_that_comes_does_not_shorten_the_pauses_of_completions():
    proxy, copilot, _, ticker, clock = paced()
    for pause in (60, 120, 240):
        copilot.answers = [refused(429, b"slow down")]
        (await proxy.open(request())).close()
        assert proxy.pacing("default").cooldown_in == pause
        await pass_by(ticker, clock, pause)
        assert (await proxy.models(None, fresh=True)).failure is None


async def test_small_calls_without_an_answer_count_as_failures_and_unreadable_ones_do_not():
    for code, circuit in (("network_down", "open"), ("bad_answer", "closed")):
        proxy, _, _, ticker, _ = paced(*[transient(code) for _ in range(10)])
        for _ in range(10):
            assert (await failure_of(proxy.models(None, fresh=True))).code == code
            ticker.now += MIN_AGE
        assert proxy.pacing("default").circuit == circuit
        assert proxy.pacing("default").in_flight == 0


async def test_nobody_asks_again_with_a_new_token_into_a_pause():
    proxy, copilot, _ = proxy_of()
    copilot.models_answers, copilot.models_gate = [rejected(), A], asyncio.Event()
    asking = asyncio.create_task(failure_of(proxy.models(None)))
    await settle()
    await cool_down(proxy, copilot)
    copilot.models_gate.set()
    assert (await asking).code == "cooling_down"
    assert len(copilot.models_calls) == 1


async def test_no_list_is_the_error_and_the_next_one_asks_again_after_a_moment():
    proxy, _, _, ticker = at_rest(transient("network_down"), A)
    assert (await failure_of(proxy.models(None))).code == "network_down"
    ticker.now += MIN_AGE
    assert (await proxy.models(None)).models == A


async def test_what_asking_again_does_not_help_is_told_in_spite_of_an_old_list():
    denied = PermanentError(Failure(ErrorClass.DENIED, "upstream_466", "no", "Update"))
    proxy, _, _, ticker = at_rest(A, denied)
    await proxy.models(None)
    ticker.now += FRESH_FOR
    assert (await failure_of(proxy.models(None))).code == "upstream_466"


# Accepting terms.


async def test_a_models_terms_are_accepted_and_the_list_asked_for_again(caplog):
    caplog.set_level(logging.INFO)
    proxy, copilot, _, _ = at_rest(A, B)
    await proxy.models(None)
    assert await proxy.enable_model(None, "a/b c") == ("default", "enabled")
    assert copilot.enable_calls == [("github.com", FIRST.api_base, FIRST.token, "a/b c", False)]
    assert (await proxy.models(None)).models == B
    (said,) = fields(caplog, "model enabled")
    assert (said["ACCOUNT"], said["STATE"]) == ("default", "enabled")


async def test_a_list_asked_for_before_is_not_kept_after():
    proxy, copilot, _, _ = at_rest(A, B)
    copilot.models_gate = asyncio.Event()
    asking = asyncio.create_task(proxy.models(None))
    await settle()
    await proxy.enable_model(None, "m")
    copilot.models_gate.set()
    assert (await asking).models == A
    assert (await proxy.models(None)).models == B


async def test_a_refused_token_is_replaced_for_enabling_too():
    proxy, copilot, _ = proxy_of()
    copilot.enable_answers = [rejected(), "disabled"]
    assert await proxy.enable_model("default", "m") == ("default", "disabled")
    assert [call[2] for call in copilot.enable_calls] == [FIRST.token, SECOND.token]


async def test_what_github_has_against_it_is_told():
    unknown = PermanentError(Failure(ErrorClass.USAGE, "unknown_model", "no", "Choose"))
    proxy, copilot, _, _ = at_rest(A)
    await proxy.models(None)
    copilot.enable_answers = [unknown]
    assert (await failure_of(proxy.enable_model(None, "m"))).code == "unknown_model"
    assert (await proxy.models(None)).models == A, "the list stays"


async def test_what_is_said_of_a_named_account_names_it():
    refused = PermanentError(
        Failure(ErrorClass.DENIED, "upstream_403", "no", "Choose another: copilot-cred models")
    )
    proxy, copilot, _, _ = at_rest()
    copilot.enable_answers = [refused, refused]
    named = await failure_of(proxy.enable_model("default", "m"))
    assert named.hint == "Choose another: copilot-cred models --account default"
    assert (await failure_of(proxy.enable_model(None, "m"))).hint == refused.failure.hint
