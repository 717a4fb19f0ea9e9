"""Tools that a request offers, and which of them has to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from brokerd.core.dialects.meaning import Tool, ToolChoice, UntranslatableError
from brokerd.core.dialects.responses.fields import (
    Json,
    entries_of,
    entry,
    flag_of,
    kind_of,
    map_of,
    shown,
    text_of,
)
from brokerd.core.dialects.responses.names import full_name


if TYPE_CHECKING:
    from collections.abc import Iterable


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
        tool = entry(each, "a tool")
        if kind_of(tool) == "function":
            found.append(_read_function(tool, namespace))
        elif kind_of(tool) == "namespace" and not namespace:
            found += read_tools(entries_of(tool, "tools"), text_of(tool, "name"))
        else:
            raise UntranslatableError(f"a tool {shown(kind_of(tool))}")
    return found


def _read_function(tool: Json, namespace: str) -> Tool:
    name = text_of(tool, "name")
    if not name:
        raise UntranslatableError("a function without a name")
    return Tool(
        full_name(namespace, name),
        text_of(tool, "description"),
        map_of(tool, "parameters") or {},
        flag_of(tool, "strict"),
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
            raise UntranslatableError(f"a tool_choice {shown(choice)}")
        return ToolChoice(_KINDS[choice])
    named = entry(choice, "tool_choice")
    if kind_of(named) != "function":
        raise UntranslatableError(f"a tool_choice {shown(kind_of(named))}")
    return ToolChoice("named", full_name(text_of(named, "namespace"), text_of(named, "name")))


def write_choice(choice: ToolChoice) -> str | dict[str, str]:
    """Write a tool choice."""
    if choice.kind == "named":
        return {"type": "function", "name": choice.name}
    return _WORDS[choice.kind]
