"""Each source's reader: what it tells of true answers, and that no nonsense gets through it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core import quota_header
from brokerd.core.quota import Quota, billing, headers, seat, token_fields
from brokerd.core.quota.scalars import MAX_ENTRIES, flag, moment, month_after, number, word


PREMIUM = "premium_interactions"
FEBRUARY = 1769904000  # 2026-02-01T00:00:00Z


def kinds(report):
    return {each.name: each for each in report.kinds}


def snapshot(**more):
    told = {
        "entitlement": 300, "remaining": 204, "quota_remaining": 204.67, "percent_remaining": 68.2,
        "unlimited": False, "overage_count": 0, "overage_permitted": False,
    }  # fmt: skip
    return told | more


def premium(more=None, **fields):
    told = snapshot() if more is None else more
    return kinds(seat.read({"quota_snapshots": {PREMIUM: told}, **fields}))[PREMIUM]


# Scalars.


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (3, 3.0), (2.5, 2.5), ("300", 300.0), (" 9.9 ", 9.9), (-2.33, -2.33), ("-1", -1.0),
        (None, None), (True, None), ("many", None), ("", None), (math.nan, None), ("nan", None),
        (math.inf, None), ("1e400", None), (1e300, None), (10**400, None), ("9" * 100, None),
        ([1], None), ({}, None),
    ],
)  # fmt: skip
def test_numbers(value, found):
    assert number(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [(True, True), (False, False), ("true", True), ("False", False), (1, None), (None, None), ("yes", None)],
)  # fmt: skip
def test_flags(value, found):
    assert flag(value) is found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2026-02-01", FEBRUARY), ("2026-02-01T00:00:00Z", FEBRUARY),
        ("2026-02-01T00:00:00.000Z", FEBRUARY), ("2026-02-01T01:00:00+01:00", FEBRUARY),
        ("2026-02-01T00:00:00", FEBRUARY), (FEBRUARY, FEBRUARY), (float(FEBRUARY), FEBRUARY),
        (str(FEBRUARY), FEBRUARY), (0, None), (-1, None), (None, None), ("soon", None),
        ("0001-01-01T00:00:00+14:00", None), ("9999-12-31", None), (20270101, None),
        (1e300, None), ("x" * 1000, None), (True, None),
    ],
)  # fmt: skip
def test_moments(value, found):
    assert moment(value) == found


def test_words_are_shown_to_people():
    assert word("individual_pro") == "individual_pro"
    assert [word(each) for each in ("\x1b[2J", "", "x" * 65, 7, None, "a\nb")] == [""] * 6


def test_months():
    assert month_after(2026, 1) == FEBRUARY
    assert month_after(2025, 12) == FEBRUARY - 31 * 86400
    assert month_after(2026, 13) is None
    assert month_after(99999, 1) is None


# The seat.


def test_a_paid_seat():
    report = seat.read(
        {
            "copilot_plan": "individual_pro",
            "access_type_sku": "monthly_subscriber",
            "quota_reset_date": "2026-02-01",
            "quota_reset_date_utc": "2026-02-01T00:00:00.000Z",
            "quota_snapshots": {
                "chat": snapshot(unlimited=True, entitlement=-1, percent_remaining=100.0),
                PREMIUM: snapshot(),
            },
        }
    )
    assert (report.plan, report.sku) == ("individual_pro", "monthly_subscriber")
    assert kinds(report)["chat"] == Quota(
        "chat", unlimited=True, overage=0.0, overage_permitted=False, resets_at=FEBRUARY
    )
    assert kinds(report)[PREMIUM] == Quota(
        PREMIUM,
        entitlement=300.0,
        used=95.33,
        remaining=204.67,
        percent_remaining=68.2,
        overage=0.0,
        overage_permitted=False,
        resets_at=FEBRUARY,
    )
    assert report.tells


def test_overdrawn_is_below_zero_and_no_percentage_is():
    told = premium(
        snapshot(quota_remaining=-2.33, percent_remaining=-0.8, overage_count=2.33,
                 overage_permitted=True)
    )  # fmt: skip
    assert (told.remaining, told.used, told.percent_remaining) == (-2.33, 302.33, 0.0)
    assert (told.overage, told.overage_permitted) == (2.33, True)


def test_exhausted():
    told = premium(snapshot(remaining=0, quota_remaining=0, percent_remaining=0, has_quota=False))
    assert (told.remaining, told.used, told.percent_remaining) == (0.0, 300.0, 0.0)
    assert told.blocked


def test_blocked_without_a_number_is_nothing_left():
    told = premium({"has_quota": False})
    assert (told.blocked, told.remaining, told.entitlement) == (True, 0.0, None)


@pytest.mark.parametrize("told", [{"unlimited": True}, {"entitlement": -1}, {"entitlement": "-1"}])
def test_unlimited_has_no_other_numbers(told):
    found = premium(
        snapshot(remaining=0, quota_remaining=0, percent_remaining=0, has_quota=False) | told
    )
    assert found.unlimited
    assert (found.entitlement, found.remaining, found.percent_remaining) == (None, None, None)
    assert not found.blocked


def test_drifted_types():
    told = premium(
        snapshot(entitlement="300", quota_remaining="29.7", percent_remaining=None,
                 overage_count=None, unlimited="false", overage_permitted="true")
    )  # fmt: skip
    assert (told.entitlement, told.remaining, told.percent_remaining) == (300.0, 29.7, 9.9)
    assert (told.overage, told.overage_permitted) == (None, True)


def test_credits_by_the_snapshot_and_by_the_seat():
    told = premium(snapshot(entitlement=1500, quota_remaining=1204.25, percent_remaining=80.28,
                            token_based_billing=True, credits_used=295.75))  # fmt: skip
    assert (told.unit, told.used, told.remaining) == ("credits", 295.75, 1204.25)
    assert premium(token_based_billing=True).unit == "credits"
    assert (
        premium(snapshot(token_based_billing=False), token_based_billing=True).unit == "requests"
    )
    assert premium(snapshot(unlimited=True), token_based_billing=True).unit == "requests"


def test_its_own_reset_comes_before_the_seats():
    told = premium(snapshot(quota_reset_at=FEBRUARY + 5), quota_reset_date="2026-02-01")
    assert told.resets_at == FEBRUARY + 5
    assert premium(snapshot(quota_reset_at=0), quota_reset_date="2026-02-01").resets_at == FEBRUARY
    assert premium().resets_at is None


def test_a_free_seat():
    report = seat.read(
        {
            "copilot_plan": "free",
            "limited_user_quotas": {"chat": 37, "completions": 1985},
            "monthly_quotas": {"chat": 50, "completions": 2000},
            "limited_user_reset_date": "2026-02-01",
        }
    )
    chat = kinds(report)["chat"]
    assert (chat.entitlement, chat.remaining, chat.used) == (50.0, 37.0, 13.0)
    assert (chat.percent_remaining, chat.resets_at) == (74.0, FEBRUARY)
    assert kinds(report)["completions"].percent_remaining == 99.25


def test_a_free_seat_without_totals():
    chat = kinds(seat.read({"limited_user_quotas": {"chat": 37}, "monthly_quotas": None}))["chat"]
    assert (chat.remaining, chat.entitlement, chat.percent_remaining) == (37.0, None, None)


def test_free_numbers_fill_empty_snapshots_only():
    report = seat.read(
        {
            "quota_snapshots": {"chat": None, PREMIUM: snapshot()},
            "limited_user_quotas": {"chat": 37, PREMIUM: 1},
        }
    )
    assert kinds(report)["chat"].remaining == 37.0
    assert kinds(report)[PREMIUM].entitlement == 300.0
    assert len(report.kinds) == 2


@pytest.mark.parametrize(
    "told",
    [
        {}, {"quota_snapshots": None}, {"quota_snapshots": [1, 2]}, {"quota_snapshots": "all"},
        {"access_type_sku": "no_access"}, {"quota_snapshots": {"chat": None, "completions": []}},
        {"quota_snapshots": {PREMIUM: {"entitlement": "many", "percent_remaining": math.nan}}},
    ],
)  # fmt: skip
def test_a_seat_without_numbers_tells_nothing(told):
    assert not seat.read(told).tells


def test_unknown_kinds_keep_their_name():
    assert (
        kinds(seat.read({"quota_snapshots": {"video_minutes": snapshot()}}))[
            "video_minutes"
        ].entitlement
        == 300
    )


def test_huge_answers_are_bounded():
    many = {f"kind_{each}": snapshot() for each in range(5000)}
    assert len(seat.read({"quota_snapshots": many}).kinds) == MAX_ENTRIES


# Billing.


def item(count, sku="Copilot Premium Request", model="Sim 4.5", **more):
    return {"product": "Copilot", "sku": sku, "model": model, "grossQuantity": count, **more}


def page(*items):
    return {"usageItems": list(items)}


def test_billing_adds_up_what_was_used_and_ranks_the_models():
    told = page(
        item(41.0), item(12.33, model="Mini"), item(0.25, model="Large"), item(1, model="Mini")
    )
    report = billing.read(told, page(), 2026, 1)
    assert report.kinds == (Quota(PREMIUM, used=54.58, resets_at=FEBRUARY),)
    assert report.models == (("Sim 4.5", 41.0), ("Mini", 13.33), ("Large", 0.25))
    assert report.tells


def test_gross_counts_not_what_is_billed():
    told = page(item(10, netQuantity=3, discountQuantity=7))
    assert billing.read(told, None, 2026, 1).kinds[0].used == 10.0


def test_other_products_do_not_count():
    told = page(item(5), item(7, sku="Actions Linux"), item(9, sku=None))
    assert billing.read(told, None, 2026, 1).kinds[0].used == 5.0


def test_credits_are_another_kind():
    credit = page(item(295.75, sku="Copilot AI Credit", unitType="ai-credits"))
    report = billing.read(page(), credit, 2026, 6)
    assert [(each.name, each.unit, each.used) for each in report.kinds] == [
        ("ai_credits", "credits", 295.75)
    ]
    both = billing.read(page(item(4)), credit, 2026, 6)
    assert [each.name for each in both.kinds] == [PREMIUM, "ai_credits"]


def test_credits_whose_words_are_not_known_yet_count():
    report = billing.read(None, page({"grossQuantity": 3}), 2026, 6)
    assert (report.kinds[0].name, report.kinds[0].used) == ("ai_credits", 3.0)


@pytest.mark.parametrize("told", [None, {}, page(), {"usageItems": {"a": 1}}, page(None, 3, "x")])
def test_nothing_billed_is_none_used_and_no_answer(told):
    report = billing.read(told, None, 2026, 1)
    assert report.kinds == (Quota(PREMIUM, used=0.0, resets_at=FEBRUARY),)
    assert report.is_bare
    assert not report.tells


@pytest.mark.parametrize("count", ["many", None, -3, math.nan, math.inf, 1e300, [], True])
def test_odd_quantities_are_left_out(count):
    assert billing.read(page(item(5), item(count)), None, 2026, 1).kinds[0].used == 5.0


def test_quantities_in_strings_count():
    assert billing.read(page(item("5.5")), None, 2026, 1).kinds[0].used == 5.5


def test_huge_lists_are_bounded():
    told = page(*(item(1, model=f"m{each}") for each in range(20_000)))
    report = billing.read(told, None, 2026, 1)
    assert (report.kinds[0].used, len(report.models)) == (billing.MAX_ITEMS, MAX_ENTRIES)


# Headers and token fields.


def test_headers():
    told = quota_header.read(
        {
            "x-quota-snapshot-chat": "ent=-1&ov=0.0&ovPerm=false&rem=100.0",
            f"x-quota-snapshot-{PREMIUM}": "ent=300&ov=0.0&ovPerm=true&rem=29.7&rst=2026-02-01T00%3A00%3A00Z",
        }
    )
    found = kinds(headers.read(told))
    assert found["chat"].unlimited
    assert found[PREMIUM] == Quota(
        PREMIUM, entitlement=300.0, used=210.9, remaining=89.1, percent_remaining=29.7,
        overage=0.0, overage_permitted=True, resets_at=FEBRUARY,
    )  # fmt: skip


def test_headers_of_a_quota_of_nothing():
    told = headers.read(quota_header.read({"x-quota-snapshot-weekly": "ent=0&rem=40.0"})).kinds[0]
    assert (told.entitlement, told.used, told.percent_remaining) == (None, None, 40.0)


def test_no_headers_tell_nothing():
    assert not headers.read({}).tells


def test_token_fields():
    told = token_fields.read(
        {
            "limited_user_quotas": {"chat": 37, "completions": 0},
            "limited_user_reset_date": FEBRUARY,
        }
    )
    assert told == (
        Quota("chat", remaining=37.0, resets_at=FEBRUARY),
        Quota("completions", remaining=0.0, resets_at=FEBRUARY),
    )
    assert token_fields.read({"limited_user_quotas": None}) == ()
    assert token_fields.read({"limited_user_quotas": [1, 2]}) == ()


# Whatever comes.

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["300", "-1", "1e300", "nan", "inf", -1, 1e300, "2026-02-01", "true"]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
SNAPSHOT_KEYS = st.sampled_from(
    ["entitlement", "remaining", "quota_remaining", "percent_remaining", "unlimited", "overage_count",
     "overage_permitted", "has_quota", "quota_reset_at", "token_based_billing", "credits_used"]
)  # fmt: skip
SNAPSHOTS = st.dictionaries(
    st.text(max_size=12), st.dictionaries(SNAPSHOT_KEYS, SCALARS) | JSON, max_size=4
)
SEATS = st.fixed_dictionaries(
    {},
    optional={
        "quota_snapshots": SNAPSHOTS | JSON,
        "limited_user_quotas": st.dictionaries(st.sampled_from(["chat", "completions"]), SCALARS)
        | JSON,
        "monthly_quotas": st.dictionaries(st.sampled_from(["chat", "completions"]), SCALARS)
        | JSON,
        "limited_user_reset_date": SCALARS,
        "quota_reset_date": SCALARS,
        "copilot_plan": JSON,
        "token_based_billing": SCALARS,
    },
)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={"sku": SCALARS, "model": SCALARS, "grossQuantity": SCALARS, "unitType": SCALARS},
    )
    | JSON,
    max_size=6,
)


def check_sane(kinds):
    names = [each.name for each in kinds]
    assert len(names) == len(set(names)) <= 2 * MAX_ENTRIES
    for each in kinds:
        values = asdict(each)
        json.dumps(values, allow_nan=False)
        assert set(values) == {field.name for field in fields(Quota)}
        assert all(0 < len(name) <= 64 and name.isprintable() for name in [each.name])
        if each.percent_remaining is not None:
            assert 0.0 <= each.percent_remaining <= 100.0
        assert each.entitlement is None or each.entitlement >= 0
        assert each.used is None or each.used >= 0
        if each.unlimited:
            assert each.entitlement is each.remaining is each.percent_remaining is None


@given(SEATS)
def test_any_seat_is_read_to_something_sane(told):
    check_sane(seat.read(told).kinds)


@given(
    st.none() | st.fixed_dictionaries({"usageItems": ITEMS | JSON}),
    st.none() | st.fixed_dictionaries({"usageItems": ITEMS | JSON}),
)
def test_any_bill_is_read_to_something_sane(premium_page, credit_page):
    report = billing.read(premium_page, credit_page, 2026, 1)
    check_sane(report.kinds)
    assert report.kinds


@given(
    st.dictionaries(
        st.sampled_from(["limited_user_quotas", "monthly_quotas", "limited_user_reset_date"]), JSON
    )
)
def test_any_token_fields_are_read_to_something_sane(told):
    check_sane(token_fields.read(told))
