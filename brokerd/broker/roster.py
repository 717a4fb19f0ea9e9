"""Who there is and who waits: the state that tokens and logins share, and its one bell.

Callers that have to wait share the bell: each change rings it, and each looks for itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.dead_logins import DEAD_CODES
from brokerd.broker.failures import (
    PENDING,
    RENEWAL_WAITS,
    STOPPING,
    error_for,
    no_default_account,
)
from brokerd.broker.locking import BROKER_LOCKED, Lock
from brokerd.core.audit import LOGIN_REFUSED, SIGNED_IN
from brokerd.core.hints import addressed, anew
from brokerd.core.machine.effects import RenewToken, SaveLogin
from brokerd.core.machine.events import Locked, Resumed
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.broker.account_runner import AccountRunner
    from brokerd.broker.login_attempt import LoginAttempt
    from brokerd.core.given import Given
    from brokerd.core.tokens import AccountKey, IndexEntry
    from brokerd.ports import AccountIndex, Clock


__all__ = ["NAP", "Roster"]

log = logging.getLogger(__name__)

NAP = 30.0
"""Seconds between two looks at the clocks; a resume ends a nap, and so does whoever asks."""
SUSPEND_STEP = 1.0
"""Seconds by which BOOTTIME runs ahead of MONOTONIC before we believe in a suspend."""
SAVE_GRACE = 5.0
"""Seconds that a login being renewed or saved gets when we stop: cut short, it would be lost."""
TURN_WAIT = 20.0
"""Seconds that a renewal waits for one of the same login under another name."""


class Roster:
    """All runners, the logins under way, and the callers who wait for a change."""

    def __init__(self, clock: Clock, index: AccountIndex) -> None:
        self.clock = clock
        self.index = index
        self.accounts: dict[str, AccountRunner] = {}
        self.given: dict[str, Given] = {}
        """Accounts whose login comes from outside, and what came."""
        self.attempts: dict[str, LoginAttempt] = {}
        self.exchanges: Counter[tuple[str, str]] = Counter()
        """Account and how it went ("" or a failure's code) → how often a Copilot token was asked
        for, since we run."""
        self.callbacks: list[Callable[[], None]] = []
        self.wake = asyncio.Event()
        """Set when the loop must look at its deadlines again."""
        self.is_open = False
        """Whether the index has been read."""
        self.is_closed = False
        self.lock = Lock(clock)
        self._retired: list[AccountRunner] = []
        self._waiting: dict[asyncio.Future[None], float | None] = {}
        self._offset = clock.boottime() - clock.monotonic()
        self._due_at: float | None = None
        """When the first machine wants its timer; None: not worked out since the last change."""

    def runners(self) -> list[AccountRunner]:
        """All, those of logins under way too."""
        return [*self.accounts.values(), *(a.runner for a in self.attempts.values())]

    def look_at_clock(self) -> bool:
        """Do all that is due; return whether the machine has slept."""
        now, monotonic = self.clock.boottime(), self.clock.monotonic()
        slept = now - monotonic - self._offset > SUSPEND_STEP
        self._offset = now - monotonic
        if slept:
            log.info("the machine has slept")
        for runner in self.runners():
            if slept:
                runner.feed(Resumed())
            else:
                runner.tick(now)
        return slept

    def quiet_until(self, now: float) -> float:
        """Until when (CLOCK_BOOTTIME) `look_at_clock` has nothing to do; `now` or before: it has.

        For whoever asks often. A machine's deadline changes only with its state or question, which
        `changed` is told of; a suspend moves `now` past `SUSPEND_STEP`.
        """
        if now - self.clock.monotonic() - self._offset > SUSPEND_STEP:
            return now
        if self._due_at is None:
            deadlines = [runner.machine.deadline() for runner in self.runners()]
            self._due_at = min((at for at in deadlines if at is not None), default=math.inf)
        return min(self._due_at, now + SUSPEND_STEP)

    def ring_for_late(self) -> None:
        """Wake the callers whose time is up."""
        monotonic = self.clock.monotonic()
        for future, until in self._waiting.items():
            if until is not None and monotonic >= until and not future.done():
                future.set_result(None)

    def nap_length(self) -> float:
        """Seconds until something is due, or until the clocks must be compared again."""
        now, monotonic = self.clock.boottime(), self.clock.monotonic()
        deadlines = [runner.machine.deadline() for runner in self.runners()]
        naps = [deadline - now for deadline in deadlines if deadline is not None]
        naps += [until - monotonic for until in self._waiting.values() if until is not None]
        return max(0.0, min([NAP, *naps]))

    def changed(self) -> None:
        """Conclude what has ended, ring the bell, call back."""
        self._due_at = None
        for attempt in list(self.attempts.values()):
            self._conclude(attempt)
        self._retired = [runner for runner in self._retired if runner.is_busy]
        self.wake.set()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        for callback in self.callbacks:
            callback()

    async def change(self, until: float | None = None) -> None:
        """Wait for a change, or until CLOCK_MONOTONIC says so."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = until
        self.wake.set()
        try:
            await future
        finally:
            del self._waiting[future]

    async def opened(self, until: float | None) -> None:
        """Wait until the index has been read; TransientError when that takes too long."""
        while not self.is_open:
            if self.is_closed or (until is not None and self.clock.monotonic() >= until):
                raise error_for(PENDING)
            await self.change(until)

    def must_be_unlocked(self) -> None:
        """Raise TransientError LOCKED while nothing is to be had."""
        if self.lock.is_locked:
            raise error_for(BROKER_LOCKED)

    def resolve(self, account: str | None) -> str:
        """Return the name that is meant; "", which is nobody's, while no default is chosen.

        The token of an account that nobody chose would be another person's.
        """
        if account or self.index.default:
            return account or self.index.default or ""
        return "" if self.index.entries() else DEFAULT_ACCOUNT

    async def renewal_turn(self, key: AccountKey) -> None:
        """Wait until no runner is renewing that person's login; TransientError after long."""
        until = self.clock.monotonic() + TURN_WAIT
        while any(runner.is_renewing(key) for runner in self.runners()):
            if self.clock.monotonic() >= until:
                raise error_for(RENEWAL_WAITS)
            await self.change(until)

    def names_sharing(self, name: str, entry: IndexEntry) -> list[str]:
        """Return the other names for the same login."""
        return [
            other
            for other, kept in self.index.entries().items()
            if other != name and (kept.key, kept.store) == (entry.key, entry.store)
        ]

    def addressed(self, name: str, failure: Failure) -> Failure:
        """Let the commands in its hint name the account, where they would mean another one.

        Without a name, login means the account called `default`, all else the chosen default. An
        account whose login comes from outside has no login command: the next step is there.
        """
        given = self.given.get(name)
        if given is not None and "copilot-cred login" in failure.hint:
            return replace(failure, hint=given.mend)
        is_meant = name == self.resolve(None) == DEFAULT_ACCOUNT
        return failure if is_meant else addressed(failure, name)

    def no_login(self, name: str) -> Failure:
        """Say that nobody is signed in under this name, and what to do."""
        if not name:
            return no_default_account(sorted(self.index.entries()))
        if (given := self.given.get(name)) is not None:
            text = f"GitHub has not said yet whose the login of account {name} is"
            unknown = Failure(ErrorClass.LOGIN_REQUIRED, "login_required", text, given.mend)
            return given.failure or unknown
        command = "copilot-cred login"
        if name != DEFAULT_ACCOUNT:
            command += f" --account {name}"
        if name in self.attempts:
            text = "a login for this account waits for its approval"
            hint = f"Approve it, or start over with {command}"
            return Failure(ErrorClass.LOGIN_REQUIRED, "login_pending", text, hint)
        text = f"nobody is signed in as account {name}"
        return Failure(ErrorClass.LOGIN_REQUIRED, "login_required", text, f"Run {command}")

    def seat(self, name: str, runner: AccountRunner | None) -> None:
        """Put it in the place of the account's old one, which ends; None: in nobody's.

        A login that the old one is renewing or saving is seen through: GitHub has killed the one
        before, or may have.
        """
        old = self.accounts.pop(name, None)
        if old is not None and isinstance(old.machine.question, RenewToken | SaveLogin):
            old.feed(Locked(BROKER_LOCKED))  # it does no more than that
            self._retired.append(old)
        elif old is not None:
            self._retire(old)
        if runner is not None:
            self.accounts[name] = runner

    def end(self, attempt: LoginAttempt, reason: Failure) -> None:
        """Cancel a login that nobody wants any more."""
        attempt.outcome = attempt.outcome or reason
        if self.attempts.get(attempt.request.account) is attempt:
            del self.attempts[attempt.request.account]
            self._retire(attempt.runner)
            self.changed()

    def _conclude(self, attempt: LoginAttempt) -> None:
        """Put the runner of a finished login in the place of the account's old one."""
        outcome = attempt.conclusion()
        if outcome is None or self.is_closed:
            return
        name = attempt.request.account
        del self.attempts[name]
        attempt.outcome = anew(outcome) if isinstance(outcome, Failure) else outcome
        if attempt.is_committed:
            if name in self.accounts:
                self._retire(self.accounts[name])
            self.accounts[name] = attempt.runner
            kept = self.index.entries().get(name)
            store = kept.store if kept else ""
            extra = SIGNED_IN.extra(ACCOUNT=name, HOST=attempt.request.host, STORE=store)
            log.info(SIGNED_IN.message, extra=extra)
        else:
            if isinstance(outcome, Failure) and outcome.code in DEAD_CODES:
                extra = LOGIN_REFUSED.extra(ACCOUNT=name, ERROR_CODE=outcome.code)
                log.warning(LOGIN_REFUSED.message, extra=extra)
            self._retire(attempt.runner)

    def _retire(self, runner: AccountRunner) -> None:
        runner.end()
        self._retired.append(runner)

    async def close(self) -> None:
        """Cancel everything under way and tell whoever waits."""
        self.is_closed = True
        runners = [*self.runners(), *self._retired]
        for attempt in self.attempts.values():
            attempt.outcome = attempt.outcome or STOPPING
        self.changed()
        await self._see_saves_through()
        for runner in runners:
            runner.end()
        for runner in runners:
            await runner.settle()

    async def _see_saves_through(self) -> None:
        """Give renewals and saves their time: GitHub has killed the old login, or may have."""
        saves = [
            asyncio.create_task(runner.until_past(RenewToken, SaveLogin))
            for runner in self.runners()
            if isinstance(runner.machine.question, RenewToken | SaveLogin)
        ]
        if saves:
            _, late = await asyncio.wait(saves, timeout=SAVE_GRACE)
            for save in late:
                save.cancel()
            await asyncio.gather(*saves, return_exceptions=True)
