"""What people, callers and the machine itself want of an account, as changes of its state.

Each function takes a state and returns the next one, which is the same when the wish does not
apply. Nothing here asks a question; it only says when one is due.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.machine.events import (
    FresherTokenWanted,
    GivenUnusable,
    LeaseWanted,
    LoginKept,
    TokenGiven,
)
from brokerd.core.machine.refresh import Retry, backoff, is_old_enough
from brokerd.core.machine.renewal import meanwhile
from brokerd.core.machine.states import Exchanging, Identifying, Loading, Minting, Ready, SignedOut
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from brokerd.core.machine.events import RefreshRequested
    from brokerd.core.machine.states import State


__all__ = [
    "DOUBT_PAUSE",
    "LOAD_PAUSE",
    "YOUNG",
    "begun",
    "can_freshen",
    "doubted",
    "dropped",
    "hurried",
    "rejected",
    "resumed",
]

LOAD_PAUSE = 1.0
"""Seconds between two looks into a failing store, however many callers want a token."""
YOUNG = 60.0
"""Seconds; a second token rejected younger than this is replaced only after a pause."""

DOUBT_PAUSE = 60.0
"""Seconds between two looks into a login whose own token Copilot refuses: GitHub may go on taking
it for ever (a personal token without the permission), and each refused caller reports it."""

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
_DROPPED = Failure(
    ErrorClass.TEMPORARY,
    "token_dropped_again",
    "several fresh Copilot tokens in a row were dropped",
    "Run copilot-cred get again",
)


def begun(state: State, event: TokenGiven | LoginKept | GivenUnusable, now: float) -> State:
    """Take up a login that is there already; not while there is another."""
    if not isinstance(state, SignedOut):
        return state
    match event:
        case TokenGiven(token=token, source=source):
            return Exchanging(Identifying(token, source), Retry(now))
        case GivenUnusable(reason=reason):
            return SignedOut(reason)
        case LoginKept():
            return Exchanging(Loading(), Retry(now))


def can_freshen(state: State, now: float) -> bool:
    """Whether a caller may have a token replaced that lives on, to get one that lives longer."""
    return (
        isinstance(state, Ready)
        and not state.retry.failures
        and is_old_enough(now - state.asked_at, state.token.lifetime)
    )


def hurried(
    state: State,
    event: LeaseWanted | FresherTokenWanted | RefreshRequested,
    *,
    is_mode_new: bool,
    asked_at: float,
    now: float,
) -> State:
    """Ask as soon as upstream permits, where that is worth it; `asked_at` is of the last time.

    `is_mode_new`: another mode is configured than the one that the last minting was tried in.
    """
    match event:
        case LeaseWanted():
            match state:
                case Exchanging(step=Loading(), retry=retry) if now >= asked_at + LOAD_PAUSE:
                    return replace(state, retry=retry.soon(now))
                case Exchanging(step=Minting(), retry=Retry(at=None) as retry) if is_mode_new:
                    # It was refused in a way that somebody has changed since.
                    return replace(state, retry=retry.soon(now))
                case _:
                    return state
        case FresherTokenWanted():
            if isinstance(state, Ready) and can_freshen(state, now):
                return replace(state, retry=state.retry.soon(now))
            return state
        case _:
            return _forced(state, now)


def _forced(state: State, now: float) -> State:
    if not isinstance(state, (Ready, Exchanging)):
        return state
    state = replace(state, retry=state.retry.soon(now))
    match state.step:
        case Minting(renewal=Retry(at=None)) as step:
            # A renewal that was refused for good is tried again too.
            return replace(state, step=replace(step, renewal=None))
        case _:
            return state


def dropped(state: Ready, now: float, *, young_ones: int, chance: float) -> Exchanging:
    """As `rejected`, for a token that a person wants to be gone."""
    return rejected(state, now, young_ones=young_ones, chance=chance, why=_DROPPED)


def rejected(
    state: Ready, now: float, *, young_ones: int, chance: float, why: Failure = _REJECTED
) -> Exchanging:
    """Drop a refused token. The first is replaced at once, a run of young ones is paced.

    A renewal goes on as it is, for the answer may hold the only living tokens.
    """
    bare = Exchanging(state.step, state.retry, state.login_expires_at)
    next_state = meanwhile(bare, now)
    if not isinstance(next_state.step, Minting) or next_state.retry.at is None:
        return next_state
    retry = next_state.retry.soon(now)
    if young_ones > 1:
        at = max(now + backoff(young_ones, chance), retry.not_before)
        retry = replace(retry, at=at, failure=why)
    return replace(next_state, retry=retry)


def doubted(state: Ready, now: float) -> Ready:
    """Have GitHub asked whether a refused direct token lives; it stays leasable meanwhile.

    There is no other token to be had for this login, so to drop it would help nobody: whoever asks
    is told in Copilot's own words why it is refused, unless GitHub says that the login is dead.
    """
    if not isinstance(state.step, Minting) or state.retry.at is None:
        return state
    return replace(state, retry=state.retry.soon(now))


def resumed(state: State, now: float) -> State:
    """Retry now what failed and waits for its turn, for the network may be another."""
    if (
        isinstance(state, (Ready, Exchanging))
        and state.retry.failures
        and state.retry.at is not None
    ):
        state = replace(state, retry=state.retry.soon(now))
    if isinstance(state, Ready) and now >= state.expires_at and state.retry.failure is None:
        # Whoever asks from here to the answer is told why there is no token.
        state = replace(state, retry=replace(state.retry, failure=_RESUMING))
    return state
