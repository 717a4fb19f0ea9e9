"""Secrets and the people they belong to. Every secret is masked in its repr."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from brokerd.core.quota import Quota


__all__ = [
    "AccountKey",
    "CopilotToken",
    "DeviceCode",
    "GitHubToken",
    "IndexEntry",
    "KeptCooldown",
    "Login",
    "Pat",
    "User",
]


@dataclass(frozen=True)
class GitHubToken:
    """The long-lived result of the device authorization grant (RFC 6749 §1.4, RFC 8628 §3.5)."""

    value: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: float | None = None
    """Seconds from issue; only expiring GitHub-App tokens have it."""
    expires_at: float | None = None
    """The same as Unix seconds by this machine's clock, for a login that is read again later."""
    scope: str = ""
    """Scopes as GitHub told them, separated by commas; GitHub Apps have none."""

    @property
    def fingerprint(self) -> str:
        """Names the token without telling it, for ever: 16 hex digits of its SHA-256."""
        return hashlib.sha256(self.value.encode(errors="replace")).hexdigest()[:16]


@dataclass(frozen=True)
class DeviceCode:
    """The device authorization response (RFC 8628 §3.2). Durations are seconds."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    expires_in: float
    interval: float


@dataclass(frozen=True)
class User:
    """Who a GitHub token belongs to: `GET /user`."""

    id: int
    login: str
    scopes: str | None = field(default=None, compare=False)
    """What the asking token may do (`x-oauth-scopes`); None: GitHub does not say."""


@dataclass(frozen=True)
class AccountKey:
    """What an account is: (host, numeric user id). Names are aliases for it."""

    host: str
    user_id: int


@dataclass(frozen=True)
class Login:
    """What a store keeps: a person's GitHub token and how it was got."""

    host: str
    user: User
    token: GitHubToken
    client_id: str
    source: str = "login"
    """`login` (device grant), `token` (a caller gave it on stdin or from its environment), or one
    of `core.given.SOURCES`: the daemon was given it."""
    is_direct: bool = False
    """Whether this token once turned out to be none that the exchange knows; see `core.modes`."""

    @property
    def key(self) -> AccountKey:
        """(host, user id)."""
        return AccountKey(self.host, self.user.id)


@dataclass(frozen=True)
class Pat:
    """A personal access token that the person gave for reading their bill; kept beside the login.

    It is never lent and never exchanged: GitHub's billing API is all that it is sent to.
    """

    value: str = field(repr=False)


@dataclass(frozen=True)
class KeptCooldown:
    """A long cool-down of an account, as upstream's refusal was explained: not a secret."""

    until: int
    """Unix seconds."""
    code: str
    message: str
    url: str | None = None


@dataclass(frozen=True)
class IndexEntry:
    """Where the login of a named account rests: not a secret."""

    host: str
    user_id: int
    login: str
    store: str
    """Kind of the store that keeps it."""
    client_id: str
    source: str = "login"
    is_direct: bool = False
    """Remembered of the login: the exchange does not know its token."""
    cooldown: KeptCooldown | None = None
    """Remembered of the person: upstream wants no requests, for so long that we may restart."""
    refused: str = ""
    """Fingerprint of the token that GitHub has refused as dead; empty: of none."""

    @property
    def key(self) -> AccountKey:
        """(host, user id)."""
        return AccountKey(self.host, self.user_id)


@dataclass(frozen=True)
class CopilotToken:
    """What the Copilot API takes as bearer. Durations are seconds since it was asked for.

    Got by the exchange, and short-lived; or the GitHub token itself (`is_direct`), whose lifetime
    here is how long what was found out about it (its host, that it is alive) is relied on.
    """

    value: str = field(repr=False)
    lifetime: float
    """Seconds it lives, told by upstream's own clock (`expires_at` less `Date`)."""
    refresh_in: float
    """Seconds after which upstream wants it renewed."""
    api_base: str
    """Origin of the Copilot API for this token: `endpoints.api`, checked."""
    sku: str = ""
    completions_base: str = ""
    """Origin of the host for fill-in-the-middle completions: `endpoints.proxy`, checked."""
    is_direct: bool = False
    """True: it is the GitHub token itself, and is never lent to anybody."""
    quota: tuple[Quota, ...] = ()
    """What the exchange says is left of a free plan, as of then."""
