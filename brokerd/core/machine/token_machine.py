"""One account's way from nothing to a Copilot token, and to the next one, for ever.

    SignedOut ──LoginRequested──► (RequestDeviceCode) ──► AwaitingUser ⟲ PollDeviceGrant
        ▲                                                      │ DeviceGranted
        │ refusal, logout, 401                                 ▼
        └──────────────── Exchanging: Identifying ► Saving ► Minting ──TokenIssued──► Ready
                               Loading (at start) ────────────┘  ▲ │                    │
                                              ▲                  │ │ about to expire    │
                                              └─── refused ──────┤ ▼                    │
                                                    Saving ◄─ Renewing                  │
                                                                 ▲── expired, rejected ─┘

Four verbs: `handle(event, now)`, `handle_timer(now)`, `deadline()`, `lease(now)`. `now` is
CLOCK_BOOTTIME in seconds and never goes back. The rules:

1. At most one question is open. It has a generation; an answer with another one changes nothing.
2. A login is saved before it is used, and nothing is called a success before that. The same holds
   for the new tokens of a renewal: the old ones are dead, so saving them is never given up.
3. A refresh leaves the current token leasable, and so does a renewal (`Ready.step`). A transient
   failure never costs a login; a refused login (401) is tried once, or renewed once; a refused
   exchange is not tried again until somebody asks for it. A Copilot token that was rejected is
   dropped; the GitHub token itself, used directly, is not: GitHub says whether it lives.
4. Nothing of ours asks upstream earlier than its `retry-after` permits.
5. While it is locked it holds no secret but one that is on its way to its store (`locking`), and
   takes in nothing but the end of the lock and of the login.

The rules of each kind of transition stand by themselves: `questions`, `outcomes`, `setbacks`,
`wishes`, and `renewal` for GitHub tokens that expire. This file keeps the state, the one open
question and the time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from brokerd.core.machine.device_grant import refusal
from brokerd.core.machine.events import (
    Answer,
    Event,
    FresherTokenWanted,
    GivenUnusable,
    LeaseWanted,
    Locked,
    LoginKept,
    LoginRequested,
    LogoutRequested,
    QuestionFailed,
    RefreshRequested,
    Resumed,
    TokenGiven,
    TokenRejected,
    TokensDropped,
    Unlocked,
    Wish,
)
from brokerd.core.machine.locking import returned, withdrawn
from brokerd.core.machine.outcomes import followed
from brokerd.core.machine.questions import App, is_asked_again, prepared, question
from brokerd.core.machine.renewal import meanwhile
from brokerd.core.machine.setbacks import NO_ANSWER, failed
from brokerd.core.machine.states import (
    AwaitingUser,
    Exchanging,
    Identifying,
    Lease,
    Minting,
    Ready,
    Renewing,
    Saving,
    SignedOut,
)
from brokerd.core.machine.wishes import (
    DOUBT_PAUSE,
    YOUNG,
    begun,
    can_freshen,
    doubted,
    dropped,
    hurried,
    rejected,
    resumed,
)
from brokerd.core.modes import mode_for
from brokerd.errors import Failure


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.machine.effects import Effect
    from brokerd.core.machine.states import State


__all__ = ["ANSWER_TIMEOUT", "TokenMachine"]

ANSWER_TIMEOUT = 90.0
"""Seconds after which a question counts as failed; longer than any edge's own timeouts."""


_WHILE_LOCKED = (Locked, Unlocked, LoginKept, LogoutRequested, Resumed)
"""A login that is kept is not loaded before the end of the lock either."""


