"""The four states of an account, each with the data that is true in it.

Expired and refreshing are not states: `Lease.expires_at_boot` is compared with the clock, and a
token stays leasable while the exchange for its successor is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from brokerd.core.machine.device_grant import Pacing
    from brokerd.core.machine.refresh import Retry
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
    "Renewing",
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
    source: str = "login"
    """How we came by it, as in `Login.source`."""


@dataclass(frozen=True)
class Saving:
    """The login is being made durable; it is not used before it is."""

    login: Login
    is_renewal: bool = False
    """It replaces a pair of tokens that died with its issue: saving it is never given up."""


@dataclass(frozen=True)
class Renewing:
    """The expiring GitHub token is being replaced by its refresh token (RFC 6749 §6)."""

    login: Login
    refused: Failure | None = None
    """Set when GitHub had already refused the old token: what it said."""


@dataclass(frozen=True)
class Minting:
    """The exchange is under way (or the direct use found out about), waits, or was refused."""

    login: Login
    is_renewed: bool = False
    """The GitHub token is fresh from a renewal: a refusal of it is not answered by another."""
    renewal: Retry | None = None
    """Of the renewal that failed: the old token serves until its turn comes again."""


Step = Loading | Identifying | Renewing | Saving | Minting


@dataclass(frozen=True)
class Exchanging:
    """On the way to a Copilot token, by these steps; none is leasable."""

    step: Step
    retry: Retry
    login_expires_at: float | None = None
    """When the GitHub token expires (CLOCK_BOOTTIME); None: it does not, or nobody knows."""


@dataclass(frozen=True)
class Ready:
    """A Copilot token is held, whatever the steps to its successor are going through."""

    step: Renewing | Saving | Minting
    """What comes next on the way to the successor."""
    token: CopilotToken
    asked_at: float
    expires_at: float
    retry: Retry
    """Of the step: `at` is when it is due."""
    login_expires_at: float | None = None
    """As in `Exchanging`."""

    @property
    def login(self) -> Login:
        """The login that the next step works on."""
        return self.step.login


State = SignedOut | AwaitingUser | Exchanging | Ready


@dataclass(frozen=True)
class Lease:
    """A token that may be lent, and until when (CLOCK_BOOTTIME seconds)."""

    token: CopilotToken
    expires_at_boot: float
    host: str
    """The account's GitHub host."""
