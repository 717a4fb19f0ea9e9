"""What a key may be limited to, as people write it on the command line."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from copilot_broker.cli.times import span


if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["amount", "apart", "count", "length"]

_AMOUNT = re.compile(r"(\d{1,15})(k|M)?")
_TIMES = {None: 1, "k": 1_000, "M": 1_000_000}


def apart(patterns: Iterable[str] | None) -> list[str] | None:
    """Return each alone: `gpt-*,o4-*` would be one pattern that no model ever matches."""
    if patterns is None:
        return None
    return [each for listed in patterns for each in listed.split(",") if each] or [""]


def count(text: str) -> int:
    """Return a number from 1 up. Raises argparse.ArgumentTypeError, as the others do."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(10**7)) or not int(text):
        raise argparse.ArgumentTypeError("takes a number from 1 up")
    return int(text)


def amount(text: str) -> int:
    """Return a number of tokens: `200000`, `200k` or `2M`."""
    found = _AMOUNT.fullmatch(text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError("takes a number of tokens, like 200000, 200k or 2M")
    return int(found[1]) * _TIMES[found[2]]


def length(text: str) -> float:
    """Return a length of time in seconds: `12h`, `30d`, `1d 12h`."""
    seconds = span(text)
    if not seconds:
        raise argparse.ArgumentTypeError("takes a length of time, like 12h, 30d or 6M")
    return seconds
