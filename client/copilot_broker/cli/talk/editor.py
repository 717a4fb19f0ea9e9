"""Lines edited with prompt_toolkit: history, completion of commands, questions of several lines.

Enter sends, Alt-Enter (or Esc, Enter) begins a new line; pasted text stays together wherever the
terminal marks it (bracketed paste).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings

from copilot_broker.cli.report import note
from copilot_broker.cli.state import state_folder
from copilot_broker.cli.talk.commands import COMMANDS
from copilot_broker.cli.talk.kept import KeptQuestions
from copilot_broker.cli.talk.lines import CONTINUATION, PROMPT, is_open, unquoted


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.key_binding import KeyPressEvent


__all__ = ["EditedLines", "open_editor"]

FILES = frozenset({"/attach", "/save"})
"""Commands that are followed by a file's name."""


def open_editor(models: Callable[[], Sequence[str]], *, is_kept: bool) -> EditedLines:
    """Return it; where questions are to be kept and cannot be, that is said."""
    history: History = InMemoryHistory()
    if is_kept:
        kept = KeptQuestions(state_folder(os.environ) / "chat-history")
        try:
            kept.prepare()
        except OSError as error:
            note(f"nothing is kept: {kept.path} cannot be used: {error.strerror}")
        else:
            history = _Kept(kept)
    return EditedLines(models, history)


class EditedLines:
    """A line at a time, with all those before it at hand."""

    def __init__(self, models: Callable[[], Sequence[str]], history: History) -> None:
        self._session: PromptSession[str] = PromptSession(
            multiline=True,  # so that a new line can be put in; Enter sends all the same
            key_bindings=_keys(),
            completer=_Commands(models),
            complete_while_typing=True,
            history=history,
            enable_suspend=True,  # else Ctrl-Z would be a letter
            prompt_continuation=CONTINUATION,
        )

    def read(self) -> str:
        """Return the next. Raises EOFError, KeyboardInterrupt."""
        text = self._session.prompt(PROMPT)
        # Bytes that are no text in this terminal's encoding come as lone surrogates.
        return unquoted(text.encode("utf-8", "replace").decode())


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class _Commands(Completer):
    def __init__(self, models: Callable[[], Sequence[str]]) -> None:
        self._models = models
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Complete a command's name, or what follows it."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, blank, rest = text.partition(" ")
        if blank and name in FILES:
            yield from self._paths.get_completions(Document(rest, len(rest)), event)
        elif blank:
            for model in self._models() if name == "/model" else ():
                if model.startswith(rest):
                    yield Completion(model, -len(rest))
        else:
            for command, (_, does) in COMMANDS.items():
                if command.startswith(name[1:]):
                    yield Completion(f"/{command}", -len(name), display_meta=does)


class _Kept(History):
    """Questions of earlier conversations, and of this one."""

    def __init__(self, kept: KeptQuestions) -> None:
        super().__init__()
        self._kept = kept

    def load_history_strings(self) -> Iterable[str]:
        """Yield them, the newest first."""
        return reversed(self._kept.read())

    def store_string(self, string: str) -> None:
        """Keep one more; where the disk is full, only here."""
        self._kept.add(string)
