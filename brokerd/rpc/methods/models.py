"""`models.*`: what Copilot offers an account, and accepting the terms of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.access import Scope
from brokerd.rpc.call import Later
from brokerd.rpc.params import flag_param, needed_text, text_param
from brokerd.rpc.shapes import models_map


if TYPE_CHECKING:
    from brokerd.proxy import Proxy
    from brokerd.rpc.call import Answer, Call, Rows


__all__ = ["ModelMethods"]


class ModelMethods:
    """See the module's docstring."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {"models.list": self._list, "models.enable": self._enable}

    def _list(self, call: Call) -> Later:
        account = text_param(call.params, "account")
        # Who may only look has no requests to spend.
        fresh = flag_param(call.params, "fresh") and call.caller.scope > Scope.STATUS

        async def listed() -> Answer:
            return models_map(await self._proxy.models(account, fresh=fresh))

        return Later(listed)

    def _enable(self, call: Call) -> Later:
        model, account = needed_text(call.params, "model"), text_param(call.params, "account")

        async def enabled() -> Answer:
            name, state = await self._proxy.enable_model(account, model)
            return {"account": name, "model": model, "state": state}

        return Later(enabled)
