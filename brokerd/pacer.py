"""The pacing gate: one for all tools of a person, so that upstream's limits bind everybody.

Accounts are names, and a person may have several: those share one gate. The rules are
`core.pacing`'s; here are the clock, the waiters and their wake-ups. As long as upstream has
nothing against a person, a request costs a look-up and a counter. Only while somebody waits, or
all of an account cools down, one task per person naps until the next moment at which something
changes by itself.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.pacing import AccountGate, FairQueue, queue_full, queued_too_long
from brokerd.core.pacing.fair_queue import MAX_WAIT, MAX_WAITING
from brokerd.core.pacing.refused import cooling_down
from brokerd.errors import TransientError
from brokerd.views import PacingView


if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from brokerd.core.refusals import Refusal
    from brokerd.errors import Failure
    from brokerd.ports import Clock


__all__ = ["Pacer", "Ticket"]

log = logging.getLogger(__name__)

MAX_NAP = 30.0
"""Seconds without a look at the clock: a suspend is noticed soon, however long a cool-down is."""


class Ticket:
    """Leave to send one request; whoever got it closes it when the answer is over."""

    __slots__ = ("_body", "_is_held", "_is_probe", "_lane", "_round")

    def __init__(self, lane: _Lane, body: bytes, *, is_probe: bool = False) -> None:
        """For the pacer only, which has counted it."""
        self._lane: _Lane | None = lane
        self._body = body
        self._round = lane.gate.round
        self._is_probe = is_probe
        self._is_held = False

    def again(self) -> None:
        """Ask anew before the request is sent once more, or long after leave was given.

        Raises TransientError `cooling_down`, when others have been refused meanwhile.
        """
        if self._lane is not None and not self._lane.gate.is_quiet:
            self._lane.check(self._body)

    def limited(self) -> None:
        """Say that an answer's head tells of a limit, whose body will tell which.

        Until `answered` or `close` nothing else is sent: it would come too soon.
        """
        if self._lane is not None and not self._is_held:
            self._is_held = True
            self._lane.gate.hold()

    def answered(self, status: int, refusal: Refusal | None) -> None:
        """Say what upstream answered, as soon as that is known; again for a replay's answer."""
        lane = self._lane
        if lane is None:
            return
        self._release(lane)
        if not lane.gate.is_quiet or refusal is not None or status >= 500:
            is_probe, self._is_probe = self._is_probe, False
            lane.answered(status, refusal, self._body, round_=self._round, is_probe=is_probe)
        if status < 400:
            self._body = b""  # its answer may go on for minutes

    def lost(self) -> None:
        """Say that there was no answer: the network, or a cut before the head."""
        if self._lane is not None:
            is_probe, self._is_probe = self._is_probe, False
            self._lane.lost(is_probe=is_probe)

    def close(self) -> None:
        """Make room for the next one; twice is no error."""
        lane, self._lane = self._lane, None
        if lane is None:
            return
        self._body = b""
        self._release(lane)
        if lane.gate.is_quiet:
            lane.gate.in_flight -= 1
        else:
            lane.closed(is_probe=self._is_probe)

    def _release(self, lane: _Lane) -> None:
        if self._is_held:
            self._is_held = False
            lane.gate.release()


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
        self._lanes: dict[str, _Lane] = {}
        self._of_persons: dict[Hashable, _Lane] = {}
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

    def _first_seen(self, account: str) -> _Lane:
        person = self._person(account)
        lane = self._of_persons.get(person)
        if lane is None:
            lane = self._of_persons[person] = _Lane(person, self._clock, self._changed)
        lane.names.append(account)
        self._lanes[account] = lane
        return lane

    def _find(self, account: str) -> _Lane | None:
        """Return its lane, if it has one; who only asks makes none."""
        return self._lanes.get(account) or self._of_persons.get(self._person(account))

    def _changed(self) -> None:
        """Tell it on the loop's next round: who listens can neither break nor re-enter us."""
        loop = asyncio.get_running_loop()
        for callback in self._callbacks:
            loop.call_soon(callback)


class _Waiter:
    """A request in the queue; its future is done when it may go, or must not."""

    __slots__ = ("account", "body", "future", "lane", "peer", "since")

    def __init__(self, lane: _Lane, account: str, peer: int, body: bytes, since: float) -> None:
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


class _Lane:
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
        self.queue: FairQueue[_Waiter] = FairQueue()

    def enter(self, body: bytes) -> Ticket | None:
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
        failure = self.gate.cooling(body, self._clock.boottime())
        if failure is not None:
            raise TransientError(failure)

    async def wait(self, account: str, peer: int, body: bytes) -> Ticket:
        waiter = _Waiter(self, account, peer, body, self._clock.boottime())
        self.line_up(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if not waiter.lane.queue.remove(peer, waiter):
                _give_back(waiter.future)
            raise

    def line_up(self, waiter: _Waiter) -> None:
        if len(self.queue) >= MAX_WAITING:
            raise TransientError(queue_full(self.gate.reason(self._clock.boottime())))
        waiter.lane = self
        self.queue.put(waiter.peer, waiter)
        if self._nap is None:
            self._watch()

    def answered(
        self, status: int, refusal: Refusal | None, body: bytes, *, round_: int, is_probe: bool
    ) -> None:
        now = self._clock.boottime()
        is_told = self.gate.answered(
            status, refusal, body, round_=round_, is_probe=is_probe, now=now
        )
        if is_told:
            self._refused(refusal, now)
        elif self.queue:
            self._pump(now)

    def lost(self, *, is_probe: bool) -> None:
        now = self._clock.boottime()
        if self.gate.lost(is_probe=is_probe, now=now):
            self._refused(None, now)

    def closed(self, *, is_probe: bool) -> None:
        if is_probe:
            self.gate.abandoned()  # neither answered nor lost: its caller has left
        self.gate.closed()
        if self.queue:
            self._pump(self._clock.boottime())

    def restore(self, reason: Failure) -> None:
        now = self._clock.boottime()
        self.gate.restore(reason, now)
        self._look(now)
        self._watch()

    def leave(self, account: str) -> list[_Waiter]:
        """Let a name go, and return who waits under it; stop after the last."""
        self.names.remove(account)
        if not self.names:
            self.stop()
        waiters = [waiter for waiter in self.queue if waiter.account == account]
        for waiter in waiters:
            self.queue.remove(waiter.peer, waiter)
        return [waiter for waiter in waiters if not waiter.future.done()]

    def stop(self) -> None:
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

    def _hopeless(self, waiter: _Waiter, now: float) -> Failure | None:
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
