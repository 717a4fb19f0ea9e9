"""What the repairs of requests change in a body; each says whether it did.

Members of other types than the API has are left alone: upstream says what is wrong with them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Fields = dict[str, Any]


__all__ = ["EDITS", "MAX_CACHE_CONTROLS"]

MAX_CACHE_CONTROLS: Final = 4
"""Of one request (Anthropic, "Prompt caching")."""

# Those with a date (`web_search_20250305`, `web_search_preview_2025_03_11`) are meant, too. What a
# client runs itself (function, custom, namespace, local_shell, apply_patch; bash_, text_editor_,
# computer_ and memory_ of Anthropic's) is passed on, as is what nobody knows yet.
_HOSTED: Final = re.compile(
    r"(?:web_search|file_search|code_interpreter|computer|image_generation|mcp)(?:_(?:preview|use|\d).*)?"
)
_HOSTED_BY_ANTHROPIC: Final = re.compile(
    r"(?:(?:web_search|web_fetch|code_execution)_\d+|mcp_toolset)"
)

# Where the members of an object are names of somebody's own, not words of JSON Schema.
_NAMESPACES: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
_VALUES: Final = frozenset({"const", "default", "enum", "example", "examples"})


def system_in_messages(fields: Fields) -> bool:
    """Move messages of role `system` to the end of the top-level `system`, in their order."""
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return False
    moved = [each for each in messages if _says(each, "role", "system")]
    blocks = [block for each in moved for block in _blocks(each.get("content"))]
    if not moved:
        return False
    fields["messages"] = [each for each in messages if not _says(each, "role", "system")]
    if blocks:
        fields["system"] = [*_blocks(fields.get("system")), *blocks]
    return True


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, list) else []


def _says(value: Any, key: str, word: str) -> bool:
    return isinstance(value, dict) and value.get(key) == word


def hosted_responses_tools(fields: Fields) -> bool:
    """Leave out the tools that OpenAI would run; with the last of them, `tools` itself."""
    tools = fields.get("tools")
    if not isinstance(tools, list):
        return False
    kept = [each for each in tools if not _is(each, _HOSTED)]
    if len(kept) == len(tools):
        return False
    choice = fields.get("tool_choice")
    if _is(choice, _HOSTED):
        fields.pop("tool_choice")
    elif isinstance(choice, dict) and isinstance(choice.get("tools"), list):  # allowed_tools
        choice["tools"] = [each for each in choice["tools"] if not _is(each, _HOSTED)]
        if not choice["tools"]:
            fields.pop("tool_choice")
    _set_tools(fields, kept)
    return True


def hosted_messages_tools(fields: Fields) -> bool:
    """Leave out the tools that Anthropic would run."""
    tools = fields.get("tools")
    if not isinstance(tools, list):
        return False
    kept = [each for each in tools if not _is(each, _HOSTED_BY_ANTHROPIC)]
    if len(kept) == len(tools):
        return False
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "tool":
        gone = {each.get("name") for each in tools if _is(each, _HOSTED_BY_ANTHROPIC)}
        if choice.get("name") in gone:
            fields.pop("tool_choice")
    _set_tools(fields, kept)
    return True


def _is(tool: Any, kind: re.Pattern[str]) -> bool:
    said = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(said, str) and kind.fullmatch(said) is not None


def _set_tools(fields: Fields, kept: list[Any]) -> None:
    if kept:
        fields["tools"] = kept
        return
    for name in ("tools", "tool_choice"):  # to choose among none is refused
        fields.pop(name, None)


def store_off(fields: Fields) -> bool:
    """Ask that nothing is stored."""
    if fields.get("store") is not True:
        return False
    fields["store"] = False
    return True


def tool_schema(fields: Fields) -> bool:
    """Leave `$schema` out of the tools' schemas."""
    tools = fields.get("tools")
    found = False
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            found |= _without_dialect(tool.get("input_schema"))
    return found


def _without_dialect(schema: Any) -> bool:
    """Leave it out of a schema and of those in it, but not where it is a property's name."""
    if isinstance(schema, list):
        return _all_without(schema)
    if not isinstance(schema, dict):
        return False
    found = schema.pop("$schema", None) is not None
    for name, value in schema.items():
        if name in _VALUES:
            continue
        if name in _NAMESPACES and isinstance(value, dict):
            found |= _all_without(value.values())
        else:
            found |= _without_dialect(value)
    return found


def _all_without(schemas: Iterable[Any]) -> bool:
    found = False
    for each in schemas:
        found |= _without_dialect(each)
    return found


def cache_control(fields: Fields) -> bool:
    """Leave out all but the last four, and `scope` of those: a later one covers what is before."""
    marked = [each for each in _cacheable(fields) if each.get("cache_control") is not None]
    for each in marked[:-MAX_CACHE_CONTROLS]:
        del each["cache_control"]
    found = len(marked) > MAX_CACHE_CONTROLS
    for each in marked[-MAX_CACHE_CONTROLS:]:
        control = each["cache_control"]
        if isinstance(control, dict) and "scope" in control:
            del control["scope"]
            found = True
    return found


def _cacheable(fields: Fields) -> Iterator[Fields]:
    """Give what may be marked, in the order in which the prompt is made of it."""
    yield from _objects(fields.get("tools"))
    yield from _objects(fields.get("system"))
    for message in _objects(fields.get("messages")):
        for block in _objects(message.get("content")):
            yield from _objects(block.get("content"))
            yield block
    yield fields


def _objects(value: Any) -> Iterator[Fields]:
    for each in value if isinstance(value, list) else ():
        if isinstance(each, dict):
            yield each


EDITS: Final[Mapping[tuple[str, str], Callable[[Fields], bool]]] = {
    ("system_in_messages", "/v1/messages"): system_in_messages,
    ("hosted_tools", "/responses"): hosted_responses_tools,
    ("hosted_tools", "/v1/messages"): hosted_messages_tools,
    ("store_off", "/responses"): store_off,
    ("tool_schema", "/v1/messages"): tool_schema,
    ("cache_control", "/v1/messages"): cache_control,
}
"""By name and endpoint."""
