"""The single writer: feeds the token machines, keeps time for them, and answers callers.

Everything here runs in one event loop. `feed` and `tick` of a runner never await, so a machine is
never seen half-way; what takes time is a runner's task, whose answer comes back as an event.
Callers that have to wait share one bell: each change rings it, and each looks for itself.

Time is CLOCK_BOOTTIME, which counts suspend. The nap is on CLOCK_MONOTONIC, which does not: so it
is short, and whoever calls in meanwhile makes us look at the clock too.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import random as random_module
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.account_runner import AccountRunner
from brokerd.account_views import pending_view, summary_line, view_of, watch_state
from brokerd.core.events import (
    FresherTokenWanted,
    LeaseWanted,
    LoginKept,
    LoginRequested,
    LogoutRequested,
    RefreshRequested,
    Resumed,
    TokenGiven,
    TokenRejected,
)
from brokerd.core.states import AwaitingUser, Exchanging, Loading, Ready, SignedOut
from brokerd.core.token_machine import TokenMachine
from brokerd.core.tokens import GitHubToken, IndexEntry
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError
from brokerd.login_attempt import LoginAttempt
from brokerd.views import (
    AccountView,
    LeasedToken,
    LoginProgress,
    LoginRequest,
    LoginSucceeded,
    LoginWaiting,
    UserCodeIssued,
    WatchState,
)


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from brokerd.config import AccountSettings
    from brokerd.core.states import Lease
    from brokerd.core.tokens import CopilotToken, Login
    from brokerd.ports import AccountIndex, Clock, GitHub, LoginStore, LoginStores


__all__ = [
    "AccountView",
    "Broker",
    "LeasedToken",
    "LoginProgress",
    "LoginRequest",
    "LoginSucceeded",
    "LoginWaiting",
    "UserCodeIssued",
    "WatchState",
]

log = logging.getLogger(__name__)

NAP = 4.0
"""Seconds; a resume is noticed within one nap, which leaves one of the five for the exchange."""
IDLE_NAP = 30.0
"""Seconds while nobody is signed in: there is nothing that could expire."""
SUSPEND_STEP = 1.0
"""Seconds by which BOOTTIME runs ahead of MONOTONIC before we believe in a suspend."""
LEASE_TIMEOUT = 4.0
"""Seconds a caller waits for a token; clients give up after 5."""
START_TIMEOUT = 4.0
"""Seconds after which we are started, loaded or not: a hanging keyring must not hang the unit."""
DEFAULT_ACCOUNT = "default"
"""What a login is called when nobody names it."""

_STOPPING = Failure(
    ErrorClass.TEMPORARY, "broker_stopping", "the broker is stopping", "Ask again", retry_after=1.0
)
_PENDING = Failure(
    ErrorClass.TEMPORARY,
    "token_pending",
    "the exchange for a token is still under way",
    "Run copilot-cred get again",
    retry_after=1.0,
)


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
        random: random_module.Random | None = None,
    ) -> None:
        """`github` gives the edge for a host; `settings` the configuration of an account."""
        self.started = asyncio.Event()
        """Set once the kept logins are loaded, or their stores have said why not."""
        self._clock = clock
        self._github = github
        self._stores = stores
        self._index = index
        self._settings = settings
        self._chance = (random or random_module.SystemRandom()).random
        self._fingerprint_key = secrets.token_bytes(32)
        self._accounts: dict[str, AccountRunner] = {}
        self._attempts: dict[str, LoginAttempt] = {}
        self._retired: list[AccountRunner] = []
        self._waiting: dict[asyncio.Future[None], float | None] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._offset = clock.boottime() - clock.monotonic()
        self._is_open = False
        self._is_closed = False

    # The loop.

    async def run(self) -> None:
        """Load logins, then drive the machines until cancelled."""
        try:
            self._load_index()
            start_by = self._clock.monotonic() + START_TIMEOUT
            while True:
                self._wake.clear()
                self._look_at_clock()
                self._ring_for_late()
                if not self.started.is_set():
                    is_late = self._clock.monotonic() >= start_by
                    if is_late or not any(map(_is_loading, self._accounts.values())):
                        self.started.set()
                await self._nap(self._nap_length())
        finally:
            await self._close()

    def poke(self) -> None:
        """Look at the clock now, and retry what failed: we may have slept or changed networks."""
        if not self._look_at_clock():
            for runner in self._runners():
                runner.feed(Resumed(slept=False))
        self._wake.set()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, in the loop, after anything in `accounts()` may have changed."""
        self._callbacks.append(callback)

    def _load_index(self) -> None:
        try:
            self._index.load()
        except BrokerError as error:
            log.error("account index not read", extra={"ERROR_CODE": error.failure.code})  # noqa: TRY400 - the failure says it all
        for name, entry in self._index.entries().items():
            runner = self._kept(name, entry)
            self._accounts[name] = runner
            runner.feed(LoginKept())
        self._is_open = True
        self._changed()

    def _kept(self, name: str, entry: IndexEntry) -> AccountRunner:
        async def open_store() -> LoginStore:
            return self._stores.get(entry.store)

        return AccountRunner(
            name,
            TokenMachine(host=entry.host, client_id=entry.client_id, chance=self._chance),
            clock=self._clock,
            github=lambda: self._github(entry.host),
            open_store=open_store,
            key=entry.key,
            on_change=self._changed,
        )

    def _runners(self) -> list[AccountRunner]:
        return [*self._accounts.values(), *(a.runner for a in self._attempts.values())]

    def _look_at_clock(self) -> bool:
        """Do all that is due; return whether the machine has slept."""
        now, monotonic = self._clock.boottime(), self._clock.monotonic()
        slept = now - monotonic - self._offset > SUSPEND_STEP
        self._offset = now - monotonic
        if slept:
            log.info("the machine has slept")
        for runner in self._runners():
            if slept:
                runner.feed(Resumed())
            else:
                runner.tick(now)
        return slept

    def _ring_for_late(self) -> None:
        monotonic = self._clock.monotonic()
        for future, until in self._waiting.items():
            if until is not None and monotonic >= until and not future.done():
                future.set_result(None)

    def _nap_length(self) -> float:
        now, monotonic = self._clock.boottime(), self._clock.monotonic()
        deadlines = [runner.machine.deadline() for runner in self._runners()]
        naps = [deadline - now for deadline in deadlines if deadline is not None]
        naps += [until - monotonic for until in self._waiting.values() if until is not None]
        naps.append(NAP if self._runners() else IDLE_NAP)
        return max(0.0, min(naps))

    async def _nap(self, seconds: float) -> None:
        nap = asyncio.ensure_future(self._clock.sleep(seconds))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({nap, wake}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            wake.cancel()
            await asyncio.gather(nap, wake, return_exceptions=True)

    async def _close(self) -> None:
        self._is_closed = True
        runners = [*self._runners(), *self._retired]
        for runner in runners:
            runner.cancel()
        for attempt in self._attempts.values():
            attempt.outcome = attempt.outcome or _STOPPING
        self._changed()
        for runner in runners:
            await runner.settle()

    def _changed(self) -> None:
        for attempt in list(self._attempts.values()):
            self._conclude(attempt)
        self._retired = [runner for runner in self._retired if runner.is_busy]
        self._wake.set()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        for callback in self._callbacks:
            callback()

    async def _change(self, until: float | None = None) -> None:
        """Wait for a change, or until CLOCK_MONOTONIC says so."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = until
        self._wake.set()
        try:
            await future
        finally:
            del self._waiting[future]

    # Tokens.

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
        if not min_valid >= 0:
            text = "min_valid must be a number of seconds, not below zero"
            raise _error(
                Failure(ErrorClass.USAGE, "bad_min_valid", text, "See copilot-cred get --help")
            )
        until = self._clock.monotonic() + (LEASE_TIMEOUT if timeout is None else timeout)
        self._look_at_clock()
        await self._opened(until)
        name = self._resolve(account)
        if reject is not None:
            self._reject(name, reject)
        while True:
            now = self._clock.boottime()
            runner = self._signed_in(name)
            machine = runner.machine
            is_late = self._is_closed or self._clock.monotonic() >= until
            lease = machine.lease(now)
            if lease is None:
                self._must_wait(runner, until, is_late=is_late)
            else:
                is_enough = lease.expires_at_boot - now >= min_valid
                if is_enough or is_late or not machine.can_freshen(now):
                    return self._lend(name, lease, min_valid)
                runner.feed(FresherTokenWanted())
                if machine.question is None:
                    return self._lend(name, lease, min_valid)
            await self._change(until)

    async def refresh(self, account: str | None = None) -> LeasedToken:
        """Exchange now, whatever the current token's age or an earlier refusal.

        Callers at one time share one exchange. Raises as `lease` does; also TEMPORARY while
        upstream's `retry-after` runs.
        """
        until = self._clock.monotonic() + LEASE_TIMEOUT
        self._look_at_clock()
        await self._opened(until)
        name = self._resolve(account)
        runner = self._signed_in(name)
        machine = runner.machine
        if isinstance(machine.state, SignedOut):
            raise _error(machine.state.reason or self._no_login(name))
        if isinstance(machine.state, (Ready, Exchanging)):
            wait = machine.state.retry.not_before - self._clock.boottime()
            if wait > 0 and machine.failure is not None:
                raise _error(replace(machine.failure, retry_after=wait))
        runner.feed(RefreshRequested())
        while machine.question is not None and self._accounts.get(name) is runner:
            if self._is_closed or self._clock.monotonic() >= until:
                raise _error(machine.failure or _PENDING)
            await self._change(until)
        machine = self._signed_in(name).machine
        lease, failure = machine.lease(self._clock.boottime()), machine.failure
        if failure is not None or lease is None:
            raise _error(failure or _PENDING)
        return self._lend(name, lease, 0.0)

    async def watch(self, account: str | None = None) -> AsyncIterator[WatchState]:
        """Yield the full state at once, then one per change; a slow watcher sees the latest only.

        Ends when the broker stops. A failing refresh is no change while a token is leasable.
        """
        last: object = None
        await self._opened(None)
        while not self._is_closed:
            name = self._resolve(account)
            runner = self._accounts.get(name)
            lease = runner.machine.lease(self._clock.boottime()) if runner else None
            lent = self._lend(name, lease, 0.0) if lease else None
            state = watch_state(name, runner, lent, self._no_login(name), _PENDING)
            token_id = lent.token_id if lent else None
            code = state.failure.code if state.failure and not lent else None
            if (name, state.kind, token_id, code) != last:
                last = (name, state.kind, token_id, code)
                yield state
            else:
                await self._change()

    async def _opened(self, until: float | None) -> None:
        while not self._is_open:
            if self._is_closed or (until is not None and self._clock.monotonic() >= until):
                raise _error(_PENDING)
            await self._change(until)

    def _must_wait(self, runner: AccountRunner, until: float, *, is_late: bool) -> None:
        """Raise why no token is coming in time, or return."""
        machine, now = runner.machine, self._clock.boottime()
        state = machine.state
        if isinstance(state, Exchanging) and machine.question is None and not is_late:
            runner.feed(LeaseWanted())
            state = machine.state
        if isinstance(state, SignedOut):
            raise _error(state.reason or self._no_login(runner.name))
        failure = machine.failure or _PENDING
        if self._is_closed:
            failure = _STOPPING
        if not isinstance(state, Exchanging) or machine.question is not None:
            if is_late:
                raise _error(failure)
            return
        if state.retry.at is None:
            raise _error(failure)
        retry_after = max(0.0, state.retry.at - now)
        is_worth_it = failure.error_class is ErrorClass.TEMPORARY
        if is_late or not is_worth_it or retry_after > until - self._clock.monotonic():
            raise _error(replace(failure, retry_after=retry_after))

    def _reject(self, name: str, reject: str) -> None:
        runner = self._accounts.get(name)
        if runner is None or not isinstance(runner.machine.state, Ready):
            return
        token = runner.machine.state.token
        given = reject.encode(errors="replace")
        for known in (token.value, self._token_id(token)):
            if hmac.compare_digest(given, known.encode()):
                log.info(
                    "token rejected",
                    extra={"ACCOUNT": name, "TOKEN_FP": self._token_id(token)},
                )
                runner.feed(TokenRejected(token))
                return

    def _signed_in(self, name: str) -> AccountRunner:
        runner = self._accounts.get(name)
        if runner is None:
            raise _error(_STOPPING if self._is_closed else self._no_login(name))
        return runner

    def _no_login(self, name: str) -> Failure:
        command = "copilot-cred login"
        if name != DEFAULT_ACCOUNT:
            command += f" --account {name}"
        if name in self._attempts:
            text = "a login for this account waits for its approval"
            hint = f"Approve it, or start over with {command}"
            return Failure(ErrorClass.LOGIN_REQUIRED, "login_pending", text, hint)
        text = f"nobody is signed in as account {name}"
        return Failure(ErrorClass.LOGIN_REQUIRED, "login_required", text, f"Run {command}")

    def _lend(self, name: str, lease: Lease, min_valid: float) -> LeasedToken:
        left = lease.expires_at_boot - self._clock.boottime()
        return LeasedToken(
            token=lease.token.value,
            token_id=self._token_id(lease.token),
            expires_at=int(self._clock.wall() + left),
            expires_in=left,
            api_base=lease.token.api_base,
            account=name,
            clamped=left < min_valid,
        )

    def _token_id(self, token: CopilotToken) -> str:
        return hmac.digest(self._fingerprint_key, token.value.encode(), "sha256").hex()[:8]

    # Logins.

    async def login(self, request: LoginRequest) -> AsyncIterator[LoginProgress]:
        """Sign in; ends after LoginSucceeded or raises BrokerError.

        Callers with the same request share one prompt; when the last one leaves (closes the
        iterator) before the login is being saved, it is cancelled. Success is told after the
        login is durable and the first exchange has had its outcome, whichever it was.
        """
        await self._opened(None)
        attempt = self._join(request)
        seen: object = None
        shown: object = None
        try:
            while attempt.outcome is None:
                state = attempt.runner.machine.state
                if not isinstance(state, AwaitingUser) or state is seen:
                    await self._change()
                    continue
                seen = state
                left = max(0.0, state.expires_at - self._clock.boottime())
                if state.code is shown:
                    yield LoginWaiting(left)
                    continue
                code = shown = state.code
                yield UserCodeIssued(code.user_code, code.verification_uri, left, code.interval)
        finally:
            self._leave(attempt)
        if isinstance(attempt.outcome, Failure):
            raise _error(attempt.outcome)
        yield LoginSucceeded(self._view(request.account))

    async def logout(self, account: str | None = None) -> None:
        """Forget the login, here and in its store; an open prompt for it is cancelled.

        Raises PermanentError USAGE for an unknown account, and whatever the store raises: then
        the login may still be there, and is loaded again at the next start.
        """
        await self._opened(None)
        name = self._resolve(account)
        attempt = self._attempts.get(name)
        if attempt is not None:
            if attempt.is_committed:
                await attempt.runner.settle()  # a save cut short might still land after us
            self._end(attempt, self._no_login(name))
        runner = self._accounts.get(name)
        entry = self._index.entries().get(name)
        if runner is None and entry is None:
            if attempt is None:
                raise _error(_unknown(name))
            return
        if runner is not None:
            runner.feed(LogoutRequested())
        if entry is not None:
            await self._forget(name, entry)
            self._index.remove(name)
        if runner is not None and self._accounts.get(name) is runner:
            del self._accounts[name]
        log.info("signed out", extra={"ACCOUNT": name})
        self._changed()

    async def use(self, account: str) -> None:
        """Make this account the default; PermanentError USAGE when there is none such."""
        await self._opened(None)
        if account not in self._index.entries():
            raise _error(_unknown(account))
        self._index.default = account
        self._changed()

    def _join(self, request: LoginRequest) -> LoginAttempt:
        attempt = self._attempts.get(request.account)
        if attempt is None:
            attempt = self._begin(request)
        elif attempt.request != request:
            text = "another login for this account is under way"
            hint = f"Finish it, or run copilot-cred logout --account {request.account}"
            raise _error(Failure(ErrorClass.TEMPORARY, "login_in_progress", text, hint))
        attempt.callers += 1
        return attempt

    def _begin(self, request: LoginRequest) -> LoginAttempt:
        async def open_store() -> LoginStore:
            return await self._stores.choose(request.store)

        async def on_saved(login: Login, store: LoginStore) -> None:
            await self._record(request.account, login, store)

        if request.token is not None and not _may_be_token(request.token):
            text = "this is not a GitHub token that Copilot accepts (gho_, ghu_, github_pat_)"
            hint = "Give another one, or run copilot-cred login without --with-token"
            raise _error(Failure(ErrorClass.USAGE, "bad_token", text, hint))
        machine = TokenMachine(
            host=request.host,
            client_id=request.client_id,
            scope=request.scope,
            chance=self._chance,
        )
        runner = AccountRunner(
            request.account,
            machine,
            clock=self._clock,
            github=lambda: self._github(request.host),
            open_store=open_store,
            on_saved=on_saved,
            on_change=self._changed,
        )
        attempt = self._attempts[request.account] = LoginAttempt(request, runner)
        if request.token is None:
            runner.feed(LoginRequested())
        else:
            runner.feed(TokenGiven(GitHubToken(request.token)))
        return attempt

    def _leave(self, attempt: LoginAttempt) -> None:
        attempt.callers -= 1
        if attempt.callers == 0 and attempt.outcome is None and not attempt.is_committed:
            self._end(attempt, self._no_login(attempt.request.account))

    def _end(self, attempt: LoginAttempt, reason: Failure) -> None:
        """Cancel a login that nobody wants any more."""
        attempt.outcome = attempt.outcome or reason
        if self._attempts.get(attempt.request.account) is attempt:
            del self._attempts[attempt.request.account]
            self._retire(attempt.runner)
            self._changed()

    def _conclude(self, attempt: LoginAttempt) -> None:
        """Put the runner of a finished login in the place of the account's old one."""
        outcome = attempt.conclusion()
        if outcome is None or self._is_closed:
            return
        name = attempt.request.account
        del self._attempts[name]
        attempt.outcome = outcome
        if attempt.is_committed:
            if name in self._accounts:
                self._retire(self._accounts[name])
            self._accounts[name] = attempt.runner
            log.info("signed in", extra={"ACCOUNT": name})

    def _retire(self, runner: AccountRunner) -> None:
        runner.cancel()
        self._retired.append(runner)

    async def _record(self, name: str, login: Login, store: LoginStore) -> None:
        """Enter a saved login in the index; drop the one it replaces if that was another's."""
        user = login.user
        entry = IndexEntry(
            login.host, user.id, user.login, store.kind, login.client_id, login.source
        )
        old = self._index.entries().get(name)
        self._index.put(name, entry)
        if self._index.default is None:
            self._index.default = name
        if old is not None and (old.key, old.store) != (entry.key, entry.store):
            try:
                await self._forget(name, old)
            except BrokerError as error:
                code = error.failure.code
                log.warning("old login not deleted", extra={"ACCOUNT": name, "ERROR_CODE": code})

    async def _forget(self, name: str, entry: IndexEntry) -> None:
        for other, kept in self._index.entries().items():
            if other != name and (kept.key, kept.store) == (entry.key, entry.store):
                return  # another name for the same login
        await self._stores.get(entry.store).delete(entry.key)

    # Looking.

    def accounts(self) -> list[AccountView]:
        """All accounts, by name."""
        self._look_at_clock()
        return [self._view(name) for name in sorted({*self._accounts, *self._attempts})]

    def summary(self) -> str:
        """One line for a person: STATUS= of the service."""
        name = self._resolve(None)
        if name not in self._accounts and name not in self._attempts:
            return summary_line(None, len(self._accounts))
        return summary_line(self._view(name), len(self._accounts))

    def _resolve(self, account: str | None) -> str:
        return account or self._index.default or DEFAULT_ACCOUNT

    def _view(self, name: str) -> AccountView:
        runner, attempt = self._accounts.get(name), self._attempts.get(name)
        entry, settings = self._index.entries().get(name), self._settings(name)
        is_default = self._resolve(None) == name
        if runner is None:
            request = attempt.request if attempt else None
            return pending_view(name, attempt, request, settings, is_default=is_default)
        now = self._clock.boottime()
        lease = runner.machine.lease(now)
        token_id = self._token_id(lease.token) if lease else None
        unsaved = attempt is not None and attempt.is_unsaved
        return view_of(
            runner, entry, settings, token_id, now, is_default=is_default, unsaved=unsaved
        )


def _error(failure: Failure) -> BrokerError:
    if failure.error_class in (ErrorClass.TEMPORARY, ErrorClass.LOCKED):
        return TransientError(failure)
    return PermanentError(failure)


def _unknown(name: str) -> Failure:
    text = f"there is no account named {name}"
    hint = "See the names with copilot-cred account list"
    return Failure(ErrorClass.USAGE, "unknown_account", text, hint)


def _is_loading(runner: AccountRunner) -> bool:
    state = runner.machine.state
    is_loading = isinstance(state, Exchanging) and isinstance(state.step, Loading)
    return is_loading and runner.machine.failure is None


def _may_be_token(value: str) -> bool:
    """Classic personal access tokens (ghp_) are refused by Copilot; the rest is upstream's say."""
    return bool(value) and value.isascii() and value.isprintable() and not value.startswith("ghp_")
