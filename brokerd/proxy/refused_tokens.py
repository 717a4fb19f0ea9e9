"""What becomes of a token that Copilot refused: replaced for who asked, or for who comes next."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.errors import BrokerError, ErrorClass
from brokerd.proxy.lender import MIN_VALID


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.proxy.lender import Lender
    from brokerd.views import LeasedToken


__all__ = ["DROP_PAUSE", "RefusedTokens"]

log = logging.getLogger(__name__)

DROP_PAUSE = 60.0
"""Seconds in which refusals make us drop one token per account: most are the plan's word."""


class RefusedTokens:
    """Has them replaced by the broker, and says so in the log."""

    def __init__(self, broker: Lender, monotonic: Callable[[], float]) -> None:
        self._broker = broker
        self._monotonic = monotonic
        self._dropped_at: dict[str, float] = {}

    async def replaced(self, lease: LeasedToken, *, is_misdirected: bool) -> LeasedToken | None:
        """Have one replaced; None when the same comes back: no use asking again."""
        _tell(lease, is_misdirected=is_misdirected)
        fresh = await self._broker.lease(lease.account, min_valid=MIN_VALID, reject=lease.token_id)
        is_same = (fresh.token_id, fresh.api_base) == (lease.token_id, lease.api_base)
        return None if is_same else fresh

    async def instead(self, lease: LeasedToken, *, is_misdirected: bool) -> LeasedToken | None:
        """As `replaced`; for a 421 None too when no token comes for now.

        Why there is none says more than a bare 401: many libraries take that for a dead login and
        give up, where waiting a moment helps. A 421 says that much itself, in Copilot's own words.
        """
        try:
            return await self.replaced(lease, is_misdirected=is_misdirected)
        except BrokerError as error:
            if not is_misdirected or error.failure.error_class is not ErrorClass.TEMPORARY:
                raise
            extra = {"ACCOUNT": lease.account, "ERROR_CODE": error.failure.code}
            log.info("refusal passed on", extra=extra)
            return None

    def drop(self, lease: LeasedToken, *, is_rejected: bool) -> None:
        """Have one replaced for whoever comes next, unless one was just now."""
        now = self._monotonic()
        dropped_at = self._dropped_at.get(lease.account)
        is_due = dropped_at is None or now - dropped_at >= DROP_PAUSE
        if is_rejected:
            _tell(lease, is_misdirected=False)
        else:
            extra = {"ACCOUNT": lease.account, "TOKEN_FP": lease.token_id, "DROPPED": int(is_due)}
            log.info("completion forbidden", extra=extra)
        if is_due:
            self._dropped_at[lease.account] = now
            self._broker.reject(lease.account, lease.token_id)

    def forget(self, account: str) -> None:
        """Start anew with it."""
        self._dropped_at.pop(account, None)


def _tell(lease: LeasedToken, *, is_misdirected: bool) -> None:
    extra = {"ACCOUNT": lease.account, "TOKEN_FP": lease.token_id}
    if is_misdirected:
        log.info("wrong host for the token", extra={**extra, "API_BASE": lease.api_base})
    else:
        log.warning("token rejected by Copilot", extra=extra)
