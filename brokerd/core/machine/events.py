"""What can happen to an account. An answer names its question by generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from brokerd.core.machine.device_grant import NotGranted
    from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, Login, User
    from brokerd.errors import Failure


__all__ = [
    "Answer",
    "DeviceCodeIssued",
    "DeviceGranted",
    "DeviceNotGranted",
    "Event",
    "FresherTokenWanted",
    "GivenUnusable",
    "LeaseWanted",
    "Locked",
    "LoginKept",
    "LoginLoaded",
    "LoginRenewed",
    "LoginRequested",
    "LoginSaved",
    "LogoutRequested",
    "QuestionFailed",
    "RefreshRequested",
    "Resumed",
    "TokenGiven",
    "TokenIssued",
    "TokenRejected",
    "TokensDropped",
    "Unlocked",
    "UserIdentified",
    "Wish",
]


@dataclass(frozen=True)
class LoginRequested:
    """Somebody wants to sign in by the device authorization grant."""


@dataclass(frozen=True)
class TokenGiven:
    """Somebody signs in with a GitHub token got elsewhere."""

    token: GitHubToken
    source: str = "token"
    """As in `Login.source`."""


@dataclass(frozen=True)
class GivenUnusable:
    """The login was to come from outside, and nothing came that can be used."""

    reason: Failure


@dataclass(frozen=True)
class LoginKept:
    """A store keeps a login for this account (at start)."""


@dataclass(frozen=True)
class LogoutRequested:
    """Somebody signs out; also the end of a login nobody waits for."""


@dataclass(frozen=True)
class LeaseWanted:
    """A caller wants a token and there is none."""


@dataclass(frozen=True)
class FresherTokenWanted:
    """A caller wants a token that lives longer than the current one."""


@dataclass(frozen=True)
class RefreshRequested:
    """A person wants an exchange now, whatever was refused before."""


@dataclass(frozen=True)
class TokenRejected:
    """A caller reports that upstream refused this token."""

    token: CopilotToken


@dataclass(frozen=True)
class Resumed:
    """The machine woke up, or the network changed: what failed or hangs may work now."""

    slept: bool = True
    """True after a real suspend: answers under way are lost with their connections."""


@dataclass(frozen=True)
class TokensDropped:
    """A person wants no Copilot token of before to be lent any more."""


@dataclass(frozen=True)
class Locked:
    """No secret is to be held, and nothing asked that needs one, until it is unlocked."""

    reason: Failure
    """What whoever wants something is told meanwhile."""


@dataclass(frozen=True)
class Unlocked:
    """The login may be loaded again."""


@dataclass(frozen=True)
class DeviceCodeIssued:
    """Answer to RequestDeviceCode."""

    generation: int
    code: DeviceCode


@dataclass(frozen=True)
class DeviceGranted:
    """Answer to PollDeviceGrant: the person approved."""

    generation: int
    token: GitHubToken


@dataclass(frozen=True)
class DeviceNotGranted:
    """Answer to PollDeviceGrant: anything else that GitHub says."""

    generation: int
    answer: NotGranted


@dataclass(frozen=True)
class UserIdentified:
    """Answer to IdentifyUser."""

    generation: int
    user: User


@dataclass(frozen=True)
class LoginSaved:
    """Answer to SaveLogin: it is durable."""

    generation: int


@dataclass(frozen=True)
class LoginLoaded:
    """Answer to LoadLogin; None when surely nothing is kept."""

    generation: int
    login: Login | None
    expires_in: float | None = None
    """Seconds that its GitHub token has left, by the wall clock; None: it does not expire."""
    was_refused: bool = False
    """Whether GitHub has refused this very token as dead before: it is not shown to it again."""


@dataclass(frozen=True)
class LoginRenewed:
    """Answer to RenewToken: the old pair of tokens is dead from now on."""

    generation: int
    token: GitHubToken


@dataclass(frozen=True)
class TokenIssued:
    """Answer to ExchangeToken and PrepareDirect."""

    generation: int
    token: CopilotToken


@dataclass(frozen=True)
class QuestionFailed:
    """Any question's other answer."""

    generation: int
    failure: Failure
    is_permanent: bool


Wish = (
    LoginRequested
    | TokenGiven
    | GivenUnusable
    | LoginKept
    | LogoutRequested
    | LeaseWanted
    | FresherTokenWanted
    | RefreshRequested
    | TokenRejected
    | Resumed
    | TokensDropped
    | Locked
    | Unlocked
)
"""What people, callers and the machine want or tell, at any time."""

Answer = (
    DeviceCodeIssued
    | DeviceGranted
    | DeviceNotGranted
    | UserIdentified
    | LoginSaved
    | LoginLoaded
    | LoginRenewed
    | TokenIssued
)
"""What a question was asked for."""

Event = Wish | Answer | QuestionFailed
