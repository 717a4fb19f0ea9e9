"""One answer of several reports: who is used, what is filled in, and what a tier is good for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.quota import SOURCES, Quota, Report, Told, compose, is_enough
from brokerd.core.quota.tiers import TIERS, entitlement, tier_named


PREMIUM, CREDITS = "premium_interactions", "ai_credits"
BILL = Told(
    "billing", Report((Quota(PREMIUM, used=54.58, resets_at=7),), models=(("Sim", 54.58),))
)
BARE = Told("billing", Report((Quota(PREMIUM, used=0.0),), is_bare=True))
CREDIT_BILL = Told("billing", Report((Quota(CREDITS, used=300.0, unit="credits"),)))
SEAT = Told(
    "seat",
    Report(
        (Quota("chat", unlimited=True), Quota(PREMIUM, entitlement=300.0, used=50.0, remaining=250.0,
                                             percent_remaining=83.3, overage_permitted=True)),
        plan="individual_pro", sku="monthly_subscriber",
    ),
)  # fmt: skip
CREDIT_SEAT = Told(
    "seat", Report((Quota(PREMIUM, entitlement=1500.0, used=295.75, unit="credits"),))
)
SILENT = Told("seat", Report((Quota("chat"), Quota(PREMIUM)), plan="free"))
HEADERS = Told(
    "headers",
    Report((Quota(PREMIUM, entitlement=300.0, percent_remaining=20.0),
            Quota("premium_models", entitlement=300.0, percent_remaining=20.0))),
)  # fmt: skip
NO_HEADERS = Told("headers", Report())
TOKEN = Told("token", Report((Quota("chat", remaining=37.0),)))


def named(composed):
    return {each.name: each for each in composed.kinds}


def test_the_bill_is_used_and_the_seat_says_of_how_many():
    composed = compose([BILL, SEAT])
    assert composed.source == "billing"
    assert composed.added == {"seat"}
    assert named(composed)[PREMIUM] == Quota(
        PREMIUM, entitlement=300.0, used=54.58, remaining=245.42, percent_remaining=81.806667,
        overage_permitted=True, resets_at=7,
    )  # fmt: skip
    assert named(composed)["chat"].unlimited
    assert (composed.plan, composed.models) == ("individual_pro", (("Sim", 54.58),))


def test_a_bill_that_lists_nothing_is_no_answer_beside_one_that_counts():
    composed = compose([BARE, SEAT])
    assert composed.source == "seat"
    assert composed.added == set()
    assert named(composed)[PREMIUM].used == 50.0


def test_a_bill_that_lists_nothing_is_better_than_none():
    composed = compose([BARE, NO_HEADERS], "pro")
    assert composed.source == "billing"
    assert (named(composed)[PREMIUM].used, named(composed)[PREMIUM].remaining) == (0.0, 300.0)


def test_credits_are_the_same_budget_by_another_name():
    composed = compose([CREDIT_BILL, CREDIT_SEAT])
    (told,) = composed.kinds
    assert (told.name, told.used, told.entitlement, told.remaining) == (
        CREDITS,
        300.0,
        1500.0,
        1200.0,
    )


def test_requests_and_credits_are_not_mixed():
    composed = compose([BILL, CREDIT_SEAT])
    assert named(composed)[PREMIUM].entitlement is None
    assert named(composed)[CREDITS].entitlement == 1500.0


def test_a_silent_seat_is_filled_by_the_headers():
    composed = compose([SILENT, HEADERS])
    assert composed.source == "headers"
    assert named(composed)[PREMIUM].percent_remaining == 20.0
    assert named(composed)["premium_models"].percent_remaining == 20.0
    assert not named(composed)["chat"].is_told
    assert composed.plan == "free"


def test_one_source_keeps_both_names_of_its_budget_and_adds_neither_to_another():
    assert set(named(compose([HEADERS]))) == {PREMIUM, "premium_models"}
    assert set(named(compose([SEAT, HEADERS]))) == {"chat", PREMIUM}


def test_nobody_tells():
    composed = compose([SILENT, NO_HEADERS])
    assert composed.source == "seat"
    assert not any(each.is_told for each in composed.kinds)


@pytest.mark.parametrize(
    ("told", "enough"),
    [
        ([], False), ([BILL], False), ([BARE], False), ([SILENT], False), ([SEAT], True),
        ([BILL, SEAT], True), ([BARE, SEAT], True), ([HEADERS], True), ([TOKEN], False),
        ([BILL, SILENT], False), ([BILL, CREDIT_SEAT], False),
    ],
)  # fmt: skip
def test_who_else_has_to_be_asked(told, enough):
    assert is_enough(told) is enough


# Tiers.


@pytest.mark.parametrize(
    ("text", "tier"),
    [("pro", "pro"), (" Pro+ ", "pro+"), ("pro_plus", "pro+"), ("FREE", "free"), ("gold", ""), ("", ""), (None, "")],
)  # fmt: skip
def test_tiers_by_name(text, tier):
    assert tier_named(text) == tier


@pytest.mark.parametrize(
    ("tier", "whole"),
    [("free", 50), ("pro", 300), ("pro+", 1500), ("business", 300), ("enterprise", 1000)],
)
def test_a_tier_says_of_how_many_where_nobody_does(tier, whole):
    composed = compose([BILL], tier)
    told = named(composed)[PREMIUM]
    assert (told.entitlement, told.used) == (whole, 54.58)
    assert told.remaining == pytest.approx(whole - 54.58)
    assert composed.is_by_tier


def test_a_tier_in_credits():
    assert named(compose([CREDIT_BILL], "pro"))[CREDITS].entitlement == 1500.0
    assert named(compose([CREDIT_BILL], "free"))[CREDITS].entitlement is None


@pytest.mark.parametrize("tier", TIERS)
def test_what_a_source_states_wins_over_the_tier(tier):
    composed = compose([BILL, SEAT], tier)
    assert named(composed)[PREMIUM].entitlement == 300.0
    assert not composed.is_by_tier


def test_a_tier_makes_nothing_up():
    assert not compose([SILENT], "pro").is_by_tier
    assert not compose([Told("token", Report((Quota("chat", remaining=3.0),)))], "pro").is_by_tier
    assert entitlement("max", "requests") is None
    assert entitlement("", "requests") is None


# Whatever comes.

NUMBERS = st.none() | st.floats(-1e6, 1e6)
QUOTAS = st.builds(
    Quota,
    name=st.sampled_from([PREMIUM, "premium_models", CREDITS, "chat", "completions"]),
    entitlement=st.none() | st.floats(0, 1e6),
    used=st.none() | st.floats(0, 1e6),
    remaining=NUMBERS,
    percent_remaining=st.none() | st.floats(0, 100),
    unlimited=st.booleans(),
    unit=st.sampled_from(["requests", "credits"]),
)
REPORTS = st.builds(
    Report,
    st.lists(QUOTAS, max_size=4, unique_by=lambda each: each.name).map(tuple),
    is_bare=st.booleans(),
)
TOLD = st.lists(st.tuples(st.sampled_from(SOURCES), REPORTS), min_size=1, max_size=4,
                unique_by=lambda each: each[0]).map(lambda all_: [Told(*each) for each in all_])  # fmt: skip


@given(TOLD, st.sampled_from(["", *TIERS]))
def test_a_name_stands_once_and_the_first_that_tells_is_used(told, tier):
    composed = compose(told, tier)
    names = [each.name for each in composed.kinds]
    assert len(names) == len(set(names))
    telling = [each.source for each in told if each.report.tells]
    assert composed.source == (telling or [told[0].source])[0]
    assert composed.source not in composed.added
    first = next(each for each in told if each.source == composed.source)
    for kind in first.report.kinds:
        found = named(composed)[kind.name]
        if kind.entitlement is not None and not kind.unlimited and not found.unlimited:
            assert found.entitlement == kind.entitlement
