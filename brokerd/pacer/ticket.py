"""Leave to send one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol


if TYPE_CHECKING:
    from brokerd.core.pacing import AccountGate
    from brokerd.core.refusals import Refusal


__all__ = ["Keeper", "Ticket"]


class Keeper(Protocol):
    """Who gives tickets: the lane of one person."""

    gate: AccountGate

    def check(self, body: bytes) -> None:
        """Raise TransientError while such a request must not be sent."""
        ...

    def answered(
        self, status: int, refusal: Refusal | None, body: bytes, *, round_: int, is_probe: bool
    ) -> None:
        """Take what upstream answered."""
        ...

    def lost(self, *, is_probe: bool) -> None:
        """Know that no answer came."""
        ...

    def closed(self, *, is_probe: bool) -> None:
        """Know that a request is over."""
        ...


class Ticket:
    """Leave to send one request; whoever got it closes it when the answer is over."""

    __slots__ = ("_body", "_is_held", "_is_probe", "_lane", "_round")

    def __init__(self, lane: Keeper, body: bytes, *, is_probe: bool = False) -> None:
        """For the pacer only, which has counted it."""
        self._lane: Keeper | None = lane
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
        if self._is_held:
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
        if self._is_held:
            self._release(lane)
        if lane.gate.is_quiet:
            lane.gate.in_flight -= 1
        else:
            lane.closed(is_probe=self._is_probe)

    def _release(self, lane: Keeper) -> None:
        self._is_held = False
        lane.gate.release()
