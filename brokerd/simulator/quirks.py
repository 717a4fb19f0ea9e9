"""What real Copilot answers do that OpenAI's do not, each by a name; any of them combine.

A quirk changes an answer's events, or the one object of an answer that is not streamed. They are
applied in the order of the table, so those that take parts away come after those that add some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brokerd.simulator.bending import (
    CONFIRMATION,
    ERRORS,
    FILTERED,
    REFERENCES,
    annotate,
    anthropic_events,
    anthropic_whole,
    bare,
    before_text,
    break_off,
    comments,
    display_name,
    finish_with,
    function_role,
    spend,
    tool_events,
    tool_whole,
    two_whole,
    unstable_ids,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Events = list[Any]
    Whole = dict[str, Any]


__all__ = ["ALIAS", "QUIRKS", "Quirk", "bend_events", "bend_whole", "check", "of_alias"]

ALIAS = "sim-quirk-"
# Those that any stream of events can have.
OF_ALL = frozenset({"comments", "error_midstream", "unstable_ids"})


@dataclass(frozen=True)
class Quirk:
    """One habit of the real service."""

    about: str
    events: Callable[[Events], Events] = lambda events: events
    whole: Callable[[Whole], Whole] = lambda whole: whole


QUIRKS: dict[str, Quirk] = {
    "references": Quirk("chunk with choices null and references", before_text(REFERENCES)),
    "errors": Quirk("chunk with choices null and copilot_errors", before_text(ERRORS)),
    "confirmation": Quirk("chunk with choices null and a confirmation", before_text(CONFIRMATION)),
    "function_role": Quirk("chunk of role function, as agents send", function_role),
    "tool_repeat": Quirk(
        "a tool call whose later deltas repeat all but id", tool_events(0), tool_whole
    ),
    "two_choices": Quirk("the text one choice, a tool call another", tool_events(1), two_whole),
    "annotations": Quirk("citations and content filter results in choices", annotate, annotate),
    "finish_content_filter": Quirk(
        "finish_reason content_filter",
        finish_with("content_filter"),
        finish_with("content_filter"),
    ),
    "finish_error": Quirk("finish_reason error", finish_with("error"), finish_with("error")),
    "usage_details": Quirk("cached and reasoning tokens, copilot_usage", spend, spend),
    "error_midstream": Quirk(
        "an error object half-way under 200; then the end, no [DONE]", break_off
    ),
    "display_name": Quirk("model is a display name", display_name, display_name),
    "anthropic": Quirk("Anthropic's shape, no choices at all", anthropic_events, anthropic_whole),
    "prompt_filter": Quirk(
        "first chunk has choices [] and prompt_filter_results", before_text(FILTERED)
    ),
    "bare": Quirk("neither object nor index, as Claude models", bare, bare),
    "unstable_ids": Quirk("/responses: a new id for the same thing in every event", unstable_ids),
    "comments": Quirk("comment lines among the events", comments),
    "no_done": Quirk(
        "no [DONE] at the end", lambda events: [each for each in events if each != "[DONE]"]
    ),
    "crlf": Quirk("lines end in CR LF"),  # done where events become bytes
}


def check(names: Sequence[str]) -> None:
    """Refuse names that are in no table; ValueError."""
    unknown = [each for each in names if each not in QUIRKS]
    if unknown:
        raise ValueError(f"unknown quirk {', '.join(unknown)}; known: {', '.join(QUIRKS)}")


def of_alias(model: str) -> list[str] | None:
    """Read `sim-quirk-NAME[+NAME…]`; None when `model` is no such alias, or names no quirk."""
    if not model.startswith(ALIAS):
        return None
    names = model.removeprefix(ALIAS).split("+")
    return names if all(each in QUIRKS for each in names) else None


def bend_events(events: Events, names: Iterable[str], *, is_chat: bool = True) -> Events:
    """Apply quirks to a stream; of other APIs than chat, those that know no choices."""
    chosen = set(names) if is_chat else OF_ALL & set(names)
    for name, quirk in QUIRKS.items():
        if name in chosen:
            events = quirk.events(events)
    return events


def bend_whole(whole: Whole, names: Iterable[str]) -> Whole:
    """Apply quirks to an answer in one object."""
    chosen = set(names)
    for name, quirk in QUIRKS.items():
        if name in chosen:
            whole = quirk.whole(whole)
    return whole
