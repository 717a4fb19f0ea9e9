"""crush's `crush.json`: `providers.copilot.oauth`, whose refresh token is the GitHub login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker.cli.imports.found import Login
from copilot_broker.cli.imports.raw import app_by_kind
from copilot_broker.cli.imports.reading import Unreadable, read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_crush"]


def read_crush(data: bytes) -> Iterator[Login]:
    """Read `{access_token (Copilot's), refresh_token (GitHub's), expires_in, expires_at}`."""
    entry: Any = read_json(data)
    for key in ("providers", "copilot", "oauth"):
        if key not in entry:
            return  # signed in to other services only
        entry = entry[key]
        if not isinstance(entry, dict):
            raise Unreadable("of another form")
    token = text_of(entry.get("refresh_token"))
    yield Login(token, app=app_by_kind(token))
