"""What comes again and again is written down at once, then counted, and the count written later.

A program that is refused and asks on in a loop would otherwise push all else out of a log that has
an end, or trip the journal's limit of records per second (journald.conf(5), RateLimitBurst=).
Nothing is lost by it: the COUNTs of the records add up to what has happened.

There is no timer. A count whose minute is over is written at the next thing that happens at the
gate: a connection, a refusal, an admin operation, a reload, the end. `copilot-cred audit` connects
before it reads, so whoever looks finds it written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias


if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Write: TypeAlias = Callable[[int], None]


__all__ = ["WINDOW", "Repeats"]

WINDOW: Final = 60.0
"""Seconds that are counted together, from the first on."""

KEYS_MAX: Final = 4096
"""Counts held at once; for one more the oldest is written early. More than there can be
connections with a few kinds of refusals each."""


@dataclass
class _Row:
    until: float
    written: int = 0
    """How many records were written at once."""
    count: int = 0
    """How many happened since, and are in no record yet."""
    write: Write | None = None
    """That of the last one."""


class Repeats:
    """The counts of one kind of record; the clock is passed in."""

    def __init__(self, at_once: int) -> None:
        """`at_once` is how many records one key may have in a window before it is counted."""
        self._at_once = at_once
        self._rows: dict[Hashable, _Row] = {}
        """In the order in which their windows end, for all are equally long."""

    def tell(self, key: Hashable, write: Write, now: float, count: int = 1) -> None:
        """Say that it has happened; `write` makes the record, of as many as it is given."""
        self.write_due(now)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= KEYS_MAX:
                self.end(next(iter(self._rows)))
            row = self._rows[key] = _Row(now + WINDOW)
        if row.written < self._at_once:
            row.written += 1
            write(count)
        else:
            row.count += count
            row.write = write

    def write_due(self, now: float) -> None:
        """Write the counts whose window is over."""
        while self._rows:
            key = next(iter(self._rows))
            if self._rows[key].until > now:
                return
            self.end(key)

    def end(self, key: Hashable) -> None:
        """Write what is counted under that key, if anything, and begin anew with the next one."""
        row = self._rows.pop(key, None)
        if row is not None and row.write is not None:
            row.write(row.count)

    def end_all(self) -> None:
        """Write all counts."""
        for key in list(self._rows):
            self.end(key)
