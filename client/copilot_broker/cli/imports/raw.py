"""A file that holds one GitHub token and nothing else, as copilot-api and litellm write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import COPILOT_PLUGIN, Kind, Login
from copilot_broker.cli.imports.reading import Unreadable


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["app_by_kind", "read_raw"]


def read_raw(data: bytes) -> Iterator[Login]:
    """Read the one line."""
    try:
        token = data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise Unreadable("no text") from None
    yield Login(token, app=app_by_kind(token))


def app_by_kind(token: str) -> str:
    """Return the app where tools use the one that all use: tokens of GitHub Apps are ghu_."""
    return COPILOT_PLUGIN if token.startswith(Kind.APP) else ""
