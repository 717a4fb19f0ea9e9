"""Quota headers: what they say when they are well-formed, and that nothing odd is an error."""

import math
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.quota_header import NAMES, QuotaSnapshot, read


CHAT = "x-quota-snapshot-chat"
TRUE = "ent=300&ov=0.0&ovPerm=false&rem=29.7&rst=2026-05-01T00%3A00%3A00Z"


def test_the_form_copilot_sends():
    found = read(
        {CHAT: TRUE, "x-quota-snapshot-premium_models": "ent=-1&rem=100.0&ov=2.5&ovPerm=true"}
    )
    assert found == {
        "chat": QuotaSnapshot(300, 29.7, 0.0, overage_permitted=False, resets_at=1_777_593_600),
        "premium_models": QuotaSnapshot(-1, 100.0, 2.5, overage_permitted=True, resets_at=None),
    }
    assert found["chat"].used == pytest.approx(210.9)
    assert not found["chat"].is_unlimited
    assert found["premium_models"].is_unlimited
    assert found["premium_models"].used == 0


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nonsense",
        "ent=300",
        "rem=10",
        "ent=&rem=10",
        "ent=x&rem=10",
        "ent=300&rem=nan",
        "ent=inf&rem=10",
        "ent=1e400&rem=10",
        "ent=-2&rem=10",
        "ent=300&rem=10&" + "&".join(f"a{i}=1" for i in range(100)),
        TRUE + "&x=" + "x" * 2000,
        "\ud800ent=1",
    ],
)
def test_what_cannot_be_read_is_left_out(value):
    assert read({CHAT: value, "x-quota-snapshot-completions": TRUE}).keys() == {"completions"}


@pytest.mark.parametrize(
    ("value", "percent", "resets_at"),
    [
        ("ent=1&rem=-5", 0.0, None),
        ("ent=1&rem=101", 100.0, None),
        ("ent=1&rem=5&rst=soon", 5.0, None),
        ("ent=1&rem=5&rst=2026-05-01T02:00:00+02:00", 5.0, 1_777_593_600),
        ("ent=1&rem=5&rst=2026-05-01T02:00:00%2B02:00", 5.0, 1_777_593_600),
        ("ent=1&rem=5&rst=2026-05-01", 5.0, 1_777_593_600),
        ("ent=1&rem=5&rst=0001-01-01T00:00:00%2B14:00", 5.0, None),
    ],
)
def test_odd_parts_do_not_cost_the_rest(value, percent, resets_at):
    snapshot = read({CHAT: value})["chat"]
    assert (snapshot.percent_remaining, snapshot.overage) == (percent, 0.0)
    assert resets_at is None or snapshot.resets_at == resets_at


def test_other_headers_are_not_looked_at():
    assert read({"x-quota-snapshot-": TRUE, "x-quota-snapshot-a b": TRUE, "x-other": TRUE}) == {}
    assert read({"x-quota-snapshot-new_one": TRUE}).keys() == {"new_one"}
    assert all(read({name: TRUE}) for name in NAMES)


@given(
    ent=st.integers(-1, 100_000),
    rem=st.floats(0, 100),
    ov=st.floats(0, 1e6),
    permitted=st.booleans(),
    at=st.none() | st.datetimes(),
)
def test_what_is_written_is_read(ent, rem, ov, permitted, at):
    fields = {"ent": ent, "rem": rem, "ov": ov, "ovPerm": str(permitted).lower()}
    if at is not None:
        fields["rst"] = at.isoformat() + "Z"
    snapshot = read({CHAT: urlencode(fields)})["chat"]
    assert (snapshot.entitlement, snapshot.percent_remaining) == (ent, rem)
    assert (snapshot.overage, snapshot.overage_permitted) == (ov, permitted)
    assert 0 <= snapshot.used <= max(ent, 0)
    assert (snapshot.resets_at is None) == (at is None)


@given(st.dictionaries(st.sampled_from(sorted(NAMES)) | st.text(), st.text() | st.just(TRUE)))
def test_nothing_is_too_odd(headers):
    for snapshot in read(headers).values():
        assert math.isfinite(snapshot.used)
        assert 0 <= snapshot.percent_remaining <= 100


@given(st.text(alphabet="entrmovPs=&-+.0123456789eE%T:Z"))
def test_nothing_near_the_form_is_too_odd(value):
    for snapshot in read({CHAT: value}).values():
        assert snapshot.entitlement >= -1
        assert snapshot.used >= 0
