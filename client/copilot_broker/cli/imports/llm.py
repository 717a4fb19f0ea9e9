"""The llm plug-in: `keys.json` of llm holds the GitHub login among the keys of other services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import Login
from copilot_broker.cli.imports.raw import app_by_kind
from copilot_broker.cli.imports.reading import read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_llm_keys"]

KEY = "github_copilot_access_token"


def read_llm_keys(data: bytes) -> Iterator[Login]:
    """Read `{"github_copilot_access_token": …}`; no other key is looked at."""
    said = read_json(data)
    if KEY in said:
        token = text_of(said[KEY])
        yield Login(token, app=app_by_kind(token))
