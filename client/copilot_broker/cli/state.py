"""Where the state folder is, which the broker and copilot-cred share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["state_folder"]


def state_folder(environ: Mapping[str, str]) -> Path:
    """Return it (XDG Base Directory 0.8: a relative $XDG_STATE_HOME counts as none)."""
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        base = str(Path(environ.get("HOME") or Path.home()) / ".local" / "state")
    return Path(base) / "copilot-broker"
