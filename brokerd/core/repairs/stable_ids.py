"""Repair `stable_ids`: one id for one item, through all events of a `/responses` stream.

Copilot gives the same item, and the response itself, a new id in every event. OpenAI's reference
("Streaming events") has each keep the one it was announced with, and clients match events by it.

Ids are compared as bytes until one that was announced is met again: if it is the same, the stream
is sound and passes from there on without a look. If it is not, every event is read.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.repairs.sse_events import Held, changed, each_event


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["ResponsesStream"]

_PLACE: Final = re.compile(rb'"output_index"\s*:\s*([0-9]{1,6})\b')
_ITEM_ID: Final = re.compile(rb'"item_id"\s*:\s*("(?:[^"\\]|\\.)*")')
_ID: Final = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*")')
_IS_OF_RESPONSE: Final = re.compile(rb'"type"\s*:\s*"response\.[a-z_.]*"')
_ANNOUNCES: Final = re.compile(rb'"type"\s*:\s*"response\.(?:created|queued|output_item\.added)"')


class ResponsesStream:
    """The repair of one stream."""

    __slots__ = ("_announced", "_fired", "_held", "_ids", "_is_sound", "_is_unstable", "_seen")

    def __init__(self, fired: list[str]) -> None:
        self._fired = fired
        self._held = Held()
        self._is_sound = False
        self._is_unstable = False
        self._seen: set[bytes] = set()
        """Ids that were announced, in quotes."""
        self._announced: list[bytes] = []
        """The events that did it."""
        self._ids: dict[int | None, str] = {}
        """Of items by their place in the output; None: of the response."""

    def feed(self, chunk: bytes) -> bytes:
        """See `answering.StreamRepairs`."""
        if self._is_sound:
            return chunk
        was_empty = self._held.is_empty
        whole = self._held.take(chunk)
        told = self._repaired(whole) if whole else b""
        if self._held.is_too_long:
            self._is_sound = True
        if not self._is_sound:
            return told
        rest = self._held.release()
        return chunk if was_empty and told is whole else told + rest

    def end(self) -> bytes:
        """See `answering.StreamRepairs`."""
        rest = self._held.release()
        return self._repaired(rest) if rest and not self._is_sound else rest

    def _repaired(self, whole: bytes) -> bytes:
        events = each_event(whole)
        told = [self._one(event) for event in events]
        same = all(new is old for new, old in zip(told, events, strict=True))
        return whole if same else b"".join(told)

    def _one(self, event: bytes) -> bytes:
        if not self._is_sound and not self._is_unstable:
            self._compare(event)
        if not self._is_unstable:
            return event
        return self._spliced(event) or changed(event, self._rename)

    def _spliced(self, event: bytes) -> bytes:
        """Do the common thing, a delta, fast; b"" where the event has to be read."""
        if (
            b'"item":' in event
            or b'"response":' in event
            or event.count(b'"item_id"') != 1
            or event.count(b'"output_index"') != 1
        ):
            return b""
        place, of_item = _PLACE.search(event), _ITEM_ID.search(event)
        first = self._ids.get(int(place[1])) if place is not None else None
        if first is None or of_item is None:
            return b""
        return event[: of_item.start(1)] + json.dumps(first).encode() + event[of_item.end(1) :]

    def _compare(self, event: bytes) -> None:
        """Find out whether the stream keeps its ids."""
        of_item = _ITEM_ID.search(event)
        ids = set(_ID.findall(event))
        if of_item is not None:
            self._is_sound = of_item[1] in self._seen
            self._is_unstable = not self._is_sound
        elif not ids or _IS_OF_RESPONSE.search(event) is None:
            return
        elif not self._seen or _ANNOUNCES.search(event) is not None:
            self._seen |= ids
            self._announced.append(event)
        else:
            self._is_unstable = self._seen.isdisjoint(ids)
        if self._is_unstable:
            self._fired.append("stable_ids")
            for each in self._announced:  # they have been sent on; what they said holds
                changed(each, self._rename)
            self._announced.clear()

    def _rename(self, event: dict[str, Any]) -> bool:
        """Call everything in it by the first id it had."""
        found = [self._is_renamed(named, key, place) for named, key, place in _ids_in(event)]
        return any(found)

    def _is_renamed(self, named: dict[str, Any], key: str, place: int | None) -> bool:
        given = named.get(key)
        if not isinstance(given, str):
            return False
        first = self._ids.setdefault(place, given)
        named[key] = first
        return first != given


def _ids_in(event: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, int | None]]:
    """Give (where an id stands, under which name, place of the item in the output)."""
    response = event.get("response")
    if isinstance(response, dict):
        yield response, "id", None
        output = response.get("output")
        for at, item in enumerate(output if isinstance(output, list) else ()):
            if isinstance(item, dict):
                yield item, "id", at
    place = event.get("output_index")
    if isinstance(place, int):
        yield event, "item_id", place
        item = event.get("item")
        if isinstance(item, dict):
            yield item, "id", place
