"""How copilot-cred says what went wrong: one message, one hint that ends in the mending command.

Wherever an error comes from, whether it ends a verb or stands in `status`, its words are made in
`words`. What ends a verb goes to stderr; stdout is for data. `get` imports this file, so it
imports nothing at the top that costs anything.
"""

from __future__ import annotations

import sys


TYPE_CHECKING = False  # the `typing` module alone would double what `get` imports
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Explained(Protocol):
        """What every error says, whoever has found it."""

        @property
        def error_class(self) -> int: ...
        @property
        def code(self) -> str: ...
        @property
        def message(self) -> str: ...
        @property
        def hint(self) -> str: ...
        @property
        def url(self) -> str | None: ...
        @property
        def retry_after(self) -> float | None: ...


__all__ = [
    "ERROR_FORMATS",
    "EXIT_BROKEN_PIPE",
    "EXIT_INTERRUPTED",
    "PROGRAM",
    "Refusal",
    "abandon",
    "error_format",
    "note",
    "printable",
    "report",
    "tell",
    "words",
]

PROGRAM = "copilot-cred"
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE: the reader of our stdout has had enough; nothing is said."""

ERROR_FORMATS = ("human", "json")


class Refusal(Exception):  # noqa: N818  # it is what copilot-cred answers, not a defect
    """An error that copilot-cred itself found; same fields as a `CopilotBrokerError`."""

    def __init__(  # noqa: PLR0917  # the fields of the wire, in its order
        self,
        error_class: int,
        code: str,
        message: str,
        hint: str,
        url: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.code = code
        self.message = message
        self.hint = hint
        self.url = url
        self.retry_after = retry_after

    @classmethod
    def of(cls, error: Explained) -> Refusal:
        """Say what another error says."""
        return cls(
            error.error_class, error.code, error.message, error.hint, error.url, error.retry_after
        )

    @classmethod
    def from_map(cls, error: object) -> Refusal | None:
        """Read an error of the wire (PROTOCOL.md, Errors); None when it is none."""
        if not isinstance(error, dict) or not isinstance(error.get("class"), int):
            return None
        url, retry_after = error.get("url"), error.get("retry_after")
        return cls(
            error["class"],
            str(error.get("code", "error")),
            str(error.get("message", "")),
            str(error.get("hint", "")),
            url if isinstance(url, str) else None,
            float(retry_after) if isinstance(retry_after, int | float) else None,
        )

    def to_map(self) -> dict[str, object]:
        """Return the shape that errors have on the wire."""
        fields: dict[str, object] = {
            "class": int(self.error_class),
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
        }
        if self.url:
            fields["url"] = self.url
        if self.retry_after is not None:
            fields["retry_after"] = self.retry_after
        return fields


def printable(text: object) -> str:
    """Return the text with everything that could drive a terminal shown as a `?`."""
    line = str(text)
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def tell(text: str) -> None:
    """Write for people: on stderr, or nowhere when that is closed, never on stdout.

    A full disk or a reader that has gone there changes neither what was done nor the exit code.
    """
    if sys.stderr is not None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            abandon(2)


def abandon(descriptor: int) -> None:
    """Point stdout (1) or stderr (2) at nothing, so that the interpreter's flush at exit is quiet.

    Otherwise it would make the exit code 120.
    """
    import os  # noqa: PLC0415 - not on the way of `get`

    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def note(text: str) -> None:
    """Say something that is no error."""
    tell(f"{PROGRAM}: note: {printable(text)}\n")


def error_format(argv: Sequence[str]) -> str:
    """Return the `--error-format` asked for, found even in an argv that does not parse."""
    found = "human"
    for here, word in enumerate(argv):
        if word == "--":  # what follows are another command's words
            break
        if word == "--error-format":
            found = argv[here + 1] if here + 1 < len(argv) else found
        elif word.startswith("--error-format="):
            found = word.partition("=")[2]
    return found if found in ERROR_FORMATS else "human"


def words(error: Refusal, speaker: str = PROGRAM) -> list[str]:
    """Return the error in lines: what is so, where to look, how long to wait, what mends it."""
    lines = [f"{printable(speaker)}: {printable(error.message)}"]
    if error.url:
        lines.append(f"  see: {printable(error.url)}")
    if error.retry_after is not None:
        from copilot_broker.cli.times import pause  # noqa: PLC0415 - not on the way of `get`

        lines.append(f"  again in: {pause(error.retry_after)}")
    if error.hint:
        lines.append(f"  hint: {printable(error.hint)}")
    return lines


def report(error: Refusal, style: str) -> int:
    """Print the error on stderr in the style asked for; return the exit code of its class.

    The JSON style is one line in the shape that errors have on the wire (PROTOCOL.md).
    """
    if style == "json":
        import json  # noqa: PLC0415

        tell(json.dumps(error.to_map()) + "\n")
    else:
        tell("\n".join(words(error)) + "\n")
    return int(error.error_class)
