"""Signing in and out. A new login has a machine of its own until it has succeeded."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.account_runner import AccountRunner
from brokerd.broker.asker import Asker
from brokerd.broker.dead_logins import DeadLogins
from brokerd.broker.failures import error_for, unknown_account
from brokerd.broker.given_logins import GivenLogins
from brokerd.broker.locking import BROKER_LOCKED
from brokerd.broker.login_attempt import LoginAttempt
from brokerd.broker.prompts import Prompt
from brokerd.broker.refused_logins import RefusedLogins
from brokerd.broker.remembering import remember
from brokerd.broker.revocation import revoke_login
from brokerd.core import modes
from brokerd.core.audit import SIGNED_OUT
from brokerd.core.machine.effects import SaveLogin
from brokerd.core.machine.events import (
    Locked,
    LoginKept,
    LoginRequested,
    LogoutRequested,
    TokenGiven,
)
from brokerd.core.machine.states import AwaitingUser
from brokerd.core.machine.token_machine import TokenMachine
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.core.tokens import GitHubToken, IndexEntry
from brokerd.errors import BrokerError, ErrorClass, Failure
from brokerd.views import LoginSucceeded, LoginWaiting, UserCodeIssued


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from brokerd.broker.roster import Roster
    from brokerd.core.given import Given
    from brokerd.core.settings import AccountSettings
    from brokerd.core.tokens import AccountKey, CopilotToken, KeptCooldown, Login
    from brokerd.ports import GitHub, LoginStore, LoginStores
    from brokerd.views import AccountView, LoginProgress, LoginRequest


__all__ = ["Logins"]

log = logging.getLogger(__name__)


class Logins:
    """Makes and ends the runners of the roster."""

    def __init__(
        self,
        roster: Roster,
        *,
        github: Callable[[str], GitHub],
        stores: LoginStores,
        settings: Callable[[str], AccountSettings],
        view: Callable[[str], AccountView],
        token_id: Callable[[CopilotToken], str],
        chance: Callable[[], float],
        given: Callable[[], Mapping[str, Given]],
    ) -> None:
        """`token_id` names a token without telling it.

        `given` reads what accounts are given from outside, by name.
        """
        self._roster = roster
        self._github = github
        self._stores = stores
        self._settings = settings
        self._view = view
        self._token_id = token_id
        self._chance = chance
        self._refused = RefusedLogins(roster.clock)
        self._dead: dict[str, DeadLogins] = {}
        """By host."""
        self.given = GivenLogins(
            roster,
            given=given,
            host=lambda name: settings(name).host,
            runner=self._given_runner,
            resume=self._resume,
            dead_logins=self.dead_logins,
        )
        """Accounts whose login comes from outside."""

    def load(self) -> None:
        """Read the index and start a runner for each kept login."""
        try:
            self._roster.index.load()
        except BrokerError as error:
            log.error("account index not read", extra={"ERROR_CODE": error.failure.code})  # noqa: TRY400 - the failure says it all
        self.given.follow()
        for name, entry in self._roster.index.entries().items():
            if name not in self._roster.given:
                self._resume(name, entry)
        self._roster.is_open = True
        self._roster.changed()

    async def login(self, request: LoginRequest) -> AsyncIterator[LoginProgress]:
        """Sign in; ends after LoginSucceeded or raises BrokerError.

        Callers with the same request share one prompt; when the last one leaves (closes the
        iterator) before the login is being saved, it is cancelled. Success is told after the
        login is durable and the first exchange has had its outcome, whichever it was.
        """
        await self._roster.opened(None)
        self._roster.must_be_unlocked()
        self.given.refuse_login(request.account)
        attempt = self._join(request)
        seen: object = None
        shown: object = None
        expires_at = 0.0
        try:
            while attempt.outcome is None:
                state, advice = attempt.runner.machine.state, attempt.advice()
                # While it goes on without the person, only what holds it up is news.
                news = state if isinstance(state, AwaitingUser) else advice or seen
                if news is None or news == seen:
                    await self._roster.change()
                    continue
                seen = news
                if isinstance(state, AwaitingUser):
                    expires_at = state.expires_at
                left = max(0.0, expires_at - self._roster.clock.boottime())
                if not isinstance(state, AwaitingUser) or state.code is shown:
                    yield LoginWaiting(left, advice)
                    continue
                code = shown = state.code
                yield UserCodeIssued(code.user_code, code.verification_uri, left, code.interval)
        finally:
            self._leave(attempt)
        if isinstance(attempt.outcome, Failure):
            if request.token is not None:
                self._refused.note(request.host, request.token, attempt.outcome)
            raise error_for(self._roster.addressed(request.account, attempt.outcome))
        yield LoginSucceeded(self._view(request.account))

    async def logout(self, account: str | None = None, *, revoke: bool = False) -> bool:
        """Forget the login, here and in its store; an open prompt for it is cancelled.

        With `revoke` GitHub kills it first; when it does not, the login stays as it is. Returns
        whether it was revoked. Raises PermanentError USAGE for an unknown account, or when there
        is nothing to revoke; why it could not be revoked; and whatever the store raises: then the
        login may still be there, and is loaded again at the next start.
        """
        await self._roster.opened(None)
        name = self._roster.resolve(account)
        if not name:
            raise error_for(self._roster.no_login(name))
        self.given.refuse_logout(name)
        if revoke:
            self._roster.must_be_unlocked()
            await revoke_login(self._roster, self._github, self._stores, name)
        attempt = self._roster.attempts.get(name)
        if attempt is not None:
            if attempt.is_committed:
                # A save cut short might still land after us.
                await attempt.runner.until_past(SaveLogin)
            self._roster.end(attempt, self._roster.no_login(name))
        runner = self._roster.accounts.get(name)
        if runner is not None:
            await runner.until_past(SaveLogin)
            runner = self._roster.accounts.get(name)
        entry = self._roster.index.entries().get(name)
        if runner is None and entry is None:
            if attempt is None:
                raise error_for(unknown_account(name))
            return revoke
        if runner is not None:
            runner.feed(LogoutRequested())
        if entry is not None:
            await self._forget(name, entry)
            self._roster.index.remove(name)
        if runner is not None and self._roster.accounts.get(name) is runner:
            del self._roster.accounts[name]
        host = entry.host if entry else self._settings(name).host
        log.info(SIGNED_OUT.message, extra=SIGNED_OUT.extra(ACCOUNT=name, HOST=host))
        self.given.restart(name)
        self._roster.changed()
        return revoke

    async def use(self, account: str) -> None:
        """Make this account the default; PermanentError USAGE when there is none such."""
        await self._roster.opened(None)
        if account not in self._roster.index.entries():
            raise error_for(unknown_account(account))
        self._roster.index.default = account
        self._roster.changed()

    def _kept(self, name: str, entry: IndexEntry) -> AccountRunner:
        async def open_store() -> LoginStore:
            return self._stores.get(entry.store)

        return self._runner(name, entry.host, entry.client_id, open_store=open_store, kept=entry)

    def _resume(self, name: str, entry: IndexEntry) -> None:
        runner = self._kept(name, entry)
        self._roster.accounts[name] = runner
        if self._roster.lock.is_locked:
            runner.feed(Locked(BROKER_LOCKED))
        runner.feed(LoginKept())

    def _given_runner(self, name: str, given: Given) -> AccountRunner:
        async def open_store() -> LoginStore:
            return self._stores.get(given.source)

        settings = self._settings(name)
        return self._runner(
            name,
            settings.host,
            settings.client_id,
            open_store=open_store,
            on_unknown=lambda token, code: self.dead_logins(settings.host).note_unknown(
                name, token, code
            ),
        )

    def _runner(
        self,
        name: str,
        host: str,
        client_id: str,
        *,
        scope: str = "",
        open_store: Callable[[], Awaitable[LoginStore]],
        kept: IndexEntry | None = None,
        on_unknown: Callable[[GitHubToken, str], None] = lambda _token, _code: None,
    ) -> AccountRunner:
        async def on_saved(login: Login, store: LoginStore) -> None:
            await self._record(name, login, store)

        machine = TokenMachine(
            host=host,
            client_id=client_id,
            scope=scope,
            mode=lambda: self._settings(name).mode,
            chance=self._chance,
        )
        asker = Asker(
            name,
            clock=self._roster.clock,
            github=lambda: self._github(host),
            settings=lambda: self._settings(name),
            open_store=open_store,
            kept=kept,
            renewal_turn=self._roster.renewal_turn,
            dead_logins=self.dead_logins(host),
            token_id=self._token_id,
            on_saved=on_saved,
            on_asked=lambda code: self._roster.exchanges.update([(name, code)]),
        )
        return AccountRunner(
            machine,
            asker,
            clock=self._roster.clock,
            prompt=Prompt(name, host, client_id, self._roster.clock),
            on_direct=lambda login: self._remember_direct(name, login),
            on_refused=lambda login, code: self.dead_logins(login.host).note(name, login, code),
            on_change=self._roster.changed,
            on_unknown=on_unknown,
        )

    def _join(self, request: LoginRequest) -> LoginAttempt:
        attempt = self._roster.attempts.get(request.account)
        if attempt is None:
            attempt = self._begin(request)
        elif attempt.request != request:
            text = "another login for this account is under way"
            hint = f"Finish it, or run copilot-cred logout --account {request.account}"
            raise error_for(Failure(ErrorClass.TEMPORARY, "login_in_progress", text, hint))
        attempt.callers += 1
        return attempt

    def _begin(self, request: LoginRequest) -> LoginAttempt:
        async def open_store() -> LoginStore:
            return await self._stores.choose(request.store)

        if request.token is not None:
            refusal = modes.refusal_of(request.token, self._settings(request.account).mode)
            if refusal is not None:
                raise error_for(self._roster.addressed(request.account, refusal))
            refusal = self._refused.find(request.host, request.token)
            if refusal is not None:
                raise error_for(self._roster.addressed(request.account, refusal))
        runner = self._runner(
            request.account,
            request.host,
            request.client_id,
            scope=request.scope,
            open_store=open_store,
        )
        attempt = self._roster.attempts[request.account] = LoginAttempt(request, runner)
        if request.token is None:
            runner.feed(LoginRequested())
        else:
            runner.feed(TokenGiven(GitHubToken(request.token)))
        return attempt

    def _leave(self, attempt: LoginAttempt) -> None:
        attempt.callers -= 1
        if attempt.callers == 0 and attempt.outcome is None and not attempt.is_committed:
            self._roster.end(attempt, self._roster.no_login(attempt.request.account))

    async def _record(self, name: str, login: Login, store: LoginStore) -> None:
        """Enter a saved login in the index; drop the one it replaces if that was another's."""
        user = login.user
        entry = IndexEntry(
            login.host,
            user.id,
            user.login,
            store.kind,
            login.client_id,
            login.source,
            login.is_direct,
            self._cooldown_of(login.key),
        )
        old = self._roster.index.entries().get(name)
        self._roster.index.put(name, entry)
        self.dead_logins(login.host).clear(login)
        is_meant = name == DEFAULT_ACCOUNT or len(self._roster.index.entries()) == 1
        if self._roster.index.default is None and is_meant:
            self._roster.index.default = name
        if old is not None and (old.key, old.store) != (entry.key, entry.store):
            if old.key == entry.key:
                await self._carry_pat(name, old, store)
            try:
                await self._forget(name, old)
            except BrokerError as error:
                code = error.failure.code
                log.warning("old login not deleted", extra={"ACCOUNT": name, "ERROR_CODE": code})

    async def _carry_pat(self, name: str, old: IndexEntry, store: LoginStore) -> None:
        """Let the person's access token follow the login to its new store."""
        try:
            pat = await self._stores.get(old.store).load_pat(old.key)
            if pat is not None:
                await store.save_pat(old.key, pat)
        except BrokerError as error:
            code = error.failure.code
            log.warning("access token not moved", extra={"ACCOUNT": name, "ERROR_CODE": code})

    def _cooldown_of(self, key: AccountKey) -> KeptCooldown | None:
        """Return what upstream said to this person under whatever name: a login lifts nothing."""
        kept = (entry for entry in self._roster.index.entries().values() if entry.key == key)
        return next((entry.cooldown for entry in kept if entry.cooldown is not None), None)

    def dead_logins(self, host: str) -> DeadLogins:
        """Return those of a host."""
        return self._dead.setdefault(host, DeadLogins(host, self._roster.index))

    def _remember_direct(self, name: str, login: Login) -> None:
        """Spare the next start the question that the exchange has answered with a 404."""
        entry = self._roster.index.entries().get(name)
        is_this = entry is not None and (entry.key, entry.client_id, entry.source) == (
            login.key,
            login.client_id,
            login.source,
        )
        if entry is None or not is_this or entry.is_direct:
            return
        log.info("login is used directly from now on", extra={"ACCOUNT": name})
        direct = replace(entry, is_direct=True)
        remember(self._roster.index, name, direct, "direct use not recorded")

    async def _forget(self, name: str, entry: IndexEntry) -> None:
        if not self._roster.names_sharing(name, entry):
            store = self._stores.get(entry.store)
            await store.delete(entry.key)
            await store.delete_pat(entry.key)
