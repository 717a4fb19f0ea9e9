"""The four states of an account, each with the data that is true in it.

Expired and refreshing are not states: `Lease.expires_at_boot` is compared with the clock, and a
token stays leasable while the exchange for its successor is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from brokerd.core.device_grant import Pacing
    from brokerd.core.refresh import Retry
    from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, Login
    from brokerd.errors import Failure


__all__ = [
    "AwaitingUser",
    "Exchanging",
    "Identifying",
    "Lease",
    "Loading",
    "Minting",
    "Ready",
    "Saving",
    "SignedOut",
    "State",
    "Step",
]


@dataclass(frozen=True)
class SignedOut:
    """No login; a device code may have been asked for."""

    reason: Failure | None = None


@dataclass(frozen=True)
class AwaitingUser:
    """A person has the user code; we poll."""

    code: DeviceCode
    expires_at: float
    pacing: Pacing
    retry: Retry


@dataclass(frozen=True)
class Loading:
    """The login is being read from its store."""

    refused: Login | None = None
    """Set when upstream refused this login: only a different one helps."""
    reason: Failure | None = None
    """What upstream said then."""


@dataclass(frozen=True)
class Identifying:
    """We hold a GitHub token and ask whose it is."""

    token: GitHubToken


@dataclass(frozen=True)
class Saving:
    """The login is being made durable; it is not used before it is."""

    login: Login


@dataclass(frozen=True)
class Minting:
    """The exchange is under way, or waits to be retried, or was refused."""

    login: Login


Step = Loading | Identifying | Saving | Minting


@dataclass(frozen=True)
class Exchanging:
    """On the way to a Copilot token, by four steps; none is leasable."""

    step: Step
    retry: Retry


@dataclass(frozen=True)
class Ready:
    """A Copilot token is held."""

    login: Login
    token: CopilotToken
    asked_at: float
    expires_at: float
    retry: Retry
    """Of the refresh: `at` is when it is due."""


State = SignedOut | AwaitingUser | Exchanging | Ready


@dataclass(frozen=True)
class Lease:
    """A token that may be lent, and until when (CLOCK_BOOTTIME seconds)."""

    token: CopilotToken
    expires_at_boot: float
    host: str
    """The account's GitHub host."""
