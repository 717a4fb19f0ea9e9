"""Single values of an answer: one of another type, or out of all bounds, counts as absent."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from brokerd.core.token_string import SKU


if TYPE_CHECKING:
    from typing import TypeVar

    Default = TypeVar("Default", float, None)


__all__ = [
    "MAX_INTEGER",
    "MAX_SECONDS",
    "is_tellable",
    "number_of",
    "scopes_of",
    "seconds_of",
    "sku_of",
]

# Longer than anything GitHub issues; keeps arithmetic on nonsense finite.
MAX_SECONDS = 366 * 86400.0
# The largest that MessagePack and every store take for signed.
MAX_INTEGER = 2**63 - 1
# The deepest entry of the model list has five levels.
MAX_DEPTH = 16
# RFC 6749 §3.3 less what is special in lists; GitHub separates with commas, here and there spaces.
SCOPES = re.compile(r"[A-Za-z0-9_:.-]+(?:[, ]+[A-Za-z0-9_:.-]+)*")
MAX_SCOPES_LENGTH = 1024
SURROGATE = re.compile("[\ud800-\udfff]")


def seconds_of(value: object, default: Default) -> float | Default:
    """Read a duration; `default` for what is none."""
    found = number_of(value)
    return default if found is None or found < 0 else min(found, MAX_SECONDS)


def number_of(value: object) -> float | None:
    """Read a finite number, also one in a string, as a test of the official client has it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def sku_of(value: object) -> str:
    """Read GitHub's word for a plan; "" for what is none."""
    return value if isinstance(value, str) and SKU.fullmatch(value) else ""


def scopes_of(value: object) -> str | None:
    """Return a list of scopes separated by commas; None for what is no such list."""
    if not isinstance(value, str) or len(value) > MAX_SCOPES_LENGTH:
        return None
    value = value.strip()
    if value and not SCOPES.fullmatch(value):
        return None
    return ",".join(value.replace(",", " ").split())


def is_tellable(value: object, depth: int = 0) -> bool:
    """Whether every client's codec takes it."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, str):
        return not SURROGATE.search(value)
    if isinstance(value, int):
        return -MAX_INTEGER <= value <= MAX_INTEGER
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(is_tellable(each, depth + 1) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return all(is_tellable(each, depth + 1) for each in value)
    return value is None
