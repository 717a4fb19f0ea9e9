"""All that the HTTP door answers besides completions, by endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.gateway import health, models
from brokerd.gateway.routes import Endpoint


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.settings import Config
    from brokerd.gate import Caller
    from brokerd.gateway.messages import Reply, Request
    from brokerd.gateway.metrics import Metrics
    from brokerd.gateway.routes import Route
    from brokerd.proxy import Lender, Proxy


__all__ = ["Pages"]


class Pages:
    """See the module's docstring."""

    def __init__(
        self,
        proxy: Proxy,
        lender: Lender,
        metrics: Metrics,
        *,
        config: Callable[[], Config],
        is_locked: Callable[[], bool],
        version: str,
    ) -> None:
        self._proxy = proxy
        self._lender = lender
        self._metrics = metrics
        self._config = config
        self._is_locked = is_locked
        self._version = version

    async def answer(self, request: Request, route: Route, caller: Caller) -> Reply:
        """Answer what is no completion. Raises BrokerError for what the caller may not know."""
        match route.endpoint:
            case Endpoint.MODELS:
                return await models.whole_list(request, caller, self._proxy)
            case Endpoint.MODEL:
                aliases = self._config().models.aliases
                return await models.one_model(request, caller, self._proxy, route.model, aliases)
            case Endpoint.COUNT_TOKENS:
                from brokerd.gateway import counting  # noqa: PLC0415 - seldom asked for

                return counting.count_tokens(request, caller)
            case Endpoint.HEALTH:
                return health.healthz(
                    request,
                    caller,
                    self._lender.accounts,
                    self._lender.leasable,
                    self._proxy.pacing,
                    is_locked=self._is_locked(),
                )
            case Endpoint.METRICS:
                return self._metrics.page(request, caller)
            case _:
                return health.root(request, caller, self._version)
