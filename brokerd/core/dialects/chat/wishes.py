"""Tools, and how the answer shall be: the fields of a request besides its messages.

Source: API reference, Chat Completions; `thinking_budget` is Copilot's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.fields import count, flag, known, mapping, sequence, text
from brokerd.core.dialects.meaning import (
    Format,
    Reasoning,
    Tool,
    ToolChoice,
    UntranslatableError,
)


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.meaning import Asking


__all__ = [
    "read_choice",
    "read_format",
    "read_reasoning",
    "read_stop",
    "read_tools",
    "write_format",
    "write_reasoning",
    "write_tools",
]

NO_PARAMETERS = {"type": "object", "properties": {}}
"""Of a tool that takes none: not every model behind Copilot bears a schema that says nothing."""

NAMELESS_FORMAT = "answer"
"""For a format that has no name, where this dialect requires one."""


def read_tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Return `tools`, and `functions` as they were called before. Raises UntranslatableError."""
    found = [_read_tool(tool) for tool in sequence(body, "tools")]
    found += [_read_function(function) for function in sequence(body, "functions")]
    return tuple(found)


def _read_tool(tool: Mapping[str, Any]) -> Tool:
    if tool.get("type") != "function":
        raise UntranslatableError(f"a tool of type {known(tool.get('type'))}")
    return _read_function(mapping(tool, "function") or {})


def _read_function(function: Mapping[str, Any]) -> Tool:
    if not text(function, "name"):
        raise UntranslatableError("a tool without a name")
    return Tool(
        name=function["name"],
        description=text(function, "description"),
        parameters=mapping(function, "parameters") or {},
        strict=flag(function, "strict"),
    )


def read_choice(body: Mapping[str, Any]) -> ToolChoice | None:
    """Return `tool_choice`, or `function_call` before it. Raises UntranslatableError."""
    key = "tool_choice" if body.get("tool_choice") is not None else "function_call"
    match body.get(key):
        case None:
            return None
        case "auto":
            return ToolChoice("auto")
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("any")
        case {"type": "function", "function": {"name": str(name)}} if name:
            return ToolChoice("named", name)
        case {"name": str(name)} if name and key == "function_call":
            return ToolChoice("named", name)
        case dict() as other if "type" in other:
            raise UntranslatableError(f"a {key} of type {known(other['type'])}")
    raise UntranslatableError(f"a {key} of another form")


def write_tools(asking: Asking) -> dict[str, Any]:
    """Write the tools and how to choose; nothing of either without tools, as it is refused."""
    if not asking.tools:
        return {}
    told: dict[str, Any] = {"tools": [_write_tool(tool) for tool in asking.tools]}
    choice = asking.tool_choice
    if choice is not None and choice.kind == "named":
        told["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice is not None:
        told["tool_choice"] = "required" if choice.kind == "any" else choice.kind
    if asking.parallel_calls is not None:
        told["parallel_tool_calls"] = asking.parallel_calls
    return told


def _write_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = dict(tool.parameters or NO_PARAMETERS)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def read_format(body: Mapping[str, Any]) -> Format | None:
    """Return `response_format`; None where it is plain text. Raises UntranslatableError."""
    told = mapping(body, "response_format")
    if told is None:
        return None
    match told.get("type"):
        case "text":
            return None
        case "json_object":
            return Format()
        case "json_schema":
            wanted = mapping(told, "json_schema") or {}
            return Format(
                schema=mapping(wanted, "schema"),
                name=text(wanted, "name"),
                strict=flag(wanted, "strict"),
                description=text(wanted, "description"),
            )
        case kind:
            raise UntranslatableError(f"a response_format of type {known(kind)}")


def write_format(wanted: Format | None) -> dict[str, Any]:
    """Write `response_format`."""
    if wanted is None:
        return {}
    if wanted.schema is None:
        return {"response_format": {"type": "json_object"}}
    told: dict[str, Any] = {
        "name": wanted.name or NAMELESS_FORMAT,
        "schema": dict(wanted.schema),
    }
    if wanted.strict is not None:
        told["strict"] = wanted.strict
    if wanted.description:
        told["description"] = wanted.description
    return {"response_format": {"type": "json_schema", "json_schema": told}}


def read_reasoning(body: Mapping[str, Any]) -> Reasoning | None:
    """Return `reasoning_effort` and `thinking_budget`. Raises UntranslatableError."""
    found = Reasoning(text(body, "reasoning_effort"), count(body, "thinking_budget"))
    return None if found == Reasoning() else found


def write_reasoning(reasoning: Reasoning | None) -> dict[str, Any]:
    """Write either, as it was said."""
    told: dict[str, Any] = {}
    if reasoning is not None and reasoning.effort:
        told["reasoning_effort"] = reasoning.effort
    if reasoning is not None and reasoning.budget is not None:
        told["thinking_budget"] = reasoning.budget
    return told


def read_stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return `stop`, one or several. Raises UntranslatableError."""
    match body.get("stop"):
        case None:
            return ()
        case str(one):
            return (one,)
        case [*several] if all(isinstance(each, str) for each in several):
            return tuple(several)
    raise UntranslatableError("a stop that is neither a string nor an array of strings")
