"""The object around an answer: its name, how it ended, what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Stop, UntranslatableError, Usage


if TYPE_CHECKING:
    from brokerd.core.dialects.fields import Json


__all__ = [
    "created_of",
    "item_id",
    "read_stop",
    "read_usage",
    "response",
    "response_id",
    "write_stop",
    "write_usage",
]

_PREFIX: Final = "resp_"

_REASONS: Final[dict[Stop, str]] = {
    "length": "max_output_tokens",
    "filter": "content_filter",
    "pause": "max_output_tokens",
}


def response_id(id_: str) -> str:
    """Return an id as this API has it; upstream's own where it is of that kind."""
    return id_ if id_.startswith(_PREFIX) else _PREFIX + (id_ or "0")


def item_id(kind: str, response: str, index: int) -> str:
    """Return the id of the item at `index`: always the same for the same one."""
    return f"{kind}_{response.removeprefix(_PREFIX)}_{index}"


def response(id_: str, model: str, created: int, status: str, **more: Any) -> dict[str, Any]:
    """Write the object; what is not told stands in it as the API's default."""
    return {
        "id": id_,
        "object": "response",
        "created_at": created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        **more,
    }


def created_of(body: Json) -> int:
    """Read when it was created; 0 where it does not say so, or not in numbers."""
    created = body.get("created_at")
    return int(created) if isinstance(created, int | float) else 0


def write_stop(stop: Stop) -> dict[str, Any]:
    """Write why it ended: only what was cut short is anything but `completed` here."""
    if stop in _REASONS:
        return {"status": "incomplete", "incomplete_details": {"reason": _REASONS[stop]}}
    return {"status": "completed"}


def read_stop(body: Json, *, has_calls: bool) -> Stop:
    """Read why it ended. Raises UntranslatableError for what has not ended, or has failed."""
    status = fields.text(body, "status")
    if status == "incomplete":
        reason = fields.text(fields.mapping(body, "incomplete_details") or {}, "reason")
        return "filter" if reason == _REASONS["filter"] else "length"
    if status not in {"completed", ""}:
        raise UntranslatableError(f"an answer whose status is {fields.known(status)}")
    return "tool" if has_calls else "end"


def write_usage(usage: Usage) -> dict[str, Any] | None:
    """Write what it cost; one that is not known is 0, for clients want numbers."""
    if usage.prompt is None and usage.completion is None:
        return None
    prompt, completion = usage.prompt or 0, usage.completion or 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached or 0,
            "cache_write_tokens": usage.cache_written or 0,
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": prompt + completion,
    }


def read_usage(body: Json) -> Usage:
    """Read what it cost."""
    usage = fields.mapping(body, "usage") or {}
    prompt = fields.mapping(usage, "input_tokens_details") or {}
    completion = fields.mapping(usage, "output_tokens_details") or {}
    return Usage(
        prompt=fields.count(usage, "input_tokens"),
        completion=fields.count(usage, "output_tokens"),
        cached=fields.count(prompt, "cached_tokens"),
        cache_written=fields.count(prompt, "cache_write_tokens"),
        reasoning=fields.count(completion, "reasoning_tokens"),
    )
