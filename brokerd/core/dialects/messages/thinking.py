"""`thinking` and `output_config`: how much to think, and the form of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Format, Reasoning, UntranslatableError
from brokerd.core.dialects.reasoning import MIN_BUDGET, anthropic_effort, budget_of


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["read_format", "read_reasoning", "write_format", "write_reasoning"]


def read_reasoning(body: Mapping[str, Any]) -> Reasoning | None:
    """Read `thinking` and `output_config.effort`.

    A caller that does not say `display` wants to read thoughts: it would get them, of most models.
    """
    thinking = fields.record(body.get("thinking"), "thinking")
    effort = fields.text(fields.record(body.get("output_config"), "output_config"), "effort")
    if not thinking:
        return Reasoning(effort) if effort else None
    wants = fields.text(thinking, "display") != "omitted"
    match fields.kind_of(thinking, "thinking"):
        case "disabled":
            return Reasoning("none")
        case "enabled":
            return Reasoning(effort, fields.count(thinking, "budget_tokens"), wants)
        case _:  # `adaptive`, and whatever comes after it: the model finds its own measure
            return Reasoning(effort, wants_summary=wants)


def write_reasoning(
    reasoning: Reasoning, *, adaptive: bool, max_tokens: int
) -> tuple[dict[str, Any] | None, str]:
    """Write `thinking` and the effort ("" for none).

    A model that is not `adaptive` (older than 4.6) only knows budgets, and one of them has to be
    less than `max_tokens`; where that leaves too little, it does not think.
    """
    if reasoning.effort == "none":
        return {"type": "disabled"}, ""
    effort, budget = anthropic_effort(reasoning.effort), reasoning.budget
    if not adaptive:
        if budget is None:
            budget = min(budget_of(effort or "medium") or 0, max_tokens - 1)
        effort = ""
        if budget < MIN_BUDGET:
            return None, ""
    if budget is not None:
        told: dict[str, Any] = {"type": "enabled", "budget_tokens": budget}
        if not reasoning.wants_summary:
            told["display"] = "omitted"
        return told, effort
    # Newer models show no thoughts unless asked to, so it is always said.
    display = "summarized" if reasoning.wants_summary else "omitted"
    return {"type": "adaptive", "display": display}, effort


def read_format(body: Mapping[str, Any]) -> Format | None:
    """Read `output_config.format`, or `output_format` as it was called in the beta."""
    config = fields.record(body.get("output_config"), "output_config")
    told = fields.record(config.get("format"), "format")
    told = told or fields.record(body.get("output_format"), "output_format")
    if not told:
        return None
    kind = fields.kind_of(told, "format")
    if kind != "json_schema":
        raise UntranslatableError(f"the format {fields.known(kind)}")
    return Format(dict(fields.record(told.get("schema"), "schema")))


def write_format(format_: Format) -> dict[str, Any]:
    """Write `output_config.format`. Raises UntranslatableError without a schema."""
    if format_.schema is None:
        raise UntranslatableError("a JSON answer without a schema (response_format json_object)")
    return {"type": "json_schema", "schema": dict(format_.schema)}
