"""One account at work: asks what its machine wants asked and feeds the answers back.

A question is a task; at most one is alive. When the machine gives a question up, its task is
cancelled, and an answer that slips through is dropped by its generation.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from brokerd.core.device_grant import NotGranted
from brokerd.core.effects import (
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
from brokerd.core.events import (
    DeviceCodeIssued,
    DeviceGranted,
    DeviceNotGranted,
    Event,
    LoginLoaded,
    LoginRenewed,
    LoginSaved,
    QuestionFailed,
    TokenIssued,
    UserIdentified,
)
from brokerd.core.states import Exchanging, Minting, Ready, Renewing, Saving
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brokerd.core.settings import AccountSettings
    from brokerd.core.token_machine import TokenMachine
    from brokerd.core.tokens import CopilotToken, GitHubToken, IndexEntry, Login
    from brokerd.ports import Clock, GitHub, LoginStore


__all__ = ["AccountRunner"]

log = logging.getLogger(__name__)

_DEFECT = Failure(
    ErrorClass.INTERNAL,
    "defect",
    "the broker met an error that it does not know",
    "See journalctl --user -u copilot-broker and report it",
)


class AccountRunner:
    """Drives one token machine. All methods are for the event loop's thread."""

    def __init__(
        self,
        name: str,
        machine: TokenMachine,
        *,
        clock: Clock,
        github: Callable[[], GitHub],
        settings: Callable[[], AccountSettings],
        open_store: Callable[[], Awaitable[LoginStore]],
        kept: IndexEntry | None = None,
        on_saved: Callable[[Login, LoginStore], Awaitable[None]],
        on_direct: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        """`open_store` is called once, before anybody is troubled for a login it cannot keep.

        `kept` is what the index knows of the login that there is already. `on_saved` makes the
        rest durable; the login counts as saved when it has returned. `on_direct` is told once it
        has turned out that the exchange does not know the login's token.
        """
        self.name = name
        self.has_saved = False
        """Whether this runner has made a login durable."""
        self.machine = machine
        self._clock = clock
        self._github = github
        self._settings = settings
        self._open_store = open_store
        self._store: LoginStore | None = None
        self._key = kept.key if kept else None
        self._direct = (kept.client_id, kept.source) if kept and kept.is_direct else None
        """How the login came about whose token the exchange does not know."""
        self._on_saved = on_saved
        self._on_direct = on_direct
        self._on_change = on_change
        self._asked: Effect | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewed: tuple[str, str] | None = None
        """GitHub tokens: the one that was renewed last, and what for."""

    def feed(self, event: Event) -> None:
        """Let the machine take it in, and start what it wants."""
        before = (self.machine.state, self.machine.question)
        self.machine.handle(event, self._clock.boottime())
        self._follow(before)

    def tick(self, now: float) -> None:
        """Let the machine do what is due."""
        before = (self.machine.state, self.machine.question)
        self.machine.handle_timer(now)
        self._follow(before)

    def cancel(self) -> None:
        """Give up what is under way."""
        self._asked = None
        for task in self._tasks:
            task.cancel()

    @property
    def is_busy(self) -> bool:
        """Whether a cancelled or living task is still there."""
        return bool(self._tasks)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def until_past(self, *questions: type[Effect]) -> None:
        """Wait while one of these is under way: what cannot be taken back once it was asked."""
        while self._tasks and isinstance(self._asked, questions):
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    @property
    def login(self) -> Login | None:
        """The newest login that we know of; None: ask the store."""
        match self.machine.state:
            case Ready(step=step) | Exchanging(step=Renewing() | Saving() | Minting() as step):
                return step.login
            case _:
                return None

    def _follow(self, before: tuple[object, object]) -> None:
        login = self.login
        if self._direct is None and login is not None and login.is_direct:
            self._direct = (login.client_id, login.source)
            self._on_direct()
        question = self.machine.question
        if question is not self._asked:
            self.cancel()
            self._asked = question
            if question is not None:
                task = asyncio.create_task(self._perform(question))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if before[0] is not self.machine.state or before[1] is not question:
            self._on_change()

    async def _perform(self, question: Effect) -> None:
        generation = question.generation
        try:
            answer = await self._answer(question)
        except BrokerError as error:
            is_permanent = isinstance(error, PermanentError)
            answer = QuestionFailed(generation, error.failure, is_permanent)
            log.warning(
                "question failed",
                extra={
                    "ACCOUNT": self.name,
                    "QUESTION": type(question).__name__,
                    "ERROR_CODE": error.failure.code,
                    "PERMANENT": is_permanent,
                },
            )
        except Exception:
            # A defect of an edge must not end the loop that every tool depends on.
            log.exception(
                "question met a defect",
                extra={"ACCOUNT": self.name, "QUESTION": type(question).__name__},
            )
            answer = QuestionFailed(generation, _DEFECT, is_permanent=False)
        if self._asked is question:
            self._tasks.discard(asyncio.current_task())
            self.feed(answer)

    async def _answer(self, question: Effect) -> Event:
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
                return LoginRenewed(generation, await self._renew(client_id, token))
            case ExchangeToken(token=token):
                minted = await self._github().exchange(token, self._settings().plan)
                return self._issued(generation, minted)
            case PrepareDirect(token=token):
                found = await self._github().direct(token, self._settings().plan)
                return self._issued(generation, found)
            case _:
                assert_never(question)

    def _issued(self, generation: int, token: CopilotToken) -> TokenIssued:
        log.info(
            "token issued",
            extra={
                "ACCOUNT": self.name,
                "MODE": "direct" if token.is_direct else "exchange",
                "LIFETIME": f"{token.lifetime:.0f}",
            },
        )
        return TokenIssued(generation, token)

    def _loaded(self, generation: int, login: Login | None) -> LoginLoaded:
        """Add what the store need not know: what was learned of the login, and its time left."""
        if login is None:
            return LoginLoaded(generation, None)
        # Whether a token may be exchanged is a matter of its app: a login of another app starts
        # anew, wherever it comes from.
        is_direct = login.is_direct or self._direct == (login.client_id, login.source)
        login = replace(login, is_direct=is_direct)
        return LoginLoaded(generation, login, self._left(login.token))

    async def _renew(self, client_id: str, token: GitHubToken) -> GitHubToken:
        """Trade the refresh token in, unless somebody who shares the store has done so already.

        GitHub kills the old pair with its answer. Who is killed between that answer and the save
        (no answer, or no time to write it down) has lost both: nothing can help there, and the
        next start finds a refused login and asks for a new one. So we do not even ask while the
        store cannot be read, and nothing but death cuts the two apart: see `Roster.close`.
        """
        kept = await self._kept()
        if kept is not None and kept.token.value != token.value:
            log.info("login was renewed by somebody else", extra={"ACCOUNT": self.name})
            left = self._left(kept.token)
            if left is None or left > 0:
                return replace(kept.token, expires_in=left)
            client_id, token = kept.client_id, kept.token
        renewed = self._dated(await self._github().renew(client_id, token))
        self._renewed = (token.value, renewed.value)
        log.info("login renewed", extra={"ACCOUNT": self.name})
        return renewed

    async def _save(self, login: Login) -> None:
        store = await self._opened()
        if self._renewed is not None and self._renewed[1] == login.token.value:
            kept = await store.load(login.key)
            if kept is not None and kept.token.value not in self._renewed:
                # Somebody has signed in anew meanwhile: theirs stays. Ours lives on in memory.
                log.warning("newer login kept, renewed one not", extra={"ACCOUNT": self.name})
                return
        await store.save(login)
        await self._on_saved(login, store)
        self._key = login.key
        self.has_saved = True

    async def _kept(self) -> Login | None:
        assert self._key is not None
        return await (await self._opened()).load(self._key)

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
