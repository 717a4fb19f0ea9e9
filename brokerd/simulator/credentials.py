"""Every credential of the simulated GitHub: who minted it, what it is good for, when it dies."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from brokerd.simulator import minting
from brokerd.simulator.minting import GITHUB_PREFIXES, GitHubGrant, Person
from brokerd.simulator.places import GENERIC, NOWHERE, Place, api_host, place_of, proxy_host


if TYPE_CHECKING:
    from brokerd.simulator.clock import Clock
    from brokerd.simulator.settings import Settings


__all__ = ["DIRECT_ONLY", "Credentials"]

# The apps whose tokens are for the exchange: VS Code and the Copilot plug-in.
EXCHANGE_CLIENTS = frozenset({"01ab8ac9400c4e429b23", "Iv1.b507a08c87ecfe98"})
# What the exchange pretends not to know, and what the Copilot API takes as it is.
DIRECT_ONLY = ("github_pat_", "ghs_")
NEVER_EXCHANGED = (*DIRECT_ONLY, "ghp_")
# GitHub's number for `refresh_token_expires_in`: six months.
REFRESH_LIFETIME = 15_811_200
# An installation token lives for an hour.
INSTALLATION_LIFETIME = 3600


class Credentials:
    """Mints tokens and knows them again.

    What is minted outlives a restart; what was revoked or spent is forgotten by one.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._stamp = 0
        self._revoked_before = 0
        self._dead_pairs: set[int] = set()
        self._dead: set[str] = set()

    def wall(self) -> float:
        """Tell the time by GitHub's clock: Unix seconds."""
        return self.clock.wall() + self.settings.clock_offset

    def person(self, login: str | None = None) -> Person:
        """Anybody may sign in; the number follows from the name."""
        if not login or login == self.settings.login:
            return Person(self.settings.user_id, self.settings.login)
        return Person(zlib.crc32(login.encode()), login)

    # GitHub's tokens.

    def mint(
        self,
        kind: str = "gho_",
        login: str | None = None,
        client_id: str = "",
        *,
        scope: str = "",
        expires_in: float | None = None,
        host: str = "",
    ) -> str:
        """Mint a token of any kind; ValueError for a prefix that GitHub has not.

        `host`: who issued it, `github.com` or a tenant; empty = all of them take it.
        """
        if kind not in GITHUB_PREFIXES:
            raise ValueError(f"{kind!r} is none of {', '.join(GITHUB_PREFIXES)}")
        if kind == "ghs_" and expires_in is None:
            expires_in = INSTALLATION_LIFETIME
        expires_at = None if expires_in is None else self.wall() + expires_in
        return minting.mint_github_token(
            GitHubGrant(
                self.person(login), kind, client_id, self._next_stamp(), scope, expires_at, host
            )
        )

    def issue_github_token(
        self, person: Person, client_id: str, *, scope: str = "", host: str = ""
    ) -> tuple[str, str]:
        """Mint an access token and the refresh token that belongs to it."""
        kind = "ghu_" if client_id.startswith("Iv") else "gho_"
        stamp, now, lifetime = (
            self._next_stamp(),
            self.wall(),
            self.settings.github_token_expires_in,
        )
        lives = [
            (kind, None if lifetime is None else now + lifetime),
            ("ghr_", now + REFRESH_LIFETIME),
        ]
        # GitHub Apps have permissions instead of scopes.
        granted = "" if kind == "ghu_" else scope
        access, refresh = (
            minting.mint_github_token(
                GitHubGrant(person, each, client_id, stamp, granted, expires_at, host)
            )
            for each, expires_at in lives
        )
        return access, refresh

    def github_grant(
        self, token: str, *, refresh: bool = False, site: str = ""
    ) -> GitHubGrant | None:
        """Tell whose token it is; None when it is unknown, dead, another host's or kind."""
        grant = minting.read_github_token(token)
        if (
            grant is None
            or grant.minted_at <= self._revoked_before
            or grant.minted_at in self._dead_pairs
            or token in self._dead
            or (grant.expires_at is not None and self.wall() >= grant.expires_at)
            or (site and grant.host and site != grant.host)
        ):
            return None
        return grant if (grant.kind == "ghr_") is refresh else None

    def spend_refresh_token(self, token: str, site: str = "") -> GitHubGrant | None:
        """Use a refresh token, which works once; the token it came with dies at once."""
        grant = self.github_grant(token, refresh=True, site=site)
        if grant is not None:
            self._dead_pairs.add(grant.minted_at)
        return grant

    def exchangeable(self, grant: GitHubGrant) -> bool:
        """Whether the exchange admits to knowing tokens of this kind and app."""
        if grant.kind in NEVER_EXCHANGED:
            return False
        return grant.client_id not in self.settings.refused_clients

    # Copilot's tokens.

    def issue_copilot_token(self, site: str = "", person: Person | None = None) -> tuple[str, int]:
        """Mint a Copilot token; its `expires_at` is Unix seconds by GitHub's clock."""
        settings = self.settings
        expires_at = int(self.wall() + settings.token_lifetime)
        proxy = proxy_host(site, settings.plan)
        stamp = self._next_stamp()
        tid = minting.tracking_id(person or self.person())
        token = minting.mint_copilot_token(expires_at, settings.sku, stamp, proxy, tid)
        return token, expires_at

    def account_of(self, token: str) -> str:
        """Name the person behind a bearer, by the `tid` of their tokens; empty = nobody's."""
        exchanged = minting.read_copilot_token(token)
        if exchanged is not None:
            return exchanged.tracking_id
        grant = self.github_grant(token)
        return minting.tracking_id(grant.person) if grant is not None else ""

    def accepts_copilot_token(self, token: str) -> bool:
        """Whether this is an exchanged token that still works."""
        grant = minting.read_copilot_token(token)
        if grant is None or grant.minted_at <= self._revoked_before:
            return False
        return self.wall() < grant.expires_at

    def accepts_bearer(self, token: str, place: Place = NOWHERE) -> bool:
        """Whether the Copilot API takes it: exchanged, or a GitHub token for direct use."""
        if self.accepts_copilot_token(token):
            exchanged = minting.read_copilot_token(token)
            return exchanged is not None and _same_site(exchanged.api_host, place)
        grant = self.github_grant(token, site=place.site)
        if grant is None or grant.kind == "ghp_":
            return False
        if grant.kind == "github_pat_":
            return self.settings.pat_has_permission
        if grant.kind == "ghs_" or self.settings.direct_for_all:
            return True
        return grant.client_id not in EXCHANGE_CLIENTS

    def lacks_permission(self, token: str) -> bool:
        """Whether it is a good personal access token that was not made for Copilot."""
        grant = self.github_grant(token)
        pat = grant is not None and grant.kind == "github_pat_"
        return pat and not self.settings.pat_has_permission

    def misdirects(self, token: str, place: Place) -> bool:
        """Whether a bearer came to the Copilot API of another plan (421)."""
        if not place.site or place.host in GENERIC:
            return False
        exchanged = minting.read_copilot_token(token)
        own = exchanged.api_host if exchanged is not None else ""
        own = own or api_host(proxy_host(place.site, self.settings.plan))
        return _same_site(own, place) and api_host(place.host) != own

    # The end of tokens.

    def revoke(self, token: str) -> None:
        """Kill one token."""
        self._dead.add(token)

    def revoke_all(self) -> None:
        """Kill every token minted so far, as the person can on GitHub's settings page."""
        self._revoked_before = self._next_stamp()

    def _next_stamp(self) -> int:
        """Give a moment that no other credential has, also while a test's clock stands still."""
        self._stamp = max(self._stamp + 1, int(self.clock.wall() * 1e9))
        return self._stamp


def _same_site(host: str, place: Place) -> bool:
    return not host or not place.site or place_of(host).site == place.site
