"""One account's way from nothing to a Copilot token, and to the next one, for ever.

    SignedOut ──LoginRequested──► (RequestDeviceCode) ──► AwaitingUser ⟲ PollDeviceGrant
        ▲                                                      │ DeviceGranted
        │ refusal, logout, 401                                 ▼
        └──────────────── Exchanging: Identifying ► Saving ► Minting ──TokenIssued──► Ready
                               Loading (at start) ────────────┘  ▲                      │
                                                                 └── expired, rejected ─┘

Four verbs: `handle(event, now)`, `handle_timer(now)`, `deadline()`, `lease(now)`. `now` is
CLOCK_BOOTTIME in seconds and never goes back. The rules:

1. At most one question is open. It has a generation; an answer with another one changes nothing.
2. A login is saved before it is used, and nothing is called a success before that.
3. A refresh leaves the current token leasable. A transient failure never costs a login; a refused
   login (401) is tried once; a refused exchange is not tried again until somebody asks for it.
4. Nothing of ours asks upstream earlier than its `retry-after` permits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from brokerd.core.device_grant import Pacing, is_pending, refusal, sane_expires_in
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
    FresherTokenWanted,
    LeaseWanted,
    LoginKept,
    LoginLoaded,
    LoginRequested,
    LoginSaved,
    LogoutRequested,
    QuestionFailed,
    RefreshRequested,
    Resumed,
    TokenGiven,
    TokenIssued,
    TokenRejected,
    UserIdentified,
)
from brokerd.core.refresh import Retry, backoff, is_alive, is_old_enough, refresh_delay
from brokerd.core.states import (
    AwaitingUser,
    Exchanging,
    Identifying,
    Lease,
    Loading,
    Minting,
    Ready,
    Saving,
    SignedOut,
)
from brokerd.core.tokens import Login
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.states import State, Step
    from brokerd.core.tokens import CopilotToken


__all__ = ["ANSWER_TIMEOUT", "TokenMachine"]

ANSWER_TIMEOUT = 90.0
"""Seconds after which a question counts as failed; longer than any edge's own timeouts."""
LOAD_PAUSE = 1.0
"""Seconds between two looks into a failing store, however many callers want a token."""
PERSON_WAITS_MAX = 30.0
"""Seconds between retries of what a person waits for: a login, or a store to be unlocked."""
YOUNG = 60.0
"""Seconds; a second token rejected younger than this is replaced only after a pause."""

_NO_ANSWER = Failure(
    ErrorClass.TEMPORARY, "no_answer", "no answer came in time", "Run copilot-cred status"
)
_STILLBORN = Failure(
    ErrorClass.TEMPORARY,
    "token_stillborn",
    "GitHub issued a Copilot token that had already expired",
    "Check this machine's clock with timedatectl, then run copilot-cred refresh",
)
_RESUMING = Failure(
    ErrorClass.TEMPORARY,
    "resuming",
    "the token expired while the machine slept; a new one is on its way",
    "Run copilot-cred get again",
)
_REJECTED = Failure(
    ErrorClass.TEMPORARY,
    "token_rejected_again",
    "several fresh Copilot tokens in a row were reported as rejected",
    "Run copilot-cred status",
)
_MISSING = Failure(
    ErrorClass.LOGIN_REQUIRED,
    "login_missing",
    "the login is gone from its store",
    "Run copilot-cred login",
)


