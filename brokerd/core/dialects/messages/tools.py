"""Tools, and which of them the model has to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Tool, ToolChoice, UntranslatableError
from brokerd.core.dialects.messages.client_tools import KNOWN


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["read_choice", "read_tools", "write_choice", "write_tools"]


def read_tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Read `tools`. Raises UntranslatableError naming the type of a hosted one."""
    return tuple(_read(fields.record(tool, "a tool")) for tool in fields.items(body, "tools"))


def _read(tool: Mapping[str, Any]) -> Tool:
    kind, name = fields.text(tool, "type"), fields.text(tool, "name")
    if kind in KNOWN:
        description, schema = KNOWN[kind]
        return Tool(name, description, schema)
    if kind not in {"", "custom"}:
        raise UntranslatableError(f"the hosted tool {fields.known(kind)}")
    return Tool(
        name,
        fields.text(tool, "description"),
        dict(fields.record(tool.get("input_schema"), "input_schema")),
        fields.flag(tool, "strict"),
    )


def write_tools(tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """Write `tools`."""
    return [_write(tool) for tool in tools]


def _write(tool: Tool) -> dict[str, Any]:
    # A type is required, and arguments are always an object; `$schema` is refused by Copilot.
    schema = {"type": "object", **tool.parameters}
    schema.pop("$schema", None)
    told: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        told["description"] = tool.description
    if tool.strict:
        told["strict"] = True
    return told


def read_choice(body: Mapping[str, Any]) -> tuple[ToolChoice | None, bool | None]:
    """Read `tool_choice`: which tool, and whether several may be called in one turn."""
    choice = fields.record(body.get("tool_choice"), "tool_choice")
    if not choice:
        return None, None
    one_only = fields.flag(choice, "disable_parallel_tool_use")
    parallel = None if one_only is None else not one_only
    kind = fields.kind_of(choice, "tool_choice")
    match kind:
        case "tool":
            return ToolChoice("named", fields.text(choice, "name")), parallel
        case "auto" | "any" | "none":
            return ToolChoice(kind), parallel
    raise UntranslatableError(f"the tool choice {fields.known(kind)}")


def write_choice(choice: ToolChoice | None, *, parallel: bool | None) -> dict[str, Any] | None:
    """Write `tool_choice`; the word about parallel calls is a part of it, but not of `none`."""
    if choice is None and parallel is None:
        return None
    kind = choice.kind if choice is not None else "auto"
    told: dict[str, Any] = {"type": "tool" if kind == "named" else kind}
    if choice is not None and kind == "named":
        told["name"] = choice.name
    if parallel is not None and kind != "none":
        told["disable_parallel_tool_use"] = not parallel
    return told
