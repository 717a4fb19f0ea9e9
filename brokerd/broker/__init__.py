"""The single writer and its parts. Read `broker`, then `roster`, `leases`, `logins`."""

from __future__ import annotations

from brokerd.broker.broker import Broker
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
