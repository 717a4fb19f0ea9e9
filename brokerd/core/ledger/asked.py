"""What somebody wants to see of the ledger, and what they get."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.ledger.counts import MILLI, Counts


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["GROUPS", "ROWS_MAX", "Asked", "Report", "day_text", "row_map"]

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "day": ("day",),
    "client": ("kind", "client", "label"),
    "account": ("account",),
    "model": ("model",),
}
"""By what can be summed up, and the columns that each stands for."""

ROWS_MAX: Final = 5_000
"""Rows of one report, some 200 bytes each: more nobody reads, and it must fit into one answer."""

_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST: Final = date.max.toordinal() - _EPOCH


@dataclass(frozen=True)
class Asked:
    """One question."""

    since: int
    """The first day, counted from 1970-01-01 in UTC…"""
    until: int
    """…and the last."""
    by: tuple[str, ...] = tuple(GROUPS)
    """Names of `GROUPS`."""
    accounts: tuple[str, ...] | None = None
    """Of these accounts only; None: of all."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that each row begins with."""
        return tuple(column for name in GROUPS if name in self.by for column in GROUPS[name])


@dataclass(frozen=True)
class Report:
    """The answer."""

    columns: tuple[str, ...]
    """What each row begins with."""
    rows: Sequence[tuple[tuple[str | int, ...], Counts]]
    """Those with the most tokens first, unless it is by day."""
    has_more: bool = False
    """Whether `ROWS_MAX` has cut it."""


def day_text(day: int) -> str:
    """Return a day, counted from 1970-01-01, as ISO 8601 writes it."""
    return date.fromordinal(min(max(day, 0), _LAST) + _EPOCH).isoformat()


def row_map(columns: Sequence[str], values: Sequence[str | int], counts: Counts) -> dict[str, Any]:
    """Return one row as callers get it. What is estimated says so in its name."""
    shown: dict[str, Any] = dict(zip(columns, values, strict=True))
    if "day" in shown:
        shown["day"] = day_text(int(shown["day"]))
    shown |= counts._asdict()
    shown["estimated_premium"] = shown.pop("premium") / MILLI
    shown["unpriced_turns"] = shown.pop("unpriced")
    return shown
