"""Single values of whatever JSON says: one of another type, or out of all bounds, is not told.

Seven shapes of these answers were counted within one year, so: numbers may be strings, a flag may
be missing, a date may be a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["MAX_ENTRIES", "entries", "flag", "moment", "month_after", "number", "word"]

MAX_NUMBER: Final = 1e12
"""Beyond any plan; keeps arithmetic on nonsense finite."""
MAX_ENTRIES: Final = 64
"""Kinds, or models, that are read of an answer; there are four, and some thirty."""
MAX_TEXT: Final = 64
"""Characters of a number or date; true ones have 30."""
MIN_YEAR: Final = 2020
MAX_YEAR: Final = 2100
"""No plan is counted anew before or after."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .+-]{0,63}")
_MAX_MOMENT: Final = 4102444800  # 2100-01-01
_MIN_MOMENT: Final = 1577836800  # 2020-01-01


def number(value: object) -> float | None:
    """Read a finite number that a plan can have, also one in a string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= MAX_NUMBER else None


def flag(value: object) -> bool | None:
    """Read true or false, also in a string."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def word(value: object) -> str:
    """Read a name of GitHub's that may be shown to a person; "" for what is none."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def moment(value: object) -> int | None:
    """Read a time as Unix seconds: a number, a day, or ISO 8601; UTC where no zone is named."""
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            return _within(number(value))
        if not MIN_YEAR <= found.year < MAX_YEAR:
            return None
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    return _within(number(value))


def _within(seconds: float | None) -> int | None:
    # `quota_reset_at` is 0 where there is nothing to reset.
    if seconds is None or not _MIN_MOMENT <= seconds < _MAX_MOMENT:
        return None
    return int(seconds)


def month_after(year: int, month: int) -> int | None:
    """Return when the month after that one begins (UTC), in Unix seconds."""
    if not MIN_YEAR <= year < MAX_YEAR or not 1 <= month <= 12:
        return None
    years, months = divmod(year * 12 + month, 12)
    return int(datetime(years, months + 1, 1, tzinfo=UTC).timestamp())


def entries(value: object) -> Iterator[tuple[str, object]]:
    """Yield the named entries of a map, as many as can be meant."""
    if isinstance(value, Mapping):
        named = ((word(name), each) for name, each in value.items())
        yield from islice(((name, each) for name, each in named if name), MAX_ENTRIES)
