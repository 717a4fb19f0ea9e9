"""CopilotChat.nvim's `tokens.json`: a token for each service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import APP_OF_GH, COPILOT_PLUGIN, Kind, Login
from copilot_broker.cli.imports.reading import read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_copilot_chat"]

APPS = {"github_copilot": (COPILOT_PLUGIN, Kind.APP), "github_models": (APP_OF_GH, Kind.OAUTH)}
"""By service: whose app signs in to it, and what kind of token that gets."""


def read_copilot_chat(data: bytes) -> Iterator[Login]:
    """Read `{TAG: TOKEN}`; only GitHub's services are looked at."""
    for tag, value in read_json(data).items():
        if not tag.startswith("github"):
            continue
        token = text_of(value)
        app, kind = APPS.get(tag, ("", Kind.UNKNOWN))
        yield Login(token, app=app if token.startswith(kind) else "")
