"""Streamed answers, written: as the events that strict clients of Messages wait for.

A message has one content block open at a time, where parts of an answer may alternate. A text or
a thought is over as soon as another part begins; should it go on later, that is a further block.
A call is over once its arguments are a whole JSON object; until then what comes of later parts
waits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Piece,
    Stopped,
    UntranslatableError,
    Usage,
)
from brokerd.core.dialects.messages.answering import word_of
from brokerd.core.dialects.messages.blocks import HIDDEN, arguments_of
from brokerd.core.dialects.messages.counting import write_usage
from brokerd.core.dialects.sse import sse


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.dialects.meaning import Event


__all__ = ["EventWriter"]


@dataclass
class _Part:
    """A part of the answer: open, or waiting until it may be."""

    number: int
    call: CallBegun | None = None
    kind: str = "text"
    """`text` or `thinking`, unless it is a call."""
    waiting: str = ""
    """Of its text or arguments, what has not been told yet."""
    proof: str = ""
    """Told as a whole, at its end: clients keep the last `signature_delta` they see."""
    arguments: list[str] = field(default_factory=list)
    """All of them, in pieces."""
    tried: int = 0
    """How many of them were there when they last were no whole object."""
    index: int | None = None
    """Of its block, once that has begun."""

    def add(self, piece: Piece) -> None:
        if piece.kind == "proof":
            self.proof += piece.text
            return
        self.waiting += piece.text
        if self.call is not None:
            self.arguments.append(piece.text)

    def is_whole(self) -> bool:
        """Say whether nothing more is to be expected of it now that another part has begun."""
        if self.call is None:
            return True
        if len(self.arguments) == self.tried:
            return False
        try:
            arguments_of("".join(self.arguments))
        except UntranslatableError:
            self.tried = len(self.arguments)
            return False
        return True


_ERRORS: Final = frozenset(
    f"{name}_error"
    for name in (
        "api", "authentication", "billing", "invalid_request", "not_found", "overloaded",
        "permission", "rate_limit", "request_too_large", "timeout",
    )
)  # fmt: skip
"""Types of errors that clients know (Anthropic's API reference, "Errors"); OpenAI has others."""

_START: Final = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class EventWriter:
    """Give it all events of one answer, in order."""

    def __init__(self, asking_model: str, *, wants_usage: bool = True) -> None:
        """Take the model's name as the caller said it, for an answer that does not name one.

        Usage is always written: Messages requires it.
        """
        del wants_usage
        self._model = asking_model
        self._usage = Usage()
        self._has_begun = False
        self._blocks = 0
        self._open: _Part | None = None
        self._later: dict[int, _Part] = {}
        self._made: set[int] = set()
        """Numbers of calls that are closed."""
        self._out: list[bytes] = []

    def write(self, events: Iterable[Event]) -> bytes:
        """Return what these events add to the stream."""
        for event in events:
            match event:
                case Begun():
                    self._begin(event)
                case CallBegun():
                    self._begin(Begun("", ""))
                    self._later[event.part] = _Part(event.part, event)
                    self._advance()
                case Piece():
                    self._begin(Begun("", ""))
                    self._add(event)
                case Stopped():
                    self._begin(Begun("", ""))
                    self._stop(event)
                case Broken():
                    self._break(event)
        out, self._out = self._out, []
        return b"".join(out)

    def _begin(self, begun: Begun) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        self._usage = begun.usage
        message: dict[str, Any] = {
            "id": begun.id,
            "type": "message",
            "role": "assistant",
            "model": begun.model or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(begun.usage),
        }
        self._tell("message_start", message=message)

    def _add(self, piece: Piece) -> None:
        if not piece.text or piece.part in self._made:
            return  # after a whole call only blanks can follow
        if self._open is not None and self._open.number == piece.part:
            self._open.add(piece)
            self._tell_waiting(self._open)
            return
        part = self._later.get(piece.part)
        if part is None:
            if piece.kind == "arguments":
                return  # of a call that nobody began
            kind = "thinking" if piece.kind in {"thinking", "proof"} else "text"
            part = self._later[piece.part] = _Part(piece.part, kind=kind)
        part.add(piece)
        self._advance()

    def _advance(self) -> None:
        """Go on to the parts that wait, as far as those before are whole."""
        while self._later and (self._open is None or self._open.is_whole()):
            self._close()
            self._open = self._later.pop(next(iter(self._later)))
            self._tell_waiting(self._open)

    def _tell_waiting(self, part: _Part) -> None:
        """Begin its block, if there is something to say of it, and say it."""
        if part.index is None:
            if part.call is not None:
                call = part.call
                block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
                self._begin_block(part, block)
            elif part.waiting:
                self._begin_block(part, _START[part.kind])
        if not part.waiting:
            return
        if part.call is not None:
            self._delta(part, {"type": "input_json_delta", "partial_json": part.waiting})
        else:
            kind = part.kind
            self._delta(part, {"type": f"{kind}_delta", kind: part.waiting})
        part.waiting = ""

    def _begin_block(self, part: _Part, block: dict[str, Any]) -> None:
        part.index = self._blocks
        self._blocks += 1
        self._tell("content_block_start", index=part.index, content_block=block)

    def _delta(self, part: _Part, delta: dict[str, Any]) -> None:
        self._tell("content_block_delta", index=part.index, delta=delta)

    def _close(self) -> None:
        part, self._open = self._open, None
        if part is None:
            return
        if part.index is None and part.proof.startswith(HIDDEN):
            data = part.proof.removeprefix(HIDDEN)
            self._begin_block(part, {"type": "redacted_thinking", "data": data})
        elif part.proof:
            if part.index is None:
                self._begin_block(part, _START[part.kind])
            self._delta(part, {"type": "signature_delta", "signature": part.proof})
        if part.call is not None:
            self._made.add(part.number)
        self._tell("content_block_stop", index=part.index)

    def _stop(self, stopped: Stopped) -> None:
        self._close()
        for part in self._later.values():
            self._open = part
            self._tell_waiting(part)
            self._close()
        self._later.clear()
        known = {key: n for key, n in vars(stopped.usage).items() if n is not None}
        delta = {
            "stop_reason": word_of(stopped.stop, has_calls=bool(self._made)),
            "stop_sequence": stopped.stop_sequence or None,
        }
        usage = write_usage(replace(self._usage, **known))
        self._tell("message_delta", delta=delta, usage=usage)
        self._tell("message_stop")

    def _break(self, broken: Broken) -> None:
        kind = broken.type if broken.type in _ERRORS else "api_error"
        error = {"type": kind, "message": broken.message}
        if broken.code:
            error["code"] = broken.code
        self._tell("error", error=error)

    def _tell(self, name: str, **told: object) -> None:
        data = json.dumps({"type": name, **told}, ensure_ascii=False, separators=(",", ":"))
        try:
            raw = data.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, as a model may cut one
            raw = json.dumps({"type": name, **told}, separators=(",", ":")).encode()
        self._out.append(sse(raw, name))
