"""What the simulated model says: a sentence that follows from the question alone, or a call.

An answer is first a list of events (dicts; `quirks` may change them), then bytes. Only ids and
times differ from one answer to the next.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brokerd.simulator.sending import in_pieces
from brokerd.simulator.tools import call_wanted, result_of, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from brokerd.simulator.settings import Settings
    from brokerd.simulator.tools import Call


__all__ = ["DONE", "Said", "events", "json_writes", "prompt_tokens", "say", "sse_writes", "whole"]

DONE = "[DONE]"
# Echoing a whole repository back would be no conversation.
MAX_ECHO_WORDS = 200
MAX_ECHO_CHARACTERS = 4000
# The usual rule of thumb for English text.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Said:
    """One answer before it takes a shape."""

    model: str
    words: Sequence[str]
    """Each with the space before it, except the first."""
    prompt_tokens: int
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex[:24]}")
    created: int = field(default_factory=lambda: int(time.time()))
    call: Call | None = None
    """Of a tool, after the words."""

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, a word for one."""
        spent = len(self.words)
        return {
            "completion_tokens": spent,
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + spent,
        }


def say(
    model: str, messages: Sequence[Any], settings: Settings, body: Mapping[str, Any] | None = None
) -> Said:
    """Answer the last thing the person or a tool said: the same words, streamed or not.

    `body` has the tools that may be called.
    """
    result = result_of(messages)
    heard = _last_user_text(messages) if result is None else result
    call = call_wanted(body, heard) if body is not None and result is None else None
    prompt = " ".join(heard[:MAX_ECHO_CHARACTERS].split()[:MAX_ECHO_WORDS])
    who = "You" if result is None else "The tool"
    text = f"This is {model}, simulated. {who} said: {prompt or '(nothing)'}"
    first, *others = text.split(" ")
    words = [first, *(f" {word}" for word in others)]
    if settings.chat_chunks is not None:
        turns = math.ceil(settings.chat_chunks / len(words))
        words = (words * turns)[: settings.chat_chunks]
    if settings.chat_chunk_bytes is not None:
        words = [_sized(word, settings.chat_chunk_bytes) for word in words]
    return Said(model, words, prompt_tokens(messages), call=call)


def prompt_tokens(messages: Sequence[Any]) -> int:
    """Estimate how many tokens the messages' text has."""
    return max(1, sum(len(_text(each)) for each in messages) // CHARACTERS_PER_TOKEN)


def _text(message: Any) -> str:
    """Take the text out of a message, whether it is a string or parts."""
    return text_of(message.get("content")) if isinstance(message, dict) else ""


def _last_user_text(messages: Sequence[Any]) -> str:
    for each in reversed(messages):
        if isinstance(each, dict) and each.get("role") == "user":
            return _text(each)
    return ""


def _sized(word: str, size: int) -> str:
    repeated = word * math.ceil(size / len(word.encode()))
    return repeated.encode()[:size].decode(errors="replace")


def events(said: Said) -> list[Any]:
    """Give the answer as a stream has it; the last is DONE."""
    reason = "stop" if said.call is None else "tool_calls"
    finish = _chunk(said, {"content": None}, reason) | {"usage": said.usage}
    return [
        _chunk(said, {"content": "", "role": "assistant"}),
        *(_chunk(said, {"content": word}) for word in said.words),
        *(_chunk(said, delta) for delta in _call_deltas(said.call)),
        finish,
        DONE,
    ]


def _call_deltas(call: Call | None) -> Iterator[dict[str, Any]]:
    if call is None:
        return
    head = {"name": call.name, "arguments": ""}
    yield {"tool_calls": [{"index": 0, "id": call.id, "type": "function", "function": head}]}
    for piece in call.pieces:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _chunk(said: Said, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": said.id,
        "object": "chat.completion.chunk",
        "created": said.created,
        "model": said.model,
        "system_fingerprint": "fp_simulated",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def whole(said: Said) -> dict[str, Any]:
    """Give the answer as one object."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.words)}
    reason = "stop"
    if said.call is not None:
        reason, function = "tool_calls", {"name": said.call.name, "arguments": said.call.arguments}
        message["tool_calls"] = [{"id": said.call.id, "type": "function", "function": function}]
    return {
        "id": said.id,
        "object": "chat.completion",
        "created": said.created,
        "model": said.model,
        "system_fingerprint": "fp_simulated",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": said.usage,
    }


def sse_writes(stream: Sequence[Any], settings: Settings, *, crlf: bool) -> list[bytes]:
    """Write the events down, cut into the writes that the settings want.

    A dict is data, with its `event` field first if it says `type` and has no choices (Anthropic's
    way); a string is data as it is; bytes are a line of their own (a comment).
    """
    end = "\r\n" if crlf else "\n"
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    rendered = []
    for each in stream:
        if isinstance(each, bytes):
            text = f"{each.decode()}{end}{end}"
        elif isinstance(each, str):
            text = f"data: {each}{end}{end}"
        else:
            name = _event_name(each)
            lead = f"event: {name}{end}" if name else ""
            text = f"{lead}data: {encode(each)}{end}{end}"
        rendered.append(text.encode())
    if settings.chat_split is not None:
        return in_pieces(b"".join(rendered), settings.chat_split)
    together = settings.chat_events_per_write
    if together == 1:
        return rendered
    if together <= 0:
        return [b"".join(rendered)]
    starts = range(0, len(rendered), together)
    return [b"".join(rendered[start : start + together]) for start in starts]


def json_writes(data: bytes, settings: Settings) -> list[bytes]:
    """Cut an answer that is not streamed as the settings want."""
    return [data] if settings.chat_split is None else in_pieces(data, settings.chat_split)


def _event_name(event: Mapping[str, Any]) -> str | None:
    name = event.get("type")
    return name if isinstance(name, str) and "choices" not in event else None
