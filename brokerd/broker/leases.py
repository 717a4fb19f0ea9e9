"""Lending tokens: who asks waits as long as it may help, and is told why when it does not."""

from __future__ import annotations

import hmac
import logging
import math
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.failures import PENDING, STOPPING, error_for
from brokerd.core.access.rates import Bucket
from brokerd.core.machine.events import (
    FresherTokenWanted,
    LeaseWanted,
    RefreshRequested,
    TokenRejected,
)
from brokerd.core.machine.states import Exchanging, Ready, SignedOut
from brokerd.errors import BrokerError, ErrorClass, Failure
from brokerd.views import LeasedToken


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.broker.account_runner import AccountRunner
    from brokerd.broker.roster import Roster
    from brokerd.core.machine.states import Lease
    from brokerd.core.tokens import CopilotToken


__all__ = ["LEASE_TIMEOUT", "REFRESHES_PER_MINUTE", "Leases"]

log = logging.getLogger(__name__)

LEASE_TIMEOUT = 4.0
"""Seconds a caller waits for a token; clients give up after 5."""

REFRESHES_PER_MINUTE = 6
"""Exchanges of an account that callers may demand: so many at once, for a person who tries what
helps, and one in ten seconds for a tool that demands them in a loop: each shows the login."""

AT_HAND_MAX = 64
"""Names of accounts that callers may make us remember; a person has a handful."""


