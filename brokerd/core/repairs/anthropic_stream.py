"""Repair `anthropic_chat` of a stream: Anthropic's events become OpenAI's chunks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from brokerd.core.dialects.chat import EventWriter
from brokerd.core.dialects.meaning import Broken, UntranslatableError
from brokerd.core.dialects.messages import EventReader
from brokerd.core.dialects.sse import TooLongError
from brokerd.core.pacing.model_name import model_of


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.dialects.meaning import Event


__all__ = ["AnthropicStream"]

_WANTS_USAGE = re.compile(rb'"include_usage"\s*:\s*true')


class AnthropicStream:
    """The rest of a stream that began as Anthropic's do."""

    def __init__(self, request: bytes) -> None:
        wants_usage = _WANTS_USAGE.search(request) is not None
        self._reader = EventReader()
        self._writer = EventWriter(model_of(request), wants_usage=wants_usage)
        self._is_broken = False

    def feed(self, chunk: bytes) -> bytes:
        """Return what it is in chunks; never raises."""
        return self._told(lambda: self._reader.feed(chunk)) if chunk else b""

    def end(self) -> bytes:
        """Return what is left at the end; never raises."""
        return self._told(self._reader.end)

    def _told(self, read: Callable[[], list[Event]]) -> bytes:
        if self._is_broken:
            return b""
        try:
            return self._writer.write(read())
        except (UntranslatableError, TooLongError) as error:
            self._is_broken = True
            broken = Broken(f"the answer cannot be read as Anthropic's: {error}")
            return self._writer.write([broken])
