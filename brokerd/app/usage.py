"""Where both doors' completions meet once they are over: budgets, and the ledger.

It is done for every request before its end is passed on, so it is a few microseconds: what depends
on the caller or the model alone is kept.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.checks import Check, Verdict
from brokerd.core.ledger.counts import MILLI
from brokerd.core.ledger.lines import line_of
from brokerd.core.ledger.record import heading_of
from brokerd.rpc.failures import error_of
from brokerd.rpc.methods.usage import nothing_counted
from brokerd.stores.ledger import Ledger


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from brokerd.core.ledger.asked import Asked, Report
    from brokerd.core.ledger.lines import Line
    from brokerd.core.settings import Config
    from brokerd.proxy.outcome import Outcome


__all__ = ["UsageSide"]

log = logging.getLogger(__name__)

KNOWN_MAX: Final = 1_000
"""Headings, and prices, that are kept at hand; for one more all are made anew."""

MULTIPLIER_MAX: Final = 1_000
"""What GitHub asks for a turn is fifty at most; more is no figure."""


class UsageSide:
    """See the module's docstring."""

    def __init__(
        self,
        folder: Path,
        *,
        config: Callable[[], Config],
        models: Callable[[str], Sequence[Mapping[str, Any]]],
        put_off: Callable[[Callable[[], bool]], None],
    ) -> None:
        """`config` is the one of the moment; `models` what is known of an account's list.

        `put_off`: see `Ledger`.
        """
        self._config = config
        self._models = models
        self._ledger = Ledger(folder, keep=lambda: config().usage.keep, put_off=put_off)
        self._lines: dict[tuple[str, ...], tuple[Line, bytes]] = {}
        self._prices: dict[tuple[str, str], tuple[object, int | None]] = {}
        """Account and model → the list that told, and thousandths of a premium request."""

    def open(self) -> None:
        """Take up what a killed broker has left."""
        self._ledger.open()

    def over(self, outcome: Outcome) -> None:
        """Count a completion that is over, whatever came of it; once, and never raises."""
        try:
            if outcome.spent:
                outcome.caller.spend(outcome.spent)
            if outcome.account and self._config().usage.keep:
                self._count(outcome)
        except Exception:
            log.exception("usage not counted")

    async def report(self, asked: Asked) -> Report:
        """Answer from the ledger. Raises BrokerError."""
        if not self._config().usage.keep:
            return await nothing_counted(asked)
        return await self._ledger.report(asked)

    async def close(self) -> None:
        """Take in all that was counted; never raises."""
        try:
            await self._ledger.close()
        except Exception:
            log.exception("usage not taken in")

    def check(self) -> Check:
        """Say whether usage is kept."""
        failure, days = self._ledger.failure, self._config().usage.keep
        if failure is not None:
            return Check("usage", Verdict.WARNING, failure.message, failure.hint)
        told = f"kept for {days} days; see: copilot-cred usage" if days else "not counted"
        return Check("usage", Verdict.OK, told)

    def status(self) -> dict[str, object]:
        """Show for how many days it is kept, and what is wrong with that."""
        failure = error_of(self._ledger.failure)
        return {
            "keep": self._config().usage.keep,
            "error": None if failure is None else failure.to_map(),
        }

    def _count(self, outcome: Outcome) -> None:
        peer, account, model = outcome.caller.peer, outcome.account, outcome.model
        place = peer.key, peer.unit, peer.comm, peer.label, account, model
        found = self._lines.get(place)
        if found is None:
            if len(self._lines) >= KNOWN_MAX:
                self._lines.clear()
            line = line_of(peer, account, model)
            found = self._lines[place] = line, heading_of(line)
        is_error = bool(outcome.code)
        initiator = outcome.initiator
        is_user = initiator == "user"
        premium = unpriced = 0
        if is_user and not is_error and outcome.was_served:
            price = self._price(account, model)
            if price is None:
                unpriced = 1
            else:
                premium = price
        usage = outcome.usage
        if usage is None:
            is_untold = not outcome.answered or outcome.was_served
            prompt = completion = cached = 0
        else:
            is_untold = False
            prompt, completion = usage.prompt or 0, usage.completion or 0
            cached = usage.cached or 0
        line, heading = found
        self._ledger.count(
            line,
            heading,
            1,
            is_user,
            initiator == "agent",
            is_error,
            is_untold,
            prompt,
            completion,
            cached,
            premium,
            unpriced,
        )

    def _price(self, account: str, model: str) -> int | None:
        """Return what a turn of a person's is about, in thousandths; None: nobody has told."""
        models = self._models(account)
        found = self._prices.get((account, model))
        if found is None or found[0] is not models:
            if len(self._prices) >= KNOWN_MAX:
                self._prices.clear()
            found = self._prices[account, model] = models, _price_of(model, models)
        return found[1]


def _price_of(model: str, models: Sequence[Mapping[str, Any]]) -> int | None:
    for each in models:
        if each.get("id") == model:
            billing = each.get("billing")
            found = billing.get("multiplier") if isinstance(billing, dict) else None
            if isinstance(found, int | float) and 0 <= found <= MULTIPLIER_MAX:
                return round(found * MILLI)
            return None
    return None
