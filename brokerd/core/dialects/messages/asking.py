"""Reading a request to `/v1/messages`.

Left out, because the answer means the same without: `cache_control`, `citations` of what was
said, `context_management`, `service_tier`, `betas`, `speed`, `inference_geo`, `top_k` (no other
dialect has one), and every field that nobody here knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Asking, Message, UntranslatableError
from brokerd.core.dialects.messages import blocks
from brokerd.core.dialects.messages.thinking import read_format, read_reasoning
from brokerd.core.dialects.messages.tools import read_choice, read_tools


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["read_asking"]


def read_asking(body: Mapping[str, Any]) -> Asking:
    """Read it. Raises UntranslatableError naming what has no meaning elsewhere."""
    for key in ("mcp_servers", "container"):
        if body.get(key):
            raise UntranslatableError(key)
    choice, parallel = read_choice(body)
    stop = fields.items(body, "stop_sequences")
    if not all(isinstance(sequence, str) for sequence in stop):
        raise UntranslatableError("stop_sequences that are no texts")
    return Asking(
        model=fields.text(body, "model"),
        messages=_messages(body),
        tools=read_tools(body),
        tool_choice=choice,
        parallel_calls=parallel,
        max_tokens=fields.count(body, "max_tokens"),
        temperature=fields.number(body, "temperature"),
        top_p=fields.number(body, "top_p"),
        stop=tuple(stop),
        stream=fields.flag(body, "stream") or False,
        format=read_format(body),
        reasoning=read_reasoning(body),
        user=fields.text(fields.record(body.get("metadata"), "metadata"), "user_id"),
    )


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    system = blocks.read_parts(body.get("system"), blocks.OF_SYSTEM, "system")
    found = [Message("system", system)] if system else []
    for item in fields.items(body, "messages"):
        message = fields.record(item, "a message")
        content = message.get("content")
        match message.get("role"):
            case "user":
                parts = blocks.read_parts(content, blocks.OF_USER, "a user message")
                found.append(Message("user", parts))
            case "assistant":
                parts = blocks.read_parts(content, blocks.OF_ASSISTANT, "an assistant message")
                found.append(Message("assistant", parts))
            case "system":  # in the middle: Anthropic's newest models
                parts = blocks.read_parts(content, blocks.OF_SYSTEM, "a system message")
                found.append(Message("system", parts))
            case _:
                raise UntranslatableError("a message of a role that is not known")
    return tuple(message for message in found if message.parts)
