"""The small calls of the Copilot API: the models of an account, and accepting their terms.

A refused token is replaced and the question asked once more, as for completions. They pass the
same pacing gate: upstream's limits are the account's, whatever it is asked.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from brokerd.core.refused_calls import RefusedCallError
from brokerd.errors import BrokerError, ErrorClass, TransientError
from brokerd.proxy.catalogue import ModelLists
from brokerd.proxy.lender import MIN_VALID


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brokerd.errors import Failure
    from brokerd.pacer import Pacer, Ticket
    from brokerd.ports import CopilotApi
    from brokerd.proxy.catalogue import Key
    from brokerd.proxy.lender import Lender
    from brokerd.proxy.refused_tokens import RefusedTokens
    from brokerd.proxy.whose import Whose
    from brokerd.views import LeasedToken, ModelList

    Found = TypeVar("Found")


__all__ = ["Models"]

log = logging.getLogger(__name__)

_REJECTED, _MISDIRECTED = "copilot_token_rejected", "misdirected"
"""What a 401 and a 421 are called where the port raises."""

_UNREADABLE = "bad_answer"
"""What an answer is called there that is none of Copilot's: it is one all the same."""

_ANSWERED = 400
"""What the gate is told of an answer without a limit: that upstream is there. That completions are
taken again, which a 200 would say, it does not show."""

_PEER, _NO_BODY = 0, b""
"""Whose turn it is where requests have to wait, no process's; and what names no model."""


class Models:
    """See `Proxy.models` and `Proxy.enable_model`."""

    def __init__(
        self,
        broker: Lender,
        copilot: Callable[[], CopilotApi],
        pacer: Pacer,
        tokens: RefusedTokens,
        whose: Whose,
        *,
        seconds: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._copilot = copilot
        self._pacer = pacer
        self._tokens = tokens
        self._whose = whose
        self._lists = ModelLists(seconds)
        self.peek = self._lists.peek
        """Return the list that is kept, however old; nothing is asked."""

    async def listed(self, account: str | None, *, fresh: bool) -> ModelList:
        """See `Proxy.models`."""
        try:
            lease = await self._broker.lease(account, min_valid=MIN_VALID)
        except BrokerError as error:
            found = self._old(account, error.failure)
            if found is None:
                raise
            return found

        async def ask() -> tuple[Key, list[dict[str, Any]]]:
            used, models = await self._with_token(
                lease,
                lambda lease: self._copilot().models(
                    lease.host, lease.api_base, lease.token, is_direct=lease.is_direct
                ),
            )
            return self._key(used), models

        return await self._lists.get(lease.account, self._key(lease), ask, fresh=fresh)

    async def enable(self, account: str | None, model: str) -> tuple[str, str]:
        """See `Proxy.enable_model`."""
        lease = await self._broker.lease(account, min_valid=MIN_VALID)
        used, state = await self._with_token(
            lease,
            lambda lease: self._copilot().enable_model(
                lease.host, lease.api_base, lease.token, model, is_direct=lease.is_direct
            ),
        )
        self._lists.drop(used.account)
        log.info("model enabled", extra={"ACCOUNT": used.account, "STATE": state})
        return used.account, state

    def forget(self, account: str) -> None:
        """Start anew with it."""
        self._lists.drop(account)

    def _old(self, account: str | None, failure: Failure) -> ModelList | None:
        """Return the list that is kept, if no token comes only for now."""
        name = account or self._whose.default()
        if name is None or failure.error_class is not ErrorClass.TEMPORARY:
            return None
        return self._lists.old(name, failure)

    def _key(self, lease: LeasedToken) -> Key:
        return lease.host, lease.api_base, lease.is_direct, *self._whose.login(lease.account)

    async def _with_token(
        self, lease: LeasedToken, ask: Callable[[LeasedToken], Awaitable[Found]]
    ) -> tuple[LeasedToken, Found]:
        """Ask with a token, or with the one that replaces it; return which it was.

        Raises TransientError, and sends nothing, where upstream wants no requests for now.
        """
        ticket = self._pacer.enter(lease.account, _PEER, _NO_BODY)
        has_waited = ticket is None
        if ticket is None:
            ticket = await self._pacer.turn(lease.account, _PEER, _NO_BODY)
        try:
            if has_waited:  # longer perhaps than the token had
                lease = await self._broker.lease(lease.account, min_valid=MIN_VALID)
                ticket.again()
            try:
                return lease, await _told(ticket, ask(lease))
            except BrokerError as error:
                if error.failure.code not in (_REJECTED, _MISDIRECTED):
                    raise
                refused = error
            is_misdirected = refused.failure.code == _MISDIRECTED
            fresh = await self._tokens.replaced(lease, is_misdirected=is_misdirected)
            if fresh is None:
                raise refused
            ticket.again()  # a new token took a while
            return fresh, await _told(ticket, ask(fresh))
        finally:
            ticket.close()


async def _told(ticket: Ticket, asked: Awaitable[Found]) -> Found:
    """Wait for the answer, and tell the gate how upstream took it."""
    try:
        found = await asked
    except RefusedCallError as error:
        ticket.answered(error.status, error.refusal)
        raise
    except TransientError as error:
        if error.failure.code == _UNREADABLE:
            ticket.answered(_ANSWERED, None)
        else:
            ticket.lost()
        raise
    ticket.answered(_ANSWERED, None)
    return found
