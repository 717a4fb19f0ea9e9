"""A request to `/chat/completions`.

Source: API reference, Chat Completions, "Create chat completion".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.chat.history import read_messages, write_messages
from brokerd.core.dialects.chat.wishes import (
    read_choice,
    read_format,
    read_reasoning,
    read_stop,
    read_tools,
    write_format,
    write_reasoning,
    write_tools,
)
from brokerd.core.dialects.fields import count, flag, mapping, number, text
from brokerd.core.dialects.meaning import Asking, UntranslatableError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["read_asking", "write_asking"]

_ONLY_HERE = ("audio", "prediction", "web_search_options")
"""Fields that the other dialects have no words for, whatever they say."""

_COMPLETION_TOKENS = re.compile(r"o\d|gpt-(?:[5-9]|\d\d)")
"""Models that refuse `max_tokens`: those of OpenAI's that think. Others may not know the newer
name."""


def read_asking(body: Mapping[str, Any]) -> Asking:
    """Return what a request means. Raises UntranslatableError."""
    _check(body)
    model, messages = text(body, "model"), read_messages(body)
    if not model:
        raise UntranslatableError("a request without a model")
    if not messages:
        raise UntranslatableError("a request without messages")
    stream = bool(flag(body, "stream"))
    options = mapping(body, "stream_options") or {}
    max_tokens = count(body, "max_completion_tokens")
    return Asking(
        model=model,
        messages=messages,
        tools=read_tools(body),
        tool_choice=read_choice(body),
        parallel_calls=flag(body, "parallel_tool_calls"),
        max_tokens=count(body, "max_tokens") if max_tokens is None else max_tokens,
        temperature=number(body, "temperature"),
        top_p=number(body, "top_p"),
        stop=read_stop(body),
        stream=stream,
        wants_usage=bool(flag(options, "include_usage")) if stream else True,
        format=read_format(body),
        reasoning=read_reasoning(body),
        user=text(body, "user"),
    )


def _check(body: Mapping[str, Any]) -> None:
    for field in _ONLY_HERE:
        if body.get(field) is not None:
            raise UntranslatableError(field)
    if body.get("modalities") not in (None, [], ["text"]):
        raise UntranslatableError("modalities other than text")
    if count(body, "n") not in (None, 1):
        raise UntranslatableError("n other than 1")
    if flag(body, "logprobs") or count(body, "top_logprobs"):
        raise UntranslatableError("logprobs")
    if mapping(body, "logit_bias"):
        raise UntranslatableError("logit_bias")


def write_asking(asking: Asking) -> dict[str, Any]:
    """Write a request. Raises UntranslatableError for messages that are not sound."""
    told: dict[str, Any] = {
        "model": asking.model,
        "messages": write_messages(asking.messages),
        **write_tools(asking),
        **write_format(asking.format),
        **write_reasoning(asking.reasoning),
    }
    if asking.max_tokens is not None:
        is_newer = _COMPLETION_TOKENS.match(asking.model)
        told["max_completion_tokens" if is_newer else "max_tokens"] = asking.max_tokens
    if asking.temperature is not None:
        told["temperature"] = asking.temperature
    if asking.top_p is not None:
        told["top_p"] = asking.top_p
    if asking.stop:
        told["stop"] = list(asking.stop)
    if asking.user:
        told["user"] = asking.user
    if asking.stream:
        told["stream"] = True
        if asking.wants_usage:
            told["stream_options"] = {"include_usage": True}
    return told
