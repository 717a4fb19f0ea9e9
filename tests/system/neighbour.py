"""Another user of this machine who can reach the socket, which its modes forbid otherwise."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.session import Session


__all__ = ["SECOND_UID", "as_second", "within_reach"]

SECOND_UID = 65534


def as_second(*command: str) -> tuple[str, ...]:
    """The command line that root runs, to have it run by the other user."""
    ids = (f"--reuid={SECOND_UID}", f"--regid={SECOND_UID}")
    return ("setpriv", *ids, "--clear-groups", *command)


@contextlib.contextmanager
def within_reach(session: Session) -> Iterator[None]:
    """Everybody may enter the folders and connect: what is left is what the daemon refuses."""
    folder = f"{session.runtime}/copilot-broker"
    session.good("chmod", "711", session.runtime, folder, root=True)
    session.good("chmod", "666", session.rpc, root=True)
    try:
        yield
    finally:
        session.good("chmod", "700", session.runtime, folder, root=True)
        session.good("chmod", "600", session.rpc, root=True)
