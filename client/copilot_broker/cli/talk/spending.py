"""What a conversation has cost so far: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from copilot_broker.cli.asking.answering import Spent
    from copilot_broker.cli.catalogue import Model


__all__ = ["Spending"]


class Spending:
    """Sums up answers."""

    def __init__(self) -> None:
        self.questions = 0
        self.prompt = 0
        self.cached = 0
        self.completion = 0
        self.premium = 0.0
        self.uncounted = 0
        """Questions that Copilot told no usage of: stopped, or broken off."""

    def add(self, spent: Spent | None, model: Model) -> None:
        """Count one question; None: its answer is not whole, but GitHub counts it all the same."""
        self.questions += 1
        self.premium += model.multiplier or 0.0
        usage = None if spent is None else spent.usage
        if usage is None or (usage.prompt is None and usage.completion is None):
            self.uncounted += 1
            return
        self.prompt += usage.prompt or 0
        self.cached += usage.cached or 0
        self.completion += usage.completion or 0

    def words(self) -> str:
        """Return it in one sentence."""
        cached = f" ({self.cached:,} cached)" if self.cached else ""
        said = (
            f"{self.questions} question{'' if self.questions == 1 else 's'}, "
            f"{self.prompt:,} tokens in{cached}, {self.completion:,} out, "
            f"premium requests {self.premium:g} (estimated)"
        )
        return f"{said}; {self.uncounted} of them not counted" if self.uncounted else said
