"""Usage and `[DONE]` of an answer that passes by, without decoding it.

Bytes go through a completion per read and untouched. What they cost in tokens, and whether a
stream has come to its end, both stand near the end: so only the last bytes are kept, and looked
at once, afterwards. The result depends on the bytes alone, never on how reads cut them.

Nothing that a model writes can pass for either: inside a JSON string a quote is escaped and a
line never ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any


__all__ = ["TAIL", "Usage", "UsageTail"]

TAIL = 8 * 1024
"""Bytes kept. The last data line with usage, Copilot's own billing detail and `[DONE]` take two
thousand; a longer one only goes uncounted."""

_CAP = 2 * TAIL
"""Bytes held before the oldest are let go: once in a while, not for every chunk."""

_DONE = re.compile(rb"(?:\A|[\r\n])data: ?\[DONE\][ \t]*(?:[\r\n]|\Z)")
_DONE_CUT = re.compile(rb"[\r\n]data: ?\[DONE\][ \t]*(?:[\r\n]|\Z)")
_USAGE = re.compile(r'(?<!\\)"usage"[ \t\r\n]*:[ \t\r\n]*(?=\{)')
_DECODER = JSONDecoder()


@dataclass(frozen=True)
class Usage:
    """Tokens of one completion, as Copilot counted them; None for a count it did not give."""

    prompt: int | None
    completion: int | None
    cached: int | None
    """Of the prompt, those that came from a cache."""
    total: int | None


class UsageTail:
    """Feed it every chunk; ask at the end."""

    __slots__ = ("_tail", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes that have passed."""
        self._tail = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take note of a chunk."""
        self.size += len(chunk)
        tail = self._tail
        tail += chunk
        if len(tail) > _CAP:
            del tail[:-TAIL]

    @property
    def is_done(self) -> bool:
        """Whether `data: [DONE]` has passed: the last line of a stream that is whole."""
        pattern = _DONE_CUT if self.size > TAIL else _DONE
        return pattern.search(self._tail[-TAIL:]) is not None

    def usage(self) -> Usage | None:
        """Return the last usage that can be read; None when there is none in sight.

        Streams carry `"usage": null` until the last chunk; other chunks may follow that.
        """
        text = self._tail[-TAIL:].decode("utf-8", "replace")
        for found in reversed(list(_USAGE.finditer(text))):
            try:
                fields, _ = _DECODER.raw_decode(text, found.end())
            except (ValueError, RecursionError):
                continue
            usage = _usage_of(fields)
            if usage is not None:
                return usage
        return None


def _usage_of(fields: dict[str, Any]) -> Usage | None:
    details = fields.get("prompt_tokens_details")
    usage = Usage(
        prompt=_count(fields.get("prompt_tokens")),
        completion=_count(fields.get("completion_tokens")),
        cached=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
        total=_count(fields.get("total_tokens")),
    )
    return None if usage == Usage(None, None, None, None) else usage


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
