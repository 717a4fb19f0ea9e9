"""Content blocks: the parts of a message."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import (
    Image,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UntranslatableError,
)


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "HIDDEN",
    "OF_ASSISTANT",
    "OF_SYSTEM",
    "OF_USER",
    "arguments_of",
    "is_blank",
    "read_parts",
    "write_part",
]

HIDDEN: Final = "redacted_thinking:"
"""Begins the proof of a thought that is a `redacted_thinking` block; its `data` follows. An empty
text is no sign of one: newer models leave the text of signed thoughts out too."""

OF_SYSTEM: Final = frozenset({"text"})
OF_USER: Final = frozenset({"text", "image", "tool_result"})
OF_ASSISTANT: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_OF_RESULT: Final = frozenset({"text", "image"})


def read_parts(value: object, kinds: frozenset[str], what: str) -> tuple[Part, ...]:
    """Read a content: one string, or blocks of these kinds. Empty texts are nothing."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise UntranslatableError(f"{what} that is neither text nor blocks")
    parts = (_read(fields.record(block, "a content block"), kinds, what) for block in value)
    return tuple(part for part in parts if part != Text(""))


def _read(block: Mapping[str, Any], kinds: frozenset[str], what: str) -> Part:
    kind = fields.kind_of(block, "a content block")
    if kind not in kinds:
        raise UntranslatableError(f"a block of kind {fields.known(kind)} in {what}")
    if kind == "text":
        return Text(fields.text(block, "text"))
    if kind == "image":
        return _read_image(fields.record(block.get("source"), "source"))
    if kind == "thinking":
        return Thinking(fields.text(block, "thinking"), fields.text(block, "signature"))
    if kind == "redacted_thinking":
        return Thinking("", HIDDEN + fields.text(block, "data"))
    if kind == "tool_use":
        given = fields.record(block.get("input"), "input")
        return ToolCall(
            fields.text(block, "id"), fields.text(block, "name"), fields.compact(given)
        )
    content = read_parts(block.get("content"), _OF_RESULT, "tool_result")
    return ToolResult(
        fields.text(block, "tool_use_id"),
        tuple(part for part in content if isinstance(part, (Text, Image))),
        fields.flag(block, "is_error") or False,
    )


def _read_image(source: Mapping[str, Any]) -> Image:
    kind = fields.kind_of(source, "the source of an image")
    if kind == "base64":
        return Image(
            data=fields.text(source, "data"), media_type=fields.text(source, "media_type")
        )
    if kind == "url":
        return Image(url=fields.text(source, "url"))
    raise UntranslatableError(f"an image whose source is {fields.known(kind)}")


def write_part(part: Part) -> dict[str, Any]:
    """Write one block. Raises UntranslatableError for an image or arguments it cannot say."""
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            return {"type": "image", "source": _write_image(part)}
        case Thinking() if part.proof.startswith(HIDDEN) and not part.text:
            return {"type": "redacted_thinking", "data": part.proof.removeprefix(HIDDEN)}
        case Thinking():
            return {"type": "thinking", "thinking": part.text, "signature": part.proof}
        case ToolCall():
            given = arguments_of(part.arguments)
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": given}
        case ToolResult():
            return _write_result(part)


def _write_image(image: Image) -> dict[str, Any]:
    if not image.data:
        return {"type": "url", "url": image.url}
    if not image.media_type:
        raise UntranslatableError("an image without its media type")
    return {"type": "base64", "media_type": image.media_type, "data": image.data}


def _write_result(result: ToolResult) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.call_id}
    match result.content:
        case (Text(text),):
            block["content"] = text  # may be blank, which a block may not
        case content:
            block["content"] = [write_part(part) for part in content if not is_blank(part)]
    if result.is_error:
        block["is_error"] = True
    return block


def is_blank(part: Part) -> bool:
    """Say whether it is a text of blanks alone, for which upstream refuses the request."""
    return isinstance(part, Text) and not part.text.strip()


def arguments_of(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call as Messages has them. Raises UntranslatableError."""
    try:
        given = json.loads(arguments or "{}", parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        raise UntranslatableError("a tool call whose arguments are not JSON") from None
    if not isinstance(given, dict):
        raise UntranslatableError("a tool call whose arguments are no JSON object")
    return given


def _finite(number: str) -> float:
    found = float(number)
    if not math.isfinite(found):
        raise ValueError
    return found
