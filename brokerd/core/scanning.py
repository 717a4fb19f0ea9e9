"""Looking for a word in bytes that may be long, as the bodies of agents are.

CPython looks through 30,000 bytes and more by another algorithm (bytes.find, "two-way"), which for
a word in quotes takes three times as long in JSON, where every second byte that it stops at is a
quote. So it is given less at once.
"""

from __future__ import annotations

from typing import Final


__all__ = ["count", "has"]

SLICE: Final = 28_000
"""Bytes."""


def has(data: bytes, word: bytes) -> bool:
    """Whether `word` stands in `data`."""
    if len(data) <= SLICE:
        return word in data
    over = len(word) - 1  # a word may stand where two slices meet
    return any(
        data.find(word, start, start + SLICE + over) >= 0 for start in range(0, len(data), SLICE)
    )


def count(data: bytes, word: bytes) -> int:
    """How often `word` stands in `data`; for one that cannot overlap with itself."""
    if len(data) <= SLICE:
        return data.count(word)
    over = len(word) - 1
    return sum(
        data.count(word, start, start + SLICE + over) for start in range(0, len(data), SLICE)
    )
