"""The closed set of error classes: what a caller can do about an error.

A class is the number that `copilot-cred` exits with; on the wire it is that same integer. `code`
(a string) is open and says what happened; clients act on the class alone.
"""

from __future__ import annotations

from enum import IntEnum


__all__ = ["ErrorClass"]


class ErrorClass(IntEnum):
    """What the caller can do about it; the value is the exit code of `copilot-cred`."""

    INTERNAL = 1
    """A defect of ours: report it."""
    USAGE = 2
    """The request is malformed or names something that is not there: change it."""
    UNREACHABLE = 3
    """No broker answers: start it."""
    LOGIN_REQUIRED = 4
    """Nobody is signed in, or upstream refused the login: sign in."""
    DENIED = 5
    """Upstream or the broker's policy refuses: asking again does not help."""
    LOCKED = 6
    """The broker is locked, or the secret store is: unlock it."""
    TEMPORARY = 7
    """Network, upstream or load: ask again after `retry_after` seconds."""
    MIN_VALID = 8
    """No token can live as long as was strictly asked for."""
    STORE_UNAVAILABLE = 9
    """There is no place to keep the login: choose one."""
