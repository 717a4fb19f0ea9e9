"""A streamed answer, written as clients of this API expect it.

Every item has one id in all of its events, and is done before the next one begins, for some
clients (pi, codex) only know one at a time. But a call stays open while its arguments are not
whole JSON, and thoughts until their proof has come: these may go on later. Words that go on after
their message was done are another message. An end by a limit leaves the last item incomplete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects.meaning import Begun, Broken, CallBegun, Piece, Stopped, Usage
from brokerd.core.dialects.responses.output import (
    IN_PROGRESS,
    ItemStatus,
    call_item,
    message_item,
    reasoning_item,
    refusal_part,
    summary_part,
    text_part,
)
from brokerd.core.dialects.responses.response import (
    item_id,
    response,
    response_id,
    write_stop,
    write_usage,
)
from brokerd.core.dialects.sse import sse


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.dialects.meaning import Event, WhatKind


__all__ = ["EventWriter"]

_PREFIXES: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
_WORDS: Final = frozenset({"text", "refusal"})
"""Kinds of pieces that belong into a message."""


@dataclass
class _Run:
    """The text of one part."""

    kind: WhatKind
    texts: list[str] = field(default_factory=list, repr=False)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass
class _Item:
    """One item that has begun."""

    id: str
    kind: str
    index: int
    call: tuple[str, str] = ("", "")
    """Id and name."""
    runs: list[_Run] = field(default_factory=list)
    """Parts of a message; the text of thoughts; the arguments of a call."""
    proof: list[str] = field(default_factory=list, repr=False)
    whole: dict[str, Any] | None = field(default=None, repr=False)
    """As it is told once it is done."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing more is to be expected of it once another one begins."""
        if self.kind != "function_call":
            return self.kind == "message"
        try:
            return isinstance(json.loads(self.runs[0].text), dict)
        except (ValueError, RecursionError):
            return False

    def body(self, status: ItemStatus, runs: list[_Run]) -> dict[str, Any]:
        """Write it with so much of it."""
        if self.kind == "message":
            return message_item(self.id, status, [_said(run.kind, run.text) for run in runs])
        if self.kind == "reasoning":
            summary = [summary_part(run.text) for run in runs]
            return reasoning_item(self.id, status, summary, "".join(self.proof))
        return call_item(self.id, status, *self.call, "".join(run.text for run in runs))


def _said(kind: WhatKind, text: str) -> dict[str, Any]:
    return refusal_part(text) if kind == "refusal" else text_part(text)


