"""One person's lane to upstream: who may go, who waits, and who looks at the clock meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from brokerd.core.pacing import AccountGate, FairQueue, queue_full, queued_too_long
from brokerd.core.pacing.fair_queue import MAX_WAIT, MAX_WAITING
from brokerd.core.pacing.refused import cooling_down
from brokerd.errors import TransientError
from brokerd.pacer.ticket import Ticket


if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from brokerd.core.refusals import Refusal
    from brokerd.errors import Failure
    from brokerd.ports import Clock


__all__ = ["Lane", "Waiter"]

log = logging.getLogger(__name__)

MAX_NAP = 30.0
"""Seconds without a look at the clock: a suspend is noticed soon, however long a cool-down is."""


class Waiter:
    """A request in the queue; its future is done when it may go, or must not."""

    __slots__ = ("account", "body", "future", "lane", "peer", "since")

    def __init__(self, lane: Lane, account: str, peer: int, body: bytes, since: float) -> None:
        self.lane = lane
        self.account = account
        self.peer = peer
        self.body = body
        self.since = since
        self.future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()

    @property
    def deadline(self) -> float:
        """When it must not go any more."""
        return self.since + MAX_WAIT


class Lane:
    """One person: the gate, who waits before it, and the task that looks at the clock."""

    __slots__ = (
        "_changed",
        "_clock",
        "_cooling_until",
        "_nap",
        "gate",
        "names",
        "person",
        "queue",
    )

    def __init__(self, person: Hashable, clock: Clock, changed: Callable[[], None]) -> None:
        self.person = person
        self.names: list[str] = []
        """The accounts that are this person's."""
        self._clock = clock
        self._changed = changed
        self._cooling_until: float | None = None
        """The end of the cool-down that was told of last."""
        self._nap: asyncio.Task[None] | None = None
        self.gate = AccountGate()
        self.queue: FairQueue[Waiter] = FairQueue()

    def enter(self, body: bytes) -> Ticket | None:
        """Return leave at once; None: there is no room. Raises TransientError as `Pacer.enter`."""
        now = self._clock.boottime()
        failure = self.gate.refuse(body, now)
        if failure is not None:
            raise TransientError(failure)
        if self.queue:
            self._pump(now)
        if not self.gate.has_room(now):
            return None
        self.gate.settle(now)
        return Ticket(self, body, is_probe=self.gate.admit())

    def check(self, body: bytes) -> None:
        """Raise TransientError `cooling_down` while such a request must not be sent."""
        failure = self.gate.cooling(body, self._clock.boottime())
        if failure is not None:
            raise TransientError(failure)

    async def wait(self, account: str, peer: int, body: bytes) -> Ticket:
        """Line up, and return leave when it is there. Raises TransientError as `Pacer.turn`."""
        waiter = Waiter(self, account, peer, body, self._clock.boottime())
        self.line_up(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if not waiter.lane.queue.remove(peer, waiter):
                _give_back(waiter.future)
            raise

    def line_up(self, waiter: Waiter) -> None:
        """Take its place in the queue; TransientError `queue_full`."""
        if len(self.queue) >= MAX_WAITING:
            raise TransientError(queue_full(self.gate.reason(self._clock.boottime())))
        waiter.lane = self
        self.queue.put(waiter.peer, waiter)
        if self._nap is None:
            self._watch()

    def answered(
        self, status: int, refusal: Refusal | None, body: bytes, *, round_: int, is_probe: bool
    ) -> None:
        """Take what upstream answered; those who wait go on, or are told."""
        now = self._clock.boottime()
        is_told = self.gate.answered(
            status, refusal, body, round_=round_, is_probe=is_probe, now=now
        )
        if is_told:
            self._refused(refusal, now)
        elif self.queue:
            self._pump(now)

    def lost(self, *, is_probe: bool) -> None:
        """Know that no answer came."""
        now = self._clock.boottime()
        if self.gate.lost(is_probe=is_probe, now=now):
            self._refused(None, now)

    def closed(self, *, is_probe: bool) -> None:
        """Know that a request is over, and let the next one go."""
        if is_probe:
            self.gate.abandoned()  # neither answered nor lost: its caller has left
        self.gate.closed()
        if self.queue:
            self._pump(self._clock.boottime())

    def restore(self, reason: Failure) -> None:
        """Go on with a cool-down of an earlier process."""
        now = self._clock.boottime()
        self.gate.restore(reason, now)
        self._look(now)
        self._watch()

    def leave(self, account: str) -> list[Waiter]:
        """Let a name go, and return who waits under it; stop after the last."""
        self.names.remove(account)
        if not self.names:
            self.stop()
        waiters = [waiter for waiter in self.queue if waiter.account == account]
        for waiter in waiters:
            self.queue.remove(waiter.peer, waiter)
        return [waiter for waiter in waiters if not waiter.future.done()]

    def stop(self) -> None:
        """Nap no more; twice is no error."""
        nap, self._nap = self._nap, None
        if nap is not None:
            nap.cancel()

    def _refused(self, refusal: Refusal | None, now: float) -> None:
        """Tell those who wait, and everybody else, that upstream wants less or fails."""
        if not self.names:
            return  # nobody's any more
        extra: dict[str, object] = {"ACCOUNT": ", ".join(self.names)}
        if refusal is None or refusal.limits == "nothing":
            log.warning("upstream keeps failing and is left alone", extra=extra)
        elif refusal.limits == "model" or self._cooling_until is None:  # once for a burst
            found = self.gate.cooldown(now)
            extra |= {"REASON": refusal.failure.code, "LIMITS": refusal.limits}
            if refusal.limits == "account" and found is not None:
                extra["SECONDS"] = round(found.until - now)
            log.warning("upstream wants fewer requests", extra=extra)
        self._look(now)
        self._watch()

    def _look(self, now: float) -> None:
        """Do what is due at this moment."""
        cooling = self.gate.cooldown(now)
        self._sweep(now)
        self._pump(now)
        until = None if cooling is None else cooling.until
        if until != self._cooling_until:
            self._cooling_until = until
            self._changed()

    def _sweep(self, now: float) -> None:
        """Refuse those whose turn cannot come in time any more."""
        for waiter in self.queue:
            failure = self._hopeless(waiter, now)
            if failure is not None:
                self.queue.remove(waiter.peer, waiter)
                if not waiter.future.done():
                    waiter.future.set_exception(TransientError(failure))

    def _hopeless(self, waiter: Waiter, now: float) -> Failure | None:
        """Return why its turn cannot come in time any more."""
        if now >= waiter.deadline:
            return queued_too_long(self.gate.reason(now))
        cooling = self.gate.cooldown(now)
        if cooling is None:
            return self.gate.refuse(waiter.body, now)
        return cooling_down(cooling, None, now) if cooling.until >= waiter.deadline else None

    def _pump(self, now: float) -> None:
        """Let go whose turn it is, as long as there is room."""
        while self.queue and self.gate.cooldown(now) is None and self.gate.has_room(now):
            self._let_go(now)
        widens_at = self._widens_at(now)
        while widens_at is not None and widens_at <= now and self.queue:
            if self._let_go(now):
                self.gate.widen(now)
                break

    def _let_go(self, now: float) -> bool:
        """Let the next one go; False when it could not."""
        waiter = self.queue.take()
        if waiter.future.done():  # cancelled, and about to find out
            return False
        failure = self.gate.refuse(waiter.body, now)
        if failure is not None:  # its model cools down for longer than the account did
            waiter.future.set_exception(TransientError(failure))
            return False
        is_probe = self.gate.admit()
        waiter.future.set_result(Ticket(self, waiter.body, is_probe=is_probe))
        if is_probe:
            self._sweep(now)
        return True

    def _widens_at(self, now: float) -> float | None:
        """Return when one may go though there is no room, for who has waited longest."""
        if not self.queue:
            return None
        return self.gate.widens_at(min(waiter.since for waiter in self.queue), now)

    def _watch(self) -> None:
        """See that somebody looks at the clock when something changes by itself."""
        self.stop()
        if self.names and self._next(self._clock.boottime()) is not None:
            self._nap = asyncio.get_running_loop().create_task(self._watching())

    async def _watching(self) -> None:
        while (at := self._next(now := self._clock.boottime())) is not None:
            if at > now:
                await self._clock.sleep(min(at - now, MAX_NAP))
            self._look(self._clock.boottime())
        self._nap = None

    def _next(self, now: float) -> float | None:
        """Return when something changes by itself; None: nothing that anybody waits for."""
        moments = [waiter.deadline for waiter in self.queue]
        if moments:
            ends = self.gate.limit_ends_at(now), self._widens_at(now)
            moments += [at for at in ends if at is not None]
        cooling = self.gate.cooldown(now)
        if cooling is not None:
            moments.append(cooling.until)
        elif self._cooling_until is not None:  # over, and nobody was told
            moments.append(now)
        return min(moments, default=None)


def _give_back(future: asyncio.Future[Ticket]) -> None:
    """Close the ticket that came too late, or take note of the refusal that did."""
    if future.done() and not future.cancelled() and future.exception() is None:
        future.result().close()