class TokenMachine:
    """The state of one account; pure. What a state and an event do not list changes nothing."""

    def __init__(
        self,
        *,
        host: str,
        client_id: str,
        scope: str = "",
        chance: Callable[[], float],
    ) -> None:
        self.state: State = SignedOut()
        self._host = host
        self._client_id = client_id
        self._scope = scope
        self._source = "login"
        self._chance = chance
        self._generation = 0
        self._question: Effect | None = None
        self._asked_at = 0.0
        self._young_rejections = 0

    @property
    def question(self) -> Effect | None:
        """The one open question."""
        return self._question

    @property
    def failure(self) -> Failure | None:
        """What stands in the way, or did the last time."""
        match self.state:
            case SignedOut(reason=reason):
                return reason
            case AwaitingUser(retry=retry) | Exchanging(retry=retry) | Ready(retry=retry):
                return retry.failure

    @property
    def is_saved(self) -> bool:
        """Whether the login rests in its store, as far as the machine has come."""
        match self.state:
            case Ready() | Exchanging(step=Minting() | Loading()):
                return True
            case _:
                return False

    def lease(self, now: float) -> Lease | None:
        """Return the current token while it lives."""
        if isinstance(self.state, Ready) and now < self.state.expires_at:
            return Lease(self.state.token, self.state.expires_at, self.state.login.host)
        return None

    def can_freshen(self, now: float) -> bool:
        """Whether a fresher token than the current one is coming, or may be asked for."""
        if not isinstance(self.state, Ready):
            return False
        if self._question is not None:
            return True
        age = now - self.state.asked_at
        return not self.state.retry.failures and is_old_enough(age, self.state.token.lifetime)

    def deadline(self) -> float | None:
        """When `handle_timer` must be called at the latest."""
        times: list[float] = []
        if self._question is not None:
            times.append(self._asked_at + ANSWER_TIMEOUT)
        match self.state:
            case SignedOut():
                pass
            case AwaitingUser(expires_at=expires_at, retry=retry):
                if self._question is None:
                    times += [expires_at] if retry.at is None else [expires_at, retry.at]
            case Exchanging(retry=retry):
                if self._question is None and retry.at is not None:
                    times.append(retry.at)
            case Ready(expires_at=expires_at, retry=retry):
                times.append(expires_at)
                if self._question is None and retry.at is not None:
                    times.append(retry.at)
        return min(times, default=None)

    def handle_timer(self, now: float) -> list[Effect]:
        """Do what is due; harmless at any time."""
        effects: list[Effect] = []
        if self._question is not None and now >= self._asked_at + ANSWER_TIMEOUT:
            failed = QuestionFailed(self._generation, _NO_ANSWER, is_permanent=False)
            effects += self._answered(failed, now)
        match self.state:
            case AwaitingUser(expires_at=expires_at) if self._question is None:
                if now >= expires_at:
                    self.state = SignedOut(refusal("expired_token"))
            case Ready(login=login, expires_at=expires_at, retry=retry) if now >= expires_at:
                self.state = Exchanging(Minting(login), retry)
            case _:
                pass
        return effects + self._ask_if_due(now)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened, and say what is to be done."""
        match event:
            case (
                DeviceCodeIssued()
                | DeviceGranted()
                | DeviceNotGranted()
                | UserIdentified()
                | LoginSaved()
                | LoginLoaded()
                | TokenIssued()
                | QuestionFailed()
            ):
                is_stale = self._question is None or event.generation != self._generation
                effects = [] if is_stale else self._answered(event, now)
            case _:
                effects = self._happened(event, now)
        return effects + self.handle_timer(now)

    # What people, callers and the machine do.

    def _happened(
        self,
        event: LoginRequested
        | TokenGiven
        | LoginKept
        | LogoutRequested
        | LeaseWanted
        | FresherTokenWanted
        | RefreshRequested
        | TokenRejected
        | Resumed,
        now: float,
    ) -> list[Effect]:
        state = self.state
        match event:
            case LogoutRequested():
                self._question = None
                self.state = SignedOut()
            case LoginRequested():
                if isinstance(state, SignedOut) and self._question is None:
                    self.state = SignedOut()
                    return [self._ask(now)]
            case TokenGiven(token=token):
                if isinstance(state, SignedOut) and self._question is None:
                    self._source = "token"
                    self.state = Exchanging(Identifying(token), Retry(now))
            case LoginKept():
                if isinstance(state, SignedOut) and self._question is None:
                    self.state = Exchanging(Loading(), Retry(now))
            case LeaseWanted():
                if (
                    isinstance(state, Exchanging)
                    and isinstance(state.step, Loading)
                    and self._question is None
                    and now >= self._asked_at + LOAD_PAUSE
                ):
                    self.state = replace(state, retry=state.retry.soon(now))
            case FresherTokenWanted():
                if isinstance(state, Ready) and self._question is None and self.can_freshen(now):
                    self.state = replace(state, retry=state.retry.soon(now))
            case RefreshRequested():
                if isinstance(state, (Ready, Exchanging)):
                    self.state = replace(state, retry=state.retry.soon(now))
            case TokenRejected(token=token):
                if isinstance(state, Ready) and state.token == token:
                    self._reject(state, now)
            case Resumed(slept=slept):
                self._resume(now, slept=slept)
            case _:
                assert_never(event)
        return []

    def _reject(self, state: Ready, now: float) -> None:
        """Drop a refused token. The first is replaced at once, a run of young ones is paced."""
        is_young = now - state.asked_at < YOUNG
        self._young_rejections = self._young_rejections + 1 if is_young else 0
        retry = state.retry
        if retry.at is not None:
            retry = retry.soon(now)
            if self._young_rejections > 1:
                pause = backoff(self._young_rejections, self._chance())
                at = max(now + pause, retry.not_before)
                retry = replace(retry, at=at, failure=_REJECTED)
        self.state = Exchanging(Minting(state.login), retry)

    def _resume(self, now: float, *, slept: bool) -> None:
        """Ask anew what a suspend has cut off, and retry now what was waiting for its turn."""
        if slept and isinstance(self._question, (ExchangeToken, IdentifyUser)):
            self._question = None
            if isinstance(self.state, (Ready, Exchanging)):
                self.state = replace(self.state, retry=self.state.retry.soon(now))
        state = self.state
        if (
            isinstance(state, (Ready, Exchanging))
            and state.retry.failures
            and state.retry.at is not None
        ):
            self.state = state = replace(state, retry=state.retry.soon(now))
        if isinstance(state, Ready) and now >= state.expires_at and state.retry.failure is None:
            # Whoever asks from here to the answer is told why there is no token.
            self.state = replace(state, retry=replace(state.retry, failure=_RESUMING))

    # What comes back from a question.

    def _answered(
        self,
        event: DeviceCodeIssued
        | DeviceGranted
        | DeviceNotGranted
        | UserIdentified
        | LoginSaved
        | LoginLoaded
        | TokenIssued
        | QuestionFailed,
        now: float,
    ) -> list[Effect]:
        question, self._question = self._question, None
        match (question, event):
            case (_, QuestionFailed(failure=failure, is_permanent=is_permanent)):
                self._failed(failure, now, is_permanent=is_permanent)
            case (RequestDeviceCode(), DeviceCodeIssued(code=code)):
                pacing = Pacing.told(code.interval)
                expires_at = self._asked_at + sane_expires_in(code.expires_in)
                self.state = AwaitingUser(code, expires_at, pacing, Retry(now + pacing.delay))
            case (PollDeviceGrant(), DeviceGranted(token=token)):
                self.state = Exchanging(Identifying(token), Retry(now))
            case (PollDeviceGrant(), DeviceNotGranted(answer=answer)):
                if not is_pending(answer):
                    self.state = SignedOut(refusal(answer.error))
                elif isinstance(self.state, AwaitingUser):
                    pacing = self.state.pacing.after(answer)
                    retry = Retry(now + pacing.delay)
                    self.state = replace(self.state, pacing=pacing, retry=retry)
            case (IdentifyUser(token=token), UserIdentified(user=user)):
                login = Login(self._host, user, token, self._client_id, self._source)
                self.state = Exchanging(Saving(login), Retry(now))
            case (SaveLogin(login=login), LoginSaved()):
                self.state = Exchanging(Minting(login), Retry(now))
            case (LoadLogin(), LoginLoaded(login=loaded)):
                self._loaded(loaded, now)
            case (ExchangeToken(), TokenIssued(token=minted)):
                self._issued(minted, now)
            case _:
                # An answer to another question under this generation: a defect of the edge.
                self._question = question
        return []

    def _loaded(self, login: Login | None, now: float) -> None:
        if not isinstance(self.state, Exchanging) or not isinstance(self.state.step, Loading):
            return
        step = self.state.step
        if login is None:
            self.state = SignedOut(step.reason or _MISSING)
        elif step.refused is not None and step.refused.token == login.token:
            self.state = SignedOut(step.reason)
        else:
            self.state = Exchanging(Minting(login), Retry(now))

    def _issued(self, token: CopilotToken, now: float) -> None:
        match self.state:
            case Ready(login=login) | Exchanging(step=Minting(login=login)):
                pass
            case _:
                return
        expires_at = self._asked_at + token.lifetime if is_alive(token) else now
        if expires_at <= now:
            self._failed(_STILLBORN, now, is_permanent=False)
            return
        retry = Retry(max(now, self._asked_at + refresh_delay(token, self._chance())))
        self.state = Ready(login, token, self._asked_at, expires_at, retry)

    def _failed(self, failure: Failure, now: float, *, is_permanent: bool) -> None:
        match self.state:
            case SignedOut():
                # No code was issued: the person at the keyboard is told, and may try again.
                self.state = SignedOut(failure)
            case AwaitingUser(pacing=pacing, retry=retry):
                if is_permanent:
                    self.state = SignedOut(failure)
                    return
                retry = retry.failed(failure, now, self._chance(), ceiling=PERSON_WAITS_MAX)
                at = max(now + pacing.delay, retry.at or now)
                self.state = replace(self.state, retry=replace(retry, at=at))
            case Exchanging(step=step):
                self._step_failed(step, failure, now, is_permanent=is_permanent)
            case Ready(login=login, retry=retry):
                self._exchange_failed(login, failure, now, is_permanent=is_permanent)

    def _step_failed(
        self, step: Step, failure: Failure, now: float, *, is_permanent: bool
    ) -> None:
        assert isinstance(self.state, Exchanging)
        retry = self.state.retry.failed(failure, now, self._chance(), ceiling=PERSON_WAITS_MAX)
        later = replace(self.state, retry=retry)
        match step:
            case Loading(refused=None):
                # A locked or absent store may come back: the login in it is not given up.
                self.state = later
            case Loading(reason=reason):
                self.state = SignedOut(reason)
            case Identifying():
                self.state = SignedOut(failure) if is_permanent else later
            case Saving():
                is_lost = is_permanent and failure.error_class is not ErrorClass.LOCKED
                self.state = SignedOut(failure) if is_lost else later
            case Minting(login=login):
                self._exchange_failed(login, failure, now, is_permanent=is_permanent)

    def _exchange_failed(
        self, login: Login, failure: Failure, now: float, *, is_permanent: bool
    ) -> None:
        assert isinstance(self.state, (Ready, Exchanging))
        if not is_permanent:
            retry = self.state.retry.failed(failure, now, self._chance())
            self.state = replace(self.state, retry=retry)
        elif failure.error_class is ErrorClass.LOGIN_REQUIRED:
            # Bad credentials. Asking again gets the person locked out of GitHub's API; but the
            # store may hold a newer login by now, and that one is never thrown away.
            self.state = Exchanging(Loading(login, failure), Retry(now))
        else:
            self.state = replace(self.state, retry=self.state.retry.given_up(failure))

    # Asking.

    def _ask_if_due(self, now: float) -> list[Effect]:
        match self.state:
            case AwaitingUser(retry=retry) | Exchanging(retry=retry) | Ready(retry=retry):
                if self._question is None and retry.at is not None and now >= retry.at:
                    return [self._ask(now)]
            case SignedOut():
                pass
        return []

    def _ask(self, now: float) -> Effect:
        self._generation += 1
        self._asked_at = now
        question = self._next_question(self._generation)
        self._question = question
        return question

    def _next_question(self, generation: int) -> Effect:
        match self.state:
            case SignedOut():
                return RequestDeviceCode(generation, self._client_id, self._scope)
            case AwaitingUser(code=code):
                return PollDeviceGrant(generation, self._client_id, code)
            case Ready(login=login):
                return ExchangeToken(generation, login.token)
            case Exchanging(step=step):
                return self._step_question(step, generation)

    def _step_question(self, step: Step, generation: int) -> Effect:
        match step:
            case Loading():
                return LoadLogin(generation)
            case Identifying(token=token):
                return IdentifyUser(generation, token)
            case Saving(login=login):
                return SaveLogin(generation, login)
            case Minting(login=login):
                return ExchangeToken(generation, login.token)
