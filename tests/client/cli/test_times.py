"""Lengths of time and times of day in words."""

from __future__ import annotations

import time

import pytest

from copilot_broker.cli.times import duration, moment, pause


NOW = 1_800_000_000.0
INFINITE = float("inf")


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")  # 1 800 000 000 is 2027-01-15 08:00:00 there
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (-3, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
        (INFINITE, "for ever"),
        (float("nan"), "for ever"),
    ],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1.0, "0 s"),
        (0.0, "0 s"),
        (0.1, "1 s"),
        (119.5, "120 s"),
        (120.0, "2 min (until 08:02)"),
        (250.0, "4 min (until 08:05)"),
        (90_000.0, "25 h (until 2027-01-16 09:00)"),
        (1e300, f"{int(1e300) // 86400} d (until a far day)"),
        (INFINITE, "for ever"),
    ],
)
def test_a_pause_is_never_said_too_short(seconds, words):
    assert pause(seconds, NOW) == words


def test_a_moment_is_counted_from_the_real_now():
    assert moment(time.time() + 3600).count(":") == 1
    assert pause(600.0).startswith("10 min (until ")
