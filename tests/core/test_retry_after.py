"""How long upstream wants to be left alone."""

import math
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.retry_after import MAX_SECONDS, MIN_SECONDS, http_date, seconds


NOW = 784_111_777.0  # the moment of RFC 9110's examples
NAMES = (
    "retry-after",
    "x-ratelimit-user-retry-after",
    "x-ratelimit-quota-exceeded-retry-after",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120),
        (" 7\t", 7),
        ("12.5", 12.5),
        ("+3", 3),
        ("0", 1),
        ("-5", 1),
        ("0.2", 1),
        ("465000", 465000),
        ("1e9", MAX_SECONDS),
        ("1e999", MAX_SECONDS),
        ("9" * 60, MAX_SECONDS),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
        ("Sun Nov  6 08:50:37 1994", 60),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_SECONDS),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("0x10", None),
        ("1_000", None),
        ("٣", None),
        ("12, 13", None),
        ("9" * 5000, None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_what_a_value_means(value, expected):
    assert seconds({"retry-after": value}, NOW) == expected


@pytest.fixture(params=["UTC", "America/New_York", "Pacific/Kiritimati"])
def _somewhere(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_somewhere")
def test_a_date_is_the_same_wherever_we_are():
    assert http_date("Sun Nov  6 08:49:37 1994") == NOW
    assert http_date("Sun, 06 Nov 1994 08:49:37 -0000") == NOW
    assert http_date("Sun, 06 Nov 1994 08:49:37 +0000") == NOW


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-ratelimit-user-retry-after": "20"}, 20),
        ({"x-ratelimit-quota-exceeded-retry-after": "30"}, 30),
        (dict.fromkeys(NAMES[:3], "9") | {"retry-after": "10"}, 10),
        ({"retry-after": "soon", "x-ratelimit-user-retry-after": "20"}, 20),
        ({NAMES[1]: "20", NAMES[2]: "30"}, 20),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 50)}, 50),
        ({"x-ratelimit-remaining": " 0 ", "x-ratelimit-reset": str(NOW - 50)}, 1),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": str(NOW + 50)}, None),
        ({"x-ratelimit-reset": str(NOW + 50)}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "Sun Nov  6 08:50:37 1994"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9e99", "retry-after": "5"}, 5),
    ],
)
def test_which_header_counts(headers, expected):
    assert seconds(headers, NOW) == expected


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.one_of(
            st.text(max_size=100),
            st.sampled_from(["0", "1", "-1", "1e400", "Sun, 06 Nov 1994 08:49:37"]),
            st.floats().map(str),
            st.integers().map(str),
        ),
    ),
    st.floats(allow_nan=False),
)
def test_no_header_makes_us_wait_for_ever_or_not_at_all(headers, now):
    found = seconds(headers, now)
    assert found is None or MIN_SECONDS <= found <= MAX_SECONDS


@given(st.integers(min_value=1, max_value=int(MAX_SECONDS)))
def test_seconds_come_back_as_they_are(number):
    assert seconds({"retry-after": str(number)}, NOW) == number


@given(
    st.integers(min_value=1, max_value=int(MAX_SECONDS)),
    st.integers(min_value=0, max_value=4_000_000_000),
)
def test_a_date_is_the_distance_to_it(number, now):
    date = formatdate(now + number, usegmt=True)
    assert seconds({"retry-after": date}, float(now)) == number
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(now + number)}
    assert seconds(headers, float(now)) == number


@given(st.text(max_size=80))
def test_text_that_is_no_date_is_none(text):
    found = http_date(text)
    assert found is None or math.isfinite(found)
