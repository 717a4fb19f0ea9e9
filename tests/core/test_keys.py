"""Keys as values: what makes one, what is kept of it, and when it is over."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.access import Scope
from brokerd.core.keys import (
    DAY,
    RANDOM_BYTES,
    Key,
    day_of,
    digest_of,
    key_name,
    looks_like_key,
    rule_of,
    text_of,
    until_next_day,
)
from brokerd.core.setting_checks import NotAllowedError


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_a_key_is_its_prefix_and_43_characters_that_need_no_quotes(random):
    text = text_of(random)
    assert re.fullmatch(r"cpb_[A-Za-z0-9_-]{43}", text)
    assert looks_like_key(text)
    assert re.fullmatch(r"[0-9a-f]{64}", digest_of(text))


def test_a_key_and_its_digest_never_change_their_form():
    text = text_of(bytes(range(RANDOM_BYTES)))
    assert text == "cpb_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert digest_of(text) == "abdab7a24cacc401b62ad834225bc734df20bd5413c5746f35851aa1226393ad"


@pytest.mark.parametrize(
    "text", ["", "cpb_", "cpb_" + "a" * 42, "cpb_" + "a" * 44, "CPB_" + "a" * 43, "sk-abc"]
)
def test_what_can_be_no_key_has_no_digest(text):
    assert digest_of(text) == ""


def test_the_digest_stays_out_of_reprs():
    assert "canary" not in repr(Key("ci", "canary", 1))


@pytest.mark.parametrize("name", ["ci", "a.b-c_d", "9", "n" * 64])
def test_names_are_like_those_of_accounts(name):
    assert key_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "-a", "n" * 65, "a\n", text_of(bytes(32))])
def test_other_names_are_refused_and_not_repeated(name):
    with pytest.raises(NotAllowedError) as caught:
        key_name(name)
    assert not name or name not in str(caught.value)


@pytest.mark.parametrize(
    ("expires", "wall", "is_over"), [(None, 1e12, False), (10, 9.999, False), (10, 10.0, True)]
)
def test_a_key_is_over_from_its_end_on(expires, wall, is_over):
    assert Key("ci", "", 1, expires).is_expired(wall) is is_over


def test_a_key_leaves_completions_at_most_and_says_what_it_is_limited_to():
    key = Key("ci", "", 1, models=("a*",), account="work", requests_per_minute=3)
    rule = rule_of(key)
    assert (rule.where, rule.who) == ("key ci", {"key": "ci"})
    assert (rule.scope, rule.ceiling) == (Scope.COMPLETE, Scope.COMPLETE)
    assert rule.what == {
        "scope": "complete",
        "models": ["a*"],
        "accounts": ["work"],
        "requests_per_minute": 3,
    }


@given(st.floats(0, 1e11))
def test_days_end_when_the_next_begins(wall):
    left = until_next_day(wall)
    assert 0 < left <= DAY
    assert day_of(wall + left + 0.001) == day_of(wall) + 1
