"""Repair `anthropic_betas`: which of Anthropic's betas Copilot lets a request name."""

from __future__ import annotations

from typing import Final


__all__ = ["BETAS", "TAKEN", "kept_betas"]

BETAS: Final = "anthropic-beta"
"""The header that names them, separated by commas (Anthropic, "Beta headers")."""

TAKEN: Final = frozenset(
    {
        "interleaved-thinking-2025-05-14",
        "context-management-2025-06-27",
        "advanced-tool-use-2025-11-20",
    }
)
"""Those that the official client sends; any other has the whole request refused."""


def kept_betas(value: str) -> str:
    """Return the header's value without the others: as it is if there are none, "" if no other."""
    named = [each.strip() for each in value.split(",")]
    kept = [each for each in named if each in TAKEN]
    return value if len(kept) == len(named) else ", ".join(dict.fromkeys(kept))
