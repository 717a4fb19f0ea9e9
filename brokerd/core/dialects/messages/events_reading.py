"""Streamed answers, read: from the events of Messages to what they mean."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Piece,
    Stopped,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.messages.answering import stop_of
from brokerd.core.dialects.messages.blocks import HIDDEN
from brokerd.core.dialects.messages.counting import counts_in, usage_of
from brokerd.core.dialects.sse import SseReader


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.meaning import Event, WhatKind


__all__ = ["EventReader"]

_DELTAS: Final[dict[str, tuple[str, str, WhatKind]]] = {
    "text_delta": ("text", "text", "text"),
    "thinking_delta": ("thinking", "thinking", "thinking"),
    "signature_delta": ("thinking", "signature", "proof"),
    "input_json_delta": ("tool_use", "partial_json", "arguments"),
}
"""Type of a delta → the kind of block it belongs to, its field, and what it is."""


@dataclass
class _Block:
    """A content block that is not over."""

    kind: str
    part: int | None = None
    """Its number, once something of it has been told: an empty block is no part."""
    given: str = "{}"
    """Arguments of a call, should no delta bring any."""
    is_told: bool = False
    """Whether one has."""


class EventReader:
    """Feed it every read, in order.

    Tolerant of what may be missing (the start, the beginning or end of a block, the last event)
    and of events, deltas and fields that nobody here knows.
    """

    def __init__(self) -> None:
        self._sse = SseReader()
        self._blocks: dict[int, _Block] = {}
        """By their `index`."""
        self._parts = 0
        self._has_begun = False
        self._has_calls = False
        self._is_over = False
        self._counts: dict[str, int] = {}
        self._reason = ""
        self._sequence = ""
        self._found: list[Event] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Return what is new. Raises UntranslatableError, TooLongError."""
        for event in self._sse.feed(chunk):
            if self._is_over:
                break
            if event.data.strip() != b"[DONE]":
                self._take(event.name, _json(event.data))
        return self._taken()

    def end(self) -> list[Event]:
        """Return what is missing at the end of the stream: `Broken` unless it said why it ends."""
        if not self._is_over:
            if self._reason:
                self._finish()
            else:
                self._break("upstream's answer ends in the middle", "upstream_cut", "api_error")
        return self._taken()

    def _taken(self) -> list[Event]:
        found, self._found = self._found, []
        return found

    def _take(self, name: str, event: Mapping[str, Any]) -> None:
        kind = fields.text(event, "type") or name
        if kind == "error" or (not kind and "error" in event):
            error = fields.record(event.get("error"), "error")
            told = [fields.text(error, key) for key in ("message", "code", "type")]
            self._break(*told)
        elif kind == "message_start":
            self._start(fields.record(event.get("message"), "message"))
        elif kind == "content_block_start":
            self._open(_index(event), fields.record(event.get("content_block"), "content_block"))
        elif kind == "content_block_delta":
            self._add(_index(event), fields.record(event.get("delta"), "delta"))
        elif kind == "content_block_stop":
            self._close(_index(event))
        elif kind == "message_delta":
            delta = fields.record(event.get("delta"), "delta")
            self._reason = fields.text(delta, "stop_reason") or self._reason
            self._sequence = fields.text(delta, "stop_sequence") or self._sequence
            self._counts |= counts_in(event.get("usage"))
        elif kind == "message_stop":
            self._finish()

    def _start(self, message: Mapping[str, Any]) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        counts = counts_in(message.get("usage"))
        # How much was written is only a placeholder yet, and no prompt has no tokens.
        counts.pop("output_tokens", None)
        usage = usage_of(counts)
        if usage.prompt:
            self._counts = counts
        else:
            usage = Usage()
        begun = Begun(fields.text(message, "id"), fields.text(message, "model"), usage=usage)
        self._found.append(begun)

    def _open(self, index: int, block: Mapping[str, Any]) -> None:
        self._start({})
        self._close(index)
        kind = fields.kind_of(block, "a content block")
        made = self._blocks[index] = _Block(kind)
        if kind == "tool_use":
            self._has_calls = True
            part = self._part_of(made)
            call = CallBegun(part, fields.text(block, "id"), fields.text(block, "name"))
            self._found.append(call)
            made.given = fields.compact(fields.record(block.get("input"), "input"))
        elif kind == "redacted_thinking":
            self._tell(made, "proof", HIDDEN + fields.text(block, "data"))
        elif kind == "thinking":
            self._tell(made, "thinking", fields.text(block, "thinking"))
            self._tell(made, "proof", fields.text(block, "signature"))
        elif kind == "text":
            self._tell(made, "text", fields.text(block, "text"))
        else:
            raise UntranslatableError(f"a block of kind {fields.known(kind)} in an answer")

    def _add(self, index: int, delta: Mapping[str, Any]) -> None:
        known = _DELTAS.get(fields.kind_of(delta, "a delta"))
        if known is None:
            return
        kind, key, what = known
        if index not in self._blocks:
            if kind == "tool_use":
                raise UntranslatableError("arguments of a call that did not begin")
            self._open(index, {"type": kind})
        block = self._blocks[index]
        if block.kind != kind:
            raise UntranslatableError("a delta that is not of its block's kind")
        self._tell(block, what, fields.text(delta, key))

    def _tell(self, block: _Block, what: WhatKind, text: str) -> None:
        if text:
            block.is_told = True
            self._found.append(Piece(self._part_of(block), what, text))

    def _part_of(self, block: _Block) -> int:
        if block.part is None:
            block.part = self._parts
            self._parts += 1
        return block.part

    def _close(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is not None and block.kind == "tool_use" and not block.is_told:
            self._tell(block, "arguments", block.given)

    def _finish(self) -> None:
        self._start({})
        for index in sorted(self._blocks):
            self._close(index)
        stop = stop_of(self._reason, has_calls=self._has_calls)
        self._found.append(Stopped(stop, usage_of(self._counts), self._sequence))
        self._is_over = True

    def _break(self, message: str, code: str, kind: str) -> None:
        self._found.append(Broken(message, code, kind))
        self._is_over = True


def _index(event: Mapping[str, Any]) -> int:
    return fields.count(event, "index") or 0


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise UntranslatableError("an event that is not JSON") from None
    return fields.record(found, "an event")
