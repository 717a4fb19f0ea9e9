"""Rates: as many as the rule says, shared by all that it applies to, and a wait that is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.access import Rates, Rule
from brokerd.core.access.rates import Bucket
from brokerd.errors import ErrorClass


THREE = Rule("config.toml:7", requests_per_minute=3)
ONE = Rule("config.toml:9", unit="a*", requests_per_minute=1)


def test_as_many_at_once_as_in_a_minute_then_one_at_a_time():
    rates = Rates()
    for _ in range(3):
        assert rates.take([THREE], 100.0) is None
    failure = rates.take([THREE], 100.0)
    assert (failure.error_class, failure.code) == (ErrorClass.TEMPORARY, "request_rate")
    assert "config.toml:7 allows 3 requests a minute" in failure.message
    assert failure.retry_after == pytest.approx(20.0, abs=0.01)
    assert rates.take([THREE], 119.9) is not None
    assert rates.take([THREE], 120.0) is None
    assert rates.take([THREE], 120.0) is not None


def test_no_more_gathers_than_a_minute_holds():
    bucket = Bucket(3, 0.0)
    assert bucket.wait(1_000_000.0) == 0.0
    for _ in range(3):
        bucket.take()
    assert bucket.wait(1_000_000.0) > 0.0


def test_each_limit_holds_and_none_is_charged_for_what_another_refuses():
    rates = Rates()
    assert rates.take([THREE, ONE], 0.0) is None
    for _ in range(5):
        failure = rates.take([THREE, ONE], 0.0)
        assert "config.toml:9" in failure.message
        assert failure.retry_after == pytest.approx(60.0, abs=0.01)
    assert rates.take([THREE], 0.0) is None
    assert rates.take([THREE], 0.0) is None
    assert rates.take([THREE], 0.0) is not None


def test_nothing_limits_nothing():
    assert Rates().take([], 0.0) is None


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing():
    rates = Rates()
    assert rates.take([ONE], 100.0) is None
    assert rates.take([ONE], 10.0) is not None
    assert rates.take([ONE], 70.0) is None


def test_a_rule_that_stays_is_as_empty_as_it_was_on_whichever_line():
    rates = Rates()
    assert rates.take([ONE], 0.0) is None
    rates.keep([Rule("config.toml:99", unit="a*", requests_per_minute=1), THREE])
    assert rates.take([ONE], 0.0) is not None
    rates.keep([THREE])
    assert rates.take([ONE], 0.0) is None


@given(st.integers(1, 10_000), st.floats(0.0, 1e9), st.integers(1, 50))
def test_who_waits_as_told_is_let_through(per_minute, now, requests):
    rule, rates = Rule(requests_per_minute=per_minute), Rates()
    for _ in range(per_minute):
        rates.take([rule], now)
    for _ in range(requests):
        refused = rates.take([rule], now)
        if refused is not None:
            assert 0.0 < refused.retry_after <= 61.0
            now += refused.retry_after
            assert rates.take([rule], now) is None
