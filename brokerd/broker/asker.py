"""An account's questions, put to GitHub and the store: what its machine wants asked is asked here.

The rules of a renewal stand in `_renew` and `_save`: the new pair of tokens is dear, for the old
one is dead; and a login that somebody else has saved meanwhile is dearer still.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from brokerd.broker.failures import RENEWAL_WAITS
from brokerd.core.audit import (
    LOGIN_RENEWED,
    REFRESH_FAILED,
    REFRESHED,
    RENEWAL_FAILED,
    microseconds,
)
from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.machine.effects import (
    Effect,
    ExchangeToken,
    IdentifyUser,
    LoadLogin,
    PollDeviceGrant,
    PrepareDirect,
    RenewToken,
    RequestDeviceCode,
    SaveLogin,
)
from brokerd.core.machine.events import (
    DeviceCodeIssued,
    DeviceGranted,
    DeviceNotGranted,
    Event,
    LoginLoaded,
    LoginRenewed,
    LoginSaved,
    TokenIssued,
    UserIdentified,
)
from brokerd.errors import BrokerError, PermanentError, TransientError


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brokerd.broker.dead_logins import DeadLogins
    from brokerd.core.audit import AuditEvent
    from brokerd.core.settings import AccountSettings
    from brokerd.core.tokens import AccountKey, CopilotToken, GitHubToken, IndexEntry, Login
    from brokerd.ports import Clock, GitHub, LoginStore


__all__ = ["Asker"]

log = logging.getLogger(__name__)

ASKED_WITHIN = 40.0
"""Seconds from the question to GitHub's being asked for a new pair of tokens. The machine gives a
question up after 90, and the answer must have come by then: there is no second one."""

GIVEN_UP = "given_up"
"""ERROR_CODE of a question to GitHub that is cut off: by a logout, a suspend, a stop."""


class Asker:
    """The edges, as one account sees them."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        github: Callable[[], GitHub],
        settings: Callable[[], AccountSettings],
        open_store: Callable[[], Awaitable[LoginStore]],
        kept: IndexEntry | None = None,
        renewal_turn: Callable[[AccountKey], Awaitable[None]],
        dead_logins: DeadLogins,
        token_id: Callable[[CopilotToken], str],
        on_saved: Callable[[Login, LoginStore], Awaitable[None]],
        on_asked: Callable[[str], None],
    ) -> None:
        """`open_store` is called once, before anybody is troubled for a login it cannot keep.

        `kept` is what the index knows of the login that there is already. `renewal_turn` returns
        when no other name of this login is renewing it. `dead_logins` are those of its host.
        `token_id` names a token without telling it. `on_saved` makes the rest of a new login
        durable; it counts as saved when that has returned. `on_asked` is told how each question
        for a Copilot token went: "", or the code of its failure.
        """
        self.name = name
        self.has_saved = False
        """Whether a new login has been made durable here."""
        self.is_renewing = False
        """Whether a new pair of tokens may be on its way, or has come and is not saved yet."""
        self._clock = clock
        self._github = github
        self._settings = settings
        self._open_store = open_store
        self._store: LoginStore | None = None
        self.key = kept.key if kept else None
        """Whose login it is; None: nobody's yet."""
        self._direct = _app_of(kept) if kept and kept.is_direct else None
        """How the login came about whose token the exchange does not know."""
        self._renewal_turn = renewal_turn
        self._dead_logins = dead_logins
        self._token_id = token_id
        self._on_saved = on_saved
        self._on_asked = on_asked
        self._renewed: tuple[str, str] | None = None
        """GitHub tokens: the one that was renewed last, and what for."""

    def forget(self) -> None:
        """Hold no token any more."""
        self._renewed = None

    async def answer(self, question: Effect) -> Event:
        """Ask it of whom it concerns. Raises TransientError or PermanentError."""
        generation = question.generation
        match question:
            case RequestDeviceCode(client_id=client_id, scope=scope):
                await self._opened()
                code = await self._github().request_device_code(client_id, scope)
                return DeviceCodeIssued(generation, code)
            case PollDeviceGrant(client_id=client_id, code=code):
                grant = await self._github().poll_device_grant(client_id, code)
                if isinstance(grant, NotGranted):
                    return DeviceNotGranted(generation, grant)
                return DeviceGranted(generation, self._dated(grant))
            case IdentifyUser(token=token):
                await self._opened()
                return UserIdentified(generation, await self._github().identify(token))
            case SaveLogin(login=login):
                await self._save(login)
                return LoginSaved(generation)
            case LoadLogin():
                return self._loaded(generation, await self._kept())
            case RenewToken(client_id=client_id, token=token):
                return LoginRenewed(generation, await self._renew_in_turn(client_id, token))
            case ExchangeToken(token=token):
                return TokenIssued(generation, await self._mint(token, self._github().exchange))
            case PrepareDirect(token=token):
                return TokenIssued(generation, await self._mint(token, self._github().direct))
            case _:
                assert_never(question)

    async def _mint(
        self, token: GitHubToken, ask: Callable[[GitHubToken, str], Awaitable[CopilotToken]]
    ) -> CopilotToken:
        """Ask GitHub; each time it is asked, one record tells how that went."""
        async with self._dead_logins.proven(token):
            began_at = self._clock.boottime()
            try:
                minted = await ask(token, self._settings().plan)
            except BaseException as error:
                self._on_asked(_code_of(error))
                self._tell_failed(REFRESH_FAILED, error, began_at)
                raise
        self._on_asked("")
        extra = REFRESHED.extra(
            ACCOUNT=self.name,
            TOKEN_FP=self._token_id(minted),
            MODE="direct" if minted.is_direct else "exchange",
            LIFETIME=f"{minted.lifetime:.0f}",
            LATENCY_USEC=microseconds(self._clock.boottime() - began_at),
        )
        log.info(REFRESHED.message, extra=extra)
        return minted

    def _tell_failed(self, event: AuditEvent, error: BaseException, began_at: float) -> None:
        code = _code_of(error)
        extra = event.extra(
            ACCOUNT=self.name,
            ERROR_CODE=code,
            LATENCY_USEC=microseconds(self._clock.boottime() - began_at),
        )
        level = logging.INFO if code == GIVEN_UP else logging.WARNING
        log.log(level, event.message, extra=extra)

    def learn_direct(self, login: Login) -> bool:
        """Remember that the exchange does not know it; return whether that is news."""
        known, self._direct = self._direct, _app_of(login)
        return known != self._direct

    def _loaded(self, generation: int, login: Login | None) -> LoginLoaded:
        """Add what the store need not know: what was learned of the login, and its time left."""
        if login is None:
            return LoginLoaded(generation, None)
        # Whether a token may be exchanged is a matter of its app: a login of another app starts
        # anew, wherever it comes from.
        is_direct = login.is_direct or self._direct == _app_of(login)
        login = replace(login, is_direct=is_direct)
        was_refused = self._dead_logins.has(login.token)
        if was_refused:
            log.info("login was refused before, not tried again", extra={"ACCOUNT": self.name})
        return LoginLoaded(generation, login, self._left(login.token), was_refused)

    async def _renew_in_turn(self, client_id: str, token: GitHubToken) -> GitHubToken:
        """Renew it while no other name does: its refresh token can be used only once."""
        assert self.key is not None
        by = self._clock.boottime() + ASKED_WITHIN
        await self._renewal_turn(self.key)
        self._dead_logins.check(token)
        self.is_renewing = True  # until it is saved
        try:
            return await self._renew(client_id, token, by)
        except BaseException:
            self.is_renewing = False
            raise

    async def _renew(self, client_id: str, token: GitHubToken, by: float) -> GitHubToken:
        """Trade the refresh token in, unless somebody who shares the store has done so already.

        GitHub kills the old pair with its answer. Whoever is killed between that answer and the
        save has lost both; nothing can help there, and the next start finds a refused login, asks
        for a new one and erases nothing. So the two stand as close together as can be: we do not
        even ask while the store cannot be read and written, and a stop waits for the save
        (`Roster.close`).
        """
        kept = await self._proven_kept(token)
        if kept is not None and kept.token.value != token.value:
            log.info("login was renewed by somebody else", extra={"ACCOUNT": self.name})
            left = self._left(kept.token)
            if left is None or left > 0:
                self._renewed = (token.value, kept.token.value)
                return replace(kept.token, expires_in=left)
            client_id, token = kept.client_id, kept.token
        if self._clock.boottime() > by:
            raise TransientError(RENEWAL_WAITS)
        began_at = self._clock.boottime()
        try:
            renewed = self._dated(await self._github().renew(client_id, token))
        except BaseException as error:
            self._tell_failed(RENEWAL_FAILED, error, began_at)
            raise
        self._renewed = (token.value, renewed.value)
        took = microseconds(self._clock.boottime() - began_at)
        extra = LOGIN_RENEWED.extra(ACCOUNT=self.name, LATENCY_USEC=took)
        log.info(LOGIN_RENEWED.message, extra=extra)
        return renewed

    async def _proven_kept(self, token: GitHubToken) -> Login | None:
        """Return what the store keeps; where that is `token`, after having saved it once more.

        A full disk or a folder that has become read-only would otherwise show when GitHub has
        killed what is kept. Raises TransientError: such a store may come back.
        """
        try:
            kept = await self._kept()
            if kept is not None and kept.token.value == token.value:
                await (await self._opened()).save(kept)
        except PermanentError as error:
            raise TransientError(error.failure) from error
        return kept

    async def _save(self, login: Login) -> None:
        store = await self._opened()
        if self._renewed is not None and self._renewed[1] == login.token.value:
            kept = await store.load(login.key)
            if kept is None or kept.token.value not in self._renewed:
                # Somebody has signed in anew, or out: that stands. Ours lives on in memory.
                log.warning("renewed login not saved", extra={"ACCOUNT": self.name})
            else:
                await store.save(login)
            self.is_renewing = False
            return
        await store.save(login)
        await self._on_saved(login, store)
        self.key = login.key
        self.has_saved = True

    async def _kept(self) -> Login | None:
        assert self.key is not None
        return await (await self._opened()).load(self.key)

    def _dated(self, token: GitHubToken) -> GitHubToken:
        """Note by the wall clock when it expires, for whoever reads it in another life."""
        if token.expires_in is None:
            return token
        return replace(token, expires_at=self._clock.wall() + token.expires_in)

    def _left(self, token: GitHubToken) -> float | None:
        """Seconds until it expires; the wall clock may have been wrong then, or be so now."""
        if token.expires_at is None:
            return None
        left = token.expires_at - self._clock.wall()
        return max(0.0, left if token.expires_in is None else min(left, token.expires_in))

    async def _opened(self) -> LoginStore:
        if self._store is None:
            self._store = await self._open_store()
        return self._store


def _app_of(login: Login | IndexEntry) -> tuple[str, str]:
    return login.client_id, login.source


def _code_of(error: BaseException) -> str:
    if isinstance(error, BrokerError):
        return error.failure.code
    return GIVEN_UP if isinstance(error, asyncio.CancelledError) else "defect"
