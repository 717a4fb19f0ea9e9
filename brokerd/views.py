"""What the broker tells its callers: values only, each a snapshot of the moment it was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from brokerd.core.quota import Quota, Source
    from brokerd.errors import Failure


__all__ = [
    "AccountState",
    "AccountView",
    "LeasedToken",
    "LoginProgress",
    "LoginRequest",
    "LoginSucceeded",
    "LoginWaiting",
    "ModelList",
    "PacingView",
    "QuotaAttempt",
    "QuotaOutcome",
    "QuotaView",
    "UserCodeIssued",
    "WatchKind",
    "WatchState",
]

AccountState = Literal["signed_out", "awaiting_user", "exchanging", "ready"]
WatchKind = Literal["token", "login_required", "cooldown", "failed"]
QuotaOutcome = Literal["used", "added", "nothing", "failed", "not_needed", "not_configured"]
"""Of one source: it is the answer, filled a gap in it, told nothing, failed, was not asked because
nothing was missing, or could not be asked for want of a personal access token."""


@dataclass(frozen=True)
class LeasedToken:
    """A Copilot token lent to a caller until it expires."""

    token: str = field(repr=False)
    token_id: str
    """Names the token without telling it: 8 hex digits of an HMAC under a key of this process."""
    expires_at: int
    """Wall clock, Unix seconds, for people and for clients that want it absolute."""
    expires_in: float
    """Seconds left, by a clock that counts suspend and ignores jumps of the wall clock."""
    api_base: str
    """Origin of the Copilot API for this token."""
    account: str
    host: str
    """The account's GitHub host."""
    clamped: bool
    """True when the token lives shorter than was asked and no fresher one can be had now."""
    completions_base: str = ""
    """Origin of the host for fill-in-the-middle completions."""
    cooldown_until: int | None = None
    """Unix seconds until when upstream wants no requests of this account; None: it does."""
    is_direct: bool = False
    """True: the "token" is the GitHub token; completions use it, and no verb hands it out."""


@dataclass(frozen=True)
class AccountView:
    """One account as `status` and `account.list` show it. Durations are seconds."""

    name: str
    host: str
    user_id: int | None
    login: str | None
    client_id: str
    mode: str
    """`exchange` or `direct`, as it works now; before that, as configured."""
    source: str
    store: str
    """Kind of the store that keeps the login; empty when nothing is kept."""
    default: bool
    state: AccountState
    unsaved: bool
    """True while the login is held in memory only because its store fails; saving is retried."""
    token_id: str | None
    expires_in: float | None
    refresh_in: float | None
    """Until the next refresh (or retry) is due."""
    error: Failure | None
    mode_reason: str = ""
    """Why it works in that mode, see `core.modes.Reason`; empty while that is not known."""
    scopes: str = ""
    """What GitHub says the login may do, separated by commas; empty for GitHub Apps."""
    sku: str = ""
    """GitHub's word for the plan, as the exchange told it."""
    api_base: str = ""
    """Origin of the Copilot API in use; empty without a token."""
    login_expires_in: float | None = None
    """Until an expiring GitHub token dies; it is renewed before that."""


@dataclass(frozen=True)
class PacingView:
    """How the pacing gate of one account stands. Durations are seconds."""

    cooldown_in: float | None
    """Until upstream wants requests again; None: it does now."""
    models: Mapping[str, float]
    """Model → seconds until upstream wants requests for it again."""
    circuit: Literal["closed", "open", "half_open"]
    """Closed: requests pass; open: upstream fails, none do; half open: one is out to try."""
    limit: int | None
    """Requests that may be under way at a time; None: as many as there are."""
    in_flight: int
    queued: int
    reason: Failure | None
    """Why something is held back, as upstream said it; None: nothing is."""


@dataclass(frozen=True)
class ModelList:
    """What Copilot offers an account."""

    account: str
    models: Sequence[Mapping[str, Any]]
    """GitHub's own entries, each id once."""
    age: float
    """Seconds since GitHub was asked."""
    failure: Failure | None = None
    """Why it is an old one: GitHub was asked again and did not tell; None: it is not."""


@dataclass(frozen=True)
class LoginRequest:
    """Sign in, by the device authorization grant or with a given GitHub token."""

    client_id: str
    """The OAuth app, resolved: never the name of a preset."""
    account: str = "default"
    host: str = "github.com"
    scope: str = ""
    token: str | None = field(default=None, repr=False)
    """A GitHub token got elsewhere; None starts the device authorization grant."""
    store: str | None = None
    """Kind of store asked for; None takes the configured one."""


@dataclass(frozen=True)
class UserCodeIssued:
    """The person must type this code there (RFC 8628 §3.3). Durations are seconds."""

    user_code: str
    verification_uri: str
    expires_in: float
    interval: float


@dataclass(frozen=True)
class LoginWaiting:
    """Nothing decided yet; `expires_in` seconds are left for the person."""

    expires_in: float
    advice: str = ""
    """What the person should look after meanwhile, without a full stop at the end: GitHub keeps
    telling us to slow down, or the store to keep the approved login in fails."""


@dataclass(frozen=True)
class LoginSucceeded:
    """The login is saved; `account` is how it now looks."""

    account: AccountView


LoginProgress = UserCodeIssued | LoginWaiting | LoginSucceeded


@dataclass(frozen=True)
class WatchState:
    """The full state of one account for a watcher; a later one replaces an earlier one."""

    account: str
    kind: WatchKind
    lease: LeasedToken | None = None
    """Present whenever a token is leasable, whatever `kind` says."""
    failure: Failure | None = None


@dataclass(frozen=True)
class QuotaAttempt:
    """What came of one source of a quota."""

    source: Source
    outcome: QuotaOutcome
    failure: Failure | None = None
    """Why it was in vain, or was not asked; None: it was not in vain."""


@dataclass(frozen=True)
class QuotaView:
    """What is left of an account's plan, and who says so."""

    account: str
    host: str
    login: str
    source: Source
    """The first that told anything; see `core.quota.SOURCES`."""
    kinds: Sequence[Quota]
    """Each name once; none: whoever was asked did not tell."""
    tried: Sequence[QuotaAttempt]
    """All sources, in order."""
    age: float | None
    """Seconds since that source told it; None: nobody knows."""
    plan: str = ""
    """GitHub's word for the plan."""
    sku: str = ""
    models: Sequence[tuple[str, float]] = ()
    """What each model has used, where the billing pages were asked; the biggest first."""
    tier: str = ""
    """The caller's word for the plan, where an entitlement is by that word only."""
    has_pat: bool = False
    """Whether a personal access token is kept for the account."""
