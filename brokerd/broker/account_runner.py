"""One account at work: asks what its machine wants asked and feeds the answers back.

A question is a task; at most one is alive. When the machine gives a question up, its task is
cancelled, and an answer that slips through is dropped by its generation.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, assert_never

from brokerd.core.device_grant import NotGranted
from brokerd.core.effects import (
    Effect,
    ExchangeToken,
    IdentifyUser,
    LoadLogin,
    PollDeviceGrant,
    RequestDeviceCode,
    SaveLogin,
)
from brokerd.core.events import (
    DeviceCodeIssued,
    DeviceGranted,
    DeviceNotGranted,
    Event,
    LoginLoaded,
    LoginSaved,
    QuestionFailed,
    TokenIssued,
    UserIdentified,
)
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brokerd.core.token_machine import TokenMachine
    from brokerd.core.tokens import AccountKey, Login
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
        open_store: Callable[[], Awaitable[LoginStore]],
        key: AccountKey | None = None,
        on_saved: Callable[[Login, LoginStore], Awaitable[None]] | None = None,
        on_change: Callable[[], None],
    ) -> None:
        """`open_store` is called once, before anybody is troubled for a login it cannot keep.

        `on_saved` makes the rest durable; the login counts as saved when it has returned.
        """
        self.name = name
        self.has_saved = False
        """Whether this runner has made a login durable."""
        self.machine = machine
        self._clock = clock
        self._github = github
        self._open_store = open_store
        self._store: LoginStore | None = None
        self._key = key
        self._on_saved = on_saved
        self._on_change = on_change
        self._asked: Effect | None = None
        self._tasks: set[asyncio.Task[None]] = set()

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

    def _follow(self, before: tuple[object, object]) -> None:
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
                return DeviceGranted(generation, grant)
            case IdentifyUser(token=token):
                await self._opened()
                return UserIdentified(generation, await self._github().identify(token))
            case SaveLogin(login=login):
                store = await self._opened()
                await store.save(login)
                if self._on_saved is not None:
                    await self._on_saved(login, store)
                self._key = login.key
                self.has_saved = True
                return LoginSaved(generation)
            case LoadLogin():
                assert self._key is not None
                return LoginLoaded(generation, await (await self._opened()).load(self._key))
            case ExchangeToken(token=token):
                minted = await self._github().exchange(token)
                log.info(
                    "token issued",
                    extra={"ACCOUNT": self.name, "LIFETIME": f"{minted.lifetime:.0f}"},
                )
                return TokenIssued(generation, minted)
            case _:
                assert_never(question)

    async def _opened(self) -> LoginStore:
        if self._store is None:
            self._store = await self._open_store()
        return self._store
