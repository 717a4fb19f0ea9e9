"""The `messages` of a request.

Source: API reference, Chat Completions, `messages`. `developer` is `system`; results of tools are
messages of their own, which have to follow the calls at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.chat.content import read_content, write_content
from brokerd.core.dialects.chat.turn import read_turn, write_calls, write_thought
from brokerd.core.dialects.fields import known, sequence, text
from brokerd.core.dialects.meaning import (
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UntranslatableError,
)


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


__all__ = ["ERROR_WITHOUT_WORDS", "IMAGES_FOLLOW", "read_messages", "write_messages"]

IMAGES_FOLLOW = "The images of this result are in the next message of the user."
"""Said in a result that has nothing but images, which cannot stand there."""

ERROR_WITHOUT_WORDS = "error"
"""Said in a result that is an error and nothing else."""


def read_messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the messages of a request; empty ones are left out. Raises UntranslatableError."""
    found: list[Message] = []
    is_after_result = False
    functions: dict[str, str] = {}
    """Ids of function calls, which have none of their own, by name."""
    for number, message in enumerate(sequence(body, "messages")):
        is_result = text(message, "role") in {"tool", "function"}
        read = _read_message(message, f"function_{number}", functions)
        if is_result and is_after_result:
            found[-1] = Message("user", found[-1].parts + read.parts)
        elif read.parts:
            found.append(read)
        is_after_result = is_result
    return tuple(found)


def _read_message(message: Mapping[str, Any], call_id: str, functions: dict[str, str]) -> Message:
    match message.get("role"):
        case "system" | "developer":
            return Message("system", read_content(message))
        case "user":
            return Message("user", read_content(message))
        case "assistant":
            parts = read_turn(message, call_id)
            last = parts[-1] if parts else None
            if isinstance(last, ToolCall) and last.id == call_id:
                functions[last.name] = call_id
            return Message("assistant", parts)
        case "tool":
            answered = text(message, "tool_call_id")
            if not answered:
                raise UntranslatableError("a tool message without tool_call_id")
            return Message("user", (ToolResult(answered, read_content(message)),))
        case "function":
            answered = functions.get(text(message, "name"), "")
            if not answered:
                raise UntranslatableError("a function message that answers no function_call")
            return Message("user", (ToolResult(answered, read_content(message)),))
        case role:
            raise UntranslatableError(f"a message of role {known(role)}")


def write_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Write messages. Raises UntranslatableError for parts in turns where nobody has them."""
    told: list[dict[str, Any]] = []
    held: list[dict[str, Any]] = []
    """Of the system, waiting until the results have followed the calls."""
    for message in messages:
        if message.role == "system":
            waits = bool(told) and "tool_calls" in told[-1]
            (held if waits else told).append(
                {"role": "system", "content": write_content(_words(message.parts, "system"))}
            )
        elif message.role == "assistant":
            told += held
            held.clear()
            told += _write_turns(message)
        else:
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            told += map(_write_result, results)
            told += held
            held.clear()
            told += _write_user(message, results)
    return told + held


def _write_result(result: ToolResult) -> dict[str, Any]:
    words = [part for part in result.content if isinstance(part, Text)]
    if result.content and not words:
        words = [Text(IMAGES_FOLLOW)]
    elif not words and result.is_error:
        words = [Text(ERROR_WITHOUT_WORDS)]
    return {"role": "tool", "tool_call_id": result.call_id, "content": write_content(words)}


def _write_user(message: Message, results: Sequence[ToolResult]) -> list[dict[str, Any]]:
    parts: list[Text | Image] = [
        part for result in results for part in result.content if isinstance(part, Image)
    ]
    for part in message.parts:
        if isinstance(part, (Text, Image)):
            parts.append(part)
        elif not isinstance(part, ToolResult):
            raise UntranslatableError("a turn of the user's with parts of the model's")
    return [{"role": "user", "content": write_content(parts)}] if parts else []


def _write_turns(message: Message) -> list[dict[str, Any]]:
    """Write a turn of the model: a message for every thought of it; the calls with the last."""
    turns: list[tuple[Thinking | None, list[Text]]] = []
    calls: list[ToolCall] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            calls.append(part)
        elif isinstance(part, Thinking):
            turns.append((part, []))
        elif isinstance(part, Text):
            if not turns:
                turns.append((None, []))
            turns[-1][1].append(part)
        else:
            raise UntranslatableError("a turn of the model's with parts of the user's")
    if calls and not turns:
        turns.append((None, []))
    told = [
        {
            "role": "assistant",
            "content": write_content(words) if words else None,
            **(write_thought(thought) if thought else {}),
        }
        for thought, words in turns
    ]
    if told:
        told[-1] |= write_calls(calls)
    return told


def _words(parts: Iterable[object], role: str) -> list[Text | Image]:
    words: list[Text | Image] = [part for part in parts if isinstance(part, Text)]
    if len(words) != len(tuple(parts)):
        raise UntranslatableError(f"a message of role {role} with more than words")
    return words
