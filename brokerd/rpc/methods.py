"""What each method does: parameters → broker → result. Two tables, one row a method.

The gate has allowed the operation before anything here runs, and is told of every token that is
about to leave; a token's result is sent with no await after that.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brokerd.rpc.failures import bad_params
from brokerd.rpc.shapes import (
    account_map,
    lease_map,
    number_param,
    progress_map,
    text_param,
    token_map,
    watch_map,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from brokerd.broker import Broker
    from brokerd.gate import Caller
    from brokerd.views import LoginRequest


__all__ = ["FEATURES", "PROTOCOL", "Call", "Methods"]

PROTOCOL = 1
"""The wire's version; additions are optional keys and features, so it should stay."""

FEATURES = ("accounts", "streams", "text_errors", "notify_wrapper")
"""What a caller may rely on besides the methods themselves."""

DEFAULT_MIN_VALID = 60.0
"""Seconds a token should live on when the caller does not say: enough to start one request."""


@dataclass(frozen=True)
class Call:
    """One request of an admitted caller."""

    caller: Caller
    method: str
    params: Mapping[str, Any] = field(repr=False)


Answer = dict[str, object]


class Methods:
    """The tables, and what their rows need."""

    def __init__(
        self,
        broker: Broker,
        *,
        version: str,
        headers_for_client: Callable[[], Mapping[str, str]],
        login_request: Callable[[dict[str, Any]], LoginRequest],
        extra_status: Callable[[], Mapping[str, object]],
        about_app: Callable[[LoginRequest], Mapping[str, str]],
    ) -> None:
        self._broker = broker
        self._version = version
        self._headers = headers_for_client
        self._login_request = login_request
        self._extra_status = extra_status
        self._about_app = about_app
        self._started = time.monotonic()
        self._unary: dict[str, Callable[[Call], Awaitable[Answer]]] = {
            "broker.hello": self._hello,
            "broker.status": self._status,
            "broker.refresh": self._refresh,
            "token.get": self._get,
            "account.logout": self._logout,
            "account.list": self._list,
            "account.use": self._use,
        }
        self._streaming: dict[str, Callable[[Call], AsyncGenerator[Answer, None]]] = {
            "token.watch": self._watch,
            "account.login": self._login,
        }

    async def answer(self, call: Call) -> Answer:
        """Do it and return the result. Raises BrokerError."""
        return await self._unary[call.method](call)

    def stream(self, call: Call) -> AsyncGenerator[Answer, None] | None:
        """Return the chunks of a method that streams, None for one that does not.

        Raises PermanentError (USAGE) for parameters that make no sense; nothing has begun then.
        """
        opener = self._streaming.get(call.method)
        return None if opener is None else opener(call)

    # -- broker.* -----------------------------------------------------------------------------

    async def _hello(self, call: Call) -> Answer:
        return {
            "protocol": PROTOCOL,
            "name": "copilot-broker",
            "version": self._version,
            "features": list(FEATURES),
            "scope": call.caller.scope.label,
        }

    async def _status(self, _call: Call) -> Answer:
        return {
            "version": self._version,
            "pid": os.getpid(),
            "uptime": time.monotonic() - self._started,
            "summary": self._broker.summary(),
            "accounts": [account_map(view) for view in self._broker.accounts()],
            **self._extra_status(),
        }

    async def _refresh(self, call: Call) -> Answer:
        return lease_map(await self._broker.refresh(text_param(call.params, "account")))

    # -- token.* ------------------------------------------------------------------------------

    async def _get(self, call: Call) -> Answer:
        lease = await self._broker.lease(
            text_param(call.params, "account"),
            min_valid=number_param(call.params, "min_valid", DEFAULT_MIN_VALID),
            reject=text_param(call.params, "reject"),
        )
        result = token_map(lease, self._headers())
        call.caller.grant(call.method, lease.account, lease.token_id)
        return result

    def _watch(self, call: Call) -> AsyncGenerator[Answer, None]:
        states = self._broker.watch(text_param(call.params, "account"))

        async def chunks() -> AsyncGenerator[Answer, None]:
            async with _Closing(states):
                async for state in states:
                    if (lease := state.lease) is not None:
                        call.caller.grant(call.method, lease.account, lease.token_id)
                    yield watch_map(state, self._headers())

        return chunks()

    # -- account.* ----------------------------------------------------------------------------

    def _login(self, call: Call) -> AsyncGenerator[Answer, None]:
        for name in ("account", "host", "client_id", "token", "store"):
            text_param(call.params, name)
        request = self._login_request(dict(call.params))
        steps = self._broker.login(request)

        async def chunks() -> AsyncGenerator[Answer, None]:
            async with _Closing(steps):
                async for step in steps:
                    yield progress_map(step, self._about_app(request))

        return chunks()

    async def _logout(self, call: Call) -> Answer:
        await self._broker.logout(text_param(call.params, "account"))
        return {}

    async def _list(self, _call: Call) -> Answer:
        views = self._broker.accounts()
        default = next((view.name for view in views if view.default), None)
        return {"accounts": [account_map(view) for view in views], "default": default}

    async def _use(self, call: Call) -> Answer:
        account = text_param(call.params, "account")
        if account is None:
            raise bad_params("account must be a string")
        await self._broker.use(account)
        return {"default": account}


class _Closing:
    """`contextlib.aclosing` for iterators of which not all are generators.

    Leaving a loop early does not end a generator's `finally` until it is collected; the broker
    learns there that a caller has left.
    """

    def __init__(self, iterator: AsyncIterator[object]) -> None:
        self._iterator = iterator

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        aclose = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await aclose()
