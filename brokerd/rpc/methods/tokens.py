"""`token.*`: the only methods whose answers hold a token, and never a GitHub token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from brokerd.core.access import direct_mode
from brokerd.rpc.call import Later
from brokerd.rpc.closing import Closing
from brokerd.rpc.params import text_param, token_params
from brokerd.rpc.shapes import token_map, watch_map


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.broker import Broker
    from brokerd.rpc.call import Answer, Call, Chunks, Rows
    from brokerd.views import LeasedToken, WatchState


__all__ = ["TokenMethods"]


class TokenMethods:
    """See the module's docstring. `headers` are what upstream wants to see besides the token."""

    def __init__(self, broker: Broker, headers: Callable[[], Mapping[str, str]]) -> None:
        self._broker = broker
        self._headers = headers

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {"token.get": self._get, "token.watch": self._watch}

    def _get(self, call: Call) -> Answer | Later:
        account, min_valid, reject = token_params(call.params)
        if reject is None:
            found = self._broker.leasable(account, min_valid)
            if found is not None:
                lease, expires_at, expires_in = found
                return self._lent(
                    call, replace(lease, expires_at=expires_at, expires_in=expires_in)
                )

        async def leased() -> Answer:
            lease = await self._broker.lease(account, min_valid=min_valid, reject=reject)
            return self._lent(call, lease)

        return Later(leased)

    def _lent(self, call: Call, lease: LeasedToken) -> Answer:
        if lease.is_direct:
            call.caller.tell_denied(call.method, direct_mode())
        result = token_map(lease, self._headers())
        call.caller.grant(call.method, lease.account, lease.token_id)
        return result

    def _watch(self, call: Call) -> Chunks:
        states = self._broker.watch(text_param(call.params, "account"))

        async def chunks() -> Chunks:
            async with Closing(states):
                async for state in states:
                    yield partial(self._told, call, state)

        return chunks()

    def _told(self, call: Call, state: WatchState) -> Answer:
        lease = state.lease
        if lease is not None and lease.is_direct:
            call.caller.tell_denied(call.method, direct_mode())
        elif lease is not None:
            call.caller.grant(call.method, lease.account, lease.token_id)
        return watch_map(state, self._headers())
