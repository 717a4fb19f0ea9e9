"""Who lends the tokens: what the proxy needs of the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brokerd.views import AccountView, LeasedToken


__all__ = ["MIN_VALID", "Lender"]

MIN_VALID = 10.0
"""Seconds a token must live on: Copilot looks at it when a request begins, and never again."""


class Lender(Protocol):
    """The broker, as the proxy sees it."""

    async def lease(
        self, account: str | None = None, *, min_valid: float = 60.0, reject: str | None = None
    ) -> LeasedToken:
        """See `Broker.lease`."""
        ...

    def leasable(
        self, account: str | None, min_valid: float
    ) -> tuple[LeasedToken, int, float] | None:
        """See `Broker.leasable`."""
        ...

    def reject(self, account: str, token_id: str) -> None:
        """See `Broker.reject`."""
        ...

    def accounts(self) -> Sequence[AccountView]:
        """See `Broker.accounts`."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """See `Broker.on_change`."""
        ...
