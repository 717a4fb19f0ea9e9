"""What each method does: parameters → broker or proxy → result. One table, one row a method.

The gate has allowed the operation before anything here runs, and is told of every token that is
about to leave; a token's result is sent with no await after that. Families of methods have a file
each; `completion.create` is no row, as upstream drives it (`rpc.completions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.access.refusals import unknown_method
from brokerd.errors import PermanentError
from brokerd.rpc.call import Call, Later
from brokerd.rpc.methods.accounts import AccountMethods
from brokerd.rpc.methods.brokers import FEATURES, PROTOCOL, BrokerMethods
from brokerd.rpc.methods.locks import LockMethods
from brokerd.rpc.methods.models import ModelMethods
from brokerd.rpc.methods.tokens import TokenMethods


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from brokerd.broker import Broker
    from brokerd.proxy import Proxy
    from brokerd.proxy.outcome import Outcome
    from brokerd.rpc.call import Begun, Rows
    from brokerd.views import LoginRequest


__all__ = ["FEATURES", "PROTOCOL", "Call", "Later", "Methods"]


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
        about_app: Callable[[LoginRequest], Mapping[str, object]],
        further: Iterable[Rows] = (),
        on_completed: Callable[[Outcome], None] = lambda _outcome: None,
    ) -> None:
        """`about_app` says what the person approves: `app`, `notice`, `client` and `means`.

        `further` families need more than the broker and the proxy. `on_completed` is told what
        became of each completion.
        """
        self.proxy = proxy
        self.on_completed = on_completed
        """For `completion.create`."""
        self._table: Rows = {
            **BrokerMethods(broker, proxy, version=version, extra_status=extra_status).rows(),
            **LockMethods(broker).rows(),
            **TokenMethods(broker, headers_for_client).rows(),
            **ModelMethods(proxy).rows(),
            **AccountMethods(broker, proxy, login_request, about_app).rows(),
        }
        for rows in further:
            self._table |= rows

    def begin(self, call: Call) -> Begun:
        """Answer at once, or return what there is to wait for; nothing has begun then.

        Raises BrokerError, PermanentError (USAGE) for parameters that make no sense, and for a
        method that the gate knows of and this broker has not.
        """
        row = self._table.get(call.method)
        if row is None:
            raise PermanentError(unknown_method(call.method))
        return row(call)
