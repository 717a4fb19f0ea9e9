"""Why an answer ended and what it cost: `finish_reason` and `usage`.

Source: API reference, "The chat completion object"; a top-level `reasoning_tokens` is Copilot's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.fields import count, mapping
from brokerd.core.dialects.meaning import Usage


if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from brokerd.core.dialects.meaning import Stop


__all__ = ["FAILED", "read_stop_reason", "read_usage", "write_stop_reason", "write_usage"]

FAILED = "error"
"""The `finish_reason` by which Copilot says that no answer came of it."""

_WORDS: dict[Stop, str] = {
    "end": "stop",
    "sequence": "stop",
    "length": "length",
    "pause": "length",
    "tool": "tool_calls",
    "filter": "content_filter",
}


def read_stop_reason(reasons: Collection[str], *, has_calls: bool) -> Stop:
    """Return why it stopped, of what all choices give as their reason.

    Whether a tool is wanted is told by the calls alone: servers give `stop` with calls and
    `tool_calls` without.
    """
    if "content_filter" in reasons:
        return "filter"
    if "length" in reasons:
        return "length"
    return "tool" if has_calls else "end"


def write_stop_reason(stop: Stop) -> str:
    """Write a `finish_reason`."""
    return _WORDS[stop]


def read_usage(body: Mapping[str, Any]) -> Usage:
    """Return the usage of an answer or a chunk; nothing but None without any."""
    told = mapping(body, "usage")
    if told is None:
        return Usage()
    prompt = mapping(told, "prompt_tokens_details") or {}
    completion = mapping(told, "completion_tokens_details") or {}
    thoughts = (count(each, "reasoning_tokens") for each in (completion, told, body))
    return Usage(
        prompt=count(told, "prompt_tokens"),
        completion=count(told, "completion_tokens"),
        cached=count(prompt, "cached_tokens"),
        reasoning=next((found for found in thoughts if found is not None), None),
    )


def write_usage(usage: Usage) -> dict[str, Any] | None:
    """Write a usage; None where there is none."""
    if usage.prompt is None and usage.completion is None:
        return None
    prompt, completion = usage.prompt or 0, usage.completion or 0
    told: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if usage.cached is not None:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    if usage.reasoning is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return told
