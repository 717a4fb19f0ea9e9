"""Logins that GitHub has refused as dead: not shown to it again, not even after a restart.

Several wrong credentials within a short time make GitHub lock the person out, of every other tool
too. So the index remembers the fingerprint of a refused token until a new login; and of two names
of one login, one finds out for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.remembering import remember
from brokerd.core.audit import LOGIN_REFUSED
from brokerd.core.machine.outcomes import REFUSED_BEFORE
from brokerd.errors import PermanentError


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from brokerd.core.tokens import GitHubToken, IndexEntry, Login
    from brokerd.ports import AccountIndex


__all__ = ["DEAD_CODES", "DeadLogins"]

log = logging.getLogger(__name__)

DEAD_CODES = frozenset({"bad_credentials", "bad_refresh_token"})
"""Failures that say so of the token itself, and not of the app or of this moment."""

MAX_DOUBTED = 64
"""Tokens; a person has a handful of logins."""


class DeadLogins:
    """Those of one host, by the index."""

    def __init__(self, host: str, index: AccountIndex) -> None:
        self._host = host
        self._index = index
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        """Fingerprint → whose turn it is to show the token, and how many have one or wait."""
        self._doubted: set[str] = set()
        """Fingerprints of tokens that were refused to somebody other than their machine."""

    def has(self, token: GitHubToken) -> bool:
        """Whether GitHub has refused it."""
        dead = token.fingerprint
        entries = self._index.entries().values()
        return any(entry.host == self._host and entry.refused == dead for entry in entries)

    def check(self, token: GitHubToken) -> None:
        """Raise PermanentError `bad_credentials` for one that GitHub has refused."""
        if self.has(token):
            raise PermanentError(REFUSED_BEFORE)

    @contextlib.asynccontextmanager
    async def proven(self, token: GitHubToken) -> AsyncIterator[None]:
        """Show it to GitHub within, one at a time; raises as `check` does."""
        name = token.fingerprint
        lock, count = self._turns.get(name, (asyncio.Lock(), 0))
        self._turns[name] = lock, count + 1
        try:
            async with lock:
                self.check(token)
                if name in self._doubted:
                    raise PermanentError(REFUSED_BEFORE)
                yield
        finally:
            lock, count = self._turns.pop(name)
            if count > 1:
                self._turns[name] = lock, count - 1

    def doubt(self, token: GitHubToken) -> None:
        """Know that GitHub has just refused it, to somebody who asked besides its machine.

        The machine finds it out without a request when it is the next to show it, and then does
        what is to be done: renew it (`check` has nothing against that), or give it up.
        """
        if len(self._doubted) >= MAX_DOUBTED:
            self._doubted.clear()
        self._doubted.add(token.fingerprint)

    def note(self, name: str, login: Login, code: str) -> None:
        """Remember that GitHub has refused the login of that name; all names heed it.

        `code` is that of the failure.
        """
        entry, dead = self._index.entries().get(name), login.token.fingerprint
        if entry is not None and entry.key == login.key and entry.refused != dead:
            extra = LOGIN_REFUSED.extra(ACCOUNT=name, ERROR_CODE=code)
            log.warning(LOGIN_REFUSED.message, extra=extra)
            self._remember(name, replace(entry, refused=dead))

    def note_unknown(self, name: str, token: GitHubToken, code: str) -> None:
        """Remember, with what is known of that name, a token of which GitHub did not say whose.

        Nothing can be remembered of a name that nobody was ever signed in under.
        """
        extra = LOGIN_REFUSED.extra(ACCOUNT=name, ERROR_CODE=code)
        log.warning(LOGIN_REFUSED.message, extra=extra)
        entry = self._index.entries().get(name)
        if entry is not None and entry.host == self._host:
            self._remember(name, replace(entry, refused=token.fingerprint))

    def clear(self, login: Login) -> None:
        """Forget it: GitHub has just told whose it is."""
        self._doubted.discard(login.token.fingerprint)
        for name, entry in self._index.entries().items():
            if entry.key == login.key and entry.refused == login.token.fingerprint:
                self._remember(name, replace(entry, refused=""))

    def _remember(self, name: str, entry: IndexEntry) -> None:
        remember(self._index, name, entry, "refusal not recorded")
