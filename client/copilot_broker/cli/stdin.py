"""Reading what a request is made of from stdin: all of it, up to a bound."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_broker.cli.report import Refusal


__all__ = ["MIB", "read_stdin"]

MIB = 1024 * 1024


def read_stdin(most: int, what: str, refuse: Callable[[str], Refusal]) -> bytes:
    """Return what stdin holds, `most` bytes at most; raise what `refuse` makes of a sentence."""
    if sys.stdin is None:
        raise refuse(f"stdin is closed, so no {what} can be read from it")
    try:
        data = sys.stdin.buffer.read(most + 1)
    except OSError as error:
        raise refuse(f"stdin cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise refuse(f"stdin holds more than {most // MIB} MiB")
    return data
