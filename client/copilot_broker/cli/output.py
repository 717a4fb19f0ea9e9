"""Stdout for what Copilot says: at once, and harmless to a terminal."""

from __future__ import annotations

import codecs
import sys
from typing import Self


__all__ = ["Bytes", "Text"]

CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\n"), ord("\t")})
"""What drives a terminal instead of being shown (ECMA-48: C0, DEL, C1)."""


class Text:
    """An answer's text; ends with a newline."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last = ""

    @property
    def wrote(self) -> bool:
        """Whether there was anything to be seen."""
        return self._last != ""

    def write(self, text: str) -> None:
        """Print some more."""
        if self._terminal:
            text = text.translate(CONTROLS)
        if text:
            self._last = text[-1]  # first: Ctrl-C may come as soon as the text is out
            sys.stdout.write(text)
            sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """End the line, whatever else has ended, unless nobody reads it."""
        if self.wrote and self._last != "\n" and not isinstance(error, BrokenPipeError):
            self.write("\n")


class Bytes:
    """An answer's bytes as they came; a terminal gets their text, with its line ended."""

    def __init__(self) -> None:
        self._text = Text() if sys.stdout.isatty() else None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> None:
        """Print some more."""
        if self._text is not None:
            self._text.write(self._decoder.decode(data))
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the line of a terminal."""
        if self._text is not None:
            self._text.__exit__(kind, error, trace)
