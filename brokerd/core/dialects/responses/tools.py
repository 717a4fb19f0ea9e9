"""Tools that a request offers, and which of them has to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Tool, ToolChoice, UntranslatableError
from brokerd.core.dialects.responses.names import full_name


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.dialects.fields import Json


__all__ = ["read_choice", "read_tools", "write_choice", "write_tool"]

_KINDS: Final[dict[str, Literal["auto", "none", "any"]]] = {
    "auto": "auto",
    "none": "none",
    "required": "any",
}
_WORDS: Final = {kind: word for word, kind in _KINDS.items()}


def read_tools(tools: Iterable[object], namespace: str = "") -> list[Tool]:
    """Read functions, those in namespaces too. Raises UntranslatableError for any other kind."""
    found: list[Tool] = []
    for each in tools:
        tool = fields.entry(each, "a tool")
        if fields.type_of(tool) == "function":
            found.append(_read_function(tool, namespace))
        elif fields.type_of(tool) == "namespace" and not namespace:
            found += read_tools(fields.items(tool, "tools"), fields.text(tool, "name"))
        else:
            raise UntranslatableError(f"a tool of type {fields.known(fields.type_of(tool))}")
    return found


def _read_function(tool: Json, namespace: str) -> Tool:
    name = fields.text(tool, "name")
    if not name:
        raise UntranslatableError("a function without a name")
    return Tool(
        full_name(namespace, name),
        fields.text(tool, "description"),
        fields.mapping(tool, "parameters") or {},
        fields.flag(tool, "strict"),
    )


def write_tool(tool: Tool) -> dict[str, Any]:
    """Write a function.

    Where it was not said, `strict` is false: this API alone would take true for it, and refuse
    schemas that the others take.
    """
    return {
        "type": "function",
        "name": tool.name,
        **({"description": tool.description} if tool.description else {}),
        "parameters": dict(tool.parameters) or {"type": "object", "properties": {}},
        "strict": bool(tool.strict),
    }


def read_choice(choice: object) -> ToolChoice | None:
    """Read a tool choice. Raises UntranslatableError."""
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in _KINDS:
            raise UntranslatableError(f"a tool_choice of type {fields.known(choice)}")
        return ToolChoice(_KINDS[choice])
    named = fields.entry(choice, "tool_choice")
    if fields.type_of(named) != "function":
        raise UntranslatableError(f"a tool_choice of type {fields.known(fields.type_of(named))}")
    return ToolChoice(
        "named", full_name(fields.text(named, "namespace"), fields.text(named, "name"))
    )


def write_choice(choice: ToolChoice) -> str | dict[str, str]:
    """Write a tool choice."""
    if choice.kind == "named":
        return {"type": "function", "name": choice.name}
    return _WORDS[choice.kind]
