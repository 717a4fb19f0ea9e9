"""A request from another dialect, fitted to the model that it goes to.

Who writes for one model says what that one takes; translated, it goes to another. Claude Code asks
every model to think, with a budget in tokens and room for 32,000: gpt-4.1 refuses both. So of how
much to think and to write, the model is told the nearest that GitHub's entry of it says it takes
(`capabilities.supports` and `capabilities.limits` of `GET /models`), and nothing where the entry
says nothing: a model that is told to think and cannot refuses, one that is not told answers.

What a request says of its answer's form (`structured_outputs`) or its tools (`tool_calls`) stays,
whatever the entry says: without it, it would be another request. Upstream's refusal says what is
wrong. That several tools may be called at once is no loss where none ever are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.meaning import Asking, Reasoning
from brokerd.core.dialects.reasoning import MIN_BUDGET, budget_of, effort_of


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Abilities", "abilities_of", "fitted"]

_LADDER: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Efforts, the least first."""

_ADAPTIVE: Final = ("low", "medium", "high")
"""Efforts that every adaptive model takes (Anthropic's API reference, `output_config.effort`)."""


@dataclass(frozen=True)
class Abilities:
    """What GitHub's entry of a model says of how it thinks and how much it may write."""

    longest: int | None = None
    """Tokens of an answer; None: not said."""
    efforts: tuple[str, ...] = ()
    """Words that it takes for how much to think; none: it takes none, or nothing is said of it."""
    adaptive: bool | None = None
    """Whether it finds its own measure (Anthropic's newer models); None: not said."""
    takes_budget: bool = False
    """Whether it takes tokens to think with."""
    least: int = MIN_BUDGET
    most: int | None = None
    """Bounds of those."""
    parallel_calls: bool = True
    """False: it never calls several tools at once."""


def abilities_of(entry: Mapping[str, Any]) -> Abilities:
    """Read an entry of `GET /models`; what is of another type was not said."""
    capabilities = _mapping(entry.get("capabilities"))
    supports = _mapping(capabilities.get("supports"))
    efforts = supports.get("reasoning_effort")
    thinks, adaptive = supports.get("thinking"), supports.get("adaptive_thinking")
    most = _count(supports.get("max_thinking_budget"))
    return Abilities(
        longest=_count(_mapping(capabilities.get("limits")).get("max_output_tokens")),
        efforts=tuple(word for word in efforts if isinstance(word, str))
        if isinstance(efforts, list)
        else (),
        adaptive=bool(adaptive) if supports else None,
        takes_budget=thinks is True or (most is not None and thinks is not False),
        least=max(_count(supports.get("min_thinking_budget")) or 0, MIN_BUDGET),
        most=most,
        parallel_calls=supports.get("parallel_tool_calls") is not False,
    )


def fitted(asking: Asking, able: Abilities, spoken: Dialect) -> Asking:
    """Return the request as the model takes it, spoken to in that dialect."""
    room = asking.max_tokens
    if room is not None and able.longest is not None:
        room = min(room, able.longest)
    reasoning = asking.reasoning
    if reasoning is not None:
        reasoning = _reasoning(reasoning, able, spoken, room or able.longest)
    return replace(
        asking,
        max_tokens=room,
        reasoning=reasoning,
        parallel_calls=asking.parallel_calls if able.parallel_calls else None,
    )


def _reasoning(
    wanted: Reasoning, able: Abilities, spoken: Dialect, room: int | None
) -> Reasoning | None:
    """Choose between an effort and a budget, and fit it."""
    summary = wanted.wants_summary
    if spoken is Dialect.MESSAGES and _is_none(wanted):
        # Every model of this API takes `disabled`, if it thinks at all.
        return Reasoning("none") if able.adaptive or able.takes_budget else None
    if spoken is Dialect.MESSAGES and able.adaptive:
        return Reasoning(_effort(wanted, able.efforts or _ADAPTIVE), wants_summary=summary)
    is_budget = able.takes_budget and spoken is not Dialect.RESPONSES
    is_effort = bool(able.efforts) and spoken is not Dialect.MESSAGES
    if is_effort and (wanted.budget is None or not is_budget):
        return Reasoning(_effort(wanted, able.efforts), wants_summary=summary)
    if not is_budget:
        return None
    budget = _budget(wanted, able, room)
    return None if budget is None else Reasoning(budget=budget, wants_summary=summary)


def _is_none(wanted: Reasoning) -> bool:
    return wanted.effort == "none" or (not wanted.effort and wanted.budget == 0)


def _effort(wanted: Reasoning, efforts: tuple[str, ...]) -> str:
    """Return the nearest effort; "" where none was said, or none is near.

    Who wants no thoughts is given as few as there are; who wants some is never given none.
    """
    effort = wanted.effort
    if not effort:
        if wanted.budget is None:
            return ""
        effort = effort_of(wanted.budget)
    if effort in efforts:
        return effort
    at = _place(effort)
    some = [word for word in efforts if word in _LADDER and word != "none"]
    return min(some, key=lambda word: (abs(_place(word) - at), _place(word)), default="")


def _place(effort: str) -> int:
    return _LADDER.index(effort if effort in _LADDER else "medium")


def _budget(wanted: Reasoning, able: Abilities, room: int | None) -> int | None:
    """Return a budget within the model's bounds and less than the answer; None: it fits nowhere.

    One that has to be cut leaves half of the room to the answer's words. Where thoughts were
    wanted and no measure was said, it is that of `medium`.
    """
    if _is_none(wanted):
        return None
    budget = wanted.budget
    if budget is None:
        budget = budget_of(wanted.effort or "medium") or 0
    budget = max(budget, able.least)
    if able.most is not None:
        budget = min(budget, able.most)
    if room is None or budget < room:
        return budget
    return max(room // 2, able.least) if able.least < room else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else None  # type: ignore[return-value]  # see the line above
