"""What keys, and those whom a rule is about, have used today (UTC), and whether they may more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.access import budget, key_budget
from brokerd.core.keys import Spent, day_of, until_next_day


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from brokerd.core.access import Rule
    from brokerd.core.keys import Key
    from brokerd.errors import Failure


__all__ = ["Purse"]


class Purse:
    """See the module's docstring."""

    def __init__(
        self, wall: Callable[[], float], on_add: Callable[[], None] = lambda: None
    ) -> None:
        """`wall` gives Unix seconds; `on_add` is called when something was added."""
        self.wall = wall
        self._on_add = on_add
        self.all: dict[str, Spent] = {}
        """Name of a key, or `Rule.purse` → what was used, on whatever day that was."""

    def spent(self, name: str) -> int:
        """Return the tokens that were used today under that name."""
        found = self.all.get(name)
        return found.tokens if found is not None and found.day == day_of(self.wall()) else 0

    def add(self, name: str, tokens: int) -> None:
        """Count tokens that were used just now."""
        self.all[name] = Spent(day_of(self.wall()), self.spent(name) + tokens)
        self._on_add()

    @property
    def today(self) -> dict[str, Spent]:
        """What was used today, under each name."""
        day = day_of(self.wall())
        return {name: each for name, each in self.all.items() if each.day == day}

    def put(self, kept: Mapping[str, Spent]) -> None:
        """Hold what was kept, and nothing else."""
        self.all = dict(kept)

    def over_budget(self, key: Key) -> Failure | None:
        """Why it may not go on today: its budget is used up."""
        if key.budget is None or self.spent(key.name) < key.budget:
            return None
        return key_budget(key.name, key.budget, until_next_day(self.wall()))

    def over_budgets(self, rules: Iterable[Rule]) -> Failure | None:
        """Why those whom all of these rules are about may not go on today."""
        for rule in rules:
            if rule.budget is not None and self.spent(rule.purse) >= rule.budget:
                return budget(rule.budget, rule.where, until_next_day(self.wall()))
        return None
