"""When to refresh, and how long to back off."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.machine.refresh import Retry, backoff, is_alive, is_old_enough, refresh_delay
from brokerd.core.retry_after import MAX_SECONDS
from brokerd.core.tokens import CopilotToken
from brokerd.errors import ErrorClass, Failure


def token(lifetime, refresh_in):
    return CopilotToken("canary", lifetime, refresh_in, "https://api.example.com")


def failure(retry_after=None, code="x"):
    return Failure(ErrorClass.TEMPORARY, code, "x", retry_after=retry_after)


@pytest.mark.parametrize(
    ("lifetime", "refresh_in", "latest"),
    [
        (1800.0, 1500.0, 1500.0),
        (1800.0, 1700.0, 1500.0),
        (1800.0, math.nan, 1500.0),
        (60.0, 50.0, 45.0),
        (1800.0, -5.0, 10.0),
        (6.0, 2.0, 3.0),
    ],
)
def test_refresh_is_due_by_refresh_in_and_well_before_expiry(lifetime, refresh_in, latest):
    assert refresh_delay(token(lifetime, refresh_in), 0.0) == pytest.approx(latest)
    assert refresh_delay(token(lifetime, refresh_in), 0.999) >= latest * 0.95 - 0.001


@given(
    st.floats(min_value=0.01, max_value=1e9), st.floats(), st.floats(0.0, 1.0, exclude_max=True)
)
def test_refresh_is_always_ahead_of_expiry(lifetime, refresh_in, chance):
    assert 0 < refresh_delay(token(lifetime, refresh_in), chance) < lifetime


def test_backoff_doubles_to_its_ceiling_and_is_jittered():
    assert [backoff(n, 1.0) for n in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert backoff(4, 0.0) == backoff(4, 1.0) / 2
    assert backoff(1000, 1.0) == 300.0
    assert backoff(1000, 1.0, 30.0) == 30.0


def test_retry_after_is_never_undercut_not_even_by_asking_soon():
    retry = Retry(0.0).failed(failure(120.0), 1000.0, 0.0)
    assert retry.at == 1120.0
    assert retry.soon(1001.0).at == 1120.0
    again = retry.failed(failure(), 1005.0, 0.0)
    assert again.at == 1120.0


def test_a_portals_time_is_a_guess_that_a_person_may_cut_short():
    retry = Retry(0.0).failed(failure(60.0, "intercepted"), 1000.0, 0.0)
    assert retry.at == 1060.0
    assert retry.soon(1001.0).at == 1001.0
    limited = Retry(0.0, not_before=1030.0).failed(failure(60.0, "intercepted"), 1000.0, 0.0)
    assert limited.soon(1001.0).at == 1030.0, "what upstream has said before stays"


def test_retry_after_beyond_a_day_is_cut():
    assert Retry(0.0).failed(failure(172_800.0), 0.0, 0.0).soon(1.0).at == 172_800.0
    assert Retry(0.0).failed(failure(1e12), 0.0, 0.0).at == MAX_SECONDS


@pytest.mark.parametrize(
    ("lifetime", "alive"), [(1.0, True), (0.0, False), (-3.0, False), (math.nan, False)]
)
def test_a_token_without_a_life_is_none(lifetime, alive):
    assert is_alive(token(lifetime, 1.0)) is alive


def test_min_valid_alone_replaces_only_what_is_half_used_up():
    assert not is_old_enough(899.0, 1800.0)
    assert is_old_enough(900.0, 1800.0)
