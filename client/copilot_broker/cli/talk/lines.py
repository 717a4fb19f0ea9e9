"""What a person types, as the terminal gives it, and how a question of several lines is told."""

from __future__ import annotations

import os
from typing import Protocol

from copilot_broker.cli.report import note


__all__ = ["CONTINUATION", "PROMPT", "Lines", "PlainLines", "is_open", "unquoted"]

PROMPT = "> "
CONTINUATION = ". "
QUOTES = '"""'

LINE_MAX = 4095
"""Bytes; a terminal drops what a line has beyond them, and tells nobody (termios(3))."""


class Lines(Protocol):
    """Where questions come from."""

    def read(self) -> str:
        """Return the next, of one line or more. Raises EOFError, KeyboardInterrupt."""


class PlainLines:
    """As the terminal gives them: it edits one line."""

    def read(self) -> str:
        """Return the next. Raises EOFError, KeyboardInterrupt."""
        text = self._line(PROMPT)
        while is_open(text):
            text += f"\n{self._line(CONTINUATION)}"
        return unquoted(text)

    @staticmethod
    def _line(prompt: str) -> str:
        while True:
            try:
                line = input(prompt)
            except UnicodeDecodeError:
                note("that line was no text in this terminal's encoding; type it again")
            else:
                if len(os.fsencode(line)) < LINE_MAX:
                    return line
                note(
                    f"a line takes fewer than {LINE_MAX} bytes here; what is longer: /attach FILE"
                )


def is_open(text: str) -> bool:
    """Whether a question begins with three quotes and does not yet end with three more."""
    inner = text.strip()
    return inner.startswith(QUOTES) and (len(inner) < 6 or not inner.endswith(QUOTES))


def unquoted(text: str) -> str:
    """Return a question without the quotes around it."""
    inner = text.strip()
    if not inner.startswith(QUOTES) or is_open(text):
        return text
    return inner[3:-3].strip("\n")
