"""A GitHub that answers from a script, counts what it is asked and notes when."""

import asyncio
import itertools

from brokerd.core.quota import Report
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError


def transient(code="network_down", retry_after=None, error_class=ErrorClass.TEMPORARY):
    return TransientError(
        Failure(error_class, code, "it does not work now", "", None, retry_after)
    )


def permanent(code="no_copilot_access", error_class=ErrorClass.DENIED):
    return PermanentError(Failure(error_class, code, "it never works", "Run copilot-cred login"))


def bad_credentials():
    return permanent("bad_credentials", ErrorClass.LOGIN_REQUIRED)


def bad_refresh_token():
    return permanent("bad_refresh_token", ErrorClass.LOGIN_REQUIRED)


def exchange_not_found():
    return permanent("exchange_not_found", ErrorClass.DENIED)


async def no_checkpoint(name):
    """Where a test may stop the world."""


class FakeGitHub:
    """ports.GitHub. `polls`, `faults[method]` are consumed first; then all goes well."""

    def __init__(self, clock, *, lifetime=1800.0, refresh_in=1500.0, checkpoint=no_checkpoint):
        self.clock = clock
        self.lifetime = lifetime
        self.refresh_in = refresh_in
        self.expires_in = 900.0
        self.interval = 5.0
        self.user = User(42, "octocat")
        self.login_life = None
        """Seconds that granted GitHub tokens live, with a refresh token each; None: for ever."""
        self.sku = "monthly_subscriber"
        self.polls = []
        self.faults = {}
        """Method → what it raises, call by call; None: that one goes well."""
        self.calls = []
        self.plans = []
        self.revoked = set()
        """GitHub tokens, and refresh tokens, that are dead."""
        self.unexchangeable = set()
        """GitHub tokens that the exchange does not know; True as a member: none is known."""
        self.gates = {}
        """Method → an asyncio.Event that its calls wait for after they were asked."""
        self.seat_told = Report()
        self.bill_told = Report()
        self.billed = []
        """What each question about the bill was asked with: token, user name, time."""
        self.checkpoint = checkpoint
        self._number = itertools.count(1)

    @property
    def gate(self):
        """That of the exchange."""
        return self.gates.get("exchange")

    @gate.setter
    def gate(self, event):
        self.gates["exchange"] = event

    def times(self, method):
        return [at for name, at in self.calls if name == method]

    def count(self, method):
        return len(self.times(method))

    def granted(self):
        """A new login's token."""
        number = next(self._number)
        if self.login_life is None:
            return GitHubToken(f"gho_{number}", scope="read:user")
        return GitHubToken(f"ghu_{number}", f"ghr_{number}", self.login_life)

    async def _called(self, method):
        self.calls.append((method, self.clock.boottime()))
        await self.checkpoint(f"{method} asked")
        await asyncio.sleep(0)
        queue = self.faults.get(method, [])
        fault = queue.pop(0) if queue else None
        if fault is not None:
            raise fault
        if (gate := self.gates.get(method)) is not None:
            await gate.wait()

    def _check(self, token):
        if token.value in self.revoked:
            raise bad_credentials()

    async def request_device_code(self, client_id, scope):
        await self._called("request_device_code")
        await self.checkpoint("device code issued")
        return DeviceCode("canary-device-code", "WDJB-MJHT", "https://github.com/login/device",
                          self.expires_in, self.interval)  # fmt: skip

    async def poll_device_grant(self, client_id, code):
        await self._called("poll_device_grant")
        answer = self.polls.pop(0) if self.polls else self.granted()
        await self.checkpoint("poll answered")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def identify(self, token):
        await self._called("identify")
        self._check(token)
        await self.checkpoint("user identified")
        return self.user

    async def renew(self, client_id, token):
        await self._called("renew")
        if token.refresh_token is None or token.refresh_token in self.revoked:
            raise bad_refresh_token()
        self.revoked |= {token.value, token.refresh_token}
        number = next(self._number)
        await self.checkpoint("login renewed")
        return GitHubToken(f"ghu_{number}", f"ghr_{number}", self.login_life or 28_800.0)

    async def exchange(self, token, plan="auto"):
        await self._called("exchange")
        self.plans.append(plan)
        self._check(token)
        if self.unexchangeable & {token.value, True}:
            raise exchange_not_found()
        await self.checkpoint("token exchanged")
        value = f"tid=canary;n={next(self._number)}:mac"
        return CopilotToken(value, self.lifetime, self.refresh_in, "https://api.example.com",
                            self.sku, "https://proxy.example.com")  # fmt: skip

    async def direct(self, token, plan="auto"):
        await self._called("direct")
        self.plans.append(plan)
        self._check(token)
        await self.checkpoint("direct use prepared")
        return CopilotToken(token.value, 86_400.0, 43_200.0, "https://api.example.com",
                            is_direct=True)  # fmt: skip

    async def seat(self, token):
        await self._called("seat")
        self._check(token)
        await self.checkpoint("seat told")
        return self.seat_told

    async def billing(self, pat, login, now):
        await self._called("billing")
        self.billed.append((pat.value, login, now))
        await self.checkpoint("bill told")
        return self.bill_told

    async def revoke(self, token):
        await self._called("revoke")
        self.revoked |= {token.value, token.refresh_token} - {None}
        await self.checkpoint("login revoked")
