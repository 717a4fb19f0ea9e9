"""What the simulated model writes into the middle: a comment that follows from what is there."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brokerd.simulator.chat import DONE


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["Filled", "events", "fill"]

# Echoing a whole file back would be no completion.
MAX_ECHO_CHARACTERS = 80
# The usual rule of thumb for English text.
CHARACTERS_PER_TOKEN = 4
MAX_CHOICES = 4


@dataclass(frozen=True)
class Filled:
    """One answer before it takes a shape."""

    model: str
    words: Sequence[str]
    """Each with the space before it, except the first."""
    choices: int
    prompt_tokens: int
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex[:24]}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, a word for one."""
        spent = len(self.words) * self.choices
        return {
            "completion_tokens": spent,
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + spent,
        }


def fill(model: str, body: Mapping[str, Any]) -> Filled:
    """Continue the last line of the prompt."""
    prompt = str(body["prompt"])
    line = prompt.rsplit("\n", 1)[-1].strip()[-MAX_ECHO_CHARACTERS:]
    first, *others = f"# {model}, simulated, after: {line or '(nothing)'}".split(" ")
    wanted = body.get("n", 1)
    choices = wanted if isinstance(wanted, int) and 1 <= wanted <= MAX_CHOICES else 1
    suffix = body.get("suffix")
    read = len(prompt) + (len(suffix) if isinstance(suffix, str) else 0)
    words = [first, *(f" {word}" for word in others)]
    return Filled(model, words, choices, max(1, read // CHARACTERS_PER_TOKEN))


def events(filled: Filled) -> list[Any]:
    """Give the answer as a stream has it; the last is DONE."""
    each = range(filled.choices)
    told = [_chunk(filled, index, word, None) for word in filled.words for index in each]
    ends = [_chunk(filled, index, "", "stop") for index in each]
    ends[-1] |= {"usage": filled.usage}
    return [*told, *ends, DONE]


def _chunk(filled: Filled, index: int, text: str, finish: str | None) -> dict[str, Any]:
    choice = {"finish_reason": finish, "index": index, "logprobs": None, "text": text}
    return {
        "choices": [choice],
        "created": filled.created,
        "id": filled.id,
        "model": filled.model,
        "object": "text_completion",
    }
