"""A word is found wherever it stands, and as often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.scanning import SLICE, count, has


WORD = b'"model"'


@pytest.mark.parametrize("length", [0, 6, 7, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE + 5])
@pytest.mark.parametrize("near", [0, SLICE, 2 * SLICE, 3 * SLICE])
def test_at_every_place_around_the_ends_of_slices(length, near):
    for at in range(max(0, near - 9), near + 9):
        if at + len(WORD) <= length:
            data = bytearray(length)
            data[at : at + len(WORD)] = WORD
            assert has(bytes(data), WORD), at
            assert count(bytes(data), WORD) == 1, at
            data[at + 3] = 0
            assert not has(bytes(data), WORD), at
            assert count(bytes(data), WORD) == 0, at


@given(st.lists(st.integers(0, 4 * SLICE), max_size=12), st.integers(0, 4 * SLICE))
def test_as_bytes_themselves_say(places, length):
    data = bytearray(b"." * length)
    for at in places:
        data[at : at + len(WORD)] = WORD
    whole = bytes(data)
    assert has(whole, WORD) is (WORD in whole)
    assert count(whole, WORD) == whole.count(WORD)
