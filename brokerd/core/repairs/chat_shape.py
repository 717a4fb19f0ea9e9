"""What OpenAI's SDKs want of a chat answer, whole or a chunk: object, index, one choice.

Each function changes what it is given and says whether it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Iterator

    Fields = dict[str, Any]


__all__ = ["choices_of", "delta_of", "into_one", "with_object"]


def choices_of(fields: Fields) -> Iterator[Fields]:
    """Give the choices, as far as they are any."""
    choices = fields.get("choices")
    for each in choices if isinstance(choices, list) else ():
        if isinstance(each, dict):
            yield each


def with_object(fields: Fields, name: str) -> bool:
    """Add `object`, and `index` to each choice."""
    choices = fields.get("choices", False)
    if choices is not None and not isinstance(choices, list):
        return False
    changed = fields.get("object") is None
    if changed:
        fields["object"] = name
    for at, choice in enumerate(choices_of(fields)):
        if choice.get("index") is None:
            choice["index"] = at
            changed = True
    return changed


def delta_of(choice: Fields) -> Fields:
    """Return what is said: `delta` of a chunk, `message` of a whole answer."""
    for name in ("delta", "message"):
        said = choice.get(name)
        if isinstance(said, dict):
            return said
    return {}


def into_one(fields: Fields) -> bool:
    """Make one choice of several: text and tool calls of all, and the tools' reason to stop."""
    choices = list(choices_of(fields))
    if len(choices) < 2:
        return False
    first, *others = choices
    said = delta_of(first)
    reasons = [each.get("finish_reason") for each in choices]
    for other in others:
        for name, value in delta_of(other).items():
            _join(said, name, value)
    reason = next((each for each in reasons if each is not None), None)
    if "tool_calls" in reasons or (reason is not None and said.get("tool_calls")):
        reason = "tool_calls"
    first["finish_reason"] = reason
    fields["choices"] = [first]
    return True


def _join(said: Fields, name: str, value: Any) -> None:
    """Add another choice's member to the first's."""
    mine = said.get(name)
    if mine is None:
        said[name] = value
    elif name == "tool_calls" and isinstance(mine, list) and isinstance(value, list):
        mine.extend(value)
    elif name != "role" and isinstance(mine, str) and isinstance(value, str):
        said[name] = mine + value
