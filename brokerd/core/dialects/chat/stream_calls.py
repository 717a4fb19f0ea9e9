"""Tool calls of a stream: which call a delta belongs to.

The API reference says: by `index`; id, type and name are in the first delta of a call. Copilot
also repeats deltas without an id, leaves out the index, and begins the index anew in a second
choice; other servers give every call index 0 and a new id.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.fields import count, known, mapping, sequence, text
from brokerd.core.dialects.meaning import CallBegun, Piece, UntranslatableError


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.meaning import Event


__all__ = ["StreamCalls"]

_NOT_OF_IDS = re.compile(r"[^A-Za-z0-9_-]")
"""What the ids of calls may not have in every dialect."""


@dataclass
class _Call:
    id: str
    name: str = ""
    held: str = ""
    """Arguments that came before the name."""
    part: int | None = None
    """None until its name is known, and so until it has begun."""


class StreamCalls:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_place: dict[tuple[int, int | str], _Call] = {}
        self.parts = 0
        """Parts of the answer after the last delta."""

    def take(
        self, delta: Mapping[str, Any], choice: int, answer_id: str, parts: int
    ) -> list[Event]:
        """Return the events of a delta; `parts` is the number of parts so far.

        Raises UntranslatableError.
        """
        found: list[Event] = []
        self.parts = parts
        for told in sequence(delta, "tool_calls"):
            kind = told.get("type")
            if kind not in (None, "", "function"):
                raise UntranslatableError(f"a tool call of type {known(kind)}")
            call = self._find(text(told, "id"), choice, count(told, "index"), answer_id)
            self._more(call, mapping(told, "function") or {}, found)
        if called := mapping(delta, "function_call"):
            self._more(self._at((choice, "function_call"), "", answer_id), called, found)
        return found

    def finish(self) -> bool:
        """Return whether there was any call. Raises UntranslatableError for one without a name."""
        if any(call.part is None for call in self._calls):
            raise UntranslatableError("a tool call without a name")
        return bool(self._calls)

    def _find(self, call_id: str, choice: int, index: int | None, answer_id: str) -> _Call:
        if index is not None:
            return self._at((choice, index), call_id, answer_id)
        known = [call for call in self._calls if not call_id or call.id == call_id]
        return known[-1] if known else self._new(call_id, answer_id)

    def _at(self, place: tuple[int, int | str], call_id: str, answer_id: str) -> _Call:
        call = self._by_place.get(place)
        if call is None or (call_id and call_id != call.id):
            call = self._by_place[place] = self._new(call_id, answer_id)
        return call

    def _new(self, call_id: str, answer_id: str) -> _Call:
        made = _NOT_OF_IDS.sub("_", f"call_{answer_id}_{len(self._calls)}")
        self._calls.append(_Call(call_id or made))
        return self._calls[-1]

    def _more(self, call: _Call, told: Mapping[str, Any], found: list[Event]) -> None:
        arguments = told.get("arguments")
        if isinstance(arguments, dict):  # not as documented, and yet sent
            more = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
        else:
            more = text(told, "arguments")
        name = text(told, "name")
        if call.part is None:
            call.held += more
            if not name:
                return
            call.name, call.part, more = name, self.parts, call.held
            self.parts += 1
            found.append(CallBegun(call.part, call.id, name))
        if more:
            found.append(Piece(call.part, "arguments", more))
