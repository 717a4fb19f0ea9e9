"""The single writer: one task feeds the token machines, performs their effects and keeps time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from brokerd.views import (
    AccountView,
    LeasedToken,
    LoginProgress,
    LoginRequest,
    LoginSucceeded,
    LoginWaiting,
    UserCodeIssued,
    WatchState,
)


if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from brokerd.config import AccountSettings
    from brokerd.ports import AccountIndex, Clock, GitHub, LoginStores


__all__ = [
    "AccountView",
    "Broker",
    "LeasedToken",
    "LoginProgress",
    "LoginRequest",
    "LoginSucceeded",
    "LoginWaiting",
    "UserCodeIssued",
    "WatchState",
]


class Broker:
    """All accounts of one person; every method is for the event loop that runs `run()`."""

    def __init__(
        self,
        *,
        clock: Clock,
        github: Callable[[str], GitHub],
        stores: LoginStores,
        index: AccountIndex,
        settings: Callable[[str], AccountSettings],
        random: random.Random | None = None,
    ) -> None:
        self.started = asyncio.Event()
        """Set once the kept logins are loaded."""

    async def run(self) -> None:
        """Load logins, then drive the machines until cancelled."""
        raise NotImplementedError

    async def lease(
        self,
        account: str | None = None,
        *,
        min_valid: float = 60.0,
        reject: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> LeasedToken:
        """Lend a token; BrokerError says why there is none."""
        raise NotImplementedError

    async def refresh(self, account: str | None = None) -> LeasedToken:
        """Exchange now, whatever the current token's age or an earlier refusal."""
        raise NotImplementedError

    def watch(self, account: str | None = None) -> AsyncIterator[WatchState]:
        """Yield the full state at once, then one per change; latest wins."""
        raise NotImplementedError

    def login(self, request: LoginRequest) -> AsyncIterator[LoginProgress]:
        """Sign in; ends after LoginSucceeded or raises BrokerError."""
        raise NotImplementedError

    async def logout(self, account: str | None = None) -> None:
        """Forget the login, here and in its store."""
        raise NotImplementedError

    async def use(self, account: str) -> None:
        """Make this account the default."""
        raise NotImplementedError

    def accounts(self) -> list[AccountView]:
        """All accounts, by name."""
        raise NotImplementedError

    def summary(self) -> str:
        """One line for a person: STATUS= of the service."""
        raise NotImplementedError

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, in the loop, after anything in `accounts()` may have changed."""
        raise NotImplementedError

    def poke(self) -> None:
        """Look at the clock now: the machine may have slept."""
        raise NotImplementedError
