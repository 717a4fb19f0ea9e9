"""The dialects by name, and which one an endpoint speaks."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


__all__ = ["Dialect"]


class Dialect(StrEnum):
    """How requests, answers, errors and events are written."""

    CHAT = "chat"
    """OpenAI's Chat Completions; its errors are those of every OpenAI-shaped endpoint."""
    RESPONSES = "responses"
    """OpenAI's Responses; differs from `CHAT` in its events, not in its errors."""
    MESSAGES = "messages"
    """Anthropic's Messages."""

    @classmethod
    def of(cls, path: str) -> Dialect:
        """Return the dialect of a path of the Copilot API; what is nobody's own is `CHAT`."""
        return _OF.get(path, cls.CHAT)


_OF: Final = {
    "/responses": Dialect.RESPONSES,
    "/v1/messages": Dialect.MESSAGES,
    "/v1/messages/count_tokens": Dialect.MESSAGES,
}
