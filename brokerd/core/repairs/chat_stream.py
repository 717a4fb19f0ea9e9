"""The repairs of a chat stream, made as far as its beginning says that it needs them.

The first event with a choice decides what the stream is:

- sound: it passes from there on without a look; or, where the request offers tools, it is
  searched for a second choice, and read only where a tool call begins or there may be one.
- bare (no `object`, no `index`): every event is read.
- Anthropic's: all of it goes through the translation.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Protocol

from brokerd.core.repairs import chat_shape
from brokerd.core.repairs.sse_events import Held, changed, each_event


if TYPE_CHECKING:
    from collections.abc import Collection

    class _Translation(Protocol):
        def feed(self, chunk: bytes) -> bytes: ...

        def end(self) -> bytes: ...


__all__ = ["ChatStream"]

_A_CHOICE: Final = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_OBJECT: Final = re.compile(rb'"object"\s*:\s*"')
_INDEX: Final = re.compile(rb'"index"\s*:')
_ANTHROPIC: Final = re.compile(rb'"type"\s*:\s*"message_start"')

_FURTHER: Final = re.compile(rb'"index"\s*:\s*[1-9]')
_CALLS: Final = b'"tool_calls"'
_ONE_CHOICE: Final = b'"choices":[{'


def _may_merge(whole: bytes) -> bool:
    """Whether there may be a second choice, or a call whose number it would have to respect."""
    if _CALLS in whole:
        return True
    # Counting is some ten times as fast as the pattern, and enough for what Copilot writes.
    return whole.count(b'"index"') != whole.count(b'"index":0') and bool(_FURTHER.search(whole))


def _with_object(event: bytes) -> bytes:
    """Add `object` and `index` to a chunk without reading it; b"" where that is not safe."""
    at = event.find(_ONE_CHOICE)
    begin = event.find(b"{")
    if (
        at < 0
        or event.count(b'"delta"') != 1  # one choice
        or b'"object"' in event
        or not event.startswith(b"data:")
        or event.find(_ONE_CHOICE, at + 1) >= 0
    ):
        return b""
    inside = at + len(_ONE_CHOICE)
    index = b"" if b'"index"' in event else b'"index":0,'
    lead, rest = event[begin + 1 : inside], event[inside:]
    return b'%b{"object":"chat.completion.chunk",%b%b%b' % (event[:begin], lead, index, rest)


class _Is(Enum):
    """What the stream is."""

    UNKNOWN = auto()
    SOUND = auto()
    """Nothing more to look for."""
    WATCHED = auto()
    """Sound so far; a second choice may come."""
    READ = auto()
    """Every event is read."""


class ChatStream:
    """The repairs of one stream."""

    __slots__ = (
        "_calls",
        "_enabled",
        "_fired",
        "_has_tools",
        "_held",
        "_is",
        "_is_bare",
        "_is_merged",
        "_request",
        "_translation",
    )

    def __init__(
        self, enabled: Collection[str], fired: list[str], request: bytes, *, has_tools: bool
    ) -> None:
        self._enabled = enabled
        self._fired = fired
        self._request = request
        self._has_tools = has_tools and "merged_choices" in enabled
        self._held = Held()
        self._is = _Is.UNKNOWN
        self._is_bare = False
        self._is_merged = False
        self._calls: dict[tuple[int, int], int] = {}
        """Number of a tool call in the one choice, by its choice and its number there."""
        self._translation: _Translation | None = None

    def feed(self, chunk: bytes) -> bytes:
        """See `answering.StreamRepairs`."""
        if self._is is _Is.SOUND:
            return chunk
        if self._translation is not None:
            return self._translation.feed(chunk)
        return self._looked_at(chunk)

    def _looked_at(self, chunk: bytes) -> bytes:
        was_empty = self._held.is_empty
        whole = self._held.take(chunk)
        told = self._repaired(whole) if whole else b""
        if self._translation is not None:
            return told + self._translation.feed(self._held.release())
        if self._held.is_too_long:
            self._is = _Is.SOUND
        if self._is is not _Is.SOUND:
            return told
        rest = self._held.release()
        return chunk if was_empty and told is whole else told + rest

    def end(self) -> bytes:
        """See `answering.StreamRepairs`."""
        if self._translation is not None:
            return self._translation.end()
        rest = self._held.release()
        return self._repaired(rest) if rest and self._is is not _Is.SOUND else rest

    def _repaired(self, whole: bytes) -> bytes:
        if self._is is _Is.UNKNOWN:
            self._look_at_first(whole)
        if self._is is _Is.SOUND or (self._is is _Is.WATCHED and not _may_merge(whole)):
            return whole
        events = each_event(whole)
        told = [self._one(event) for event in events]
        same = all(new is old for new, old in zip(told, events, strict=True))
        return whole if same else b"".join(told)

    def _look_at_first(self, whole: bytes) -> None:
        """Decide by the first event, where it has a choice, before all of them are cut apart."""
        end = whole.find(b"\n\n")
        if end >= 0 and b"\r" not in whole and _A_CHOICE.search(whole, 0, end) is not None:
            self._decide(whole[:end])

    def _one(self, event: bytes) -> bytes:
        if self._translation is not None:
            return self._translation.feed(event)
        if self._is is _Is.UNKNOWN:
            if _A_CHOICE.search(event) is not None:
                self._decide(event)
            elif _NO_CHOICES.search(event) is not None and self._is_dropped(event):
                return b""
            elif _ANTHROPIC.search(event) is not None and "anthropic_chat" in self._enabled:
                return self._translated(event)
        if self._is is _Is.READ:
            return self._added(event) or changed(event, self._shape)
        if self._is is _Is.WATCHED and _may_merge(event):
            return changed(event, self._shape)
        return event

    def _added(self, event: bytes) -> bytes:
        """Do the common thing fast; b"" where the event has to be read."""
        if self._is_merged or self._calls or (self._has_tools and _may_merge(event)):
            return b""
        return _with_object(event)

    def _decide(self, event: bytes) -> None:
        sound = _OBJECT.search(event) is not None and _INDEX.search(event) is not None
        if not sound and "chunk_object" in self._enabled:
            self._fired.append("chunk_object")
            self._is_bare = True
            self._is = _Is.READ
        else:
            self._is = _Is.WATCHED if self._has_tools else _Is.SOUND

    def _is_dropped(self, event: bytes) -> bool:
        """Whether it is a chunk that says nothing to a client: usage, it keeps."""
        if "empty_choices" not in self._enabled:
            return False
        says_nothing: list[bool] = []

        def look(fields: dict[str, Any]) -> bool:
            says_nothing.append(fields.get("choices") == [] and fields.get("usage") is None)
            return False

        changed(event, look)
        if not any(says_nothing):
            return False
        self._fired.append("empty_choices")
        return True

    def _translated(self, event: bytes) -> bytes:
        from brokerd.core.repairs.anthropic_stream import AnthropicStream  # noqa: PLC0415 - seldom

        self._fired.append("anthropic_chat")
        self._translation = AnthropicStream(self._request)
        return self._translation.feed(event)

    def _shape(self, chunk: dict[str, Any]) -> bool:
        is_changed = self._is_bare and chat_shape.with_object(chunk, "chat.completion.chunk")
        if self._has_tools:
            for choice in chat_shape.choices_of(chunk):
                is_changed |= self._merge(choice)
            if self._is_merged:
                is_changed |= chat_shape.into_one(chunk)
        return is_changed

    def _merge(self, choice: dict[str, Any]) -> bool:
        """Let a further choice be part of the first."""
        at = choice.get("index")
        at = at if isinstance(at, int) else 0
        is_further = at > 0
        if is_further:
            choice["index"] = 0
            if not self._is_merged:
                self._is_merged = True
                self._is = _Is.READ
                self._fired.append("merged_choices")
        calls = chat_shape.delta_of(choice).get("tool_calls")
        is_changed = is_further
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                is_changed |= self._number(call, at)
        if self._is is _Is.READ and self._calls and choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"  # else an agent would not make the call
            is_changed = True
        return is_changed

    def _number(self, call: dict[str, Any], choice: int) -> bool:
        """Give a tool call of a choice the number that it has in the only choice."""
        given = call.get("index")
        number = given if isinstance(given, int) else 0
        taken = self._calls.get((choice, number))
        if taken is None:
            # Of the first choice, those before a second came have been sent on as they are.
            free = max(self._calls.values(), default=-1) + 1
            taken = free if self._is_merged else number
            self._calls[choice, number] = taken
        if taken == number:
            return False
        call["index"] = taken
        return True
