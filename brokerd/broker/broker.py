"""The single writer: feeds the token machines, keeps time for them, and answers callers.

Everything here runs in one event loop. `feed` and `tick` of a runner never await, so a machine is
never seen half-way; what takes time is a runner's task, whose answer comes back as an event.

Time is CLOCK_BOOTTIME, which counts suspend. The nap is on CLOCK_MONOTONIC, which does not: so it
is short, and whoever calls in meanwhile makes us look at the clock too.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.account_views import locked_line, pending_view, summary_line, view_of
from brokerd.broker.leases import Leases
from brokerd.broker.locking import BROKER_LOCKED, checked
from brokerd.broker.logins import Logins
from brokerd.broker.quotas import Quotas
from brokerd.broker.roster import Roster
from brokerd.broker.watching import watched
from brokerd.core.audit import LOCKED, TOKENS_DROPPED, UNLOCKED
from brokerd.core.machine.events import (
    Locked,
    RefreshRequested,
    Resumed,
    TokensDropped,
    Unlocked,
)
from brokerd.core.machine.states import Exchanging, Loading, Ready


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from brokerd.broker.account_runner import AccountRunner
    from brokerd.config import AccountSettings
    from brokerd.core.given import Given
    from brokerd.errors import Failure
    from brokerd.ports import AccountIndex, Clock, GitHub, LoginStores
    from brokerd.views import AccountView, LeasedToken, LoginProgress, LoginRequest, WatchState


__all__ = ["Broker"]

log = logging.getLogger(__name__)

START_TIMEOUT = 4.0
"""Seconds after which we are started, loaded or not: a hanging keyring must not hang the unit."""


class Broker:
    """All accounts of one person; every method is for the event loop that runs `run()`."""

    def __init__(
        self,
        *,
        clock: Clock,
        github: Callable[[str], GitHub],
        stores: LoginStores,
        index: AccountIndex,
        settings: Callable[[str], AccountSettings],
        cooldown: Callable[[str], float | None] = lambda _account: None,
        cooldown_reason: Callable[[str], Failure | None] = lambda _account: None,
        on_loaded: Callable[[], None] = lambda: None,
        on_withdrawn: Callable[[], None] = lambda: None,
        given: Callable[[], Mapping[str, Given]] = dict,
        random: random_module.Random | None = None,
    ) -> None:
        """`github` gives the edge for a host; `settings` the configuration of an account.

        `cooldown` says for how many seconds upstream wants no requests of an account (None: it
        wants them) and `cooldown_reason` what it said; whoever knows that calls `announce` when it
        changes. `on_loaded` is called in the loop once the index has been read, before anybody is
        lent anything. `on_withdrawn` is called when the broker is locked, and again once the last
        secret has gone to its store: what others have kept of them is to be forgotten.
        `given` reads what accounts are given from outside whose `source` says so, by name.
        """
        self.started = asyncio.Event()
        """Set once the kept logins are loaded, or their stores have said why not."""
        self._clock = clock
        self._settings = settings
        self._on_loaded = on_loaded
        self._on_withdrawn = on_withdrawn
        self._is_withdrawing = False
        self._roster = Roster(clock, index)
        self._roster.callbacks.append(self._follow_lock)
        self._leases = Leases(self._roster, cooldown, cooldown_reason)
        self.leasable = self._leases.leasable
        """`(account, min_valid)` → what `lease` would lend at once; None: ask that instead.

        A tuple: the lease, and `expires_at` and `expires_in` of this moment. The lease itself has
        those of when it was made: it is the same object while the same token is lent, for about a
        second at least, so that what is made of it can be kept beside it.
        """
        self._logins = Logins(
            self._roster,
            github=github,
            stores=stores,
            settings=settings,
            view=self._view,
            token_id=self._leases.token_id,
            chance=(random or random_module.SystemRandom()).random,
            given=given,
        )
        self.quotas = Quotas(
            self._roster,
            github=github,
            stores=stores,
            dead_logins=self._logins.dead_logins,
        )
        """What is left of each account's plan."""

    async def run(self) -> None:
        """Load logins, then drive the machines until cancelled."""
        try:
            self._logins.load()
            self._on_loaded()
            start_by = self._clock.monotonic() + START_TIMEOUT
            while True:
                self._roster.wake.clear()
                self._roster.look_at_clock()
                self._roster.ring_for_late()
                if not self.started.is_set():
                    is_late = self._clock.monotonic() >= start_by
                    if is_late or not any(map(_is_loading, self._roster.accounts.values())):
                        self.started.set()
                nap = self._roster.nap_length()
                if not self.started.is_set():
                    nap = min(nap, max(0.0, start_by - self._clock.monotonic()))
                await self._nap(nap)
        finally:
            await self._roster.lock.close()
            await self.quotas.close()
            await self._roster.close()

    async def _nap(self, seconds: float) -> None:
        nap = asyncio.ensure_future(self._clock.sleep(seconds))
        wake = asyncio.ensure_future(self._roster.wake.wait())
        try:
            await asyncio.wait({nap, wake}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            wake.cancel()
            await asyncio.gather(nap, wake, return_exceptions=True)

    def poke(self) -> None:
        """Look at the clock now, and retry what failed: we may have slept or changed networks."""
        if not self._roster.look_at_clock():
            for runner in self._roster.runners():
                runner.feed(Resumed(slept=False))
        self._roster.wake.set()

    def announce(self) -> None:
        """Know that something outside has changed that answers tell of: a cool-down."""
        self._roster.changed()

    @property
    def is_locked(self) -> bool:
        """Whether nothing is to be had until somebody unlocks it."""
        return self._roster.lock.is_locked

    async def lock(self, passphrase: str | None = None) -> bool:
        """Lend nothing from now on, hold no secret, and ask nothing of GitHub.

        With a passphrase only that unlocks it. Returns whether this has locked it: another lock
        changes nothing, and its passphrase is not taken. What GitHub has been asked for and would
        be lost is saved first; logins that wait for their approval end. Returns when the
        passphrase is kept; nothing is to be had before that. Raises PermanentError USAGE
        `bad_passphrase`.
        """
        given = None if passphrase is None else checked(passphrase)
        await self._roster.opened(None)
        if self._roster.lock.is_locked:
            return False
        self._roster.lock.engage(given)
        count = self._count_tokens()
        for attempt in list(self._roster.attempts.values()):
            if not attempt.is_committed:
                self._roster.end(attempt, BROKER_LOCKED)
        for runner in self._roster.runners():
            runner.feed(Locked(BROKER_LOCKED))
        log.info(LOCKED.message, extra=LOCKED.extra(REASON="requested"))
        self._tell_dropped("locked", count)
        self._is_withdrawing = True
        self._on_withdrawn()
        self._roster.changed()
        await self._roster.lock.engaged()
        return True

    async def unlock(self, passphrase: str | None = None) -> bool:
        """Load the logins again; return whether this has unlocked it.

        Raises PermanentError DENIED `passphrase_required`, and, after a while that grows with
        each, `wrong_passphrase`; USAGE `bad_passphrase`; TransientError TEMPORARY `unlock_busy`.
        """
        given = None if passphrase is None else checked(passphrase)
        if not await self._roster.lock.open(given):
            return False
        log.info(UNLOCKED.message, extra=UNLOCKED.extra(RESULT="unlocked"))
        self._is_withdrawing = False
        for runner in self._roster.runners():
            runner.feed(Unlocked())
        self._logins.given.unlocked()
        self._roster.changed()
        return True

    def drop_tokens(self) -> None:
        """Lend no Copilot token of before any more; new ones are asked for as upstream permits."""
        count = self._count_tokens()
        for runner in self._roster.runners():
            runner.feed(TokensDropped())
        self._tell_dropped("signal", count)
        self._roster.changed()

    def _count_tokens(self) -> int:
        return sum(isinstance(each.machine.state, Ready) for each in self._roster.runners())

    def _tell_dropped(self, reason: str, count: int) -> None:
        extra = TOKENS_DROPPED.extra(REASON=reason, COUNT=count)
        log.info(TOKENS_DROPPED.message, extra=extra)

    def _follow_lock(self) -> None:
        """Have all forgotten once more when the last secret of a lock is gone."""
        if self._is_withdrawing and all(
            runner.machine.is_withdrawn for runner in self._roster.runners()
        ):
            self._is_withdrawing = False
            self._on_withdrawn()

    def reconfigured(self) -> None:
        """Know that the settings have changed: have tokens replaced that no longer fit theirs.

        Logins that come from outside are read again.
        """
        if self._roster.is_open:
            self._logins.given.follow()
            self._roster.changed()
        for runner in self._roster.runners():
            if not runner.machine.fits:
                runner.feed(RefreshRequested())

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, in the loop, after anything in `accounts()` may have changed."""
        self._roster.callbacks.append(callback)

    async def lease(
        self,
        account: str | None = None,
        *,
        min_valid: float = 60.0,
        reject: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - by our clock, and part of the answer
    ) -> LeasedToken:
        """Lend a token that lives `min_valid` seconds, or as long as one can (`clamped`).

        `reject` is a token, or its token_id, that upstream refused: if it is the current one it
        is replaced first. Waits at most `timeout` seconds. Raises PermanentError LOGIN_REQUIRED,
        DENIED, STORE_UNAVAILABLE or USAGE; TransientError TEMPORARY or LOCKED.
        """
        return await self._leases.lease(
            account, min_valid=min_valid, reject=reject, timeout=timeout
        )

    def reject(self, account: str, token_id: str) -> None:
        """Have that token replaced, if it is still the current one; nobody waits for the new one.

        `account` is the name that the lease came with; an unknown one changes nothing.
        """
        self._leases.reject(account, token_id)

    async def refresh(self, account: str | None = None) -> LeasedToken:
        """Exchange now, whatever the current token's age or an earlier refusal.

        Callers at one time share one exchange; six a minute are made at most, then the token that
        there is comes, or the last failure. Raises as `lease` does; also TEMPORARY while
        upstream's `retry-after` runs.
        """
        return await self._leases.refresh(account)

    def watch(self, account: str | None = None) -> AsyncIterator[WatchState]:
        """Yield the full state at once, then one per change; a slow watcher sees the latest only.

        Ends when the broker stops. A failing refresh is no change while a token is leasable. A
        cool-down is told when it begins, with its end, and when it ends before that.
        """
        return watched(self._roster, self._leases, account)

    def login(self, request: LoginRequest) -> AsyncIterator[LoginProgress]:
        """Sign in; ends after LoginSucceeded or raises BrokerError.

        Callers with the same request share one prompt; when the last one leaves (closes the
        iterator) before the login is being saved, it is cancelled. Success is told after the
        login is durable and the first exchange has had its outcome, whichever it was.
        """
        return self._logins.login(request)

    async def logout(self, account: str | None = None, *, revoke: bool = False) -> bool:
        """Forget the login, here and in its store; an open prompt for it is cancelled.

        With `revoke` GitHub kills it first; when it does not, the login stays as it is. Returns
        whether it was revoked. Raises PermanentError USAGE for an unknown account, or when there
        is nothing to revoke; why it could not be revoked; and whatever the store raises: then the
        login may still be there, and is loaded again at the next start.
        """
        return await self._logins.logout(account, revoke=revoke)

    async def use(self, account: str) -> None:
        """Make this account the default; PermanentError USAGE when there is none such."""
        await self._logins.use(account)

    def default_account(self) -> str:
        """Return the name that is meant by who names none; "" while nobody chose one."""
        return self._roster.resolve(None)

    def accounts(self) -> list[AccountView]:
        """All accounts, by name."""
        self._roster.look_at_clock()
        return [
            self._view(name) for name in sorted({*self._roster.accounts, *self._roster.attempts})
        ]

    def exchanges(self) -> Mapping[tuple[str, str], int]:
        """How often a Copilot token was asked for: by account, and "" or the failure's code."""
        return self._roster.exchanges

    def summary(self) -> str:
        """One line for a person: STATUS= of the service."""
        if self.is_locked:
            return locked_line(len(self._roster.accounts))
        name = self._roster.resolve(None)
        if name not in self._roster.accounts and name not in self._roster.attempts:
            return summary_line(None, len(self._roster.accounts))
        return summary_line(self._view(name), len(self._roster.accounts))

    def _view(self, name: str) -> AccountView:
        runner, attempt = self._roster.accounts.get(name), self._roster.attempts.get(name)
        entry, settings = self._roster.index.entries().get(name), self._settings(name)
        is_default = self._roster.resolve(None) == name
        if runner is None:
            request = attempt.request if attempt else None
            return pending_view(name, attempt, request, settings, is_default=is_default)
        now = self._clock.boottime()
        lease = runner.machine.lease(now)
        token_id = self._leases.token_id(lease.token) if lease else None
        unsaved = attempt is not None and attempt.is_unsaved
        view = view_of(
            runner, entry, settings, token_id, now, is_default=is_default, unsaved=unsaved
        )
        if view.error is None:
            return view
        return replace(view, error=self._roster.addressed(name, view.error))


def _is_loading(runner: AccountRunner) -> bool:
    state = runner.machine.state
    is_loading = isinstance(state, Exchanging) and isinstance(state.step, Loading)
    return is_loading and runner.machine.failure is None
