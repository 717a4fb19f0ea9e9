"""The repairs of a whole chat answer: `anthropic_chat`, `merged_choices`, `chunk_object`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.repairs import chat_shape
from brokerd.core.repairs.exact import edited, loads


if TYPE_CHECKING:
    from collections.abc import Collection


__all__ = ["is_sound", "repaired"]

_OBJECT: Final = re.compile(rb'"object"\s*:\s*"chat\.completion"')
_INDEX: Final = b'"index"'
_REASON: Final = b'"finish_reason"'
_ANTHROPIC: Final = re.compile(rb'"type"\s*:\s*"message"')


def is_sound(body: bytes) -> bool:
    """Whether nothing of a whole answer is ever changed; most are."""
    return _INDEX in body and body.count(_REASON) <= 1 and _OBJECT.search(body) is not None


def repaired(body: bytes, enabled: Collection[str], fired: list[str]) -> bytes:
    """Return the answer as a client takes it; the same object if it does already."""
    is_bare = _OBJECT.search(body) is None or _INDEX not in body
    if is_bare and "anthropic_chat" in enabled and _is_anthropic(body):
        return _translated(body, fired)
    has_more = body.count(_REASON) > 1
    if not is_bare and not (has_more and "merged_choices" in enabled):
        return body
    made: list[str] = []

    def change(fields: dict[str, Any]) -> bool:
        if "merged_choices" in enabled and chat_shape.into_one(fields):
            made.append("merged_choices")
        if "chunk_object" in enabled and chat_shape.with_object(fields, "chat.completion"):
            made.append("chunk_object")
        return bool(made)

    new = edited(body, change)
    if new is not body:
        fired.extend(made)
    return new


def _is_anthropic(body: bytes) -> bool:
    return b'"choices"' not in body and _ANTHROPIC.search(body) is not None


def _translated(body: bytes, fired: list[str]) -> bytes:
    # Late: two dialects, for the few who meet it.
    from brokerd.core.dialects.chat import write_answer  # noqa: PLC0415
    from brokerd.core.dialects.messages import read_answer  # noqa: PLC0415

    try:
        told = write_answer(read_answer(_plain(body)))
    except (ValueError, RecursionError):  # UntranslatableError is one, too
        return body
    fired.append("anthropic_chat")
    return json.dumps(told, separators=(",", ":")).encode()


def _plain(body: bytes) -> dict[str, Any]:
    loads(body)  # raises for what has two meanings
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - as for all that is not fit
    return found
