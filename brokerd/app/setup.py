"""What argv and environment decided about one daemon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from brokerd.core.checks import Check
    from brokerd.core.settings import Config


__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """See the module's docstring."""

    load: Callable[[], Config]
    """Reads the configuration anew; raises ConfigError."""
    state_dir: Path
    socket: Path | None = None
    """Where to listen without a service manager; None: the runtime directory."""
    notice: str = ""
    """Said loudly at start and in `status`: what is unusual about this daemon."""
    checks: Sequence[Check] = field(default_factory=list)
    """How far this process was confined at its start."""
    effective: Callable[[], Sequence[Check]] = list
    """Looks anew at how far it is."""
    reach_covers: Callable[[Config], str] = lambda _: ""
    """Say what a changed configuration needs that was given up at the start; "" for nothing."""
