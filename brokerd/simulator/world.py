"""The simulated GitHub's memory: who asked for what, what is to go wrong, what was asked.

Nothing here knows HTTP. Times are this machine's clocks; `clock_offset` moves the clock that the
simulator *tells*, never the one it waits by.
"""

from __future__ import annotations

import secrets
import time
import zlib
from collections import defaultdict, deque
from dataclasses import dataclass, field, fields
from typing import Any

from brokerd.simulator import minting
from brokerd.simulator.minting import Person


__all__ = ["DeviceGrant", "Fault", "RecordedRequest", "Settings", "World"]

# A test or a demo asks a few thousand times; an endless one keeps the newest.
MAX_RECORDED = 20_000
# GitHub's user codes: eight consonants and digits nobody can misread, a hyphen in the middle.
USER_CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ23456789"


@dataclass
class Settings:
    """What a run of the simulator is like; each may be changed while it runs. Times in seconds."""

    auto_approve: bool = False
    """Approve each device code as soon as it is issued."""
    token_lifetime: float = 1800
    refresh_in: float = 1500
    device_interval: float = 5
    device_expires_in: float = 900
    enforce_pacing: bool = True
    """Answer `slow_down` to whoever polls faster than `interval`."""
    clock_offset: float = 0
    """How far GitHub's clock is ahead of ours: moves `Date` and `expires_at`."""
    login: str = "octocat"
    user_id: int = 583231
    sku: str = "monthly_subscriber"
    api_base: str | None = None
    """`endpoints.api` of the exchange; None = this server."""
    exchange_form: str = "full"
    """`full`, `minimal` (three fields) or `odd` (drifted types, unknown fields)."""
    no_access: str | None = None
    """A notification id: refuse each exchange with a 403 ErrorEnvelope that carries it."""
    refused_clients: list[str] = field(default_factory=list)
    """Client ids whose tokens the exchange does not know (404)."""
    known_clients: list[str] | None = None
    """Client ids that may start a device grant; None = any."""
    device_flow_disabled: bool = False
    github_token_expires_in: float | None = None
    """Issue expiring tokens with a refresh token, as GitHub Apps may."""

    def change(self, changes: dict[str, Any]) -> None:
        """Set some; an unknown name raises KeyError and changes nothing."""
        unknown = changes.keys() - {each.name for each in fields(self)}
        if unknown:
            raise KeyError(", ".join(sorted(unknown)))
        for name, value in changes.items():
            setattr(self, name, value)


@dataclass
class DeviceGrant:
    """One device authorization, from the code to the token."""

    device_code: str
    user_code: str
    client_id: str
    scope: str
    expires_at: float
    """time.monotonic()."""
    interval: float
    last_poll_at: float | None = None
    decision: str = "pending"
    """`pending`, `approved`, `denied` or `spent`."""
    person: Person | None = None


@dataclass(frozen=True)
class Fault:
    """One answer to give instead of, or on the way to, the true one."""

    status: int | None = None
    """None = the true answer (after `delay`)."""
    headers: dict[str, str | None] = field(default_factory=dict)
    """None as value takes a header away."""
    body: Any = ""
    """A string goes out as it is, anything else as JSON."""
    delay: float = 0
    reset: bool = False
    """Drop the connection instead of answering."""
    drip: float = 0
    """Seconds between the bytes of the body."""


@dataclass
class RecordedRequest:
    """A request as it may be shown: no body, credentials as fingerprints."""

    method: str
    path: str
    monotonic: float
    """time.monotonic() on arrival."""
    time: float
    """Unix seconds."""
    headers: dict[str, str]
    status: int = 0
    """0 while no answer is on its way."""


class World:
    """All the simulator remembers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.grants: dict[str, DeviceGrant] = {}
        self.requests: deque[RecordedRequest] = deque(maxlen=MAX_RECORDED)
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._revoked_before = 0
        self._spent_refresh_tokens: set[str] = set()

    def reset(self) -> None:
        """Forget grants, faults and requests; settings and tokens stay."""
        self.grants.clear()
        self.requests.clear()
        self._faults.clear()

    def wall(self) -> float:
        """Tell the time by GitHub's clock."""
        return time.time() + self.settings.clock_offset

    # Faults.

    def queue_faults(self, path: str, faults: list[Fault]) -> None:
        """Answer the next requests for `path` with these, in order."""
        self._faults[path].extend(faults)

    def take_fault(self, path: str) -> Fault | None:
        """Give the next fault queued for `path`."""
        queue = self._faults.get(path)
        return queue.popleft() if queue else None

    # The device authorization grant.

    def person(self, login: str | None = None) -> Person:
        """Anybody may sign in; the number follows from the name."""
        if not login or login == self.settings.login:
            return Person(self.settings.user_id, self.settings.login)
        return Person(zlib.crc32(login.encode()), login)

    def start_grant(self, client_id: str, scope: str) -> DeviceGrant:
        """Issue a device code and a user code."""
        letters = "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(8))
        grant = DeviceGrant(
            device_code=secrets.token_hex(20),
            user_code=f"{letters[:4]}-{letters[4:]}",
            client_id=client_id,
            scope=scope,
            expires_at=time.monotonic() + self.settings.device_expires_in,
            interval=self.settings.device_interval,
        )
        self.grants[grant.device_code] = grant
        if self.settings.auto_approve:
            self.decide(grant.user_code, approve=True)
        return grant

    def decide(self, user_code: str | None, *, approve: bool, login: str | None = None) -> bool:
        """Let the person decide; without a code, on the newest grant. False: no such code."""
        wanted = user_code.strip().upper() if user_code else None
        for grant in reversed(self.grants.values()):
            if wanted in (None, grant.user_code) and grant.decision == "pending":
                grant.decision = "approved" if approve else "denied"
                grant.person = self.person(login)
                return True
        return False

    # Tokens.

    def issue_github_token(self, person: Person, client_id: str) -> tuple[str, str]:
        """Mint an access token and the refresh token that belongs to it."""
        kind = "ghu_" if client_id.startswith("Iv") else "gho_"
        now = time.time_ns()
        return (
            minting.mint_github_token(person, kind, client_id, now),
            minting.mint_github_token(person, "ghr_", client_id, now),
        )

    def github_grant(self, token: str, *, refresh: bool = False) -> minting.GitHubGrant | None:
        """Tell whose token it is; None when it is unknown, revoked or of the other kind."""
        grant = minting.read_github_token(token)
        if grant is None or grant.minted_at <= self._revoked_before:
            return None
        return grant if (grant.kind == "ghr_") is refresh else None

    def spend_refresh_token(self, token: str) -> minting.GitHubGrant | None:
        """Use a refresh token, which works once."""
        grant = self.github_grant(token, refresh=True)
        if grant is None or token in self._spent_refresh_tokens:
            return None
        self._spent_refresh_tokens.add(token)
        return grant

    def issue_copilot_token(self) -> tuple[str, int]:
        """Mint a Copilot token; its `expires_at` is Unix seconds by GitHub's clock."""
        expires_at = int(self.wall() + self.settings.token_lifetime)
        return minting.mint_copilot_token(
            expires_at, self.settings.sku, time.time_ns()
        ), expires_at

    def accepts_copilot_token(self, token: str) -> bool:
        """Whether the Copilot API would take it now."""
        grant = minting.read_copilot_token(token)
        if grant is None or grant.minted_at <= self._revoked_before:
            return False
        return self.wall() < grant.expires_at

    def revoke_all(self) -> None:
        """Kill every token minted so far, as the person can on GitHub's settings page."""
        self._revoked_before = time.time_ns()