class Leases:
    """Everything that ends in a token."""

    def __init__(
        self,
        roster: Roster,
        cooldown: Callable[[str], float | None],
        cooldown_reason: Callable[[str], Failure | None],
    ) -> None:
        """`cooldown`: seconds until upstream wants requests of that account; None: it does.

        `cooldown_reason`: why it does not, where that is known.
        """
        self._roster = roster
        self.cooldown = cooldown
        self.cooldown_reason = cooldown_reason
        self._fingerprint_key = secrets.token_bytes(32)
        self._at_hand: dict[str | None, tuple[float, float, LeasedToken]] = {}
        """What was asked for → (good until, expires at, lease); forgotten with every change."""
        self._refreshes: dict[str, Bucket] = {}
        """By account."""
        roster.callbacks.append(self._at_hand.clear)

    def leasable(
        self, account: str | None, min_valid: float
    ) -> tuple[LeasedToken, int, float] | None:
        """See `Broker.leasable`. All that is the same for each caller is made once per token."""
        clock = self._roster.clock
        now = clock.boottime()
        found = self._at_hand.get(account)
        if found is None or now >= found[0]:
            found = self._look_up(account, now)
            if found is None:
                return None
        _, expires_at, lease = found
        left = expires_at - now
        if not 0 <= min_valid <= left:
            return None
        shown = int(clock.wall() + left)
        if lease.cooldown_until is not None and abs(shown - lease.expires_at) > 1:
            del self._at_hand[account]  # the wall clock was set, and that end is by the old one
            return None
        return lease, shown, left

    def _look_up(self, account: str | None, now: float) -> tuple[float, float, LeasedToken] | None:
        """Return what is good for a moment, unless something is due or has to be waited for."""
        self._at_hand.pop(account, None)
        quiet_until = self._roster.quiet_until(now)
        if not self._roster.is_open or now >= quiet_until:
            return None
        name = self._roster.resolve(account)
        runner = self._roster.accounts.get(name)
        lease = None if runner is None else runner.machine.lease(now)
        if lease is None:
            return None
        lent = self.lend(name, lease, 0.0)
        found = (min(quiet_until, lease.expires_at_boot), lease.expires_at_boot, lent)
        if len(self._at_hand) < AT_HAND_MAX:
            self._at_hand[account] = found
        return found

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
        if reject is None and (found := self.leasable(account, min_valid)) is not None:
            return _as_of_now(*found)
        if not min_valid >= 0:
            text = "min_valid must be a number of seconds, not below zero"
            raise error_for(
                Failure(ErrorClass.USAGE, "bad_min_valid", text, "See copilot-cred get --help")
            )
        until = self._roster.clock.monotonic() + (LEASE_TIMEOUT if timeout is None else timeout)
        self._roster.look_at_clock()
        await self._roster.opened(until)
        name = self._roster.resolve(account)
        if reject is not None:
            self._reject(name, reject)
        while True:
            self._roster.must_be_unlocked()
            now = self._roster.clock.boottime()
            runner = self._signed_in(name)
            machine = runner.machine
            is_late = self._roster.is_closed or self._roster.clock.monotonic() >= until
            lease = machine.lease(now)
            if lease is None:
                self._must_wait(runner, until, is_late=is_late)
            else:
                is_enough = lease.expires_at_boot - now >= min_valid
                if reject is not None and lease.token.is_direct:
                    # It may be found dead, or at home on another host: both are worth the wait.
                    is_enough = is_enough and machine.question is None
                if is_enough or is_late or not machine.can_freshen(now):
                    return self.lend(name, lease, min_valid)
                runner.feed(FresherTokenWanted())
                if machine.question is None:
                    return self.lend(name, lease, min_valid)
            await self._roster.change(until)

    def reject(self, account: str, token_id: str) -> None:
        """Have that token replaced, if it is the current one, and wait for nothing."""
        self._reject(account, token_id)

    async def refresh(self, account: str | None = None) -> LeasedToken:
        """Exchange now, whatever the current token's age or an earlier refusal.

        Callers at one time share one exchange. Whoever demands more than `REFRESHES_PER_MINUTE`
        is given the token that there is, or what the last exchange failed of. Raises as `lease`
        does; also TEMPORARY while upstream's `retry-after` runs.
        """
        until = self._roster.clock.monotonic() + LEASE_TIMEOUT
        self._roster.look_at_clock()
        await self._roster.opened(until)
        self._roster.must_be_unlocked()
        name = self._roster.resolve(account)
        runner = self._signed_in(name)
        machine = runner.machine
        if isinstance(machine.state, SignedOut):
            raise self._error(name, machine.state.reason or self._roster.no_login(name))
        if isinstance(machine.state, (Ready, Exchanging)):
            wait = machine.state.retry.not_before - self._roster.clock.boottime()
            if wait > 0 and machine.failure is not None:
                raise self._error(name, replace(machine.failure, retry_after=wait))
        if machine.question is None and self._may_refresh(name):
            runner.feed(RefreshRequested())
        while machine.question is not None and self._roster.accounts.get(name) is runner:
            if self._roster.is_closed or self._roster.clock.monotonic() >= until:
                raise self._error(name, runner.failure or PENDING)
            await self._roster.change(until)
            self._roster.must_be_unlocked()
        runner = self._signed_in(name)
        lease, failure = runner.machine.lease(self._roster.clock.boottime()), runner.failure
        if failure is not None or lease is None:
            raise self._error(name, failure or PENDING)
        return self.lend(name, lease, 0.0)

    def _may_refresh(self, name: str) -> bool:
        now = self._roster.clock.boottime()
        bucket = self._refreshes.setdefault(name, Bucket(REFRESHES_PER_MINUTE, now))
        if bucket.wait(now) > 0:
            return False
        bucket.take()
        return True

    def _must_wait(self, runner: AccountRunner, until: float, *, is_late: bool) -> None:
        """Raise why no token is coming in time, or return."""
        name, machine = runner.name, runner.machine
        now, state = self._roster.clock.boottime(), machine.state
        if isinstance(state, Exchanging) and machine.question is None and not is_late:
            runner.feed(LeaseWanted())
            state = machine.state
        if isinstance(state, SignedOut):
            raise self._error(name, state.reason or self._roster.no_login(name))
        failure = runner.failure or PENDING
        if self._roster.is_closed:
            failure = STOPPING
        if not isinstance(state, Exchanging) or machine.question is not None:
            if is_late:
                raise self._error(name, failure)
            return
        if state.retry.at is None:
            raise self._error(name, failure)
        retry_after = max(0.0, state.retry.at - now)
        is_worth_it = failure.error_class is ErrorClass.TEMPORARY
        if is_late or not is_worth_it or retry_after > until - self._roster.clock.monotonic():
            raise self._error(name, replace(failure, retry_after=retry_after))

    def _reject(self, name: str, reject: str) -> None:
        runner = self._roster.accounts.get(name)
        if runner is None or not isinstance(runner.machine.state, Ready):
            return
        token = runner.machine.state.token
        given = reject.encode(errors="replace")
        for known in (token.value, self.token_id(token)):
            if hmac.compare_digest(given, known.encode()):
                log.info(
                    "token rejected",
                    extra={"ACCOUNT": name, "TOKEN_FP": self.token_id(token)},
                )
                runner.feed(TokenRejected(token))
                return

    def _signed_in(self, name: str) -> AccountRunner:
        runner = self._roster.accounts.get(name)
        if runner is None:
            raise error_for(STOPPING if self._roster.is_closed else self._roster.no_login(name))
        return runner

    def _error(self, name: str, failure: Failure) -> BrokerError:
        return error_for(self._roster.addressed(name, failure))

    def lend(self, name: str, lease: Lease, min_valid: float) -> LeasedToken:
        """Say all that a caller needs to use it; `min_valid` decides whether it is `clamped`."""
        left = lease.expires_at_boot - self._roster.clock.boottime()
        wall = self._roster.clock.wall()
        cooldown = self.cooldown(name)
        return LeasedToken(
            token=lease.token.value,
            token_id=self.token_id(lease.token),
            expires_at=int(wall + left),
            expires_in=left,
            api_base=lease.token.api_base,
            account=name,
            host=lease.host,
            clamped=left < min_valid,
            completions_base=lease.token.completions_base,
            # Rounded up: who waits for it comes late rather than early.
            cooldown_until=None if cooldown is None else math.ceil(wall + cooldown),
            is_direct=lease.token.is_direct,
        )

    def token_id(self, token: CopilotToken) -> str:
        """Name the token without telling it; the key dies with this process."""
        return hmac.digest(self._fingerprint_key, token.value.encode(), "sha256").hex()[:8]


def _as_of_now(lease: LeasedToken, expires_at: int, expires_in: float) -> LeasedToken:
    """Do as `dataclasses.replace` does, in a quarter of its time: every completion comes by."""
    return LeasedToken(
        lease.token,
        lease.token_id,
        expires_at,
        expires_in,
        lease.api_base,
        lease.account,
        lease.host,
        lease.clamped,
        lease.completions_base,
        lease.cooldown_until,
        lease.is_direct,
    )
