"""One account's gate: cool-downs, the circuit and the limit together, without any clock or loop.

`is_quiet` says that none of them has anything to say, so a caller may let a request pass by
counting it and nothing else. Requests sent before the last refusal carry an older `round`: they
are of one burst with the refused one, and neither their failure nor their success is news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.pacing.circuit import Circuit
from brokerd.core.pacing.cooldowns import Cooldowns
from brokerd.core.pacing.limit import PATIENCE, Limit
from brokerd.core.pacing.model_name import model_of
from brokerd.core.pacing.refused import cooling_down, upstream_down


if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from brokerd.core.pacing.cooldowns import Cooldown
    from brokerd.core.refusals import Refusal
    from brokerd.errors import Failure


__all__ = ["AccountGate"]

_NO_ANSWER = "it does not answer"


class AccountGate:
    """When requests of one account may go up. `now` never goes back."""

    __slots__ = (
        "_circuit",
        "_cooldowns",
        "_held",
        "_limit",
        "_limited_by",
        "_trouble",
        "in_flight",
        "is_quiet",
        "round",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        """Requests let pass and not closed."""
        self.is_quiet = True
        """Whether `refuse` would return None and `has_room` True, whatever is asked."""
        self.round = 0
        """How often upstream has limited us; a request remembers it from when it was let pass."""
        self._held = 0
        self._cooldowns = Cooldowns()
        self._circuit = Circuit()
        self._limit = Limit()
        self._limited_by: Failure | None = None
        self._trouble = _NO_ANSWER

    # Asking.

    def refuse(self, body: bytes, now: float) -> Failure | None:
        """Return why a request must not be sent now; None: it may, once there is room."""
        failure = self.cooling(body, now)
        if failure is not None:
            return failure
        rest = self._circuit.rest(now)
        return upstream_down(self._trouble, rest) if rest is not None else None

    def cooling(self, body: bytes, now: float) -> Failure | None:
        """Return what cool-down a request runs into, also one that was let pass before."""
        cooldown = self._cooldowns.account(now)
        if cooldown is not None:
            return cooling_down(cooldown, None, now)
        if self._cooldowns.models(now):
            model = model_of(body)
            cooldown = self._cooldowns.model(model, now)
            if cooldown is not None:
                return cooling_down(cooldown, model, now)
        return None

    def has_room(self, now: float) -> bool:
        """Whether one more may be under way."""
        if self._held:
            return False
        limit = self._limit.value(now)
        return limit is None or self.in_flight < limit

    def cooldown(self, now: float) -> Cooldown | None:
        """Return what all requests of the account have to wait for."""
        return self._cooldowns.account(now)

    def limit_ends_at(self, now: float) -> float | None:
        """When there is no limit any more, if upstream does not limit us again; None: now."""
        return None if self._limit.value(now) is None else self._limit.ends_at()

    def widens_at(self, waiting_since: float, now: float) -> float | None:
        """When one more may go than there is room for, because somebody has waited since then.

        None: not before something else happens. Not while upstream refuses or fails, nor while a
        limit is being read: that is looked at again a little later.
        """
        if self._limit.value(now) is None:
            return None
        at = self._limit.widens_at(waiting_since)
        if self._held:
            at = max(at, now + PATIENCE)
        cooldown, rest = self._cooldowns.account(now), self._circuit.rest(now)
        if cooldown is not None:
            at = max(at, cooldown.until)
        return at if rest is None else max(at, now + rest)

    # What happened.

    def widen(self, now: float) -> None:
        """Let one more go: the one that is admitted next."""
        self._limit.widen(now)

    def restore(self, reason: Failure, now: float) -> None:
        """Know of a cool-down from before a restart: it lasts the `retry_after` of its reason."""
        self._cooldowns.begin(None, reason, now, is_new=True)
        self.is_quiet = False

    def admit(self) -> bool:
        """Let one pass; True when it is the one that tries a failing upstream. Ask before."""
        self.in_flight += 1
        return self._circuit.admit()

    def hold(self) -> None:
        """Know that upstream limits us, and not yet what: nothing is sent until `release`."""
        self._held += 1
        self.is_quiet = False

    def release(self) -> None:
        """Know what, or that nobody will tell; once for each `hold`."""
        self._held -= 1

    def answered(
        self,
        status: int,
        refusal: Refusal | None,
        body: bytes,
        *,
        round_: int,
        is_probe: bool,
        now: float,
    ) -> bool:
        """Take what upstream answered; True when others must be told: a refusal, or an outage."""
        if refusal is not None and refusal.limits != "nothing":
            if status < 500 or status == 503:
                self._circuit.succeeded(is_probe=is_probe)
            else:  # it failed, and named a time
                self._failed(_trouble(status, refusal), is_probe=is_probe, now=now)
            self._limited(refusal, body, is_new=round_ == self.round, now=now)
            return True
        if status >= 500:
            return self._failed(_trouble(status, refusal), is_probe=is_probe, now=now)
        self._circuit.succeeded(is_probe=is_probe)
        if status < 400 and round_ == self.round:
            self._cooldowns.succeeded(body)
            self._limit.succeeded()
        self.settle(now)
        return False

    def lost(self, *, is_probe: bool, now: float) -> bool:
        """Know that no answer came; True as for `answered`."""
        return self._failed(_NO_ANSWER, is_probe=is_probe, now=now)

    def abandoned(self) -> None:
        """Know that the request that tried a failing upstream was given up before its answer."""
        self._circuit.abandoned()

    def closed(self) -> None:
        """Know that a request let pass is over."""
        self.in_flight -= 1

    def settle(self, now: float) -> None:
        """Find out again whether there is anything to say."""
        circuit = self._circuit
        self.is_quiet = (
            not self._held
            and self._limit.value(now) is None
            and circuit.is_closed
            and not circuit.has_failures
            and self._cooldowns.account(now) is None
            and not self._cooldowns.models(now)
            and not self._cooldowns.has_guesses(now)
        )

    # Showing.

    @property
    def circuit(self) -> Literal["closed", "open", "half_open"]:
        """See `Circuit.state`."""
        return self._circuit.state

    def limit(self, now: float) -> int | None:
        """Return how many may be under way; None: as many as there are."""
        return self._limit.value(now)

    def models(self, now: float) -> Mapping[str, float]:
        """Model → seconds until upstream wants requests for it again."""
        return {name: it.until - now for name, it in self._cooldowns.models(now).items()}

    def reason(self, now: float) -> Failure | None:
        """Return why something is held back; None: nothing is."""
        cooldown = self._cooldowns.account(now)
        if cooldown is not None:
            return cooldown.reason
        if not self._circuit.is_closed:
            return upstream_down(self._trouble, self._circuit.rest(now) or 0.0)
        for cooldown in self._cooldowns.models(now).values():
            return cooldown.reason
        return self._limited_by if self._limit.value(now) is not None else None

    def _limited(self, refusal: Refusal, body: bytes, *, is_new: bool, now: float) -> None:
        is_model = refusal.limits == "model"
        self._cooldowns.begin(
            model_of(body) if is_model else None,
            refusal.failure,
            now,
            is_new=is_new,
            is_guess=refusal.is_guess,
        )
        if not is_model:
            self._limit.cut(self.in_flight, now, is_new=is_new)
            self._limited_by = refusal.failure
        cooldown = None if is_model else self._cooldowns.account(now)
        self._limit.refused(now if cooldown is None else cooldown.until)
        if is_new:
            self.round += 1
        self.is_quiet = False

    def _failed(self, trouble: str, *, is_probe: bool, now: float) -> bool:
        self._trouble = trouble
        self.is_quiet = False
        return self._circuit.failed(now, is_probe=is_probe)


def _trouble(status: int, refusal: Refusal | None) -> str:
    """Return how upstream failed, for who is told that it is left alone."""
    if refusal is None:
        return f"it answered {status}"
    return f"{refusal.failure.code}: {refusal.failure.message}"
