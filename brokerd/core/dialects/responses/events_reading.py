"""A streamed answer, as Copilot sends it: read into events.

Copilot gives one item another id in every event, so an item is told by its place
(`output_index`). Every item comes several times: in pieces, whole when it is done, and whole
again at the end. What had not come in pieces is taken from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Event,
    Piece,
    Stopped,
    UntranslatableError,
    WhatKind,
)
from brokerd.core.dialects.responses.answering import refuse_action
from brokerd.core.dialects.responses.items import PARAGRAPH, read_call, read_thinking
from brokerd.core.dialects.responses.parts import read_text
from brokerd.core.dialects.responses.response import created_of, read_stop, read_usage
from brokerd.core.dialects.sse import SseReader


if TYPE_CHECKING:
    from collections.abc import Iterator

    from brokerd.core.dialects.fields import Json


__all__ = ["EventReader"]

_DONE: Final = b"[DONE]"
"""Chat's end of a stream, which some servers send here too."""

_SAID: Final[dict[str, WhatKind]] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
}
_THOUGHT: Final = {
    "response.reasoning_summary_text.delta": "summary_index",
    "response.reasoning_text.delta": "content_index",
}


@dataclass
class _Item:
    """What has been told of one item."""

    kind: str
    parts: dict[int, int] = field(default_factory=dict)
    """Number of the part by its place in a message; all else is at 0."""
    told: dict[int, int] = field(default_factory=dict)
    """Characters of it that have been told."""
    thought: str = ""
    """Type of the events that tell its thoughts; the other type tells the same again."""
    paragraph: int = 0
    is_done: bool = False


class EventReader:
    """Reads one stream."""

    def __init__(self) -> None:
        self._sse = SseReader()
        self._items: dict[int, _Item] = {}
        self._parts = 0
        self._has_begun = False
        self._has_calls = False
        self._is_over = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return what the bytes say. Raises UntranslatableError and TooLongError."""
        events: list[Event] = []
        for each in self._sse.feed(chunk):
            if self._is_over or each.data == _DONE:
                continue
            for event in self._read(_object(each.data)):
                if not self._has_begun and not isinstance(event, Begun | Broken):
                    events.append(Begun("", ""))
                self._has_begun = True
                events.append(event)
        return events

    def end(self) -> list[Event]:
        """Return what is missing at the end of the stream: word of it, where it is not whole."""
        if self._is_over:
            return []
        self._is_over = True
        return [Broken("the stream ended before the answer did", "upstream_cut")]

    def _read(self, event: Json) -> Iterator[Event]:
        kind = fields.type_of(event)
        response = fields.mapping(event, "response") or {}
        if kind in {"error", "response.failed"}:
            self._is_over = True
            yield _broken(fields.mapping(event if kind == "error" else response, "error") or event)
            return
        if response and not self._has_begun:
            yield Begun(
                fields.text(response, "id"), fields.text(response, "model"), created_of(response)
            )
        if kind in _SAID:
            index = fields.count(event, "content_index") or 0
            yield from self._more(self._item(event, "message"), index, _SAID[kind], event)
        elif kind in _THOUGHT:
            yield from self._thought(event, kind)
        elif kind == "response.function_call_arguments.delta":
            item = self._items.get(_place(event))
            if item is not None:
                yield from self._more(item, 0, "arguments", event)
        elif kind == "response.output_item.added":
            item_body = fields.mapping(event, "item") or {}
            if fields.type_of(item_body) == "function_call":
                yield from self._call(self._item(event, "function_call"), item_body)
        elif kind == "response.output_item.done":
            yield from self._whole(_place(event), fields.mapping(event, "item") or {})
        elif kind in {"response.completed", "response.incomplete"}:
            for index, each in enumerate(fields.items(response, "output")):
                yield from self._whole(index, fields.entry(each, "an item of the output"))
            self._is_over = True
            stop = read_stop(response, has_calls=self._has_calls)
            yield Stopped(stop, read_usage(response))

    def _item(self, event: Json, kind: str) -> _Item:
        return self._items.setdefault(_place(event), _Item(kind))

    def _more(self, item: _Item, index: int, kind: WhatKind, event: Json) -> Iterator[Event]:
        text = fields.text(event, "delta")
        if text and not item.is_done:
            yield self._piece(item, index, kind, text)

    def _piece(self, item: _Item, index: int, kind: WhatKind, text: str) -> Piece:
        if index not in item.parts:
            item.parts[index] = self._parts
            self._parts += 1
        if kind != "proof":
            item.told[index] = item.told.get(index, 0) + len(text)
        return Piece(item.parts[index], kind, text)

    def _thought(self, event: Json, kind: str) -> Iterator[Event]:
        item = self._item(event, "reasoning")
        item.thought = item.thought or kind
        if item.thought != kind:
            return
        paragraph = fields.count(event, _THOUGHT[kind]) or 0
        if paragraph > item.paragraph:
            item.paragraph = paragraph
            yield self._piece(item, 0, "thinking", PARAGRAPH)
        yield from self._more(item, 0, "thinking", event)

    def _call(self, item: _Item, body: Json) -> Iterator[Event]:
        if item.parts:
            return
        call = read_call(body)
        item.parts[0] = self._parts
        self._parts += 1
        self._has_calls = True
        yield CallBegun(item.parts[0], call.id, call.name)

    def _whole(self, index: int, body: Json) -> Iterator[Event]:
        """Tell what is still missing of an item."""
        kind = fields.type_of(body)
        refuse_action(kind)
        item = self._items.setdefault(index, _Item(kind))
        if item.is_done or item.kind != kind:
            return
        item.is_done = True
        if kind == "message":
            for place, each in enumerate(fields.items(body, "content")):
                said = read_text(fields.entry(each, "a part of the output"))
                if said is not None:
                    is_no = said.is_refusal
                    yield from self._rest(item, place, "refusal" if is_no else "text", said.text)
        elif kind == "function_call":
            yield from self._call(item, body)
            yield from self._rest(item, 0, "arguments", read_call(body).arguments)
        elif kind == "reasoning":
            thinking = read_thinking(body)
            yield from self._rest(item, 0, "thinking", thinking.text)
            if thinking.proof:
                yield self._piece(item, 0, "proof", thinking.proof)

    def _rest(self, item: _Item, index: int, kind: WhatKind, text: str) -> Iterator[Event]:
        rest = text[item.told.get(index, 0) :]
        if rest:
            yield self._piece(item, index, kind, rest)


def _object(data: bytes) -> Json:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise UntranslatableError("an event that is not JSON") from None
    return fields.entry(value, "an event")


def _place(event: Json) -> int:
    return fields.count(event, "output_index") or 0


def _broken(error: Json) -> Broken:
    message = error.get("message")
    code, type_ = error.get("code"), error.get("type")
    return Broken(
        message if isinstance(message, str) and message else "upstream gives no reason",
        code if isinstance(code, str) else "",
        type_ if isinstance(type_, str) and type_ != "error" else "",
    )
