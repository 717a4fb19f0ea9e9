"""Durations as a person says them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.durations import in_words


SIZES = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "1 second"),
        (0.1, "1 second"),
        (45.4, "46 seconds"),
        (59.2, "1 minute"),
        (61, "1 minute 1 second"),
        (121, "3 minutes"),
        (3_600, "1 hour"),
        (12_000, "3 hours 20 minutes"),
        (86_400, "1 day"),
        (465_000, "5 days 9 hours"),
    ],
)
def test_a_duration_in_words(seconds, words):
    assert in_words(seconds) == words


@given(st.floats(min_value=1, max_value=31 * 86_400))
def test_words_are_near_the_truth(seconds):
    parts = re.findall(r"(\d+) (\w+?)s?\b", in_words(seconds))
    told = sum(int(count) * SIZES[unit] for count, unit in parts)
    assert abs(told - seconds) <= max(SIZES[parts[-1][1]], 60)
