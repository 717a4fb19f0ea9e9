"""What is counted of completions, as numbers that can be added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from brokerd.core.ledger.lines import Lines


if TYPE_CHECKING:
    from collections.abc import Iterator

    from brokerd.core.ledger.lines import Line


__all__ = ["MILLI", "Counts", "Totals"]

MILLI: Final = 1_000
"""Premium units are counted in thousandths: multipliers are fractions like 0.33."""


class Counts(NamedTuple):
    """Sums of all that was sent to Copilot; what was refused here is no usage.

    Tokens are Copilot's own count. Where it told none though it had begun to answer, as to who
    hangs up, the request is `untold` besides, and nothing is made up for it.
    """

    requests: int = 0
    user_turns: int = 0
    """Turns that a person began (`X-Initiator: user`)…"""
    agent_turns: int = 0
    """…and those of an agent; embeddings, for one, are nobody's turn."""
    errors: int = 0
    """Refused by Copilot, broken off by it, or never answered."""
    untold: int = 0
    """Begun, and its usage never told."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of those of the prompt, what came from a cache."""
    premium: int = 0
    """Thousandths of a premium request: an estimate, see `unpriced`."""
    unpriced: int = 0
    """Turns of a person's that succeeded with a model whose multiplier was not known."""


class Totals:
    """Counts by day and heading, each day within the bounds of `Lines`."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, Line], Counts] = {}
        self._lines: dict[int, Lines] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def __iter__(self) -> Iterator[tuple[int, Line, Counts]]:
        for (day, line), counts in self._sums.items():
            yield day, line, counts

    def add(self, day: int, line: Line, counts: Counts) -> None:
        """Add to the sums of that day (`core.keys.day_of`)."""
        lines = self._lines.get(day)
        if lines is None:
            lines = self._lines[day] = Lines()
        place = day, lines.place(line)
        before = self._sums.get(place)
        self._sums[place] = (
            counts if before is None else Counts._make(map(sum, zip(before, counts, strict=True)))
        )
