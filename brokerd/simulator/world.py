"""The simulated GitHub's memory: who asked for what, what is to go wrong, what was asked.

Nothing here knows HTTP. `clock_offset` moves the clock that the simulator *tells*, never the one
it waits by.
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brokerd.simulator.clock import Clock, MachineClock
from brokerd.simulator.credentials import Credentials
from brokerd.simulator.faults import Fault
from brokerd.simulator.lockout import Lockout
from brokerd.simulator.memory import CopilotMemory
from brokerd.simulator.rates import Rates
from brokerd.simulator.settings import Settings


if TYPE_CHECKING:
    from brokerd.simulator.minting import Person
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
    """By the simulator's monotonic clock."""
    interval: float
    host: str = ""
    """Who was asked: `github.com` or a tenant; empty under no real name."""
    last_poll_at: float | None = None
    decision: str = "pending"
    """`pending`, `approved`, `denied` or `spent`."""
    person: Person | None = None


class World(Credentials):
    """All the simulator remembers."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        super().__init__(settings, clock or MachineClock())
        self.lockout = Lockout(settings, self.clock)
        self.rates = Rates(settings, self.clock)
        self.copilot = CopilotMemory(settings, self.clock)
        self.grants: dict[str, DeviceGrant] = {}
        self.requests: deque[RecordedRequest] = deque(maxlen=MAX_RECORDED)
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)

    def reset(self) -> None:
        """Forget grants, faults, requests, lock-outs and rates; settings and tokens stay."""
        self.grants.clear()
        self.requests.clear()
        self._faults.clear()
        self.lockout.clear()
        self.rates.clear()
        self.copilot.clear()

    # Faults.

    def queue_faults(self, path: str, faults: list[Fault]) -> None:
        """Answer the next requests for `path` with these, in order."""
        self._faults[path].extend(faults)

    def take_fault(self, path: str) -> Fault | None:
        """Give the next fault queued for `path`."""
        queue = self._faults.get(path)
        return queue.popleft() if queue else None

    # The device authorization grant.

    def start_grant(self, client_id: str, scope: str, host: str = "") -> DeviceGrant:
        """Issue a device code and a user code."""
        letters = "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(8))
        grant = DeviceGrant(
            device_code=secrets.token_hex(20),
            user_code=f"{letters[:4]}-{letters[4:]}",
            client_id=client_id,
            scope=scope,
            expires_at=self.clock.monotonic() + self.settings.device_expires_in,
            interval=self.settings.device_interval,
            host=host,
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
