"""What real clients send and Copilot takes none of: betas, hosted tools, too many cache marks.

OpenAI's and Anthropic's own APIs take all of this.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from brokerd.simulator.admission import refused


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["check_taken"]

BETAS = frozenset(
    {
        "interleaved-thinking-2025-05-14",
        "context-management-2025-06-27",
        "advanced-tool-use-2025-11-20",
    }
)
MAX_CACHE_CONTROLS = 4
# Of Anthropic's tools with a type, those with these beginnings are run by the client.
OF_CLIENTS = ("bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_")
HOSTED = re.compile(
    r"(web_search|file_search|code_interpreter|computer|image_generation|mcp)(_(preview|use|\d).*)?"
)


def check_taken(path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
    """Refuse (400) what that path does not take."""
    if path == "/responses":
        for tool in _objects(body.get("tools")):
            if HOSTED.fullmatch(str(tool.get("type"))):
                raise _refused(f"tools: type {tool['type']!r} is not supported")
    elif path == "/v1/messages":
        _check_messages(headers, body)


def _check_messages(headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
    for beta in headers.get("anthropic-beta", "").split(","):
        if beta.strip() and beta.strip() not in BETAS:
            raise _refused(f"unsupported beta header(s): {beta.strip()}")
    if any(each.get("role") == "system" for each in _objects(body.get("messages"))):
        raise _refused("messages: role 'system' is not supported on this model")
    for tool in _objects(body.get("tools")):
        kind = tool.get("type", "custom")
        if kind != "custom" and not str(kind).startswith(OF_CLIENTS):
            raise _refused(f"tools: type {kind!r} is not supported")
        if "$schema" in _keys(tool.get("input_schema")):
            raise _refused("tools: input_schema: $schema: extra inputs are not permitted")
    if "tool_choice" in body and not body.get("tools"):
        raise _refused("tool_choice: may only be specified while providing tools")
    marks = [each for each in _all_objects(body) if each.get("cache_control")]
    if len(marks) > MAX_CACHE_CONTROLS:
        most = f"A maximum of {MAX_CACHE_CONTROLS} blocks with cache_control may be provided"
        raise _refused(f"{most}. Found {len(marks)}.")
    if any("scope" in each["cache_control"] for each in marks):
        raise _refused("cache_control: scope: extra inputs are not permitted")


def _refused(message: str) -> Exception:
    return refused("invalid_request_body", message)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _all_objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, (dict, list)):
            yield from _all_objects(each)


def _keys(schema: Any) -> set[str]:
    """Name the keys of a schema and of those in it, but not its properties."""
    found: set[str] = set()
    for key, value in schema.items() if isinstance(schema, dict) else ():
        found.add(key)
        inner = value.values() if key == "properties" and isinstance(value, dict) else [value]
        for each in inner:
            found |= _keys(each)
    return found
