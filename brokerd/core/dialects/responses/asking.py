"""A request for an answer.

What is left out of what a client sends: hints for caches (`prompt_cache_key`…), its own notes
(`metadata`, `client_metadata`), `service_tier`, `truncation`, `text.verbosity`, `store` (nothing
is ever stored here), and `include`, but for what the answer could not do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import (
    Asking,
    Format,
    Message,
    Reasoning,
    Text,
    UntranslatableError,
)
from brokerd.core.dialects.reasoning import openai_effort
from brokerd.core.dialects.responses.items import read_items, write_items
from brokerd.core.dialects.responses.tools import (
    read_choice,
    read_tools,
    write_choice,
    write_tool,
)


if TYPE_CHECKING:
    from brokerd.core.dialects.fields import Json


__all__ = ["read_asking", "write_asking"]

_STATEFUL: Final = ("previous_response_id", "conversation", "background", "prompt")
"""Each needs something that the API keeps between requests."""

_ENCRYPTED: Final = "reasoning.encrypted_content"
_LOGPROBS: Final = "message.output_text.logprobs"


def read_asking(body: Json) -> Asking:
    """Read a request's body. Raises UntranslatableError."""
    for name in _STATEFUL:
        if body.get(name):
            raise UntranslatableError(name)
    if _LOGPROBS in fields.items(body, "include"):
        raise UntranslatableError(_LOGPROBS)
    return Asking(
        model=fields.text(body, "model"),
        messages=_read_messages(body),
        tools=tuple(read_tools(fields.items(body, "tools"))),
        tool_choice=read_choice(body.get("tool_choice")),
        parallel_calls=fields.flag(body, "parallel_tool_calls"),
        max_tokens=fields.count(body, "max_output_tokens"),
        temperature=fields.number(body, "temperature"),
        top_p=fields.number(body, "top_p"),
        stream=fields.flag(body, "stream") or False,
        format=_read_format(fields.mapping(fields.mapping(body, "text") or {}, "format") or {}),
        reasoning=_read_reasoning(fields.mapping(body, "reasoning") or {}),
        user=fields.text(body, "user") or fields.text(body, "safety_identifier"),
    )


def _read_messages(body: Json) -> tuple[Message, ...]:
    given = body.get("input")
    if isinstance(given, str):
        messages = [Message("user", (Text(given),))]
    elif isinstance(given, list):
        messages = read_items(given)
    else:
        raise UntranslatableError("an input that is neither a string nor a list")
    instructions = fields.text(body, "instructions")
    if instructions:
        messages.insert(0, Message("system", (Text(instructions),)))
    return tuple(messages)


def _read_format(given: Json) -> Format | None:
    kind = fields.type_of(given) if given else "text"
    if kind == "text":
        return None
    if kind == "json_object":
        return Format()
    if kind != "json_schema":
        raise UntranslatableError(f"a text.format of type {fields.known(kind)}")
    schema = fields.mapping(given, "schema")
    if schema is None:
        raise UntranslatableError("a json_schema without a schema")
    return Format(
        schema,
        fields.text(given, "name"),
        fields.flag(given, "strict"),
        fields.text(given, "description"),
    )


def _read_reasoning(given: Json) -> Reasoning | None:
    effort = fields.text(given, "effort")
    wants_summary = bool(fields.text(given, "summary") or fields.text(given, "generate_summary"))
    if not effort and not wants_summary:
        return None
    return Reasoning(effort, wants_summary=wants_summary)


def write_asking(asking: Asking) -> dict[str, Any]:
    """Write a request's body as Copilot takes it: nothing stored, thoughts sealed and sent along.

    Raises UntranslatableError.
    """
    if asking.stop:
        raise UntranslatableError("stop sequences")
    instructions, rest = _instructions(asking.messages)
    body: dict[str, Any] = {
        "model": asking.model,
        "instructions": instructions,
        "input": write_items(rest),
        "tools": [write_tool(tool) for tool in asking.tools],
        "tool_choice": asking.tool_choice and write_choice(asking.tool_choice),
        "parallel_tool_calls": asking.parallel_calls,
        "max_output_tokens": asking.max_tokens,
        "temperature": _unusual(asking.temperature),
        "top_p": _unusual(asking.top_p),
        "text": asking.format and {"format": _write_format(asking.format)},
        "reasoning": asking.reasoning and _write_reasoning(asking.reasoning),
        "user": asking.user or None,
        "stream": asking.stream,
        "store": False,
        "include": [_ENCRYPTED],
    }
    return {
        name: value
        for name, value in body.items()
        if value is not None and (value or name not in {"tools", "reasoning"})
    }


def _unusual(value: float | None) -> float | None:
    """Leave out 1, the API's default: models that reason refuse to be told any."""
    return None if value == 1 else value


def _instructions(messages: tuple[Message, ...]) -> tuple[str | None, tuple[Message, ...]]:
    """Take the system message from the front; all of one with several texts stays where it is."""
    if messages and messages[0].role == "system" and len(messages[0].parts) == 1:
        first = messages[0].parts[0]
        if isinstance(first, Text) and first.text and not first.is_refusal:
            return first.text, messages[1:]
    return None, messages


def _write_format(wanted: Format) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name or "answer",  # the API wants one
        "schema": dict(wanted.schema),
        **({"description": wanted.description} if wanted.description else {}),
        **({"strict": wanted.strict} if wanted.strict is not None else {}),
    }


def _write_reasoning(wanted: Reasoning) -> dict[str, str]:
    effort = openai_effort(wanted)
    return {
        **({"effort": effort} if effort else {}),
        **({"summary": "auto"} if wanted.wants_summary else {}),
    }
