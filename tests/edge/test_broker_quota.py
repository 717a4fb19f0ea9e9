"""What is left of a plan, as the broker finds out: whom it asks, how often, and what it makes of it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from brokerd.broker.quotas import REREAD_PAUSE
from brokerd.broker.quotas.readings import AGAIN_AFTER, FRESH_FOR, MIN_AGE
from brokerd.core.quota import Quota, Report
from brokerd.core.quota_header import QuotaSnapshot
from brokerd.core.tokens import CopilotToken, Pat
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.views import LoginRequest
from fakes.broker_world import World, ask, collect, failure_of
from fakes.clock import settle
from fakes.github import bad_credentials, permanent, transient


PREMIUM = "premium_interactions"
SEAT = Report(
    (Quota(PREMIUM, entitlement=300.0, used=50.0, remaining=250.0),), plan="individual_pro"
)
SILENT = Report((Quota(PREMIUM),))
BILL = Report((Quota(PREMIUM, used=54.58),), models=(("Sim", 54.58),))
BARE = Report((Quota(PREMIUM, used=0.0),), is_bare=True)
SNAPSHOT = QuotaSnapshot(300, 20.0, 0.0, overage_permitted=False, resets_at=None)
PAT = "github_pat_canary"


@pytest.fixture
async def world():
    world = World()
    world.github.seat_told = SEAT
    world.github.bill_told = BILL
    world.headers = {}
    world.keep_login()
    await world.start()
    world.quotas = world.broker.quotas
    world.quotas.watch_headers(lambda account: world.headers.get(account, {}))
    yield world
    await world.stop()


def keep_pat(world, value=PAT):
    (key,) = [login.key for login in world.store.items.values()]
    world.store.pats[key] = Pat(value)


def no_seat(world):
    world.github.faults["seat"] = [permanent("seat_hidden") for _ in range(9)]


def outcomes(view):
    return {each.source: each.outcome for each in view.tried}


def codes(view):
    return {each.source: each.failure.code for each in view.tried if each.failure}


def only(view):
    (kind,) = view.kinds
    return kind


def with_pat_refused(code):
    return PermanentError(Failure(ErrorClass.DENIED, code, "no", "copilot-cred quota set-pat"))


# The four sources, in order.


async def test_the_seat_is_asked_where_no_pat_is_kept(world):
    view = await world.quotas.get()
    assert (view.account, view.host, view.login) == ("default", "github.com", "user42")
    assert (view.source, view.plan, view.age, view.has_pat) == (
        "seat",
        "individual_pro",
        0.0,
        False,
    )
    assert only(view).remaining == 250.0
    assert outcomes(view) == {
        "billing": "not_configured", "seat": "used", "headers": "not_needed", "token": "not_needed",
    }  # fmt: skip
    assert codes(view)["billing"] == "no_pat"
    assert world.github.count("billing") == 0


async def test_the_bill_comes_first_and_the_seat_fills_it(world):
    keep_pat(world)
    view = await world.quotas.get()
    assert (view.source, view.has_pat, view.models) == ("billing", True, (("Sim", 54.58),))
    assert (only(view).used, only(view).entitlement) == (54.58, 300.0)
    assert outcomes(view)["billing"] == "used"
    assert outcomes(view)["seat"] == "added"
    assert world.github.billed == [(PAT, "user42", world.clock.wall())]


async def test_the_headers_are_third(world):
    no_seat(world)
    world.headers["default"] = {PREMIUM: SNAPSHOT}
    view = await world.quotas.get()
    assert (view.source, view.age) == ("headers", None)
    assert only(view).percent_remaining == 20.0
    assert outcomes(view) == {
        "billing": "not_configured", "seat": "failed", "headers": "used", "token": "not_needed",
    }  # fmt: skip
    assert codes(view)["seat"] == "seat_hidden"


async def test_the_token_is_last(world):
    no_seat(world)
    told = (Quota("chat", remaining=37.0),)
    whole = world.github.exchange

    async def of_a_free_plan(token, plan="auto"):
        return replace(await whole(token, plan), quota=told)

    world.github.exchange = of_a_free_plan
    await world.broker.refresh()
    await world.clock.advance(60)
    view = await world.quotas.get()
    assert (view.source, view.age, view.kinds) == ("token", 60.0, told)
    assert codes(view) == {
        "billing": "no_pat",
        "seat": "seat_hidden",
        "headers": "no_headers_seen",
    }


async def test_a_seat_that_tells_nothing_is_filled_by_what_costs_nothing(world):
    world.github.seat_told = SILENT
    world.headers["default"] = {PREMIUM: SNAPSHOT}
    view = await world.quotas.get()
    assert view.source == "headers"
    assert codes(view)["seat"] == "seat_untold"


@pytest.mark.parametrize(("sku", "code"), [("", "seat_untold"), ("no_access", "no_access")])
async def test_a_seat_without_numbers_is_an_answer(world, sku, code):
    world.github.seat_told = replace(SILENT, sku=sku)
    view = await world.quotas.get()
    assert (view.source, view.sku) == ("seat", sku or world.github.sku)
    assert not only(view).is_told
    assert outcomes(view)["seat"] == "used"
    assert codes(view)["headers"] == "no_headers_seen"
    world.github.bill_told = BARE
    keep_pat(world)
    await world.clock.advance(FRESH_FOR)
    assert codes(await world.quotas.get())["seat"] == code


async def test_an_empty_bill_leaves_the_word_to_the_seat(world):
    keep_pat(world)
    world.github.bill_told = BARE
    view = await world.quotas.get()
    assert (view.source, only(view).used) == ("seat", 50.0)
    assert codes(view)["billing"] == "nothing_billed"


async def test_a_tier_counts_where_no_source_states_the_entitlement(world):
    keep_pat(world)
    no_seat(world)
    view = await world.quotas.get(tier="Pro+")
    assert (view.tier, only(view).entitlement) == ("pro+", 1500.0)
    assert (await world.quotas.get(tier="gold")).tier == ""
    world.github.faults["seat"] = []
    await world.clock.advance(FRESH_FOR)
    view = await world.quotas.get(tier="pro+")
    assert (view.tier, only(view).entitlement) == ("", 300.0)


# Failures.


@pytest.mark.parametrize("code", ["pat_refused", "pat_permission", "pat_user_unknown"])
async def test_a_wrong_pat_is_told_and_the_seat_is_used(world, code):
    keep_pat(world)
    world.github.faults["billing"] = [with_pat_refused(code)]
    view = await world.quotas.get()
    assert (view.source, codes(view)["billing"]) == ("seat", code)
    assert outcomes(view)["billing"] == "failed"


@pytest.mark.parametrize(
    ("bill", "seat", "told"),
    [
        (None, transient(), "network_down"),
        (None, permanent("seat_hidden"), "seat_hidden"),
        (with_pat_refused("pat_permission"), permanent("seat_hidden"), "pat_permission"),
        (with_pat_refused("pat_permission"), transient(), "pat_permission"),
        (with_pat_refused("pat_permission"), bad_credentials(), "bad_credentials"),
        (transient("bill_down"), permanent("seat_hidden"), "seat_hidden"),
    ],
)  # fmt: skip
async def test_if_nobody_answers_the_most_useful_error_is_raised(world, bill, seat, told):
    if bill is not None:
        keep_pat(world)
        world.github.faults["billing"] = [bill]
    world.github.faults["seat"] = [seat]
    assert (await failure_of(world.quotas.get())).code == told


async def test_a_store_that_fails_costs_only_its_pat(world):
    world.store.faults["load_pat"] = [transient("keyring_locked", error_class=ErrorClass.LOCKED)]
    view = await world.quotas.get()
    assert (view.source, codes(view)["billing"]) == ("seat", "keyring_locked")


async def test_nobody_signed_in():
    world = World()
    await world.start()
    failure = await failure_of(world.broker.quotas.get())
    assert failure.error_class is ErrorClass.LOGIN_REQUIRED
    assert "copilot-cred login" in failure.hint
    failure = await failure_of(world.broker.quotas.set_pat(PAT))
    assert failure.error_class is ErrorClass.LOGIN_REQUIRED
    await world.stop()


async def test_hints_name_an_account_that_is_not_the_default(world):
    world.keep_login("work", user=43, value="gho_work")
    await world.stop()
    await world.start()
    world.github.faults["seat"] = [permanent("seat_hidden")]
    failure = await failure_of(world.broker.quotas.get("work"))
    assert "copilot-cred login --account work" in failure.hint


# How often.


async def test_an_answer_is_good_for_five_minutes(world):
    await world.quotas.get()
    await world.clock.advance(FRESH_FOR - 1)
    assert (await world.quotas.get()).age == FRESH_FOR - 1
    assert world.github.count("seat") == 1
    await world.clock.advance(1)
    assert (await world.quotas.get()).age == 0.0
    assert world.github.count("seat") == 2


async def test_fresh_asks_anew_what_is_older_than_a_moment(world):
    keep_pat(world)
    await world.quotas.get()
    await world.clock.advance(MIN_AGE - 1)
    assert (await world.quotas.get(fresh=True)).age == MIN_AGE - 1
    await world.clock.advance(1)
    assert (await world.quotas.get(fresh=True)).age == 0.0
    assert (world.github.count("seat"), world.github.count("billing")) == (2, 2)


@pytest.mark.parametrize("source", ["seat", "billing"])
@pytest.mark.parametrize("fault", [None, transient, permanent, "pat_permission"])
async def test_a_greedy_caller_is_one_request_in_ten_seconds(world, source, fault):
    if source == "billing":
        keep_pat(world)
    if fault is not None:
        make = with_pat_refused if isinstance(fault, str) else fault
        world.github.faults[source] = [make("pat_permission") for _ in range(99)]
    for period in (1, 2):
        for _ in range(100):
            with contextlib.suppress(BrokerError):
                await world.quotas.get(fresh=True)
            await world.clock.advance(MIN_AGE / 100)
        assert world.github.count(source) == period


async def test_a_login_that_only_the_seat_refuses_is_shown_to_it_seldom(world):
    world.github.faults["seat"] = [bad_credentials() for _ in range(99)]
    exchanged = world.github.count("exchange")
    for _ in range(100):
        for fresh in (True, False):
            assert (await failure_of(world.quotas.get(fresh=fresh))).code == "bad_credentials"
        await world.clock.advance(MIN_AGE / 100)
    assert world.github.count("seat") == 1
    assert world.github.count("exchange") - exchanged <= 1


async def test_giving_a_pat_again_and_again_shows_it_once_in_ten_seconds(world):
    for code, *faults in (("",), ("pat_permission", with_pat_refused("pat_permission"))):
        asked = world.github.count("billing")
        world.github.faults["billing"] = faults
        given = [world.quotas.set_pat(f"{PAT}{code}") for _ in range(20)]
        found = await asyncio.gather(*given, return_exceptions=True)
        assert {getattr(each, "failure", None) and each.failure.code for each in found} == {
            code or None
        }
        assert world.github.count("billing") == asked + 1


async def test_two_pats_by_turns_are_one_request_each(world):
    for number in range(20):
        await world.quotas.get(fresh=True, pat=f"{PAT}_{number % 2}")
    assert world.github.count("billing") == 2
    await world.clock.advance(MIN_AGE)
    await world.quotas.get(fresh=True, pat=f"{PAT}_0")
    assert world.github.count("billing") == 3


@pytest.mark.parametrize("fresh", [False, True])
async def test_callers_at_one_time_share_one_question(world, fresh):
    world.github.gates["seat"] = asyncio.Event()
    asked = [await ask(world.quotas.get(fresh=fresh)) for _ in range(100)]
    await world.clock.advance(1)
    world.github.gates["seat"].set()
    await asyncio.gather(*asked)
    assert world.github.count("seat") == 1


async def test_whoever_leaves_leaves_the_others_their_answer(world):
    world.github.gates["seat"] = asyncio.Event()
    first, second = [await ask(world.quotas.get()) for _ in range(2)]
    first.cancel()
    await settle()
    world.github.gates["seat"].set()
    assert (await second).source == "seat"


async def test_a_failure_is_asked_again_soon(world):
    world.github.faults["seat"] = [transient()]
    await failure_of(world.quotas.get())
    await world.clock.advance(AGAIN_AFTER - 1)
    assert (await failure_of(world.quotas.get())).code == "network_down"
    await world.clock.advance(1)
    assert (await world.quotas.get()).source == "seat"


async def test_github_is_left_alone_as_long_as_it_wants_even_if_asked_anew(world):
    keep_pat(world)
    world.github.faults["billing"] = [transient("rate_limited", retry_after=400)]
    failure = await failure_of(world.quotas.get())
    assert (failure.code, failure.retry_after) == ("rate_limited", 400)
    assert world.github.count("seat") == 0  # it is the person who is limited
    await world.clock.advance(399)
    failure = await failure_of(world.quotas.get(fresh=True))
    assert failure.retry_after == 1
    assert world.github.count("billing") == 1
    await world.clock.advance(1)
    assert (await world.quotas.get()).source == "billing"


@pytest.mark.parametrize("code", ["rate_limited", "login_locked_out"])
async def test_what_the_exchange_was_told_to_wait_for_holds_here_too(world, code):
    await world.broker.lease(None)
    world.github.faults["exchange"] = [transient(code, retry_after=400)] * 9
    await failure_of(world.broker.refresh())
    for asked in (world.quotas.get(fresh=True), world.quotas.set_pat(PAT)):
        failure = await failure_of(asked)
        assert failure.code == code
        assert 390 < failure.retry_after <= 400
    assert (world.github.count("billing"), world.github.count("seat")) == (0, 0)
    world.github.faults["exchange"] = []
    await world.clock.advance(600)
    assert (await world.quotas.get(fresh=True)).source == "seat"


async def test_the_time_of_a_portal_is_a_guess_that_nobody_has_to_wait_for(world):
    world.github.faults["seat"] = [transient("intercepted", retry_after=60)]
    assert (await failure_of(world.quotas.get())).code == "intercepted"
    await world.clock.advance(MIN_AGE)
    assert (await world.quotas.get(fresh=True)).source == "seat"


async def test_a_source_is_left_alone_as_long_as_it_wants(world):
    world.github.faults["seat"] = [transient("upstream_error", retry_after=400)]
    await failure_of(world.quotas.get())
    await world.clock.advance(399)
    failure = await failure_of(world.quotas.get(fresh=True))
    assert (failure.code, failure.retry_after) == ("upstream_error", 1)
    assert world.github.count("seat") == 1
    await world.clock.advance(1)
    assert (await world.quotas.get()).source == "seat"


async def test_a_dead_pat_is_shown_to_github_once_and_again_only_to_who_insists(world):
    keep_pat(world)
    world.github.faults["billing"] = [with_pat_refused("pat_refused")] * 2
    for _ in range(3):
        assert codes(await world.quotas.get())["billing"] == "pat_refused"
        assert codes(await world.quotas.get(fresh=True))["billing"] == "pat_refused"
        await world.clock.advance(90)
    await world.clock.advance(FRESH_FOR)
    await world.quotas.get()
    assert world.github.count("billing") == 1
    await world.quotas.get(fresh=True)
    assert world.github.count("billing") == 2


async def test_a_pat_that_github_takes_after_all_is_dead_no_more(world):
    keep_pat(world)
    world.github.faults["billing"] = [with_pat_refused("pat_refused")]
    await world.quotas.get()
    await world.clock.advance(FRESH_FOR)
    assert (await world.quotas.get(fresh=True)).source == "billing"
    await world.clock.advance(FRESH_FOR)
    assert (await world.quotas.get()).source == "billing"


async def test_a_new_sign_in_is_looked_at_at_once(world):
    for token in ("gho_a", "gho_b"):
        await collect(world.broker.login(LoginRequest(client_id="app", token=token)))
        assert (await world.quotas.get()).source == "seat"
        world.github.revoked.add(token)
        await world.clock.advance(FRESH_FOR)
        assert (await failure_of(world.quotas.get())).code == "bad_credentials"
        await world.clock.advance(1)


async def test_another_apps_login_is_asked_anew(world):
    no_seat(world)
    assert (await failure_of(world.quotas.get())).code == "seat_hidden"
    world.github.faults["seat"] = []
    assert (await failure_of(world.quotas.get())).code == "seat_hidden"
    await collect(world.broker.login(LoginRequest(client_id="another", token="gho_new")))
    assert (await world.quotas.get()).source == "seat"


# The login's token.


async def test_a_refusal_of_the_login_is_the_only_request_with_it(world):
    world.github.revoked.add("gho_kept")
    failure = await failure_of(world.quotas.get())
    assert (failure.error_class, failure.code) == (ErrorClass.LOGIN_REQUIRED, "bad_credentials")
    exchanged = world.github.count("exchange")
    assert world.view().state == "signed_out"
    assert world.index.entries()["default"].refused
    await world.clock.advance(FRESH_FOR + 1)
    await failure_of(world.quotas.get(fresh=True))
    assert world.github.count("seat") == 1
    assert world.github.count("exchange") == exchanged == 1  # that of the start


async def test_a_login_that_can_be_renewed_is_and_the_seat_is_asked_again():
    world = World()
    world.github.seat_told = SEAT
    world.keep_login(value="ghu_old", life=20_000)
    await world.start()
    world.github.revoked.add("ghu_old")
    view = await world.broker.quotas.get()
    assert view.source == "seat"
    assert (world.github.count("seat"), world.github.count("renew")) == (2, 1)
    assert world.kept_tokens() != ["ghu_old"]
    await world.stop()


async def test_a_renewal_under_way_is_waited_for():
    world = World()
    world.github.seat_told = SEAT
    world.keep_login(value="ghu_old", life=100)  # due
    world.github.gates["renew"] = asyncio.Event()
    await world.start()
    asked = await ask(world.broker.quotas.get())
    assert world.github.count("seat") == 0
    world.github.gates["renew"].set()
    assert (await asked).source == "seat"
    assert "ghu_old" in world.github.revoked  # and so was not what the seat was asked with
    await world.stop()


async def test_direct_mode_is_asked_with_the_login_too():
    world = World()
    world.github.seat_told = SEAT
    world.keep_login(is_direct=True)
    await world.start()
    assert world.view().mode == "direct"
    assert (await world.broker.quotas.get()).source == "seat"
    await world.stop()


async def test_another_person_under_the_name_starts_anew(world):
    await world.quotas.get()
    login = world.keep_login(user=99, value="gho_other")
    assert login.user.id == 99
    assert (await world.quotas.get()).login == "user99"
    assert world.github.count("seat") == 2


# Tokens that somebody brings, and those that are kept.


async def test_a_brought_pat_serves_where_none_is_kept(world):
    view = await world.quotas.get(pat="github_pat_brought")
    assert (view.source, view.has_pat) == ("billing", False)
    assert world.github.billed[-1][0] == "github_pat_brought"
    assert world.store.pats == {}
    assert (await world.quotas.get()).source == "seat"


async def test_the_accounts_own_pat_wins_over_a_brought_one(world):
    keep_pat(world)
    view = await world.quotas.get(pat="github_pat_brought")
    assert (view.has_pat, world.github.billed[-1][0]) == (True, PAT)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x" * 256,
        "two words",
        "naïve",
        "ghp_\x1b",
        "gho_1",
        "ghu_1",
        "ghs_1",
        "ghr_1",
        "tid=1;exp=2",
    ],
)
async def test_what_is_no_pat_is_refused_before_anybody_is_asked(world, value):
    for asked in (world.quotas.get(pat=value), world.quotas.set_pat(value)):
        failure = await failure_of(asked)
        assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "bad_pat")
        assert value == "" or value not in str(failure)
    assert world.github.billed == []


@pytest.mark.parametrize("value", ["github_pat_1", " ghp_1\n", "0123456789abcdef"])
async def test_a_pat_is_kept_once_it_has_proved_itself(world, value):
    view = await world.quotas.set_pat(value)
    assert (view.source, view.has_pat) == ("billing", True)
    assert [each.value for each in world.store.pats.values()] == [value.strip()]
    assert world.github.count("billing") == 1


@pytest.mark.parametrize("code", ["pat_refused", "pat_permission", "pat_user_unknown"])
async def test_a_pat_that_does_not_work_is_not_kept(world, code):
    world.github.faults["billing"] = [with_pat_refused(code)]
    assert (await failure_of(world.quotas.set_pat(PAT))).code == code
    assert world.store.pats == {}


async def test_a_dead_pat_is_not_shown_again_by_giving_it_again(world):
    world.github.faults["billing"] = [with_pat_refused("pat_refused")]
    for _ in range(3):
        assert (await failure_of(world.quotas.set_pat(PAT))).code == "pat_refused"
    assert world.github.count("billing") == 1


@pytest.mark.parametrize("code", ["rate_limited", "login_locked_out"])
async def test_a_limit_met_by_giving_a_pat_holds_for_all(world, code):
    world.github.faults["billing"] = [transient(code, retry_after=400)]
    assert (await failure_of(world.quotas.set_pat(PAT))).code == code
    await world.clock.advance(399)
    for asked in (world.quotas.set_pat("github_pat_other"), world.quotas.get(fresh=True)):
        failure = await failure_of(asked)
        assert (failure.code, failure.retry_after) == (code, 1)
    assert (world.github.count("billing"), world.github.count("seat")) == (1, 0)
    await world.clock.advance(1)
    assert (await world.quotas.set_pat(PAT)).has_pat


async def test_a_pat_is_not_kept_for_who_has_signed_out_meanwhile(world):
    world.github.gates["billing"] = asyncio.Event()
    asked = await ask(world.quotas.set_pat(PAT))
    await world.broker.logout()
    world.github.gates["billing"].set()
    assert (await failure_of(asked)).error_class is ErrorClass.LOGIN_REQUIRED
    assert world.store.pats == {}


async def test_a_pat_is_not_kept_for_somebody_else_under_that_name(world):
    world.github.gates["billing"] = asyncio.Event()
    asked = await ask(world.quotas.set_pat(PAT))
    world.keep_login(user=99, value="gho_other")
    world.github.gates["billing"].set()
    assert (await failure_of(asked)).error_class is ErrorClass.LOGIN_REQUIRED
    assert world.store.pats == {}


async def test_a_store_that_does_not_keep_it_is_told(world):
    world.store.faults["save_pat"] = [permanent("disk_full", ErrorClass.STORE_UNAVAILABLE)]
    assert (await failure_of(world.quotas.set_pat(PAT))).code == "disk_full"


async def test_a_pat_is_forgotten(world):
    await world.quotas.set_pat(PAT)
    assert await world.quotas.forget_pat() == ("default", True)
    assert world.store.pats == {}
    assert (await world.quotas.get()).source == "seat"
    assert await world.quotas.forget_pat() == ("default", False)


async def test_a_broken_pat_can_be_forgotten(world):
    keep_pat(world)
    world.store.faults["load_pat"] = [permanent("pat_broken", ErrorClass.STORE_UNAVAILABLE)]
    assert await world.quotas.forget_pat() == ("default", True)
    assert world.store.pats == {}


async def test_no_pat_in_reprs_and_logs(world, caplog):
    caplog.set_level("DEBUG")
    await world.quotas.set_pat(PAT)
    view = await world.quotas.get()
    await world.quotas.forget_pat()
    assert PAT not in caplog.text + repr(view) + repr(vars(world.quotas))


# Used up.


async def test_used_up_reads_anew_at_once_but_not_more_than_once_a_minute(world):
    await world.quotas.get()
    await world.clock.advance(1)
    for _ in range(3):
        world.quotas.used_up("default")
        await world.clock.advance(REREAD_PAUSE / 4)
    assert world.github.count("seat") == 2
    await world.quotas.get()
    assert world.github.count("seat") == 2
    await world.clock.advance(REREAD_PAUSE / 4)
    world.quotas.used_up("default")
    await settle()
    assert world.github.count("seat") == 3


async def test_used_up_asks_nobody_where_nobody_wanted_to_know(world):
    world.quotas.used_up("default")
    world.quotas.used_up("stranger")
    await settle()
    assert world.github.count("seat") == 0


async def test_used_up_survives_trouble_and_a_stop(world):
    await world.quotas.get()
    await world.clock.advance(1)
    world.github.faults["seat"] = [transient()]
    world.quotas.used_up("default")
    await settle()
    await world.clock.advance(REREAD_PAUSE)
    world.github.gates["seat"] = asyncio.Event()
    world.quotas.used_up("default")
    await settle()
    assert world.github.count("seat") == 3  # and the last one is cut by the stop


def test_a_token_compares_by_its_quota_too():
    plain = CopilotToken("t", 1.0, 1.0, "https://api.example.com")
    assert plain != replace(plain, quota=(Quota("chat"),))
    assert hash(plain) != hash(replace(plain, quota=(Quota("chat"),)))
