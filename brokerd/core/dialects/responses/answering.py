"""A whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Answer, Part, Text, Thinking, ToolCall
from brokerd.core.dialects.meaning import UntranslatableError as Untranslatable
from brokerd.core.dialects.responses.items import read_call, read_thinking
from brokerd.core.dialects.responses.output import (
    call_item,
    message_item,
    reasoning_item,
    refusal_part,
    summary_part,
    text_part,
)
from brokerd.core.dialects.responses.parts import read_text
from brokerd.core.dialects.responses.response import (
    created_of,
    item_id,
    read_stop,
    read_usage,
    response,
    response_id,
    write_stop,
    write_usage,
)


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.dialects.fields import Json


__all__ = ["read_answer", "refuse_action", "write_answer"]

_ACTIONS: Final = frozenset(
    {
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "tool_search_call",
        "mcp_approval_request",
    }
)
"""Items that the client has to act upon, so that they cannot be passed over; others only report
what upstream did by itself."""


def refuse_action(kind: str) -> None:
    """Raise UntranslatableError for an item that would be missed."""
    if kind in _ACTIONS:
        raise Untranslatable(f"an output item of type {fields.known(kind)}")


def read_answer(body: Json) -> Answer:
    """Read an answer. Raises UntranslatableError, for one that failed too."""
    parts: list[Part] = []
    for each in fields.items(body, "output"):
        parts += _read_item(fields.entry(each, "an item of the output"))
    return Answer(
        id=fields.text(body, "id"),
        model=fields.text(body, "model"),
        parts=tuple(parts),
        stop=read_stop(body, has_calls=any(isinstance(part, ToolCall) for part in parts)),
        usage=read_usage(body),
        created=created_of(body),
    )


def _read_item(item: Json) -> Iterable[Part]:
    kind = fields.type_of(item)
    if kind == "message":
        content = fields.items(item, "content")
        said = (read_text(fields.entry(each, "a part of the output")) for each in content)
        return [text for text in said if text is not None]
    if kind == "function_call":
        return [read_call(item)]
    if kind == "reasoning":
        thinking = read_thinking(item)
        return [thinking] if thinking.text or thinking.proof else []
    refuse_action(kind)
    return []


def write_answer(answer: Answer) -> dict[str, Any]:
    """Write an answer. Raises UntranslatableError."""
    id_, stop = response_id(answer.id), write_stop(answer.stop)
    output: list[dict[str, Any]] = []
    for part in answer.parts:
        if isinstance(part, Text):
            if not output or output[-1]["type"] != "message":
                output.append(message_item(item_id("msg", id_, len(output)), "completed", []))
            said = refusal_part(part.text) if part.is_refusal else text_part(part.text)
            output[-1]["content"].append(said)
        else:
            output.append(_write_item(part, id_, len(output)))
    if stop["status"] != "completed" and output and "encrypted_content" not in output[-1]:
        output[-1]["status"] = "incomplete"  # what has its proof is whole
    return response(
        id_,
        answer.model,
        answer.created,
        **stop,
        output=output,
        usage=write_usage(answer.usage),
    )


def _write_item(part: Part, response: str, index: int) -> dict[str, Any]:
    if isinstance(part, ToolCall):
        id_ = item_id("fc", response, index)
        return call_item(id_, "completed", part.id, part.name, part.arguments)
    if isinstance(part, Thinking):
        summary = [summary_part(part.text)] if part.text else []
        return reasoning_item(item_id("rs", response, index), "completed", summary, part.proof)
    raise Untranslatable(f"a {type(part).__name__} in an answer")
