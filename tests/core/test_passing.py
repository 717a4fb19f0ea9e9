"""Keys that pass: their names, which no kept key can have."""

from __future__ import annotations

import pytest

from brokerd.core.keys import key_name
from brokerd.core.passing import (
    MINTED,
    MINTED_MAX,
    RUN,
    RUNS_MAX,
    PassingKey,
    is_passing_name,
    key_label,
    passing_name,
)
from brokerd.core.setting_checks import NotAllowedError


@pytest.mark.parametrize("kind", [RUN, MINTED])
@pytest.mark.parametrize("number", [1, 2, max(RUNS_MAX, MINTED_MAX) + 1])
def test_a_name_is_its_own_and_no_kept_key_can_have_it(kind, number):
    name = passing_name(kind, key_label("aider.2"), number)
    assert is_passing_name(name) == name
    with pytest.raises(NotAllowedError):
        key_name(name)


@pytest.mark.parametrize(
    "name", ["", "run:", "ci", "run:a b", "other:a", "run:a:0", "run:a:x", "run:a\n", "run:-a"]
)
def test_what_is_no_such_name(name):
    with pytest.raises(NotAllowedError):
        is_passing_name(name)


def test_a_run_is_known_by_its_address():
    assert PassingKey("run:a", "d", 0, label="a", at="127.0.0.1:4").kind == RUN
    assert PassingKey("get:a", "d", 0, label="a").kind == MINTED
