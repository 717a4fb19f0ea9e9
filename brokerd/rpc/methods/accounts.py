"""`account.*`: signing in and out, and which accounts there are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from brokerd.rpc.account_maps import full_account_map
from brokerd.rpc.call import Later
from brokerd.rpc.closing import Closing
from brokerd.rpc.params import flag_param, needed_text, text_param
from brokerd.rpc.shapes import progress_map


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.broker import Broker
    from brokerd.proxy import Proxy
    from brokerd.rpc.call import Answer, Call, Chunks, Rows
    from brokerd.views import LoginRequest


__all__ = ["AccountMethods"]


class AccountMethods:
    """See the module's docstring."""

    def __init__(
        self,
        broker: Broker,
        proxy: Proxy,
        login_request: Callable[[dict[str, Any]], LoginRequest],
        about_app: Callable[[LoginRequest], Mapping[str, object]],
    ) -> None:
        self._broker = broker
        self._proxy = proxy
        self._login_request = login_request
        self._about_app = about_app

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {
            "account.login": self._login,
            "account.logout": self._logout,
            "account.list": self._list,
            "account.use": self._use,
        }

    def _login(self, call: Call) -> Chunks:
        for name in ("account", "host", "client_id", "scope", "token", "store"):
            text_param(call.params, name)
        request = self._login_request(dict(call.params))
        steps = self._broker.login(request)

        async def chunks() -> Chunks:
            async with Closing(steps):
                async for step in steps:
                    yield partial(progress_map, step, self._about_app(request))

        return chunks()

    def _logout(self, call: Call) -> Later:
        account, revoke = text_param(call.params, "account"), flag_param(call.params, "revoke")

        async def signed_out() -> Answer:
            return {"revoked": await self._broker.logout(account, revoke=revoke)}

        return Later(signed_out)

    def _list(self, _call: Call) -> Answer:
        views = self._broker.accounts()
        default = next((view.name for view in views if view.default), None)
        accounts = [full_account_map(view, self._proxy) for view in views]
        return {"accounts": accounts, "default": default}

    def _use(self, call: Call) -> Later:
        account = needed_text(call.params, "account")

        async def used() -> Answer:
            await self._broker.use(account)
            return {"default": account}

        return Later(used)
