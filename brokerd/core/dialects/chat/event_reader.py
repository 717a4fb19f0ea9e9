"""A streamed answer of `/chat/completions`, as events.

Source: API reference, "The chat completion chunk object", and what Copilot makes of it: first
chunks without choices, choices that are `null`, chunks without id, object or index, words and
tool call in two choices (one answer here), an `error` in the middle under status 200.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.chat.ending import FAILED, read_stop_reason, read_usage
from brokerd.core.dialects.chat.stream_calls import StreamCalls
from brokerd.core.dialects.chat.turn import read_thought
from brokerd.core.dialects.fields import count, mapping, sequence, text
from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    Piece,
    Stopped,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.sse import SseReader


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.meaning import Event, WhatKind


__all__ = ["EventReader"]

_DONE = b"[DONE]"
_BY_AGENT = "function"
"""Role of chunks that tell what an agent on the server did; no words of the answer."""


class EventReader:
    """Feed it every read, in order; then `end`. After Stopped or Broken it tells no more."""

    def __init__(self) -> None:
        self._sse = SseReader()
        self._calls = StreamCalls()
        self._id = self._model = ""
        self._created = 0
        self._usage = Usage()
        self._reasons: set[str] = set()
        self._is_begun = self._is_over = False
        self._parts = 0
        self._open: tuple[WhatKind, int] | None = None
        """The part that more words of its kind belong to."""
        self._thought: int | None = None
        """The last part of thoughts that has no proof yet."""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return what it tells. Raises UntranslatableError, TooLongError."""
        found: list[Event] = []
        for event in self._sse.feed(chunk):
            if self._is_over:
                break
            if event.data.strip() == _DONE:
                self._stop(found)
            elif event.data:
                self._take(_object(event.data), event.name, found)
        return found

    def end(self) -> list[Event]:
        """Return what is missing when the bytes are at their end: Broken if that is the answer's.

        An answer with its finish_reason is whole even without `[DONE]`.
        """
        found: list[Event] = []
        if self._is_over:
            return found
        if self._reasons:
            self._stop(found)
        else:
            self._break(Broken("the stream broke off before its end", "stream_cut"), found)
        return found

    def _take(self, chunk: Mapping[str, Any], name: str, found: list[Event]) -> None:
        error = chunk.get("error", chunk if name == "error" else None)
        if error:
            self._break(_broken(error), found)
            return
        if chunk.get("type") == "message_start":
            raise UntranslatableError("a stream of the Messages API")
        self._id = self._id or text(chunk, "id")
        self._model = self._model or text(chunk, "model")
        self._created = self._created or count(chunk, "created") or 0
        usage = read_usage(chunk)
        if usage != Usage():
            self._usage = usage
        choices = sequence(chunk, "choices")
        if choices and not self._is_begun:
            self._begin(found)
        for place, choice in enumerate(choices):
            index = count(choice, "index")
            delta = mapping(choice, "delta") or {}
            if delta.get("role") != _BY_AGENT:
                self._take_delta(delta, place if index is None else index, found)
            reason = text(choice, "finish_reason")
            if reason == FAILED:
                self._break(Broken("the model failed to answer", FAILED), found)
                return
            if reason:
                self._reasons.add(reason)

    def _take_delta(self, delta: Mapping[str, Any], choice: int, found: list[Event]) -> None:
        if delta.get("audio") is not None:
            raise UntranslatableError("audio of the model's")
        if thought := read_thought(delta):
            if thought.text:
                self._piece("thinking", thought.text, found)
            if thought.proof:
                self._prove(thought.proof, found)
        if said := text(delta, "content"):
            self._piece("text", said, found)
        if said := text(delta, "refusal"):
            self._piece("refusal", said, found)
        found += self._calls.take(delta, choice, self._id, self._parts)
        if self._calls.parts > self._parts:  # another call has begun
            self._parts = self._calls.parts
            self._open = None

    def _piece(self, kind: WhatKind, said: str, found: list[Event]) -> None:
        if self._open is None or self._open[0] != kind:
            self._open = (kind, self._parts)
            self._thought = self._parts if kind == "thinking" else self._thought
            self._parts += 1
        found.append(Piece(self._open[1], kind, said))

    def _prove(self, proof: str, found: list[Event]) -> None:
        """Give a proof to the last thoughts, however much was said since."""
        if self._open is not None and self._open[0] == "proof":
            part = self._open[1]
        elif self._thought is not None:
            part = self._thought
        else:
            part = self._parts
            self._parts += 1
        self._thought = None
        self._open = ("proof", part)
        found.append(Piece(part, "proof", proof))

    def _begin(self, found: list[Event]) -> None:
        self._is_begun = True
        found.append(Begun(self._id, self._model, self._created))

    def _stop(self, found: list[Event]) -> None:
        if not self._is_begun:
            self._break(Broken("the stream ended without an answer", "stream_cut"), found)
            return
        has_calls = self._calls.finish()
        self._is_over = True
        stop = read_stop_reason(self._reasons, has_calls=has_calls)
        found.append(Stopped(stop, self._usage))

    def _break(self, broken: Broken, found: list[Event]) -> None:
        self._is_over = True
        found.append(broken)


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        raise UntranslatableError("a chunk that is not JSON") from None
    if not isinstance(chunk, dict):
        raise UntranslatableError("a chunk that is not an object")
    return chunk


def _broken(error: object) -> Broken:
    if not isinstance(error, dict):
        return Broken(str(error))
    code = error.get("code")
    return Broken(
        message=_said(error.get("message")) or "upstream gave an error without words",
        code=str(code) if isinstance(code, (str, int)) else "",
        type=_said(error.get("type")),
    )


def _said(value: object) -> str:
    return value if isinstance(value, str) else ""
