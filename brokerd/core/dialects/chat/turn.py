"""What the model says in one message: thoughts, words, a refusal, tool calls.

The same in an answer and in the turns of an asking that give it back. Source: API reference,
Chat Completions, the assistant message; `reasoning_text` and `reasoning_opaque` are Copilot's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.chat.content import read_content
from brokerd.core.dialects.fields import known, mapping, sequence, text
from brokerd.core.dialects.meaning import Text, Thinking, ToolCall, UntranslatableError


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from brokerd.core.dialects.meaning import Part


__all__ = ["read_thought", "read_turn", "write_calls", "write_thought"]

_THOUGHTS = ("reasoning_text", "reasoning_content", "reasoning")
"""Copilot's word for it and those of other servers: the first that is there counts, for some
servers send the same under two."""


def read_thought(message: Mapping[str, Any]) -> Thinking | None:
    """Return what a message or delta has of thoughts; None without any."""
    said = next((found for key in _THOUGHTS if (found := text(message, key))), "")
    proof = text(message, "reasoning_opaque")
    return Thinking(said, proof) if said or proof else None


def read_turn(message: Mapping[str, Any], call_id: str) -> tuple[Part, ...]:
    """Return the parts of a message of the model's. Raises UntranslatableError.

    `call_id` is that of a `function_call`, which has none of its own.
    """
    if message.get("audio") is not None:
        raise UntranslatableError("audio of the model's")
    parts: list[Part] = []
    if thought := read_thought(message):
        parts.append(thought)
    for part in read_content(message):
        if not isinstance(part, Text):
            raise UntranslatableError("an image of the model's")
        parts.append(part)
    if refusal := text(message, "refusal"):
        parts.append(Text(refusal, is_refusal=True))
    parts += map(_read_call, sequence(message, "tool_calls"))
    if called := mapping(message, "function_call"):
        parts.append(_call(call_id, called))
    return tuple(parts)


def write_thought(thought: Thinking) -> dict[str, Any]:
    """Write a thought as fields of a message or delta."""
    fields = {"reasoning_text": thought.text, "reasoning_opaque": thought.proof}
    return {key: said for key, said in fields.items() if said}


def write_calls(calls: Iterable[ToolCall]) -> dict[str, Any]:
    """Write calls as a field of a message; no field for none: an empty array is refused."""
    told = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
    return {"tool_calls": told} if told else {}


def _read_call(call: Mapping[str, Any]) -> ToolCall:
    kind = call.get("type")
    if kind not in (None, "function"):
        raise UntranslatableError(f"a tool call of type {known(kind)}")
    if not text(call, "id"):
        raise UntranslatableError("a tool call without an id")
    return _call(text(call, "id"), mapping(call, "function") or {})


def _call(call_id: str, called: Mapping[str, Any]) -> ToolCall:
    if not text(called, "name"):
        raise UntranslatableError("a tool call without a name")
    arguments = called.get("arguments")
    if isinstance(arguments, dict):  # not as documented, and yet sent
        arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
        return ToolCall(call_id, called["name"], arguments)
    return ToolCall(call_id, called["name"], text(called, "arguments") or "{}")
