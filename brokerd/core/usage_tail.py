"""Usage and `[DONE]` of an answer that passes by, without decoding it.

Bytes go through a completion per read and untouched. What they cost in tokens, and whether a
stream has come to its end, both stand near the end: so only the last reads are kept, as they are,
and looked at once, afterwards. Anthropic's streams tell what the prompt cost in their first event
(`message_start`), so the first bytes are kept too. The result depends on the bytes alone, never
on how reads cut them.

Nothing that a model writes can pass for either: inside a JSON string a quote is escaped and a
line never ends.

    Chat Completions   prompt_tokens, completion_tokens, total_tokens,
                       prompt_tokens_details.cached_tokens
    Embeddings         prompt_tokens, total_tokens
    Responses          input_tokens, output_tokens, total_tokens,
                       input_tokens_details.cached_tokens
    Messages           input_tokens (without what the cache knew), output_tokens,
                       cache_read_input_tokens, cache_creation_input_tokens
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Any, NamedTuple


__all__ = ["HEAD", "TAIL", "TOKENS_MAX", "Usage", "UsageTail", "usage_of"]

TAIL = 4 * 1024
"""Bytes kept: a thousand streams at once are four megabytes. What stands behind the key `usage`,
Copilot's own billing detail and `[DONE]` take two thousand; a longer one only goes uncounted."""

HEAD = 2 * 1024
"""Bytes kept of the beginning; `message_start` has some five hundred."""

TOKENS_MAX = 2**40
"""Tokens that one answer may say it has cost; more is no count, and sums have 64 bits."""

_READ = 64
"""Bytes that holding a read costs besides its own."""

_CAP = TAIL + TAIL // 2
"""Bytes held before the oldest are let go: once in a while, not for every chunk. Each stream
under way may hold as many."""

_DONE = re.compile(rb"(?:\A|[\r\n])data: ?\[DONE\][ \t]*(?:[\r\n]|\Z)")
_DONE_CUT = re.compile(rb"[\r\n]data: ?\[DONE\][ \t]*(?:[\r\n]|\Z)")
_KEY = b'"usage"'
_OBJECT = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*(?=\{)")
_START = b'"message_start"'
_DECODER = JSONDecoder()


class Usage(NamedTuple):
    """Tokens of one answer, as Copilot counted them; None for a count it did not give."""

    prompt: int | None
    """All of it, what came from a cache or went into one included."""
    completion: int | None
    cached: int | None
    """Of the prompt, those that came from a cache."""
    total: int | None
    written: int | None = None
    """Of the prompt, those that went into a cache; only Messages tell."""


_NOTHING = Usage(None, None, None, None)


class UsageTail:
    """Feed it every chunk; ask at the end."""

    __slots__ = ("_first", "_has_begun", "_held", "_last", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes that have passed."""
        self._first = b""
        self._has_begun = False
        """Whether that is all of the first bytes."""
        self._last: list[bytes] = []
        self._held = 0
        """What `_last` takes, in bytes."""

    def feed(self, chunk: bytes) -> None:
        """Take note of a chunk."""
        size = len(chunk)
        if not self._has_begun:
            self._begin(chunk)
        self.size += size
        self._last.append(chunk)
        self._held += size + _READ
        if self._held > _CAP:
            self._let_go()

    def _begin(self, chunk: bytes) -> None:
        self._first += chunk[: HEAD - len(self._first)]
        if len(self._first) == HEAD:
            self._has_begun = True
            if _START not in self._first:  # then nobody looks at it
                self._first = b""

    def _let_go(self) -> None:
        """Make one of them: the last bytes, and none before them."""
        tail = self._tail()
        self._last = [tail]
        self._held = len(tail)

    @property
    def is_done(self) -> bool:
        """Whether `data: [DONE]` has passed: the last line of a stream that is whole."""
        pattern = _DONE_CUT if self.size > TAIL else _DONE
        return pattern.search(self._tail()) is not None

    def usage(self) -> Usage | None:
        """Return the last usage that can be read; None when there is none in sight.

        Streams carry `"usage": null` until the last chunk; other chunks may follow that.
        """
        fields, usage = _last_usage(self._tail())
        if _START in self._first and fields.get("prompt_tokens") is None:
            first, _ = _first_usage(self._first)
            usage = _usage_of({**first, **_without_null(fields)})
        return usage

    def _tail(self) -> bytes:
        return b"".join(self._last)[-TAIL:]


def usage_of(answer: bytes) -> Usage | None:
    """Return the usage of an answer that is here whole, and no stream of Messages."""
    return _last_usage(answer[-TAIL:])[1]


def _last_usage(data: bytes) -> tuple[dict[str, Any], Usage | None]:
    """Return the last usage in it with a count, as it stands there and as it is meant."""
    at = data.rfind(_KEY)  # a pattern takes five times as long
    while at >= 0:
        found = _usage_at(data, at)
        if found is not None:
            return found
        at = data.rfind(_KEY, 0, at)
    return {}, None


def _first_usage(data: bytes) -> tuple[dict[str, Any], Usage | None]:
    at = data.find(_KEY)
    while at >= 0:
        found = _usage_at(data, at)
        if found is not None:
            return found
        at = data.find(_KEY, at + 1)
    return {}, None


def _without_null(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _usage_at(data: bytes, place: int) -> tuple[dict[str, Any], Usage] | None:
    found = _OBJECT.match(data, place + len(_KEY))
    if found is None or data[place - 1 : place] == b"\\":
        return None
    try:
        fields, _ = _DECODER.raw_decode(data[found.end() :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    usage = _usage_of(fields)
    return None if usage is None else (fields, usage)


def _usage_of(fields: dict[str, Any]) -> Usage | None:
    if "input_tokens" in fields or "output_tokens" in fields:
        usage = _usage_of_input(fields)
    else:
        usage = Usage(
            _count(fields.get("prompt_tokens")),
            _count(fields.get("completion_tokens")),
            _cached(fields.get("prompt_tokens_details")),
            _count(fields.get("total_tokens")),
        )
    return None if usage == _NOTHING else usage


def _usage_of_input(fields: dict[str, Any]) -> Usage:
    """Read what Responses and Messages call it; only Messages count the cache beside it."""
    prompt, spent = _count(fields.get("input_tokens")), _count(fields.get("output_tokens"))
    read = _count(fields.get("cache_read_input_tokens"))
    written = _count(fields.get("cache_creation_input_tokens"))
    cached = _cached(fields.get("input_tokens_details"))
    if prompt is not None:
        prompt += (read or 0) + (written or 0)
    total = _count(fields.get("total_tokens"))
    if total is None and prompt is not None and spent is not None:
        total = prompt + spent
    return Usage(prompt, spent, cached if read is None else read, total, written)


def _cached(details: Any) -> int | None:
    return _count(details.get("cached_tokens")) if isinstance(details, dict) else None


def _count(value: Any) -> int | None:
    """Return it if it is a count; True is none."""
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None
