"""What each method does: parameters → broker or proxy → result. One table, one row a method.

The gate has allowed the operation before anything here runs, and is told of every token that is
about to leave; a token's result is sent with no await after that.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from brokerd.rpc.failures import bad_params
from brokerd.rpc.shapes import (
    account_map,
    lease_map,
    progress_map,
    text_param,
    token_map,
    token_params,
    watch_map,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from brokerd.broker import Broker
    from brokerd.gate import Caller
    from brokerd.proxy import Proxy
    from brokerd.views import LeasedToken, LoginRequest


__all__ = ["FEATURES", "PROTOCOL", "Call", "Later", "Methods"]

PROTOCOL = 1
"""The wire's version; additions are optional keys and features, so it should stay."""

FEATURES = (
    "accounts",
    "streams",
    "text_errors",
    "notify_wrapper",
    "completions",
    "models",
    "request_cancel",
)
"""What a caller may rely on besides the methods themselves."""


@dataclass(frozen=True)
class Call:
    """One request of an admitted caller."""

    caller: Caller
    method: str
    params: Mapping[str, Any] = field(repr=False)


Answer = dict[str, object]


@dataclass(frozen=True)
class Later:
    """An answer that has to be waited for; nothing has begun before `start`."""

    start: Callable[[], Awaitable[Answer]]
    """Does it. Raises BrokerError."""


Begun: TypeAlias = "Answer | Later | AsyncGenerator[Answer, None]"
"""What a method returns: its answer, what there is to wait for, or the chunks of its stream."""


class Methods:
    """The table, and what its rows need."""

    def __init__(
        self,
        broker: Broker,
        proxy: Proxy,
        *,
        version: str,
        headers_for_client: Callable[[], Mapping[str, str]],
        login_request: Callable[[dict[str, Any]], LoginRequest],
        extra_status: Callable[[], Mapping[str, object]],
        about_app: Callable[[LoginRequest], Mapping[str, str]],
    ) -> None:
        self._broker = broker
        self.proxy = proxy
        """For `completion.create`, which is no row: upstream drives it (`completions`)."""
        self._version = version
        self._headers = headers_for_client
        self._login_request = login_request
        self._extra_status = extra_status
        self._about_app = about_app
        self._started = time.monotonic()
        self._table: dict[str, Callable[[Call], Begun]] = {
            "broker.hello": self._hello,
            "broker.status": self._status,
            "broker.refresh": self._refresh,
            "token.get": self._get,
            "token.watch": self._watch,
            "models.list": self._models,
            "account.login": self._login,
            "account.logout": self._logout,
            "account.list": self._list,
            "account.use": self._use,
        }

    def begin(self, call: Call) -> Begun:
        """Answer at once, or return what there is to wait for; nothing has begun then.

        Raises BrokerError, PermanentError (USAGE) for parameters that make no sense.
        """
        return self._table[call.method](call)

    # -- broker.* -----------------------------------------------------------------------------

    def _hello(self, call: Call) -> Answer:
        return {
            "protocol": PROTOCOL,
            "name": "copilot-broker",
            "version": self._version,
            "features": list(FEATURES),
            "scope": call.caller.scope.label,
        }

    def _status(self, _call: Call) -> Answer:
        return {
            "version": self._version,
            "pid": os.getpid(),
            "uptime": time.monotonic() - self._started,
            "summary": self._broker.summary(),
            "accounts": [account_map(view) for view in self._broker.accounts()],
            **self._extra_status(),
        }

    def _refresh(self, call: Call) -> Later:
        account = text_param(call.params, "account")

        async def refreshed() -> Answer:
            return lease_map(await self._broker.refresh(account))

        return Later(refreshed)

    # -- token.* ------------------------------------------------------------------------------

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

    # -- models -------------------------------------------------------------------------------

    def _models(self, call: Call) -> Later:
        account = text_param(call.params, "account")

        async def listed() -> Answer:
            name, models = await self.proxy.models(account)
            return {"account": name, "models": models}

        return Later(listed)

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

    def _logout(self, call: Call) -> Later:
        account = text_param(call.params, "account")

        async def signed_out() -> Answer:
            await self._broker.logout(account)
            return {}

        return Later(signed_out)

    def _list(self, _call: Call) -> Answer:
        views = self._broker.accounts()
        default = next((view.name for view in views if view.default), None)
        return {"accounts": [account_map(view) for view in views], "default": default}

    def _use(self, call: Call) -> Later:
        account = text_param(call.params, "account")
        if account is None:
            raise bad_params("account must be a string")

        async def used() -> Answer:
            await self._broker.use(account)
            return {"default": account}

        return Later(used)


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
