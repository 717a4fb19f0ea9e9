"""Server-sent events out of bytes that arrive in any pieces, and what Copilot puts into them.

The grammar is the HTML standard's, "Interpreting an event stream": lines end with CR LF, LF or CR,
a colon begins a comment, several `data` lines make one payload, an empty line ends the event.
OpenAI's convention on top of it: a payload is a JSON object, and the last one is `[DONE]`.
Copilot's own ways are those of its chat endpoint: `choices` may be empty or null, a choice may
lack its index, an `error` may stand where an answer was going on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from copilot_broker.errors import InternalError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["LOOK_HINT", "MAX_EVENT", "EventDecoder", "EventReader"]

MAX_EVENT: Final = 32 * 1024 * 1024
"""Bytes of one event: as much as the wire lets a whole answer have."""

LOOK_HINT: Final = "Ask again, or look at what comes: copilot-cred api"
"""The next step with an answer that cannot be understood."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DONE: Final = b"[DONE]"


class EventDecoder:
    """Takes bytes as they come and returns the payloads that they complete."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of the line that has not ended
        self._data: list[bytes] = []  # data lines of the event that has not ended
        self._held = 0
        self._first = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk. Raises InternalError `event_too_long`."""
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._after_cr = False
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        found: list[bytes] = []
        for piece in chunk.splitlines(keepends=True):
            self._line.append(piece)
            self._held += len(piece)
            if piece.endswith((b"\n", b"\r")):
                self._end_line(found)
        if self._held > MAX_EVENT:
            message = f"one event has more than {MAX_EVENT} bytes"
            raise InternalError("event_too_long", message, LOOK_HINT)
        return found

    def finish(self) -> list[bytes]:
        """Return the last payload where only the empty line after it is missing."""
        found: list[bytes] = []
        self._end_line(found)
        self._end_event(found)
        return found

    def _end_line(self, found: list[bytes]) -> None:
        line = b"".join(self._line).rstrip(b"\r\n")
        self._line.clear()
        if self._first:
            line, self._first = line.removeprefix(_BYTE_ORDER_MARK), False
        name, _, value = line.partition(b":")
        if not line:
            self._end_event(found)
        elif name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif not self._data:
            self._held = 0

    def _end_event(self, found: list[bytes]) -> None:
        if self._data:
            found.append(b"\n".join(self._data))
        self._data.clear()
        self._held = 0


class EventReader:
    """Reads an answer's body as a series of JSON objects; `done` once `[DONE]` was there.

    An answer that is no event stream but one JSON object (the request did not ask for a stream)
    is a series of one.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.done = False
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self._whole: list[bytes] | None = [] if kind == "application/json" else None
        self._events = EventDecoder()

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Take a chunk, return its events. Raises InternalError for what is no JSON."""
        if self._whole is not None:
            self._whole.append(chunk)
            return []
        return self._objects(self._events.feed(chunk))

    def finish(self) -> list[dict[str, Any]]:
        """Return what the end of the body completes."""
        if self._whole is not None:
            return self._objects([b"".join(self._whole)])
        return self._objects(self._events.finish())

    def _objects(self, payloads: list[bytes]) -> list[dict[str, Any]]:
        found = []
        for payload in payloads:
            if self.done or payload.strip() == _DONE:
                self.done = True
                break
            if not payload.strip():
                continue
            try:
                value = json.loads(payload)
            except (ValueError, RecursionError):
                message = "an event of the answer is not JSON"
                raise InternalError("bad_event", message, LOOK_HINT) from None
            if isinstance(value, dict):
                found.append(value)
        return found
