"""What two have said to each other, and how much of it a model takes: pure.

Tokens are estimated from bytes, and the estimate is mended by what Copilot counted for the last
question. Where all of it would be too much, the oldest questions stay behind with their answers;
the person is told, and the transcript keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copilot_broker.cli.asking.request import Turn


if TYPE_CHECKING:
    from collections.abc import Iterable

    from copilot_broker.cli.catalogue import Model


__all__ = ["Conversation", "Exchange", "Fitting", "estimate", "room_of"]

BYTES_PER_TOKEN = 3
"""Of text in UTF-8: fewer than English has, about as many as code, so seldom too few."""

TOKENS_PER_TURN = 8
"""For who says it, and where it begins and ends."""

TOKENS_PER_IMAGE = 1600
"""About what the largest pictures cost that models do not scale down."""

SCALES = (0.5, 2.0)
"""How far what was counted may mend the estimate: beyond that something else is counted, too."""


@dataclass(frozen=True)
class Exchange:
    """A question and its answer, which may have been stopped midway."""

    question: Turn
    answer: str = field(repr=False)
    model: str

    @property
    def turns(self) -> tuple[Turn, Turn]:
        """Both as they go into a request."""
        return self.question, Turn("assistant", self.answer)


@dataclass(frozen=True)
class Fitting:
    """What goes out with a question."""

    turns: tuple[Turn, ...]
    left_out: int
    """Exchanges, the oldest, for which there is no room."""
    estimate: int
    """Tokens of these turns, not mended."""


class Conversation:
    """Grows with each answer."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._scale = 1.0

    def fit(self, question: Turn, room: int | None, system: str | None) -> Fitting:
        """Return the question after all that there is room for; None: GitHub tells no bound."""
        size = estimate([question]) + (0 if system is None else estimate([Turn("user", system)]))
        taken: list[Exchange] = []
        for exchange in reversed(self.exchanges):
            more = size + estimate(exchange.turns)
            if room is not None and more * self._scale > room:
                break
            size = more
            taken.insert(0, exchange)
        turns = [turn for exchange in taken for turn in exchange.turns]
        return Fitting((*turns, question), len(self.exchanges) - len(taken), size)

    def learn(self, fitting: Fitting, counted: int | None) -> None:
        """Mend the estimate by what Copilot counted for what went out."""
        if counted:
            least, most = SCALES
            self._scale = min(most, max(least, counted / fitting.estimate))


def estimate(turns: Iterable[Turn]) -> int:
    """Return about how many tokens turns have."""
    return sum(
        TOKENS_PER_TURN
        + len(turn.text.encode("utf-8", "replace")) // BYTES_PER_TOKEN
        + len(turn.images) * TOKENS_PER_IMAGE
        for turn in turns
    )


def room_of(model: Model, max_tokens: int | None) -> int | None:
    """Return the tokens that a prompt may have; None: GitHub does not say."""
    if model.prompt is not None or model.context is None:
        return model.prompt
    return max(1, model.context - (max_tokens or model.output or 0))
