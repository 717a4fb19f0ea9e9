"""Which question an account asks next.

`prepared` looks once more before a minting: the way to a bearer is chosen anew each time, and an
expiring GitHub token is renewed first. `question` then puts it into words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
from brokerd.core.machine.renewal import has_expired, is_due
from brokerd.core.machine.states import (
    AwaitingUser,
    Exchanging,
    Identifying,
    Loading,
    Minting,
    Ready,
    Renewing,
    Saving,
    SignedOut,
)
from brokerd.core.modes import mode_for, refusal_of


if TYPE_CHECKING:
    from brokerd.core.machine.states import State, Step


__all__ = ["App", "is_asked_again", "prepared", "question"]


@dataclass(frozen=True)
class App:
    """What an account signs in as, and where."""

    host: str
    client_id: str
    scope: str = ""


def prepared(state: State, configured: str, now: float) -> State:
    """Return what is to be done instead of a minting that is due, or the same state."""
    if not isinstance(state, (Ready, Exchanging)) or not isinstance(state.step, Minting):
        return state
    step = state.step
    if _must_renew(state, step, now):
        return replace(state, step=Renewing(step.login))
    refusal = refusal_of(step.login.token.value, configured)
    if refusal is not None:
        return replace(state, retry=state.retry.given_up(refusal))
    return state


def _must_renew(state: Ready | Exchanging, step: Minting, now: float) -> bool:
    if step.renewal is not None:
        # It failed a moment ago, and the token was good enough to go on with.
        return step.renewal.at is not None and has_expired(state.login_expires_at, now)
    return is_due(step.login.token, state.login_expires_at, now)


def question(state: State, generation: int, app: App, configured: str) -> Effect:
    """Put the next question of a state."""
    match state:
        case SignedOut():
            return RequestDeviceCode(generation, app.client_id, app.scope)
        case AwaitingUser(code=code):
            return PollDeviceGrant(generation, app.client_id, code)
        case Exchanging(step=step) | Ready(step=step):
            return _of_step(step, generation, configured)


def _of_step(step: Step, generation: int, configured: str) -> Effect:
    match step:
        case Loading():
            return LoadLogin(generation)
        case Identifying(token=token):
            return IdentifyUser(generation, token)
        case Renewing(login=login):
            return RenewToken(generation, login.client_id, login.token)
        case Saving(login=login):
            return SaveLogin(generation, login)
        case Minting(login=login):
            mode = mode_for(login.token.value, configured, is_direct=login.is_direct)
            ask = PrepareDirect if mode == "direct" else ExchangeToken
            return ask(generation, login.token)


def is_asked_again(question: Effect | None) -> bool:
    """Whether a question that a suspend has cut off is given up and asked anew.

    Not a poll, which may bring the grant, and not a renewal: its answer may hold the only living
    tokens, and asking again presents a refresh token that is dead by then.
    """
    return isinstance(question, (ExchangeToken, PrepareDirect, IdentifyUser))
