"""The question: the words of the command line, and what stdin holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from copilot_broker.cli.asking.attachments import TextFile, fenced, read_attachment
from copilot_broker.cli.asking.request import Turn
from copilot_broker.cli.report import PROGRAM, Refusal
from copilot_broker.cli.stdin import MIB, read_stdin
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_broker.cli.asking.request import Image


__all__ = ["question_of", "read_question"]

MAX_PROMPT = 8 * MIB
"""Bytes taken from stdin: more than the largest context holds, far below the wire's bound."""


def read_question(words: Sequence[str], attached: Sequence[str], verb: str) -> Turn:
    """Return the words, then what stdin holds, then the files. Raises Refusal (usage)."""
    parts = [" ".join(word for word in words if word != "-")]
    if "-" in words or (sys.stdin is not None and not sys.stdin.isatty()):
        parts.append(_stdin(verb))
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise _usage("no_prompt", "there is no question: neither PROMPT nor stdin holds one", verb)
    return question_of(prompt, [read_attachment(name) for name in attached])


def question_of(prompt: str, files: Sequence[Image | TextFile]) -> Turn:
    """Return a question with the files that go with it."""
    texts = fenced(file for file in files if isinstance(file, TextFile))
    return Turn(
        "user",
        f"{prompt.rstrip()}\n\n{texts}" if texts else prompt,
        tuple(file for file in files if not isinstance(file, TextFile)),
    )


def _stdin(verb: str) -> str:
    data = read_stdin(MAX_PROMPT, "question", lambda message: _unusable(message, verb))
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _unusable("what stdin holds is not UTF-8 text", verb) from None


def _unusable(message: str, verb: str) -> Refusal:
    return _usage("prompt_unusable", message, verb)


def _usage(code: str, message: str, verb: str) -> Refusal:
    hint = f"see how it is called: {PROGRAM} {verb} --help"
    return Refusal(ErrorClass.USAGE, code, message, hint)
