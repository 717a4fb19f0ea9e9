"""All persons' lanes, by the names of their accounts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.errors import TransientError
from brokerd.pacer.lane import Lane
from brokerd.pacer.ticket import Ticket
from brokerd.views import PacingView


if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from brokerd.errors import Failure
    from brokerd.ports import Clock


__all__ = ["Pacer"]


def _named(account: str) -> Hashable:
    return account


class Pacer:
    """All accounts' gates."""

    def __init__(self, clock: Clock, person: Callable[[str], Hashable] = _named) -> None:
        """`person` says whose an account is; it is asked when the name is first seen.

        Names of one person share one gate, for upstream limits persons.
        """
        self._clock = clock
        self._person = person
        self._lanes: dict[str, Lane] = {}
        self._of_persons: dict[Hashable, Lane] = {}
        self._callbacks: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, from the loop, when an account's cool-down begins, changes or is lifted."""
        self._callbacks.append(callback)

    def enter(self, account: str, peer: int, body: bytes) -> Ticket | None:  # noqa: ARG002 - as turn
        """Return leave to send at once; None: it has to wait its turn, ask `turn`.

        `peer` is the process that waiting requests take turns by. `body` is only read for its
        model while some model cools down, and kept until it is answered. Raises
        TransientError with `retry_after`: `cooling_down` while upstream wants nothing of this
        account (or model), `upstream_down` while it fails.
        """
        lane = self._lanes.get(account)
        if lane is None:
            lane = self._first_seen(account)
        gate = lane.gate
        if gate.is_quiet:
            gate.in_flight += 1
            return Ticket(lane, body)
        return lane.enter(body)

    async def turn(self, account: str, peer: int, body: bytes) -> Ticket:
        """Wait for leave; processes take turns. Raises as `enter`, and when it takes too long.

        These are TransientErrors too: `queue_full` and `queued_too_long`.
        """
        ticket = self.enter(account, peer, body)
        if ticket is not None:
            return ticket
        return await self._lanes[account].wait(account, peer, body)

    def cooldown(self, account: str) -> float | None:
        """Seconds until upstream wants requests of this account again; None: it does."""
        found = self.cooling(account)
        return None if found is None else found[0]

    def cooling(self, account: str) -> tuple[float, Failure] | None:
        """Return the same, and upstream's reason."""
        lane = self._find(account)
        if lane is None or lane.gate.is_quiet:
            return None
        now = self._clock.boottime()
        found = lane.gate.cooldown(now)
        return None if found is None else (found.until - now, found.reason)

    def restore(self, account: str, seconds: float, reason: Failure) -> None:
        """Know of a cool-down that began before a restart, and lasts so long yet."""
        lane = self._lanes.get(account) or self._first_seen(account)
        lane.restore(replace(reason, retry_after=seconds))

    def view(self, account: str) -> PacingView:
        """Show how it stands."""
        lane = self._find(account)
        if lane is None:
            return PacingView(None, {}, "closed", None, 0, 0, None)
        gate, now = lane.gate, self._clock.boottime()
        found = gate.cooldown(now)
        return PacingView(
            cooldown_in=None if found is None else found.until - now,
            models=gate.models(now),
            circuit=gate.circuit,
            limit=gate.limit(now),
            in_flight=gate.in_flight,
            queued=len(lane.queue),
            reason=gate.reason(now),
        )

    def forget(self, account: str) -> None:
        """Start anew: somebody else is signed in under that name.

        Requests under way count for the one before; those that wait are the next one's.
        """
        lane = self._lanes.pop(account, None)
        if lane is None:
            return
        was_cooling = lane.gate.cooldown(self._clock.boottime()) is not None
        waiters = lane.leave(account)
        if not lane.names:
            del self._of_persons[lane.person]
        for waiter in waiters:
            try:
                ticket = self.enter(account, waiter.peer, waiter.body)
                if ticket is None:
                    self._lanes[account].line_up(waiter)
                else:
                    waiter.future.set_result(ticket)
            except TransientError as error:
                waiter.future.set_exception(error)
        if was_cooling:
            self._changed()

    def close(self) -> None:
        """Stop napping, at the end of the loop; twice is no error."""
        for lane in self._lanes.values():
            lane.stop()

    def _first_seen(self, account: str) -> Lane:
        person = self._person(account)
        lane = self._of_persons.get(person)
        if lane is None:
            lane = self._of_persons[person] = Lane(person, self._clock, self._changed)
        lane.names.append(account)
        self._lanes[account] = lane
        return lane

    def _find(self, account: str) -> Lane | None:
        """Return its lane, if it has one; who only asks makes none."""
        return self._lanes.get(account) or self._of_persons.get(self._person(account))

    def _changed(self) -> None:
        """Tell it on the loop's next round: who listens can neither break nor re-enter us."""
        loop = asyncio.get_running_loop()
        for callback in self._callbacks:
            loop.call_soon(callback)
