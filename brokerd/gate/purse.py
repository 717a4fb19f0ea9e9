"""What keys have used today (UTC), by their names, and whether that is what they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.access import key_budget
from brokerd.core.keys import Spent, day_of, until_next_day


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.core.keys import Key
    from brokerd.errors import Failure


__all__ = ["Purse"]


class Purse:
    """See the module's docstring."""

    def __init__(self, wall: Callable[[], float]) -> None:
        """`wall` gives Unix seconds."""
        self.wall = wall
        self.all: dict[str, Spent] = {}
        """name → what it has used, on whatever day that was."""

    def spent(self, name: str) -> int:
        """Return the tokens that a key has used today."""
        found = self.all.get(name)
        return found.tokens if found is not None and found.day == day_of(self.wall()) else 0

    def add(self, name: str, tokens: int) -> None:
        """Count tokens that it has used just now."""
        self.all[name] = Spent(day_of(self.wall()), self.spent(name) + tokens)

    def put(self, kept: Mapping[str, Spent]) -> None:
        """Hold what was kept, and nothing else."""
        self.all = dict(kept)

    def over_budget(self, key: Key) -> Failure | None:
        """Why it may not go on today: its budget is used up."""
        if key.budget is None or self.spent(key.name) < key.budget:
            return None
        return key_budget(key.name, key.budget, until_next_day(self.wall()))
