"""Whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import (
    Answer,
    Stop,
    Text,
    Thinking,
    ToolCall,
    UntranslatableError,
)
from brokerd.core.dialects.messages import blocks
from brokerd.core.dialects.messages.counting import counts_in, usage_of, write_usage


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.meaning import Part


__all__ = ["read_answer", "stop_of", "word_of", "write_answer"]

_WORDS: Final[dict[Stop, str]] = {
    "end": "end_turn",
    "length": "max_tokens",
    "tool": "tool_use",
    "sequence": "stop_sequence",
    "filter": "refusal",
    "pause": "pause_turn",
}
_STOPS: Final[dict[str, Stop]] = {
    **{word: stop for stop, word in _WORDS.items()},
    "model_context_window_exceeded": "length",
}


def stop_of(word: str, *, has_calls: bool) -> Stop:
    """Say what a `stop_reason` means; one that is missing or new goes by what was said."""
    return _STOPS.get(word, "tool" if has_calls else "end")


def word_of(stop: Stop, *, has_calls: bool) -> str:
    """Return the `stop_reason`: one that ends with calls waits for their results.

    OpenAI's say `stop` there too, where the tool was named in the request.
    """
    return _WORDS["tool" if has_calls and stop == "end" else stop]


def read_answer(body: Mapping[str, Any]) -> Answer:
    """Read it. Raises UntranslatableError for blocks of hosted tools, naming their kind."""
    if body.get("type") == "error" or not {"content", "stop_reason"} & body.keys():
        raise UntranslatableError("what is no answer")
    parts = blocks.read_parts(body.get("content"), blocks.OF_ASSISTANT, "an answer")
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    return Answer(
        id=fields.text(body, "id"),
        model=fields.text(body, "model"),
        parts=parts,
        stop=stop_of(fields.text(body, "stop_reason"), has_calls=has_calls),
        usage=usage_of(counts_in(body.get("usage"))),
        stop_sequence=fields.text(body, "stop_sequence"),
    )


def write_answer(answer: Answer) -> dict[str, Any]:
    """Write it. Raises UntranslatableError for calls that are not whole JSON.

    Unless the model had no more tokens: a call that was cut short is left out then, as nobody
    could make it.
    """
    has_calls = any(isinstance(part, ToolCall) for part in answer.parts)
    return {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [block for part in answer.parts for block in _blocks(part, answer.stop)],
        "stop_reason": word_of(answer.stop, has_calls=has_calls),
        "stop_sequence": answer.stop_sequence or None,
        "usage": write_usage(answer.usage),
    }


def _blocks(part: Part, stop: Stop) -> list[dict[str, Any]]:
    if not isinstance(part, (Text, Thinking, ToolCall)):
        raise UntranslatableError(f"a part of kind {type(part).__name__.lower()} in an answer")
    if isinstance(part, Text) and not part.text:
        return []
    try:
        return [blocks.write_part(part)]
    except UntranslatableError:
        if stop == "length":
            return []
        raise
