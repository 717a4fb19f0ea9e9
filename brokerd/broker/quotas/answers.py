"""What was read of a quota, as it is told: by whom, what the others said, or why nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.broker.failures import error_for
from brokerd.broker.quotas.pats import NO_PAT
from brokerd.broker.quotas.readings import told_by
from brokerd.core.quota import compose
from brokerd.core.retry_after import MIN_SECONDS
from brokerd.errors import ErrorClass, Failure
from brokerd.views import QuotaAttempt, QuotaView


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.broker.quotas.readings import Asking, Reading
    from brokerd.core.quota import Source
    from brokerd.errors import BrokerError
    from brokerd.views import QuotaOutcome


__all__ = ["QuotaTeller"]

_NOTHING: Mapping[Source, Failure] = {
    "billing": Failure(
        ErrorClass.TEMPORARY,
        "nothing_billed",
        "GitHub's billing pages list no use of Copilot this month: there was none, or an "
        "organization pays for it",
        "Without its token the seat alone is asked: copilot-cred quota forget-pat",
    ),
    "seat": Failure(
        ErrorClass.TEMPORARY,
        "seat_untold",
        "the seat tells no numbers",
        "Ask again later: copilot-cred quota",
    ),
    "headers": Failure(
        ErrorClass.TEMPORARY,
        "no_headers_seen",
        "no answer of Copilot's has told a quota since the broker was started",
        "Ask for one: copilot-cred chat",
    ),
    "token": Failure(
        ErrorClass.TEMPORARY,
        "not_in_token",
        "the Copilot token tells a quota for free plans only",
        "Ask again: copilot-cred quota",
    ),
}
"""What a source that had nothing to say is told as."""

_NO_ACCESS = Failure(
    ErrorClass.DENIED,
    "no_access",
    "GitHub says that this person has no Copilot",
    "When that has changed: copilot-cred refresh",
)
_NOT_NEEDED = Failure(
    ErrorClass.TEMPORARY, "not_needed", "it was not asked: nothing is missing without it"
)


class QuotaTeller:
    """Puts the answer to one wish together."""

    def __init__(
        self, ask: Asking, addressed: Callable[[str, Failure], Failure], now: float
    ) -> None:
        """`addressed` lets a failure's next step name the account; `now` is CLOCK_BOOTTIME."""
        self._ask = ask
        self._addressed = addressed
        self._now = now

    def view(
        self,
        readings: Mapping[Source, Reading | None],
        tier: str,
        *,
        has_pat: bool,
    ) -> QuotaView:
        """Return it. Raises BrokerError if no source has answered: what says most about it."""
        told = told_by(readings)
        if not any(each.report.tells or each.source in ("billing", "seat") for each in told):
            raise self._nobody_tells(readings)
        composed = compose(told, tier)
        used = readings[composed.source]
        is_dated = used is not None and composed.source != "headers"
        return QuotaView(
            account=self._ask.name,
            host=self._ask.entry.host,
            login=self._ask.entry.login,
            source=composed.source,
            kinds=composed.kinds,
            tried=[
                self._attempt(source, reading, composed.source, composed.added)
                for source, reading in readings.items()
            ],
            age=max(0.0, self._now - used.at) if used is not None and is_dated else None,
            plan=composed.plan,
            sku=composed.sku,
            models=composed.models,
            tier=tier if composed.is_by_tier else "",
            has_pat=has_pat,
        )

    def _attempt(
        self,
        source: Source,
        reading: Reading | None,
        used: Source,
        added: frozenset[Source],
    ) -> QuotaAttempt:
        if reading is None:
            return QuotaAttempt(source, "not_needed", _NOT_NEEDED)
        if reading.failure is not None:
            failure = self._as_of_now(reading)
            is_absent = failure.code == NO_PAT.code
            outcome: QuotaOutcome = "not_configured" if is_absent else "failed"
            return QuotaAttempt(source, outcome, failure)
        if source == used:
            return QuotaAttempt(source, "used")
        if source in added:
            return QuotaAttempt(source, "added")
        failure = _NOTHING[source]
        if reading.report is not None and reading.report.sku == "no_access":
            failure = _NO_ACCESS
        return QuotaAttempt(source, "nothing", self._addressed(self._ask.name, failure))

    def _nobody_tells(self, readings: Mapping[Source, Reading | None]) -> BrokerError:
        """Return the error that says most: sign in, mend the token, or what the seat said."""
        failures = {
            source: self._as_of_now(reading)
            for source, reading in readings.items()
            if reading is not None and reading.failure is not None
        }
        seat, billing = failures.get("seat"), failures.get("billing")
        assert seat is not None
        if seat.error_class is ErrorClass.LOGIN_REQUIRED or billing is None:
            return error_for(seat)
        is_pats = billing.error_class is ErrorClass.DENIED
        return error_for(billing if is_pats and billing.code != NO_PAT.code else seat)

    def _as_of_now(self, reading: Reading) -> Failure:
        """Return the failure with what is left of its time, about this account."""
        failure = reading.failure
        assert failure is not None
        if failure.retry_after is not None:
            left = reading.not_before - self._now
            failure = replace(failure, retry_after=max(MIN_SECONDS, left))
        return self._addressed(self._ask.name, failure)
