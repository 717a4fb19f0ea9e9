"""How copilot-cred says what went wrong: one message, one hint that ends in the mending command.

Everything here goes to stderr; stdout is for data. `get` imports this file, so it imports nothing
at the top that costs anything.
"""

from __future__ import annotations

import sys


TYPE_CHECKING = False  # the `typing` module alone would double what `get` imports
if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = [
    "ERROR_FORMATS",
    "EXIT_BROKEN_PIPE",
    "EXIT_INTERRUPTED",
    "PROGRAM",
    "Refusal",
    "error_format",
    "note",
    "printable",
    "report",
    "tell",
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


def printable(text: object) -> str:
    """Return the text with everything that could drive a terminal shown as a `?`."""
    line = str(text)
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def tell(text: str) -> None:
    """Write for people: on stderr, or nowhere when that is closed, never on stdout."""
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()


def note(text: str) -> None:
    """Say something that is no error."""
    tell(f"{PROGRAM}: note: {printable(text)}\n")


def error_format(argv: Sequence[str]) -> str:
    """Return the `--error-format` asked for, found even in an argv that does not parse."""
    found = "human"
    for here, word in enumerate(argv):
        if word == "--error-format":
            found = argv[here + 1] if here + 1 < len(argv) else found
        elif word.startswith("--error-format="):
            found = word.partition("=")[2]
    return found if found in ERROR_FORMATS else "human"


def report(error: Refusal, style: str) -> int:
    """Print the error on stderr in the style asked for; return the exit code of its class.

    The JSON style is one line in the shape that errors have on the wire (PROTOCOL.md).
    """
    if style == "json":
        import json  # noqa: PLC0415

        fields = {
            "class": int(error.error_class),
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
        }
        if error.url:
            fields["url"] = error.url
        if error.retry_after is not None:
            fields["retry_after"] = error.retry_after
        tell(json.dumps(fields) + "\n")
    else:
        lines = [f"{PROGRAM}: {printable(error.message)}"]
        if error.url:
            lines.append(f"  see: {printable(error.url)}")
        if error.retry_after is not None:
            lines.append(f"  again in: {error.retry_after:.0f} s")
        if error.hint:
            lines.append(f"  hint: {printable(error.hint)}")
        tell("\n".join(lines) + "\n")
    return int(error.error_class)