class EventWriter:
    """Writes one stream."""

    def __init__(self, asking_model: str, *, wants_usage: bool = True) -> None:
        """Begin; `wants_usage` has no meaning here, for the last event always tells it."""
        del wants_usage
        self._model = asking_model
        self._id = ""
        self._created = 0
        self._usage = Usage()
        self._number = 0
        self._items: list[_Item] = []
        self._parts: dict[int, tuple[_Item, int]] = {}
        """Item of a part, and its place in it."""
        self._proven: _Item | None = None
        """Thoughts whose proof is coming."""
        self._out: list[bytes] = []

    def write(self, events: Iterable[Event]) -> bytes:
        """Write events; the first is `Begun`, or `Broken` if it came to nothing."""
        self._out = []
        for event in events:
            self._take(event)
        return b"".join(self._out)

    def _take(self, event: Event) -> None:
        if isinstance(event, Begun):
            self._begin(event)
            return
        if isinstance(event, Broken):
            self._break(event)
            return
        if isinstance(event, Stopped):
            self._stop(event)
            return
        self._seal(event.part)
        if isinstance(event, CallBegun):
            item = self._open("function_call", (event.id, event.name))
            item.runs.append(_Run("arguments"))
            self._parts[event.part] = item, 0
        else:
            self._piece(event)

    def _begin(self, begun: Begun) -> None:
        self._id = response_id(begun.id)
        self._model = begun.model or self._model
        self._created = begun.created
        self._usage = begun.usage
        for name in ("created", IN_PROGRESS):
            self._send(f"response.{name}", response=self._response(status=IN_PROGRESS))

    def _stop(self, stopped: Stopped) -> None:
        ending = write_stop(stopped.stop)
        last = self._items[-1] if self._items else None
        is_cut = ending["status"] != "completed" and last is not self._proven
        for item in sorted(self._items, key=lambda item: item.kind != "message"):
            if item.whole is None:
                self._close(item, "incomplete" if is_cut and item is last else "completed")
        usage = write_usage(_together(self._usage, stopped.usage))
        output = [item.whole for item in self._items]
        told = self._response(**ending, output=output, usage=usage)
        self._send(f"response.{ending['status']}", response=told)

    def _break(self, broken: Broken) -> None:
        """Tell it in all the ways by which clients learn of it: some know only one."""
        self._seal()
        error = {"code": broken.code or None, "message": broken.message, "param": None}
        self._send("error", **error, error={"type": broken.type or None, **error})
        failed = {"code": broken.code or "server_error", "message": broken.message}
        self._id = self._id or response_id("")
        self._send("response.failed", response=self._response(status="failed", error=failed))

    def _response(self, **more: Any) -> dict[str, Any]:
        return response(self._id, self._model, self._created, **more)

    def _send(self, type_: str, **fields: Any) -> None:
        told = {"type": type_, "sequence_number": self._number, **fields}
        self._number += 1
        # Plain ASCII: half a surrogate pair from a JSON escape has no bytes in UTF-8.
        self._out.append(sse(json.dumps(told, separators=(",", ":")).encode(), type_))

    def _open(self, kind: str, call: tuple[str, str] = ("", "")) -> _Item:
        for each in self._items:
            if each.whole is None and each.is_whole:
                self._close(each, "completed")
        index = len(self._items)
        item = _Item(item_id(_PREFIXES[kind], self._id, index), kind, index, call)
        self._items.append(item)
        body = item.body(IN_PROGRESS, [])
        self._send("response.output_item.added", output_index=index, item=body)
        return item

    def _seal(self, part: int | None = None) -> None:
        """Be done with thoughts whose proof has come, when another part goes on."""
        item = self._proven
        if item is not None and (part is None or self._parts.get(part, (None, 0))[0] is not item):
            self._proven = None
            self._close(item, "completed")

    def _piece(self, piece: Piece) -> None:
        item, place = self._parts.get(piece.part) or self._place(piece)
        if item.whole is not None:
            if item.kind == "function_call":
                return  # blanks after whole JSON
            item, place = self._place(piece)
        if piece.kind == "proof":
            item.proof.append(piece.text)
            self._proven = item
            return
        if item.kind == "reasoning" and not item.runs:
            item.runs.append(_Run("thinking"))
            self._send(
                "response.reasoning_summary_part.added",
                **self._where(item, 0),
                part=summary_part(""),
            )
        run = item.runs[place]
        run.texts.append(piece.text)
        more: dict[str, Any] = {"logprobs": []} if run.kind == "text" else {}
        self._send(
            f"{_STEMS[run.kind]}.delta", **self._where(item, place), delta=piece.text, **more
        )

    def _place(self, piece: Piece) -> tuple[_Item, int]:
        """Find room for a part that begins: words join the message before them."""
        kind = "message" if piece.kind in _WORDS else "reasoning"
        last = self._items[-1] if self._items else None
        joins = kind == "message" and last is not None and last.kind == "message"
        item = last if last is not None and joins else self._open(kind)
        place = len(item.runs)
        if kind == "message":
            item.runs.append(_Run(piece.kind))
            part = _said(piece.kind, "")
            self._send("response.content_part.added", **self._where(item, place), part=part)
        self._parts[piece.part] = item, place
        return item, place

    def _where(self, item: _Item, place: int) -> dict[str, Any]:
        where = {"item_id": item.id, "output_index": item.index}
        if item.kind == "message":
            where["content_index"] = place
        elif item.kind == "reasoning":
            where["summary_index"] = place
        return where

    def _close(self, item: _Item, status: ItemStatus) -> None:
        for place, run in enumerate(item.runs):
            if run.kind == "arguments" and not run.texts:
                run.texts.append("{}")  # clients read it as JSON
            self._finish(item, place, run)
        item.whole = item.body(status, item.runs)
        self._send("response.output_item.done", output_index=item.index, item=item.whole)

    def _finish(self, item: _Item, place: int, run: _Run) -> None:
        where = self._where(item, place)
        stem = _STEMS[run.kind]
        if run.kind == "arguments":
            name = item.body("completed", [])["name"]
            self._send(f"{stem}.done", **where, name=name, arguments=run.text)
        elif run.kind == "thinking":
            self._send(f"{stem}.done", **where, text=run.text)
            part = summary_part(run.text)
            self._send("response.reasoning_summary_part.done", **where, part=part)
        else:
            part = _said(run.kind, run.text)
            told = {
                key: value for key, value in part.items() if key not in {"type", "annotations"}
            }
            self._send(f"{stem}.done", **where, **told)
            self._send("response.content_part.done", **where, part=part)


_STEMS: Final = {
    "text": "response.output_text",
    "refusal": "response.refusal",
    "thinking": "response.reasoning_summary_text",
    "arguments": "response.function_call_arguments",
}


def _together(early: Usage, late: Usage) -> Usage:
    """Join what was known at the beginning and what at the end, which is the better one."""
    known = {name: count for name, count in vars(late).items() if count is not None}
    return replace(early, **known)
