"""GitHub tokens that were brought along and refused: for a while they are not shown to it again.

Several wrong credentials within a short time make GitHub lock the person out, of every other tool
too. A dead token in a shell's profile that signs in at each start must not do that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from brokerd.core.tokens import GitHubToken


if TYPE_CHECKING:
    from brokerd.errors import Failure
    from brokerd.ports import Clock


__all__ = ["REMEMBERED", "RefusedLogins"]

REMEMBERED = 300.0
"""Seconds. GitHub's "short period" is not documented; and should the refusal have been somebody's
mistake, a person waits no longer than for a coffee."""

MAX_REMEMBERED = 64
"""Tokens; who brings more of them is guessing, and is not helped by us."""


class RefusedLogins:
    """What GitHub said of each; the tokens themselves are not kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refused: dict[tuple[str, str], tuple[float, Failure]] = {}

    def note(self, host: str, token: str, failure: Failure) -> None:
        """Remember a failed login, if it failed because the token is wrong."""
        if failure.code != "bad_credentials":
            return
        if len(self._refused) >= MAX_REMEMBERED:
            self._refused.clear()
        self._refused[_named(host, token)] = self._clock.boottime() + REMEMBERED, failure

    def find(self, host: str, token: str) -> Failure | None:
        """Return what GitHub said of it a moment ago; None: ask."""
        until, failure = self._refused.get(_named(host, token), (-math.inf, None))
        return failure if self._clock.boottime() < until else None


def _named(host: str, token: str) -> tuple[str, str]:
    # Another host may know it: whoever named the wrong one tries again at once.
    return host, GitHubToken(token).fingerprint
