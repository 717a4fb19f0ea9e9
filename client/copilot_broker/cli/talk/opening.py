"""Reading what a person types: edited with prompt_toolkit, or as the terminal gives it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from copilot_broker.cli.report import note
from copilot_broker.cli.talk.lines import PlainLines


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from copilot_broker.cli.talk.lines import Lines


__all__ = ["open_lines"]


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
