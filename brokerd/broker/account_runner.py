"""One account at work: asks what its machine wants asked and feeds the answers back.

A question is a task; at most one is alive. When the machine gives a question up, its task is
cancelled, and an answer that slips through is dropped by its generation.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from brokerd.broker.dead_logins import DEAD_CODES
from brokerd.broker.failures import as_of_now
from brokerd.core.machine.effects import Effect, ExchangeToken, PrepareDirect
from brokerd.core.machine.events import Event, QuestionFailed
from brokerd.core.machine.states import (
    Exchanging,
    Identifying,
    Loading,
    Minting,
    Ready,
    Renewing,
    Saving,
    SignedOut,
)
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.broker.asker import Asker
    from brokerd.broker.prompts import Prompt
    from brokerd.core.machine.states import State
    from brokerd.core.machine.token_machine import TokenMachine
    from brokerd.core.tokens import AccountKey, GitHubToken, Login
    from brokerd.ports import Clock


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
        machine: TokenMachine,
        asker: Asker,
        *,
        clock: Clock,
        prompt: Prompt,
        on_direct: Callable[[Login], None],
        on_refused: Callable[[Login, str], None],
        on_change: Callable[[], None],
        on_unknown: Callable[[GitHubToken, str], None] = lambda _token, _code: None,
    ) -> None:
        """`on_direct` is told of a login once the exchange turns out not to know its token.

        `on_refused` is told of one that GitHub has refused as dead, and of the failure's code,
        before the next question. `on_unknown` is the same for a token that GitHub has refused when
        it was asked whose it is.
        """
        self.name = asker.name
        self.machine = machine
        self._asker = asker
        self._clock = clock
        self._prompt = prompt
        self._on_direct = on_direct
        self._on_refused = on_refused
        self._on_change = on_change
        self._on_unknown = on_unknown
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

    def end(self) -> None:
        """Give up for good: nobody wants this account's machine driven any more."""
        self.cancel()
        self._prompt.cancel()

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
    def failure(self) -> Failure | None:
        """What stands in the way, or did the last time, with what is left of its time."""
        failure, state = self.machine.failure, self.machine.state
        if failure is None or isinstance(state, SignedOut):
            return failure
        return as_of_now(failure, state.retry, self._clock.boottime())

    @property
    def has_saved(self) -> bool:
        """Whether a login has been made durable here."""
        return self._asker.has_saved

    def is_renewing(self, key: AccountKey) -> bool:
        """Whether a new pair of tokens for that person's login is on its way to its store."""
        match self.machine.state:
            case Ready(step=Renewing() | Saving()) | Exchanging(step=Renewing() | Saving()):
                return self._asker.is_renewing and self._asker.key == key
            case _:
                return False

    @property
    def login(self) -> Login | None:
        """The newest login that we know of; None: ask the store."""
        match self.machine.state:
            case Ready(step=step) | Exchanging(step=Renewing() | Saving() | Minting() as step):
                return step.login
            case _:
                return None

    def _follow(self, before: tuple[State, object]) -> None:
        login = self.login
        if login is not None and login.is_direct and self._asker.learn_direct(login):
            self._on_direct(login)
        if self.machine.state is not before[0]:
            self._prompt.follow(self.machine.state)
            match self.machine.state:
                case Exchanging(step=Loading(refused=dead, reason=why)) if dead and why:
                    if why.code in DEAD_CODES:
                        self._on_refused(dead, why.code)
                case SignedOut(reason=why) if why is not None and why.code in DEAD_CODES:
                    match before[0]:
                        case Exchanging(step=Identifying(token=token)):
                            self._on_unknown(token, why.code)
                        case _:
                            pass
                case _:
                    pass
        if self.machine.is_withdrawn:
            self._asker.forget()
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
            answer = await self._asker.answer(question)
        except BrokerError as error:
            is_permanent = isinstance(error, PermanentError)
            answer = QuestionFailed(generation, error.failure, is_permanent)
            if not isinstance(question, ExchangeToken | PrepareDirect):  # these have a record
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
