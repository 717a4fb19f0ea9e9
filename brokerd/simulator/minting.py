"""Credentials the simulator mints and knows again.

They look like the real ones and carry their own proof: a MAC under a key that every simulator
shares. So a login survives a restart of the simulator, as it survives one of GitHub, without a
file; and nothing minted here is worth anything anywhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from brokerd.simulator.places import api_host


__all__ = [
    "GITHUB_PREFIXES",
    "CopilotGrant",
    "GitHubGrant",
    "Person",
    "mint_copilot_token",
    "mint_github_token",
    "read_copilot_token",
    "read_github_token",
    "tracking_id",
]

_KEY = b"copilot-broker simulator: these credentials open nothing"
_MAC_LENGTH = 16
GITHUB_PREFIXES = ("gho_", "ghu_", "github_pat_", "ghs_", "ghp_", "ghr_")


@dataclass(frozen=True)
class Person:
    """Somebody with an account at the simulated GitHub."""

    id: int
    login: str


@dataclass(frozen=True)
class GitHubGrant:
    """What a GitHub token of the simulator says about itself."""

    person: Person
    kind: str
    """One of GITHUB_PREFIXES."""
    client_id: str
    minted_at: int
    """Nanoseconds since the epoch, given to one token or one pair only: `revoke` kills all that
    is older."""
    scope: str = ""
    """Separated by spaces."""
    expires_at: float | None = None
    """Unix seconds by the simulator's clock; None = never."""
    host: str = ""
    """Who issued it, `github.com` or a tenant; empty = any of them takes it."""


@dataclass(frozen=True)
class CopilotGrant:
    """What a Copilot token of the simulator says about itself."""

    expires_at: int
    """Unix seconds by the simulator's clock."""
    minted_at: int
    api_host: str = ""
    """The one host of the Copilot API that takes it; empty = any does."""
    tracking_id: str = ""
    """Names the person it was issued to, without telling who that is."""


def _mac(text: str) -> str:
    return hmac.new(_KEY, text.encode(), hashlib.sha256).hexdigest()[:_MAC_LENGTH]


def mint_github_token(grant: GitHubGrant) -> str:
    """Mint what `grant` describes."""
    claims = [
        grant.person.id, grant.person.login, grant.client_id, grant.minted_at,
        secrets.token_hex(4), grant.scope, grant.expires_at, grant.host,
    ]  # fmt: skip
    text = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{grant.kind}{text}{_mac(grant.kind + text)}"


def read_github_token(token: str) -> GitHubGrant | None:
    """Tell whose token it is; None when no simulator minted it."""
    kind = next((each for each in GITHUB_PREFIXES if token.startswith(each)), None)
    if kind is None:
        return None
    rest = token.removeprefix(kind)
    text, mac = rest[:-_MAC_LENGTH], rest[-_MAC_LENGTH:]
    if not hmac.compare_digest(_mac(kind + text).encode(), mac.encode()):
        return None
    user_id, login, client_id, minted_at, _, *more = json.loads(
        urlsafe_b64decode(text + "=" * (-len(text) % 4))
    )
    return GitHubGrant(Person(user_id, login), kind, client_id, minted_at, *more)


def tracking_id(person: Person) -> str:
    """Name a person as their Copilot tokens do: the same in each of them."""
    return _mac(f"tid {person.id}")


def mint_copilot_token(
    expires_at: int, sku: str, minted_at: int, proxy_host: str = "", tid: str = ""
) -> str:
    """Mint a bearer in the form `k=v;k=v;…:mac` of the real ones.

    `proxy_host`: the host for completions, which tells the API's host as well. `tid`: see
    `tracking_id`.
    """
    proxy = f"proxy-ep={proxy_host};" if proxy_host else ""
    text = (
        f"tid={tid or secrets.token_hex(8)};exp={expires_at};iat={minted_at};sku={sku};{proxy}"
        "st=dotcom;chat=1;8kp=1;ip=192.0.2.1;asn=AS64496"
    )
    return f"{text}:{_mac(text)}"


def read_copilot_token(token: str) -> CopilotGrant | None:
    """Tell when it expires; None when no simulator minted it."""
    text, _, mac = token.partition(":")
    if not hmac.compare_digest(_mac(text).encode(), mac.encode()):
        return None
    fields = dict(part.partition("=")[::2] for part in text.split(";"))
    return CopilotGrant(
        int(fields["exp"]),
        int(fields["iat"]),
        api_host(fields.get("proxy-ep", "")),
        fields.get("tid", ""),
    )
