"""Events as a stream of `/chat/completions`, such as strict clients want it.

One id and one time for all chunks; the role in the first delta; `index`, `id` and `type` with
every new tool call; `finish_reason` null until the end; usage in a chunk of its own without
choices. Source: API reference, "The chat completion chunk object" and `stream_options`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.chat.ending import write_stop_reason, write_usage
from brokerd.core.dialects.meaning import (
    Begun,
    Broken,
    CallBegun,
    Piece,
    Stopped,
    Usage,
)
from brokerd.core.dialects.sse import sse


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.dialects.meaning import Event


__all__ = ["EventWriter"]

_FIELDS = {"text": "content", "refusal": "refusal", "thinking": "reasoning_text"}
_DONE = sse(b"[DONE]")


class EventWriter:
    """Give it every event, in order."""

    def __init__(self, asking_model: str, *, wants_usage: bool = True) -> None:
        self._wants_usage = wants_usage
        self._begin(Begun("", asking_model))
        self._asking_model = asking_model
        self._calls: dict[int, int] = {}
        """Index of a call, by its part."""
        self._thoughts: set[int] = set()
        """Parts that are thoughts with words."""
        self._proven: set[int] = set()
        """Those with a proof, which Messages may tell as a part of its own."""
        self._proof: list[str] = []
        """Held until the end: it is good for its own thought alone, and of several some readers
        keep the last, others join them to one that upstream refuses."""

    def write(self, events: Iterable[Event]) -> bytes:
        """Return what the events are in this dialect."""
        return b"".join(map(self._write, events))

    def _begin(self, begun: Begun) -> None:
        self._early = begun.usage
        self._about = {
            "id": begun.id,
            "object": "chat.completion.chunk",
            "created": begun.created,
            "model": begun.model,
        }
        # All of a chunk but its delta, once for all of them
        head = _json({**self._about, "choices": []}).removesuffix(b"]}")
        self._head = head + b'{"index":0,"delta":'

    def _write(self, event: Event) -> bytes:
        if isinstance(event, Piece) and event.kind == "proof":
            self._proven.add(event.part)
            self._proof.append(event.text)
            return b""
        if isinstance(event, Piece) and event.kind == "thinking":
            self._thoughts.add(event.part)
        return self._say(event)

    def _say(self, event: Event) -> bytes:
        match event:
            case Piece(kind="arguments"):
                more = {"index": self._calls[event.part], "function": {"arguments": event.text}}
                return self._delta({"tool_calls": [more]})
            case Piece():
                return self._delta({_FIELDS[event.kind]: event.text})
            case CallBegun():
                index = self._calls[event.part] = len(self._calls)
                function = {"name": event.name, "arguments": ""}
                call = {"index": index, "id": event.id, "type": "function", "function": function}
                return self._delta({"tool_calls": [call]})
            case Begun():
                model = event.model or self._asking_model
                self._begin(Begun(event.id, model, event.created, event.usage))
                return self._delta({"role": "assistant", "content": ""})
            case Stopped():
                reason = write_stop_reason(event.stop)
                ended = self._delta({}, reason)
                return self._told_proof() + ended + self._cost(event.usage) + _DONE
            case Broken():
                return self._told_proof() + sse(_json({"error": _error(event)}))

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        told = b"null" if reason is None else _json(reason)
        return sse(
            b'%b%b,"logprobs":null,"finish_reason":%b}]}' % (self._head, _json(delta), told)
        )

    def _told_proof(self) -> bytes:
        if len(self._proven) != 1 or len(self._thoughts) > 1:
            return b""
        return self._delta({"reasoning_opaque": "".join(self._proof)})

    def _cost(self, late: Usage) -> bytes:
        early = self._early
        usage = write_usage(
            Usage(
                prompt=early.prompt if late.prompt is None else late.prompt,
                completion=early.completion if late.completion is None else late.completion,
                cached=early.cached if late.cached is None else late.cached,
                reasoning=early.reasoning if late.reasoning is None else late.reasoning,
            )
        )
        if usage is None or not self._wants_usage:
            return b""
        return sse(_json({**self._about, "choices": [], "usage": usage}))


def _error(broken: Broken) -> dict[str, Any]:
    return {
        "message": broken.message,
        "type": broken.type or "server_error",
        "code": broken.code or None,
        "param": None,
    }


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # Half of a character beyond the first plane, which a delta has cut in two
        return json.dumps(value, separators=(",", ":")).encode()