class TokenMachine:
    """The state of one account; pure. What a state and an event do not list changes nothing."""

    def __init__(
        self,
        *,
        host: str,
        client_id: str,
        scope: str = "",
        chance: Callable[[], float],
        mode: Callable[[], str] = lambda: "auto",
    ) -> None:
        """`mode` tells the configured mode (see `modes`); it is asked anew at each minting."""
        self.state: State = SignedOut()
        self._app = App(host, client_id, scope)
        self._chance = chance
        self._mode = mode
        self._configured = ""
        """The mode that was configured when a question was last due."""
        self._generation = 0
        self._question: Effect | None = None
        self._asked_at = 0.0
        self._patient_until = 0.0
        self._young_rejections = 0
        self._doubted_at = -math.inf
        """When a refused direct token last had the login looked into."""
        self._locked: Failure | None = None
        """Why nothing is to be had, while it is locked."""

    @property
    def is_withdrawn(self) -> bool:
        """Whether it is locked and holds no secret any more."""
        is_saving = isinstance(self.state, Exchanging) and isinstance(self.state.step, Saving)
        return self._locked is not None and self._question is None and not is_saving

    @property
    def question(self) -> Effect | None:
        """The one open question."""
        return self._question

    @property
    def failure(self) -> Failure | None:
        """What stands in the way, or did the last time."""
        if isinstance(self.state, SignedOut):
            return self.state.reason
        return self.state.retry.failure

    @property
    def is_saved(self) -> bool:
        """Whether the login rests in its store, as far as the machine has come."""
        match self.state:
            case Ready(step=step) | Exchanging(step=step):
                return not isinstance(step, (Identifying, Saving))
            case _:
                return False

    @property
    def is_direct(self) -> bool:
        """Whether the exchange does not know the login's token: to be remembered with it."""
        match self.state:
            case Ready(step=step) | Exchanging(step=(Renewing() | Saving() | Minting()) as step):
                return step.login.is_direct
            case _:
                return False

    @property
    def fits(self) -> bool:
        """Whether the current token, if any, is of the kind that is configured."""
        if not isinstance(self.state, Ready):
            return True
        login = self.state.login
        mode = mode_for(login.token.value, self._mode(), is_direct=login.is_direct)
        return self.state.token.is_direct == (mode == "direct")

    def lease(self, now: float) -> Lease | None:
        """Return the current token while it lives."""
        if isinstance(self.state, Ready) and now < self.state.expires_at:
            return Lease(self.state.token, self.state.expires_at, self.state.login.host)
        return None

    def can_freshen(self, now: float) -> bool:
        """Whether a fresher token than the current one is coming, or may be asked for."""
        if not isinstance(self.state, Ready):
            return False
        return self._question is not None or can_freshen(self.state, now)

    def deadline(self) -> float | None:
        """When `handle_timer` must be called at the latest."""
        times: list[float] = []
        match self.state:
            case AwaitingUser(expires_at=expires_at) if self._question is None:
                times.append(expires_at)
            case Ready(expires_at=expires_at):
                times.append(expires_at)
            case _:
                pass
        if self._question is not None:
            times.append(self._patient_until)
        elif (at := self._due_at) is not None:
            times.append(at)
        return min(times, default=None)

    def handle_timer(self, now: float) -> list[Effect]:
        """Do what is due; harmless at any time."""
        if self._question is not None and now >= self._patient_until:
            asked, self._question = self._question, None
            self._fail(asked, NO_ANSWER, now, is_permanent=False)
        match self.state:
            case AwaitingUser(expires_at=at, pacing=pacing) if self._question is None:
                if now >= at:
                    self.state = SignedOut(refusal("expired_token", pacing))
            case Ready(step=step, expires_at=at, retry=retry) if now >= at:
                self.state = Exchanging(step, retry, self.state.login_expires_at)
            case _:
                pass
        return self._ask_if_due(now)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened, and say what is to be done."""
        if isinstance(event, (Answer, QuestionFailed)):
            if self._question is not None and event.generation == self._generation:
                self._answered(self._question, event, now)
            return self.handle_timer(now)
        return self._wished(event, now) + self.handle_timer(now)

    def _wished(self, event: Wish, now: float) -> list[Effect]:
        state = self.state
        if self._locked is not None and not isinstance(event, _WHILE_LOCKED):
            return []
        match event:
            case LogoutRequested():
                self._question = None
                self.state = SignedOut()
            case LoginRequested():
                if isinstance(state, SignedOut) and self._question is None:
                    self.state = SignedOut()
                    return [self._ask(now)]
            case TokenGiven() | LoginKept() | GivenUnusable():
                if self._question is None:
                    self.state = begun(state, event, now)
            case LeaseWanted() | FresherTokenWanted():
                if self._question is None:
                    self._hurry(event, now)
            case RefreshRequested():
                self._hurry(event, now)
            case TokenRejected(token=token):
                if isinstance(state, Ready) and state.token == token:
                    self._reject(state, now)
            case Resumed(slept=slept):
                self._resume(now, slept=slept)
            case TokensDropped():
                if isinstance(state, Ready):
                    young = self._count_young(state, now)
                    self.state = dropped(state, now, young_ones=young, chance=self._chance())
            case Locked(reason=reason):
                self._locked = self._locked or reason
            case Unlocked():
                self._locked = None
                self.state = returned(state, now)
            case _:
                assert_never(event)
        return []

    def _hurry(
        self, event: LeaseWanted | FresherTokenWanted | RefreshRequested, now: float
    ) -> None:
        is_mode_new = self._mode() != self._configured
        self.state = hurried(
            self.state, event, is_mode_new=is_mode_new, asked_at=self._asked_at, now=now
        )

    def _reject(self, state: Ready, now: float) -> None:
        """Drop a refused token; a direct one stays, and the login is looked into once a minute."""
        if not state.token.is_direct:
            young = self._count_young(state, now)
            self.state = rejected(state, now, young_ones=young, chance=self._chance())
        elif self._question is None and now >= self._doubted_at + DOUBT_PAUSE:
            self._doubted_at = now
            self.state = doubted(state, now)

    def _count_young(self, state: Ready, now: float) -> int:
        """Return how many in a row were gone before their time, this one too."""
        is_young = now - state.asked_at < YOUNG
        self._young_rejections = self._young_rejections + 1 if is_young else 0
        return self._young_rejections

    def _resume(self, now: float, *, slept: bool) -> None:
        """Ask anew what a suspend has cut off; other answers get all their time again."""
        if slept and is_asked_again(self._question):
            self._question = None
            if isinstance(self.state, (Ready, Exchanging)):
                self.state = replace(self.state, retry=self.state.retry.soon(now))
        elif slept and self._question is not None:
            self._patient_until = now + ANSWER_TIMEOUT
        self.state = resumed(self.state, now)

    def _answered(self, asked: Effect, event: Answer | QuestionFailed, now: float) -> None:
        self._question = None
        if isinstance(event, QuestionFailed):
            self._fail(asked, event.failure, now, is_permanent=event.is_permanent)
            return
        outcome = followed(
            self.state,
            asked,
            event,
            app=self._app,
            asked_at=self._asked_at,
            now=now,
            chance=self._chance(),
        )
        match outcome:
            case None:
                # An answer to another question under this generation: a defect of the edge.
                self._question = asked
            case Failure():
                self._fail(asked, outcome, now, is_permanent=False)
            case _:
                self.state = outcome

    def _fail(self, asked: Effect, failure: Failure, now: float, *, is_permanent: bool) -> None:
        self.state = failed(
            self.state,
            asked,
            failure,
            is_permanent=is_permanent,
            configured=self._mode(),
            now=now,
            chance=self._chance(),
        )

    @property
    def _due_at(self) -> float | None:
        """When the next question is due; None: one is open, or nobody knows of one."""
        if self._question is not None or isinstance(self.state, SignedOut):
            return None
        return self.state.retry.at

    def _ask_if_due(self, now: float) -> list[Effect]:
        if self._locked is not None:
            self.state, self._question = withdrawn(self.state, self._question, self._locked)
        if self._question is None and isinstance(self.state, (Ready, Exchanging)):
            self.state = meanwhile(self.state, now)
        if (at := self._due_at) is not None and now >= at:
            self._configured = self._mode()
            self.state = prepared(self.state, self._configured, now)
        if (at := self._due_at) is not None and now >= at:
            return [self._ask(now)]
        return []

    def _ask(self, now: float) -> Effect:
        self._generation += 1
        self._asked_at = now
        self._patient_until = now + ANSWER_TIMEOUT
        self._question = question(self.state, self._generation, self._app, self._configured)
        return self._question
