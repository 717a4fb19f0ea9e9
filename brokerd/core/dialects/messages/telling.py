"""Writing a request to `/v1/messages`, as Copilot takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects.meaning import (
    Image,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UntranslatableError,
)
from brokerd.core.dialects.messages.blocks import is_blank, write_part
from brokerd.core.dialects.messages.thinking import write_format, write_reasoning
from brokerd.core.dialects.messages.tools import write_choice, write_tools


if TYPE_CHECKING:
    from brokerd.core.dialects.meaning import Asking, Message, Role


__all__ = ["DEFAULT_MAX_TOKENS", "write_asking"]

DEFAULT_MAX_TOKENS: Final = 16_000
"""What `max_tokens` says (it has to be there) where the caller did not and the model's own limit
is not known. More than the model's limit is refused; Claude models have been listed with 16,000
and more."""

_MAX_TEMPERATURE: Final = 1.0
"""OpenAI's goes to 2. One above is refused and not cut: it would not be what was asked for."""

_SAID_BY: Final[dict[Role, tuple[type[Part], ...]]] = {
    "system": (Text,),
    "user": (Text, Image, ToolResult),
    "assistant": (Text, Thinking, ToolCall),
}


def write_asking(
    asking: Asking, *, max_tokens: int = DEFAULT_MAX_TOKENS, adaptive: bool = True
) -> dict[str, Any]:
    """Write it. Raises UntranslatableError naming what Messages has no words for.

    `max_tokens` is used where the caller said none (`limits.max_output_tokens` of the model);
    `adaptive` says whether the model takes an effort (`supports.adaptive_thinking`) or, being an
    older one, a budget.
    """
    limit = max_tokens if asking.max_tokens is None else asking.max_tokens
    told: dict[str, Any] = {"model": asking.model, "max_tokens": limit}
    if system := _system(asking.messages):
        told["system"] = system
    told["messages"] = _turns(asking.messages)
    if asking.tools:
        told["tools"] = write_tools(asking.tools)
    choice = write_choice(asking.tool_choice, parallel=asking.parallel_calls)
    if choice is not None and (asking.tools or choice["type"] in {"any", "tool"}):
        told["tool_choice"] = choice  # without tools it is refused, unless it asks for one anyway
    _sampling(asking, told)
    config: dict[str, Any] = {}
    if asking.reasoning is not None:
        thinking, effort = write_reasoning(asking.reasoning, adaptive=adaptive, max_tokens=limit)
        if thinking is not None and (
            thinking["type"] != "enabled" or _may_think_on(told["messages"])
        ):
            told["thinking"] = thinking
        if effort:
            config["effort"] = effort
    if asking.format is not None:
        config["format"] = write_format(asking.format)
    if config:
        told["output_config"] = config
    if asking.stream:
        told["stream"] = True
    if asking.user:
        told["metadata"] = {"user_id": asking.user}
    return told


def _sampling(asking: Asking, told: dict[str, Any]) -> None:
    if asking.temperature is not None:
        if asking.temperature > _MAX_TEMPERATURE:
            raise UntranslatableError("a temperature above 1")
        told["temperature"] = asking.temperature
    if asking.top_p is not None:
        told["top_p"] = asking.top_p
    if asking.stop:
        if not all(sequence.strip() for sequence in asking.stop):
            raise UntranslatableError("a stop sequence of blanks alone")
        told["stop_sequences"] = list(asking.stop)


def _system(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return [
        write_part(part)
        for message in messages
        if message.role == "system"
        for part in _parts(message)
    ]


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Put neighbours of one role together, and results before all else in their turn."""
    turns: list[tuple[Role, list[Part]]] = []
    for message in messages:
        parts = _parts(message)
        if message.role == "system" or not parts:
            continue
        if not turns or turns[-1][0] != message.role:
            turns.append((message.role, []))
        turns[-1][1].extend(parts)
    if not turns:
        raise UntranslatableError("a request in which only the system speaks")
    if turns[-1][0] == "assistant":
        raise UntranslatableError("a turn of the assistant's at the end (prefill)")
    return [
        {"role": role, "content": [write_part(part) for part in _results_first(parts)]}
        for role, parts in turns
    ]


def _may_think_on(turns: list[dict[str, Any]]) -> bool:
    """Say whether the last turn of the assistant's allows a budget.

    With one, a turn that calls tools has to begin with the thought that led there, or upstream
    refuses the request; few callers of other dialects keep it. Such a model does not think on.
    """
    said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    if not said or all(block["type"] != "tool_use" for block in said[-1]):
        return True
    return said[-1][0]["type"] in {"thinking", "redacted_thinking"}


def _results_first(parts: list[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: not isinstance(part, ToolResult))


def _parts(message: Message) -> list[Part]:
    """Choose what can be said: upstream refuses blank texts, and thoughts without a proof."""
    for part in message.parts:
        if not isinstance(part, _SAID_BY[message.role]):
            what = type(part).__name__.lower()
            raise UntranslatableError(f"a part of kind {what} in a turn of role {message.role}")
    return [
        part
        for part in message.parts
        if not is_blank(part) and not (isinstance(part, Thinking) and not part.proof)
    ]
