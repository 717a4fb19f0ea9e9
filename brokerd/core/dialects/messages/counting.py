"""`usage`: Anthropic counts those of the prompt's tokens apart that have to do with a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Usage


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["counts_in", "usage_of", "write_usage"]

_READ: Final = "cache_read_input_tokens"
_WRITTEN: Final = "cache_creation_input_tokens"
_PROMPT: Final = ("input_tokens", _READ, _WRITTEN)
_DETAILS: Final = "output_tokens_details"
_THOUGHTS: Final = "thinking_tokens"


def counts_in(usage: object) -> dict[str, int]:
    """Return what a `usage` tells, by name. Later ones of a stream replace earlier ones."""
    told = fields.record(usage, "usage")
    found = {key: fields.count(told, key) for key in (*_PROMPT, "output_tokens")}
    details = fields.record(told.get(_DETAILS), _DETAILS)
    found[_THOUGHTS] = fields.count(details, _THOUGHTS)
    return {key: count for key, count in found.items() if count is not None}


def usage_of(counts: Mapping[str, int]) -> Usage:
    """Say what counts mean."""
    prompt = [counts[key] for key in _PROMPT if key in counts]
    return Usage(
        prompt=sum(prompt) if prompt else None,
        completion=counts.get("output_tokens"),
        cached=counts.get(_READ),
        cache_written=counts.get(_WRITTEN),
        reasoning=counts.get(_THOUGHTS),
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write a `usage`; what is required and not known is 0."""
    fresh = (usage.prompt or 0) - (usage.cached or 0) - (usage.cache_written or 0)
    told: dict[str, Any] = {
        "input_tokens": max(0, fresh),
        "output_tokens": usage.completion or 0,
    }
    if usage.cached is not None:
        told[_READ] = usage.cached
    if usage.cache_written is not None:
        told[_WRITTEN] = usage.cache_written
    if usage.reasoning is not None:
        told[_DETAILS] = {_THOUGHTS: usage.reasoning}
    return told
