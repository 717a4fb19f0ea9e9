"""One completion: lease → upstream → answer, sent once; on a 401 or 421 once more.

The caller sees whatever Copilot answers; what the answer makes *us* do is the table in
`core.answers`, and it is done before the first byte has reached the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol


if TYPE_CHECKING:
    from brokerd.core.completions import CompletionRequest
    from brokerd.ports import CopilotApi, Reply
    from brokerd.views import LeasedToken


__all__ = ["Proxy"]


class Lender(Protocol):
    """What the proxy needs of the broker."""

    async def lease(
        self, account: str | None = None, *, min_valid: float = 60.0, reject: str | None = None
    ) -> LeasedToken:
        """See `Broker.lease`."""
        ...


class Proxy:
    """Sends completions for callers that never see a token."""

    def __init__(self, broker: Lender, copilot: CopilotApi) -> None:
        self._broker = broker
        self._copilot = copilot

    async def open(self, request: CompletionRequest) -> Reply:
        """Send it and return the answer, whatever its status, once its head is there.

        The headers name the account (`x-copilot-broker-account`). Cancelling it cuts upstream.
        Raises BrokerError for the broker's own refusals: no login, no answer.
        """
        raise NotImplementedError

    async def models(self, account: str | None) -> tuple[str, list[dict[str, Any]]]:
        """Return the account's name and the models that Copilot lists for it."""
        raise NotImplementedError
