"""A conversation as a list of items, which know no turns: calls and thoughts stand by themselves.

Ids of items are left out when they are written, with reason: Copilot gives a new one in every
event and refuses thoughts whose id is not the one that was sealed into their encrypted content;
without one it takes that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import (
    Image,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UntranslatableError,
)
from brokerd.core.dialects.responses.names import full_name
from brokerd.core.dialects.responses.parts import read_content, write_said, write_shown


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.dialects.fields import Json


__all__ = ["PARAGRAPH", "read_call", "read_items", "read_thinking", "write_items"]

PARAGRAPH: Final = "\n\n"
"""Between summaries, where there are several."""

_ERROR: Final = "error"
"""Of a tool that failed without a word: no word at all would say that all went well."""

_ROLES: Final[dict[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}


def read_items(items: Iterable[object]) -> list[Message]:
    """Read items as turns: neighbours of the same role are one, but for `system`.

    Raises UntranslatableError.
    """
    turns: list[tuple[Role, list[Part]]] = []
    for each in items:
        role, parts = _read_item(fields.entry(each, "an item of the input"))
        if not parts:
            continue
        if turns and turns[-1][0] == role != "system":
            turns[-1][1].extend(parts)
        else:
            turns.append((role, list(parts)))
    return [Message(role, tuple(parts)) for role, parts in turns]


def _read_item(item: Json) -> tuple[Role, tuple[Part, ...]]:
    kind = fields.type_of(item)
    if kind == "message" or (not kind and "role" in item):
        return _read_message(item)
    if kind == "function_call":
        return "assistant", (read_call(item),)
    if kind == "function_call_output":
        return "user", (_read_result(item),)
    if kind == "reasoning":
        thinking = read_thinking(item)
        return "assistant", (thinking,) if thinking.text or thinking.proof else ()
    raise UntranslatableError(f"an input item of type {fields.known(kind)}")


def _read_message(item: Json) -> tuple[Role, tuple[Part, ...]]:
    role = _ROLES.get(fields.text(item, "role"))
    if role is None:
        raise UntranslatableError("a message whose role is none of user, assistant, system")
    parts = read_content(item.get("content"), "a message")
    if role != "user" and any(isinstance(part, Image) for part in parts):
        raise UntranslatableError(f"an image in a message of the {role}")
    return role, parts


def _read_result(item: Json) -> ToolResult:
    output = item.get("output")
    content = () if output == "" else read_content(output, "a tool's output")
    return ToolResult(_call_id(item), content)


def read_call(item: Json) -> ToolCall:
    """Read a function call."""
    name = fields.text(item, "name")
    if not name:
        raise UntranslatableError("a function call without a name")
    return ToolCall(
        _call_id(item),
        full_name(fields.text(item, "namespace"), name),
        fields.text(item, "arguments") or "{}",
    )


def _call_id(item: Json) -> str:
    call_id = fields.text(item, "call_id")
    if not call_id:
        raise UntranslatableError("a function call or its output without a call_id")
    return call_id


def read_thinking(item: Json) -> Thinking:
    """Read thoughts: their summaries, or themselves where there is no summary."""
    texts = [
        fields.text(fields.entry(each, "a part of thoughts"), "text")
        for each in fields.items(item, "summary") or fields.items(item, "content")
    ]
    return Thinking(PARAGRAPH.join(texts), fields.text(item, "encrypted_content"))


def write_items(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Write turns as items. Raises UntranslatableError."""
    items: list[dict[str, Any]] = []
    for message in messages:
        run: list[Text | Image] = []
        for part in message.parts:
            if isinstance(part, Text | Image):
                run.append(part)
                continue
            _write_run(message.role, run, items)
            items.append(_write_part(message.role, part))
        _write_run(message.role, run, items)
    return items


def _write_run(role: Role, run: list[Text | Image], items: list[dict[str, Any]]) -> None:
    """Write the words and pictures that stand side by side as one message."""
    if not run:
        return
    if role == "assistant":
        content = [write_said(part) for part in run if isinstance(part, Text)]
    else:
        content = write_shown(run, f"a message of the {role}")
    if role != "user" and any(isinstance(part, Image) for part in run):
        raise UntranslatableError(f"an image in a message of the {role}")
    items.append({"type": "message", "role": role, "content": content})
    run.clear()


def _write_part(role: Role, part: Thinking | ToolCall | ToolResult) -> dict[str, Any]:
    if (role == "user") != isinstance(part, ToolResult) or role == "system":
        raise UntranslatableError(f"a {type(part).__name__} in a message of the {role}")
    if isinstance(part, ToolCall):
        return {
            "type": "function_call",
            "call_id": part.id,
            "name": part.name,
            "arguments": part.arguments,
        }
    if isinstance(part, ToolResult):
        return {
            "type": "function_call_output",
            "call_id": part.call_id,
            "output": _write_output(part),
        }
    return {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": part.text}] if part.text else [],
        **({"encrypted_content": part.proof} if part.proof else {}),
    }


def _write_output(result: ToolResult) -> str | list[dict[str, Any]]:
    content = result.content
    if not content:
        return _ERROR if result.is_error else ""
    if len(content) == 1 and isinstance(content[0], Text) and not content[0].is_refusal:
        return content[0].text
    return write_shown(content, "a tool's output")
