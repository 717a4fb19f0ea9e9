"""A conversation as a file: Markdown, which only the person can read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_broker.cli.report import printable


if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_broker.cli.talk.conversation import Exchange


__all__ = ["save", "transcript"]


def save(name: str, exchanges: Sequence[Exchange], system: str | None) -> Path:
    """Write it to a new file and return its path. Raises OSError, also where one is there."""
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path raises where ~x is no user
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8", errors="replace") as writer:
        writer.write(transcript(exchanges, system))
    return path


def transcript(exchanges: Sequence[Exchange], system: str | None) -> str:
    """Return it as Markdown."""
    parts = [] if system is None else [f"## System\n\n{system}"]
    for exchange in exchanges:
        names = [f"[{printable(image.name)}]" for image in exchange.question.images]
        parts.append("\n\n".join(["## You", exchange.question.text, *names]))
        parts.append(f"## {printable(exchange.model)}\n\n{exchange.answer}")
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
