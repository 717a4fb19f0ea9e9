"""A whole answer of `/chat/completions`.

Source: API reference, "The chat completion object". Copilot leaves out `object` and `index`, and
gives what Claude says as two choices, the words and the tool call: they are one answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.chat.ending import (
    FAILED,
    read_stop_reason,
    read_usage,
    write_stop_reason,
    write_usage,
)
from brokerd.core.dialects.chat.turn import read_turn, write_calls, write_thought
from brokerd.core.dialects.fields import count, mapping, sequence, text
from brokerd.core.dialects.meaning import Answer, Text, Thinking, ToolCall, UntranslatableError


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.meaning import Part


__all__ = ["read_answer", "write_answer"]


def read_answer(body: Mapping[str, Any]) -> Answer:
    """Return what an answer means. Raises UntranslatableError."""
    if body.get("error"):
        raise UntranslatableError("an error in place of an answer")
    choices = sequence(body, "choices")
    if not choices:
        raise UntranslatableError("an answer without choices")
    answer_id = text(body, "id")
    parts: list[Part] = []
    for number, choice in enumerate(choices):
        message = mapping(choice, "message") or {}
        parts += read_turn(message, f"function_{answer_id}_{number}")
    reasons = {text(choice, "finish_reason") for choice in choices}
    if FAILED in reasons:
        raise UntranslatableError("an answer that failed")
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    return Answer(
        id=answer_id,
        model=text(body, "model"),
        parts=tuple(parts),
        stop=read_stop_reason(reasons, has_calls=has_calls),
        usage=read_usage(body),
        created=count(body, "created") or 0,
    )


def write_answer(answer: Answer) -> dict[str, Any]:
    """Write an answer. Raises UntranslatableError for parts that are not of the model's."""
    thoughts: list[Thinking] = []
    words: list[str] = []
    refusals: list[str] = []
    calls: list[ToolCall] = []
    for part in answer.parts:
        if isinstance(part, Thinking):
            thoughts.append(part)
        elif isinstance(part, Text):
            (refusals if part.is_refusal else words).append(part.text)
        elif isinstance(part, ToolCall):
            calls.append(part)
        else:
            raise UntranslatableError("an answer with parts of the user's")
    message = {
        "role": "assistant",
        "content": "".join(words) or None,
        "refusal": "".join(refusals) or None,
        **write_thought(_one(thoughts)),
        **write_calls(calls),
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": write_stop_reason(answer.stop),
    }
    usage = write_usage(answer.usage)
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [choice],
        **({"usage": usage} if usage else {}),
    }


def _one(thoughts: list[Thinking]) -> Thinking:
    """Make one of several; a proof is good for its own text only (or stands apart from it)."""
    texts = [thought.text for thought in thoughts if thought.text]
    proofs = [thought.proof for thought in thoughts if thought.proof]
    is_sound = len(texts) <= 1 and len(proofs) == 1
    return Thinking("".join(texts), proofs[0] if is_sound else "")
