"""What an effort comes to in tokens, and the other way round."""

from __future__ import annotations

import pytest

from brokerd.core.dialects.meaning import Reasoning
from brokerd.core.dialects.reasoning import (
    BUDGETS,
    MIN_BUDGET,
    anthropic_effort,
    budget_of,
    effort_of,
    openai_effort,
)


def test_more_effort_is_never_less_thinking():
    budgets = list(BUDGETS.values())
    assert budgets == sorted(budgets)
    assert budgets[0] == MIN_BUDGET


@pytest.mark.parametrize("effort", ["none", "low", "medium", "high"])
def test_an_effort_comes_back_from_its_budget(effort):
    assert effort_of(budget_of(effort)) == effort


@pytest.mark.parametrize(("effort", "budget"), [("", None), ("none", 0), ("new", 12_288)])
def test_what_the_table_does_not_say(effort, budget):
    assert budget_of(effort) == budget


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(-1, "none"), (0, "none"), (1, "low"), (4096, "low"), (4097, "medium"), (31_999, "high")],
)
def test_a_budget_is_an_effort_that_every_model_takes(budget, effort):
    assert effort_of(budget) == effort


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        (Reasoning(), ""),
        (Reasoning("minimal"), "minimal"),
        (Reasoning("max"), "xhigh"),
        (Reasoning("low", 30_000), "low"),
        (Reasoning(budget=30_000), "high"),
        (Reasoning(budget=0), "none"),
    ],
)
def test_openai_is_told_an_effort(reasoning, effort):
    assert openai_effort(reasoning) == effort


@pytest.mark.parametrize(
    ("effort", "told"), [("minimal", "low"), ("low", "low"), ("max", "max"), ("", "")]
)
def test_the_least_effort_of_anthropics_is_low(effort, told):
    assert anthropic_effort(effort) == told
