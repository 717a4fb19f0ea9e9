"""`broker.*`: who answers, and how it is."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from brokerd.rpc.account_maps import full_account_map
from brokerd.rpc.call import Later
from brokerd.rpc.params import text_param
from brokerd.rpc.shapes import lease_map


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.broker import Broker
    from brokerd.proxy import Proxy
    from brokerd.rpc.call import Answer, Call, Rows


__all__ = ["FEATURES", "PROTOCOL", "BrokerMethods"]

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
    "refusals",
    "pacing",
    "models_enable",
    "revoke",
    "grants",
    "doctor",
    "quota",
    "lock",
    "keys",
    "runs",
)
"""What a caller may rely on besides the methods themselves."""


class BrokerMethods:
    """See the module's docstring."""

    def __init__(
        self,
        broker: Broker,
        proxy: Proxy,
        *,
        version: str,
        extra_status: Callable[[], Mapping[str, object]],
    ) -> None:
        self._broker = broker
        self._proxy = proxy
        self._version = version
        self._extra_status = extra_status
        self._started = time.monotonic()

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {
            "broker.hello": self._hello,
            "broker.status": self._status,
            "broker.refresh": self._refresh,
        }

    def _hello(self, call: Call) -> Answer:
        return {
            "protocol": PROTOCOL,
            "name": "copilot-broker",
            "version": self._version,
            "features": list(FEATURES),
            "scope": call.caller.scope.label,
        }

    def _status(self, call: Call) -> Answer:
        may_know = call.caller.may_know
        is_told = may_know(self._broker.default_account())
        return {
            "version": self._version,
            "pid": os.getpid(),
            "uptime": time.monotonic() - self._started,
            "summary": self._broker.summary() if is_told else "",
            "locked": self._broker.is_locked,
            "accounts": [
                full_account_map(view, self._proxy)
                for view in self._broker.accounts()
                if may_know(view.name)
            ],
            **self._extra_status(),
        }

    def _refresh(self, call: Call) -> Later:
        account = text_param(call.params, "account")

        async def refreshed() -> Answer:
            return lease_map(await self._broker.refresh(account))

        return Later(refreshed)
