"""The simulated GitHub's memory: who asked for what, what is to go wrong, what was asked.

Nothing here knows HTTP. Times are this machine's clocks; `clock_offset` moves the clock that the
simulator *tells*, never the one it waits by.
"""

from __future__ import annotations

import secrets
import time
import zlib
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brokerd.simulator import minting
from brokerd.simulator.faults import Fault
from brokerd.simulator.minting import Person
from brokerd.simulator.settings import Settings


if TYPE_CHECKING:
    from brokerd.simulator.records import RecordedRequest


__all__ = ["DeviceGrant", "Fault", "Settings", "World"]

# A test or a demo asks a few thousand times; an endless one keeps the newest.
MAX_RECORDED = 20_000
# GitHub's user codes: eight consonants and digits nobody can misread, a hyphen in the middle.
USER_CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ23456789"


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
