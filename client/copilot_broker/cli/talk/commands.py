"""What begins with a slash: names, and what a line says: pure."""

from __future__ import annotations

import re


__all__ = ["COMMANDS", "help_lines", "parse"]

COMMANDS = {
    "help": ("", "this list"),
    "model": ("[ID]", "ask that model from now on; alone: which there are"),
    "system": ("[TEXT]", "how to answer from now on; alone: how it is; - for as it likes"),
    "attach": ("FILE", "a picture or text that goes with the next question; - for none"),
    "retry": ("", "ask the last question anew"),
    "new": ("", "begin a new conversation; the old one is gone"),
    "save": ("FILE", "write the conversation to a new file, which only you can read"),
    "usage": ("", "what this conversation has cost so far"),
    "exit": ("", "leave, as Ctrl-D and /quit do"),
}
"""Name → what follows it, what it does."""

_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*?))?\s*", re.DOTALL)


def parse(line: str) -> tuple[str, str] | None:
    """Return a command and what follows it; None for a question.

    `/etc/passwd says …` is a question, and so is every line that begins with a blank.
    """
    found = _COMMAND.fullmatch(line)
    return None if found is None else (found[1], found[2] or "")


def help_lines() -> list[str]:
    """Return the list of commands."""
    names = {name: f"/{name} {more}".rstrip() for name, (more, _) in COMMANDS.items()}
    width = max(map(len, names.values()))
    return [
        *(f"  {names[name].ljust(width)}  {does}" for name, (_, does) in COMMANDS.items()),
        '  Alt-Enter or Esc Enter: a new line. """ … """: a question of several lines.',
        "  Ctrl-C: stop the answer, or clear the line. Ctrl-D: leave.",
        "  A line that begins with a blank is always a question.",
    ]
