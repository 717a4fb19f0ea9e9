"""How many tokens a Messages request has, about: there is nobody to ask.

Copilot has no `count_tokens`, and a tokenizer's table would cost tens of megabytes. So characters
are counted by their kind, which the interpreter does a hundred megabytes a second, and each kind
has its share of a token.

The shares were fitted to the tokenizer that Anthropic has published (Claude 2's; of newer ones
there is none). Texts of 300 to 3,000 characters that they were not fitted to are off by this much,
alone and all together; the other column is OpenAI's o200k_base:

                  Anthropic's        o200k_base
    English       13 %    +9 %       19 %   +18 %
    code          14 %    +7 %       20 %   +14 %
    German        19 %   -19 %       11 %    -5 %
    Chinese       19 %   -10 %       20 %    +9 %
    JSON          13 %   -15 %        9 %   -10 %
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import TYPE_CHECKING, Any, Final


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["estimate", "image_tokens", "text_tokens"]

_LETTER: Final = 0.31
_PAIR: Final = 0.3
_LINE: Final = 1.3
_DIGIT: Final = 1.3
_MARK: Final = 0.24
_LATIN: Final = 0.56
_OTHER: Final = 1.09
"""Tokens for an ASCII letter, two spaces (one alone is part of a word), a line, a digit, other
ASCII; then what takes two bytes in UTF-8 (accents, Greek, Cyrillic), and what takes more (CJK)."""

_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SPACES: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"

MESSAGE: Final = 4
"""Tokens around each message: who speaks, and where it ends."""

TOOL: Final = 20
"""Tokens around each tool's definition, and around each use and result."""

TOOLS: Final = 340
"""Tokens that Anthropic adds to a request with tools (API guide, "Tool use": 313 to 346)."""

PIXELS_PER_TOKEN: Final = 750
MAX_EDGE: Final = 1568
"""An image is scaled down to this before it is counted (API guide, "Vision")."""
MAX_IMAGE: Final = 1600
"""Tokens of an image whose size cannot be read, and the most of any."""

_HEAD: Final = 64 * 1024
"""Characters of an image's base64 that are searched for its size."""

_SKIPPED: Final = frozenset({"type", "id", "tool_use_id", "cache_control", "signature", "source"})
"""Members that are no text to a model, or counted by another rule."""


def estimate(body: Mapping[str, Any]) -> int:
    """Return the tokens of a request's `system`, `messages` and `tools`; never raises."""
    total = 0.0
    system, messages, tools = body.get("system"), body.get("messages"), body.get("tools")
    if system:
        total += MESSAGE + _tokens(system)
    for message in messages if isinstance(messages, list) else ():
        total += MESSAGE + _tokens(message.get("content") if isinstance(message, dict) else None)
    if isinstance(tools, list) and tools:
        total += TOOLS
        for tool in tools:
            total += TOOL + text_tokens(json.dumps(tool, ensure_ascii=False))
    return max(1, round(total))


def text_tokens(text: str) -> float:
    """Return the tokens of a text, about."""
    data = text.encode("utf-8", "replace")
    size = len(data)
    letters = size - len(data.translate(None, _LETTERS))
    spaces = size - len(data.translate(None, _SPACES))
    digits = size - len(data.translate(None, _DIGITS))
    beyond = size - len(data.translate(None, bytes(range(128, 256))))
    marks = size - letters - spaces - digits - beyond
    wide = len(text) - (size - beyond)  # characters that are not ASCII
    # Two bytes each, or three and more: how many of each follows from their bytes together.
    other = min(wide, max(0, beyond - 2 * wide))
    return (
        _LETTER * letters
        + _PAIR * data.count(b"  ")
        + _LINE * data.count(b"\n")
        + _DIGIT * digits
        + _MARK * marks
        + _LATIN * (wide - other)
        + _OTHER * other
    )


def image_tokens(source: object) -> int:
    """Return the tokens of an image by its pixels, once scaled; unread ones count as large."""
    data = source.get("data") if isinstance(source, dict) else None
    size = _size_of(data) if isinstance(data, str) else None
    if size is None:
        return MAX_IMAGE
    width, height = size
    scale = min(1.0, MAX_EDGE / max(width, height, 1))
    return max(1, min(MAX_IMAGE, round(width * scale * height * scale / PIXELS_PER_TOKEN)))


def _tokens(content: object) -> float:
    """Return the tokens of a content: a text, or blocks that may hold blocks."""
    total = 0.0
    waiting = [content]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            total += text_tokens(each)
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            kind = each.get("type")
            if kind == "image":
                total += image_tokens(each.get("source"))
            elif kind == "tool_use":
                named = {"name": each.get("name"), "input": each.get("input")}
                total += TOOL + text_tokens(json.dumps(named, ensure_ascii=False))
            else:
                total += TOOL if kind == "tool_result" else 0
                waiting += [value for key, value in each.items() if key not in _SKIPPED]
    return total


def _size_of(data: str) -> tuple[int, int] | None:
    """Read width and height of a PNG, GIF, WebP (lossy or extended) or JPEG; None: not found."""
    try:
        head = base64.b64decode(data[:_HEAD][: len(data[:_HEAD]) // 4 * 4])
        if head.startswith(b"\x89PNG"):
            return struct.unpack_from(">II", head, 16)
        if head.startswith(b"GIF8"):
            return struct.unpack_from("<HH", head, 6)
        if head[8:16] == b"WEBPVP8X":
            wide, high = head[24:27], head[27:30]
            return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
        if head[8:16] == b"WEBPVP8 ":
            wide, high = struct.unpack_from("<HH", head, 26)
            return wide & 0x3FFF, high & 0x3FFF
        if head.startswith(b"\xff\xd8"):
            return next(_frames(head), None)
    except (binascii.Error, ValueError, struct.error):
        return None
    return None


def _frames(head: bytes) -> Iterator[tuple[int, int]]:
    """Yield the sizes that a JPEG's frame headers tell (ITU T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(head):
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            high, wide = struct.unpack_from(">HH", head, at + 5)
            yield wide, high
        at += 2 + max(length, 2)
