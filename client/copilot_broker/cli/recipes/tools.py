"""All recipes, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.recipes.agents import AGENTS
from copilot_broker.cli.recipes.editors import EDITORS
from copilot_broker.cli.recipes.libraries import LIBRARIES
from copilot_broker.cli.recipes.shells import SHELLS


if TYPE_CHECKING:
    from copilot_broker.cli.recipes.parts import Recipe


__all__ = ["RECIPES", "find"]

RECIPES = (*AGENTS, *SHELLS, *LIBRARIES, *EDITORS)

ALSO = {
    "claude": "claude-code",
    "cn": "continue",
    "openai": "openai-python",
    "anthropic": "anthropic-python",
    "emacs": "gptel",
}
"""What people call them besides."""


def find(name: str) -> Recipe | None:
    """Return the recipe of this name, in whatever case; None: there is none."""
    plain = name.lower().removesuffix(".nvim").replace("_", "-")
    wanted = ALSO.get(plain, plain)
    return next((each for each in RECIPES if each.name == wanted), None)
