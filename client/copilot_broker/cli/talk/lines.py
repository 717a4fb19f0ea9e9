"""Reading what a person types: edited with prompt_toolkit, or as the terminal gives it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from copilot_broker.cli.report import note


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["PROMPT", "Lines", "PlainLines", "is_open", "open_lines", "unquoted"]

PROMPT = "> "
CONTINUATION = ". "
QUOTES = '"""'


class Lines(Protocol):
    """Where questions come from."""

    def read(self) -> str:
        """Return the next, of one line or more. Raises EOFError, KeyboardInterrupt."""


def open_lines(models: Callable[[], Sequence[str]], *, is_kept: bool) -> Lines:
    """Return the best that this terminal and this installation have.

    `models` names those that `/model` completes; `is_kept`: questions are kept in a file.
    """
    if os.environ.get("TERM", "dumb") != "dumb":
        try:
            from copilot_broker.cli.talk.editor import open_editor  # noqa: PLC0415
        except ImportError:
            pass
        else:
            return open_editor(models, is_kept=is_kept)
    if is_kept:
        note("nothing is kept: --history needs prompt_toolkit (the extra [cli]), and a terminal")
    return PlainLines()


class PlainLines:
    """As the terminal gives them: it edits one line, of at most 4095 bytes (termios(3))."""

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
                return input(prompt)
            except UnicodeDecodeError:
                note("that line was no text in this terminal's encoding; type it again")


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
