"""What a failed question makes of an account's state.

A transient failure never costs a login. A refused login (401) is tried once: it is renewed where
that can be done, and otherwise given up, unless the store holds a newer one by now. A refused
exchange is not tried again until somebody asks for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.machine.effects import ExchangeToken
from brokerd.core.machine.refresh import Retry
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
from brokerd.core.modes import falls_back
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from brokerd.core.machine.effects import Effect
    from brokerd.core.machine.states import State


__all__ = ["NO_ANSWER", "PERSON_WAITS_MAX", "failed", "without_dead_token"]

PERSON_WAITS_MAX = 30.0
"""Seconds between retries of what a person waits for: a login, or a store to be unlocked."""

NO_ANSWER = Failure(
    ErrorClass.TEMPORARY, "no_answer", "no answer came in time", "Run copilot-cred status"
)


def failed(
    state: State,
    question: Effect,
    failure: Failure,
    *,
    is_permanent: bool,
    configured: str,
    now: float,
    chance: float,
) -> State:
    """Return the state after a failure; `chance` in [0, 1), `configured` as in `modes`."""
    match state:
        case SignedOut():
            # No code was issued: the person at the keyboard is told, and may try again.
            return SignedOut(failure)
        case AwaitingUser(pacing=pacing, retry=retry):
            if is_permanent:
                return SignedOut(failure)
            retry = retry.failed(failure, now, chance, ceiling=PERSON_WAITS_MAX)
            at = max(now + pacing.delay, retry.at or now)
            return replace(state, retry=replace(retry, at=at))
        case Exchanging(step=Minting() as step) | Ready(step=Minting() as step):
            if not is_permanent:
                return replace(state, retry=state.retry.failed(failure, now, chance))
            is_exchange = isinstance(question, ExchangeToken)
            is_for_direct = is_exchange and falls_back(configured, failure)
            return _refused(state, step, failure, now, is_for_direct=is_for_direct)
        case Exchanging(step=Renewing() as renewing) | Ready(step=Renewing() as renewing):
            if not is_permanent:
                return replace(state, retry=state.retry.failed(failure, now, chance))
            return _not_renewed(state, renewing, failure, now)
        case Exchanging() | Ready():
            retry = state.retry.failed(failure, now, chance, ceiling=PERSON_WAITS_MAX)
            return _not_kept(replace(state, retry=retry), failure, is_permanent=is_permanent)


def _refused(
    state: Exchanging | Ready,
    step: Minting,
    failure: Failure,
    now: float,
    *,
    is_for_direct: bool,
) -> State:
    if is_for_direct:
        login = replace(step.login, is_direct=True)
        return replace(state, step=replace(step, login=login), retry=Retry(now))
    if failure.error_class is not ErrorClass.LOGIN_REQUIRED:
        return replace(state, retry=state.retry.given_up(failure))
    if step.login.token.refresh_token is None or step.is_renewed:
        return _give_up(step, failure, now)
    retry = step.renewal or Retry(now)
    return without_dead_token(state, Renewing(step.login, failure), retry)


def _not_renewed(state: Exchanging | Ready, step: Renewing, failure: Failure, now: float) -> State:
    if failure.error_class is ErrorClass.LOGIN_REQUIRED:
        return _give_up(step, failure, now)
    # GitHub refuses the asking, not the refresh token: nothing is known to be dead.
    return replace(state, retry=state.retry.given_up(failure))


def _give_up(step: Minting | Renewing, failure: Failure, now: float) -> State:
    """Have a look whether the store holds a newer login; it is never thrown away.

    Asking again with bad credentials gets the person locked out of GitHub's API.
    """
    return Exchanging(Loading(step.login, failure), Retry(now))


def _not_kept(state: Exchanging | Ready, failure: Failure, *, is_permanent: bool) -> State:
    """Go on after a failure of the store, or of asking who somebody is; `state` asks later."""
    match state.step:
        case Loading(refused=refused, reason=reason) if refused is not None:
            return SignedOut(reason)
        case Identifying() if is_permanent:
            return SignedOut(failure)
        case Saving(is_renewal=False) if is_permanent:
            return state if failure.error_class is ErrorClass.LOCKED else SignedOut(failure)
        case _:
            # A locked or absent store may come back: the login in it is not given up, and still
            # less one that is in memory only and whose predecessor is dead.
            return state


def without_dead_token(
    state: Exchanging | Ready, step: Renewing | Saving, retry: Retry
) -> Exchanging | Ready:
    """Go to a step that means that the GitHub token is dead, and a direct token with it."""
    if isinstance(state, Ready) and state.token.is_direct:
        return Exchanging(step, retry, state.login_expires_at)
    return replace(state, step=step, retry=retry)
