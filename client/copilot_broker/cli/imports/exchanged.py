"""What the exchange has answered: litellm, avante and the llm plugin keep it. It is no login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import WHY_NOT, Kind, Login
from copilot_broker.cli.imports.reading import read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_exchanged"]


def read_exchanged(data: bytes) -> Iterator[Login]:
    """Read `{"token", "expires_at", "refresh_in", "endpoints"}`."""
    token = text_of(read_json(data).get("token"))
    yield Login(token, problem=WHY_NOT[Kind.COPILOT] if token else "")
