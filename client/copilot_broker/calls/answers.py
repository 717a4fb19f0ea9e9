"""What an answer says, in whichever of Copilot's three dialects: text, usage, how it ended.

    Chat Completions   choices[].delta (or .message), usage, finish_reason
    Responses          response.output_text.delta, response.completed; output[] of a whole one
    Messages           content_block_delta, message_start, message_delta; content[]

It forgives what Copilot is known for: several choices where one was asked for, choices without
index, content that is null, Anthropic's shape under OpenAI's path. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final


__all__ = ["Heard", "Usage", "is_error", "text_in"]

_ENDINGS: Final = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}
"""What each API calls an answer that was cut off, and what it is called here."""

_FAILED: Final = frozenset({"error", "response.failed"})
"""Types of events that are errors, with or without a field `error` (Responses, Messages)."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer as Copilot counted them; None for a count that it did not give."""

    prompt: int | None = None
    """All of it, what came from a cache included."""
    completion: int | None = None
    cached: int | None = None
    """Of the prompt, those that came from a cache."""


class Heard:
    """Takes the events of one answer, or the whole of it; afterwards it knows what they told."""

    def __init__(self) -> None:
        self.model = ""
        """The one that answered, in its own words."""
        self.usage = Usage()
        self.ending: str | None = None
        """`length` or `content_filter` where it was cut off; None: it ended well, or not yet."""

    def take(self, event: Mapping[str, Any]) -> str:
        """Return the text that an event adds."""
        for told in (event, _map(event, "message"), _map(event, "response")):
            model, usage = told.get("model"), told.get("usage")
            if isinstance(model, str) and model:
                self.model = model
            if isinstance(usage, Mapping):
                self._count(usage)
            self.ending = _ENDINGS.get(_reason(told), self.ending)
        return text_in(event)

    def _count(self, usage: Mapping[str, Any]) -> None:
        """Take one account of usage; Messages tells it in two parts."""
        prompt, cached = _number(usage, "prompt_tokens"), None
        for details in ("prompt_tokens_details", "input_tokens_details"):
            cached = _number(_map(usage, details), "cached_tokens") if cached is None else cached
        if prompt is None and (prompt := _number(usage, "input_tokens")) is not None:
            # Anthropic counts apart what a cache knew, and what went into one.
            read = _number(usage, "cache_read_input_tokens")
            cached = read if cached is None else cached
            prompt += (read or 0) + (_number(usage, "cache_creation_input_tokens") or 0)
        completion = _number(usage, "completion_tokens")
        if completion is None:
            completion = _number(usage, "output_tokens")
        told = {"prompt": prompt, "completion": completion, "cached": cached}
        known = {name: count for name, count in told.items() if count is not None}
        self.usage = replace(self.usage, **known)


def is_error(event: Mapping[str, Any]) -> bool:
    """Whether an event of a stream, or an answer under 200, is an error."""
    kind = event.get("type")
    return bool(event.get("error")) or (isinstance(kind, str) and kind in _FAILED)


def text_in(event: Mapping[str, Any]) -> str:
    """Return what a completion, or one event of a stream, adds to the first choice's text."""
    choices = event.get("choices")
    if choices is None:
        return _text_without_choices(event)
    for position, choice in enumerate(choices if isinstance(choices, list) else []):
        if not isinstance(choice, Mapping) or choice.get("index", position) not in (0, None):
            continue
        said = choice.get("delta") or choice.get("message")
        if isinstance(said, Mapping) and (text := _text_of(said.get("content"))):
            return text
    return ""


def _text_without_choices(event: Mapping[str, Any]) -> str:
    delta, output = event.get("delta"), event.get("output")
    if isinstance(delta, Mapping):
        return _text_of([delta])
    if isinstance(delta, str):
        return delta if event.get("type") == "response.output_text.delta" else ""
    if isinstance(output, list):
        said = [item for item in output if isinstance(item, Mapping)]
        return "".join(_text_of(item.get("content")) for item in said if _is_message(item))
    return _text_of(event.get("content"))


def _is_message(item: Mapping[str, Any]) -> bool:
    """Whether an item of a Responses output is speech: thoughts have content, too."""
    return item.get("type") == "message"


def _text_of(content: object) -> str:
    """Content is text, null, or parts of which some are text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))


def _reason(told: Mapping[str, Any]) -> str:
    """Return why an answer ended, in its own API's word; "" where this part does not say."""
    choices = told.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    places = (
        (first if isinstance(first, Mapping) else {}, "finish_reason"),
        (told, "stop_reason"),
        (_map(told, "delta"), "stop_reason"),
        (_map(told, "incomplete_details"), "reason"),
    )
    found = (place.get(name) for place, name in places)
    return next((reason for reason in found if isinstance(reason, str)), "")


def _map(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = parent.get(key)
    return found if isinstance(found, Mapping) else {}


def _number(parent: Mapping[str, Any], key: str) -> int | None:
    found = parent.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
