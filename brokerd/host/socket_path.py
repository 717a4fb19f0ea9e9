"""Where a daemon listens that no service manager gave a socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["default_socket"]


def default_socket(environ: Mapping[str, str]) -> Path:
    """Return $COPILOT_BROKER_SOCKET, else the place in the runtime directory.

    Raises PermanentError (USAGE) where there is no runtime directory.
    """
    if explicit := environ.get("COPILOT_BROKER_SOCKET"):
        return Path(explicit)
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not Path(runtime).is_dir():
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "no_runtime_dir",
                f"there is no runtime directory ({runtime})",
                "Log in through PAM, or choose a place: copilot-brokerd --socket PATH",
            )
        )
    return Path(runtime) / "copilot-broker" / "broker.sock"
