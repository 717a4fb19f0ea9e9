"""Telling watchers what changes of an account: each looks for itself when the bell rings.

What they have been told is a key. A cool-down's end is compared by the clock of the machine, so
that neither a jump of the wall clock nor a rounding makes news, and its running out is none: they
were told when.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.account_views import watch_state
from brokerd.broker.failures import PENDING, cooling_down
from brokerd.broker.locking import BROKER_LOCKED
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.views import WatchState


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from brokerd.broker.leases import Leases
    from brokerd.broker.roster import Roster


__all__ = ["watched"]

SAME_MOMENT = 1.0
"""Seconds by which two ends of a cool-down may differ and still be the same one."""


async def watched(
    roster: Roster, leases: Leases, account: str | None
) -> AsyncIterator[WatchState]:
    """Yield the full state at once, then one per change; a slow watcher sees the latest only.

    Ends when the broker stops. A failing refresh is no change while a token is leasable. A
    cool-down is told when it begins, with its end, and when it ends before that. While the broker
    is locked, that is the state of every account.
    """
    last: object = None
    cool_at: float | None = None
    await roster.opened(None)
    while not roster.is_closed:
        now = roster.clock.boottime()
        name = roster.resolve(account)
        runner = roster.accounts.get(name)
        lease = runner.machine.lease(now) if runner else None
        lent = leases.lend(name, lease, 0.0) if lease else None
        if roster.lock.is_locked:
            state = WatchState(name or DEFAULT_ACCOUNT, "failed", None, BROKER_LOCKED)
        else:
            state = watch_state(name, runner, lent, roster.no_login(name), PENDING)
        token_id = lent.token_id if lent else None
        code = state.failure.code if state.failure and not lent else None
        seen = (name, state.kind, token_id, code)
        left = leases.cooldown(name) if state.kind == "token" else None
        until = None if left is None else now + left
        if until is None and cool_at is not None and now > cool_at - SAME_MOMENT:
            cool_at = None  # over at the time that was told
        if seen != last or not _is_same(until, cool_at):
            last, cool_at = seen, until
            if left is not None:
                state = replace(
                    state,
                    kind="cooldown",
                    failure=cooling_down(left, leases.cooldown_reason(name)),
                )
            if state.failure is not None:
                state = replace(state, failure=roster.addressed(name, state.failure))
            yield state
        else:
            await roster.change()


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < SAME_MOMENT
