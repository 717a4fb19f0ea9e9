"""How much a model may think, in the words of each dialect.

OpenAI's say an effort; Anthropic's older models a budget of tokens, its newer ones an effort too.
Where only the other is known, this table says what it comes to. It is a rule of thumb: neither
company says how many tokens an effort is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from brokerd.core.dialects.meaning import Reasoning


__all__ = ["BUDGETS", "MIN_BUDGET", "anthropic_effort", "budget_of", "effort_of", "openai_effort"]

BUDGETS: Final = {
    "minimal": 1024,
    "low": 4096,
    "medium": 12_288,
    "high": 24_576,
    "xhigh": 32_000,
    "max": 32_000,
}
"""Effort → tokens. 1,024 is the least that Anthropic takes, 32,000 the most that Copilot lists as
`max_thinking_budget`."""

MIN_BUDGET: Final = 1024
"""Tokens; less is refused (Anthropic's API reference, `thinking.budget_tokens`)."""


def budget_of(effort: str) -> int | None:
    """Return the tokens that an effort may cost: 0 for `none`, None where nothing was said.

    A word that nobody knows yet is taken for `medium`.
    """
    if not effort:
        return None
    return 0 if effort == "none" else BUDGETS.get(effort, BUDGETS["medium"])


def effort_of(budget: int) -> str:
    """Return the effort that a budget comes to, among the words that every such model takes."""
    if budget <= 0:
        return "none"
    return next((word for word in ("low", "medium") if budget <= BUDGETS[word]), "high")


def openai_effort(reasoning: Reasoning) -> str:
    """Return the word of Chat Completions and Responses; "" where nothing was said."""
    if reasoning.effort:
        return "xhigh" if reasoning.effort == "max" else reasoning.effort
    return "" if reasoning.budget is None else effort_of(reasoning.budget)


def anthropic_effort(effort: str) -> str:
    """Return the word of `output_config.effort`, whose least is `low`."""
    return "low" if effort == "minimal" else effort
