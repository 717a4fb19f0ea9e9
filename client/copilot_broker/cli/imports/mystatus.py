"""opencode-mystatus' token for the billing pages: no login, and used where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import Login
from copilot_broker.cli.imports.reading import read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_mystatus_token"]


def read_mystatus_token(data: bytes) -> Iterator[Login]:
    """Read `{"token", "username", "tier"}`."""
    said = read_json(data)
    token = text_of(said.get("token"))
    problem = "it reads the bill only; copilot-cred quota uses it" if token else ""
    yield Login(token, user=text_of(said.get("username")), problem=problem)
