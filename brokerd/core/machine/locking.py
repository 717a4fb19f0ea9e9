"""What a lock makes of an account's state: no secret stays but one on its way to its store.

A locked account is one whose login has not been loaded. What GitHub would kill the old login for
is seen through first: a renewal that was asked for, and the saving of what it brought; likewise
the saving of a login that a person has approved. Upstream's `retry-after` outlives the lock.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.machine.effects import RenewToken
from brokerd.core.machine.refresh import Retry
from brokerd.core.machine.states import (
    AwaitingUser,
    Exchanging,
    Identifying,
    Loading,
    Ready,
    Renewing,
    Saving,
    SignedOut,
)


if TYPE_CHECKING:
    from brokerd.core.machine.effects import Effect
    from brokerd.core.machine.states import State
    from brokerd.errors import Failure


__all__ = ["returned", "withdrawn"]


def withdrawn(state: State, asked: Effect | None, reason: Failure) -> tuple[State, Effect | None]:
    """Return the state without its secrets, and the open question if it must be answered yet.

    `reason` says that it is locked, to whoever looks. The same state comes back once there is
    nothing left to do.
    """
    match state:
        case SignedOut():
            return (state if asked is None else SignedOut(reason)), None
        case AwaitingUser() | Exchanging(step=Identifying()):
            return SignedOut(reason), None
        case Exchanging(step=Loading(), retry=Retry(at=None, failure=failure)) if (
            failure is reason
        ):
            return state, None
        case Exchanging(step=step, retry=retry) | Ready(step=step, retry=retry):
            is_dear = isinstance(step, Renewing) and isinstance(asked, RenewToken)
            if not is_dear and not isinstance(step, Saving):
                return Exchanging(Loading(), _held(retry, reason)), None
            if isinstance(state, Ready):
                return Exchanging(step, retry, state.login_expires_at), asked
            return state, asked


def _held(retry: Retry, reason: Failure) -> Retry:
    return Retry(None, 0, reason, retry.not_before)


def returned(state: State, now: float) -> State:
    """Have the login loaded again that the lock has put down."""
    match state:
        case Exchanging(step=Loading(), retry=Retry(at=None, not_before=not_before)):
            # The store is asked at once; `not_before` is for what comes after it.
            return replace(state, retry=Retry(now, not_before=not_before))
        case _:
            return state
