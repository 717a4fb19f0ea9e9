"""The four places that know what is left of an account's plan, each asked once and at most once.

The GitHub token that the seat is asked with never leaves here, and a refusal of it is heeded like
one of the exchange's: GitHub is not shown it again, and its machine does what is to be done.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.broker.dead_logins import DEAD_CODES
from brokerd.broker.failures import PENDING, RENEWAL_WAITS, error_for
from brokerd.core.machine.effects import (
    ExchangeToken,
    LoadLogin,
    PrepareDirect,
    RenewToken,
    SaveLogin,
)
from brokerd.core.machine.events import RefreshRequested
from brokerd.core.machine.renewal import has_expired
from brokerd.core.machine.states import Exchanging, Ready, Renewing, SignedOut
from brokerd.core.quota import Report, headers
from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.broker.dead_logins import DeadLogins
    from brokerd.broker.roster import Roster
    from brokerd.core.quota_header import QuotaSnapshot
    from brokerd.core.tokens import IndexEntry, Login, Pat
    from brokerd.errors import Failure
    from brokerd.ports import GitHub


__all__ = ["QuotaSources"]

log = logging.getLogger(__name__)


class QuotaSources:
    """Asks them."""

    def __init__(
        self,
        roster: Roster,
        *,
        github: Callable[[str], GitHub],
        dead_logins: Callable[[str], DeadLogins],
    ) -> None:
        self._roster = roster
        self._github = github
        self._dead_logins = dead_logins
        self.headers_seen: Callable[[str], Mapping[str, QuotaSnapshot]] = lambda _account: {}
        """Account → what its last answer had in its headers; whoever sees answers sets it."""

    async def billing(self, entry: IndexEntry, pat: Pat) -> Report:
        """Ask the billing pages. Raises as `brokerd.ports.GitHub.billing`."""
        wall = self._roster.clock.wall()
        return await self._github(entry.host).billing(pat, entry.login, wall)

    async def seat(self, name: str, entry: IndexEntry) -> Report:
        """Ask the seat, once more if the login was renewed upon a refusal.

        Raises PermanentError LOGIN_REQUIRED without a login that GitHub takes, and as
        `brokerd.ports.GitHub.seat`.
        """
        login = await self._login(name)
        try:
            return await self._seat(entry, login)
        except BrokerError as error:
            if error.failure.code not in DEAD_CODES:
                raise
            newer = await self._looked_into(name, login)
            if newer is None:
                raise
        return await self._seat(entry, newer)

    def headers(self, name: str) -> Report:
        """Return what Copilot told beside its last answer."""
        return headers.read(self.headers_seen(name))

    def token(self, name: str) -> tuple[Report, float | None]:
        """Return what the exchange told of a free plan, and how many seconds ago."""
        runner = self._roster.accounts.get(name)
        state = runner.machine.state if runner else None
        if not isinstance(state, Ready):
            return Report(), None
        age = max(0.0, self._roster.clock.boottime() - state.asked_at)
        return Report(state.token.quota, sku=state.token.sku), age

    def login_mark(self, name: str) -> str | None:
        """Name the login that the seat would be asked with; None: there is none now."""
        runner = self._roster.accounts.get(name)
        login = None if runner is None else runner.login
        return None if login is None else login.token.fingerprint

    def limit(self, name: str) -> tuple[Failure, float] | None:
        """Return what GitHub told the exchange to wait for, and until when (CLOCK_BOOTTIME)."""
        runner = self._roster.accounts.get(name)
        state = None if runner is None else runner.machine.state
        if not isinstance(state, (Ready, Exchanging)) or state.retry.failure is None:
            return None
        return state.retry.failure, state.retry.not_before

    async def _seat(self, entry: IndexEntry, login: Login) -> Report:
        dead = self._dead_logins(entry.host)
        async with dead.proven(login.token):
            try:
                return await self._github(entry.host).seat(login.token)
            except BrokerError as error:
                if error.failure.code in DEAD_CODES:
                    dead.doubt(login.token)
                raise

    async def _login(self, name: str) -> Login:
        """Return the newest login, once a renewal of it under way is over."""
        self._roster.look_at_clock()
        runner = self._roster.accounts.get(name)
        if runner is not None:
            await runner.until_past(LoadLogin, RenewToken, SaveLogin)
            runner = self._roster.accounts.get(name)
        if runner is None:
            raise error_for(self._roster.no_login(name))
        state, login = runner.machine.state, runner.login
        if isinstance(state, SignedOut):
            raise error_for(state.reason or self._roster.no_login(name))
        if login is None:
            raise error_for(runner.failure or PENDING)
        if isinstance(state, (Ready, Exchanging)) and isinstance(state.step, Renewing):
            is_dead = has_expired(state.login_expires_at, self._roster.clock.boottime())
            if is_dead or state.step.refused is not None:
                raise error_for(runner.failure or RENEWAL_WAITS)
        return login

    async def _looked_into(self, name: str, refused: Login) -> Login | None:
        """Have its machine find out what GitHub just said; return a login that replaces it."""
        runner = self._roster.accounts.get(name)
        if runner is None:
            return None
        if runner.login is not None and runner.login.token.value == refused.token.value:
            log.info("login was refused when the quota was asked", extra={"ACCOUNT": name})
            runner.feed(RefreshRequested())
        await runner.until_past(ExchangeToken, PrepareDirect, LoadLogin, RenewToken, SaveLogin)
        newer = runner.login
        if newer is None or newer.token.value == refused.token.value:
            return None
        return newer
