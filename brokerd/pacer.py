"""The pacing gate: one for all tools of an account, so that upstream's limits bind everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.refusals import Refusal
    from brokerd.ports import Clock
    from brokerd.views import PacingView


__all__ = ["Pacer", "Ticket"]


class Ticket:
    """Leave to send one request; whoever got it closes it when the answer is over."""

    def answered(self, status: int, refusal: Refusal | None) -> None:
        """Say what upstream answered, as soon as that is known."""
        raise NotImplementedError

    def lost(self) -> None:
        """Say that there was no answer: the network, or a cut before the head."""
        raise NotImplementedError

    def close(self) -> None:
        """Make room for the next one; twice is no error."""
        raise NotImplementedError


class Pacer:
    """All accounts' gates."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, in the loop, when a cool-down begins or is lifted."""
        raise NotImplementedError

    def enter(self, account: str, peer: int, body: bytes) -> Ticket | None:
        """Return leave to send at once; None: it has to wait its turn, ask `turn`.

        `body` is only read for its model while some model cools down. Raises TransientError with
        `retry_after` while upstream wants nothing of this account (or model).
        """
        raise NotImplementedError

    async def turn(self, account: str, peer: int, body: bytes) -> Ticket:
        """Wait for leave; processes take turns. Raises as `enter`, and when it takes too long."""
        raise NotImplementedError

    def cooldown(self, account: str) -> float | None:
        """Seconds until upstream wants requests of this account again; None: it does."""
        raise NotImplementedError

    def view(self, account: str) -> PacingView:
        """Show how it stands."""
        raise NotImplementedError

    def forget(self, account: str) -> None:
        """Start anew: somebody else is signed in under that name."""
        raise NotImplementedError
