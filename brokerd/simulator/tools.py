"""How the simulated model uses tools: it calls what it is told to, and then repeats the result.

Somebody who says `use NAME with {JSON}` and offers a tool of that name gets a call of it. What the
tool gave is answered with `The tool said: …`. So a conversation of an agent comes to an end.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["Call", "call_wanted", "result_of", "text_of"]

_WISH = re.compile(r"\buse (?P<name>[\w.-]{1,128}) with (?=\{)")
_PIECES = 3
"""Parts that the arguments of a call are streamed in."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: str
    """JSON."""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    @property
    def pieces(self) -> list[str]:
        """The arguments as a stream has them."""
        size = -(-len(self.arguments) // _PIECES)
        return [self.arguments[at : at + size] for at in range(0, len(self.arguments), size)]


def call_wanted(body: Mapping[str, Any], heard: str) -> Call | None:
    """Return the call that the person asks for in `heard`; None: it asks for none on offer."""
    wish = _WISH.search(heard)
    if wish is None or wish["name"] not in _offered(body.get("tools")):
        return None
    try:
        arguments, _ = json.JSONDecoder().raw_decode(heard, wish.end())
    except ValueError:
        return None
    return Call(wish["name"], json.dumps(arguments, ensure_ascii=False))


def result_of(messages: Sequence[Any]) -> str | None:
    """Return what a tool gave, in any of the three APIs; None: the last to speak was no tool."""
    last = messages[-1] if messages else None
    if not isinstance(last, dict):
        return None
    if last.get("role") == "tool":
        return text_of(last.get("content"))
    if last.get("type") == "function_call_output":
        return text_of(last.get("output"))
    parts = last.get("content")
    results = [
        text_of(part.get("content"))
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, dict) and part.get("type") == "tool_result"
    ]
    return " ".join(results) if results else None


def text_of(content: Any) -> str:
    """Take the text out of what is a string or parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return " ".join(each for each in texts if isinstance(each, str))


def _offered(tools: Any) -> set[str]:
    names = set()
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            inner = tool.get("function")
            names.add(str((inner if isinstance(inner, dict) else tool).get("name")))
    return names
