"""A GitHub that answers from a script, counts what it is asked and notes when."""

import asyncio
import itertools

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
        self.polls = []
        self.faults = {"request_device_code": [], "identify": [], "exchange": []}
        self.calls = []
        self.revoked = set()
        self.gate = None
        """An asyncio.Event that every exchange waits for, when set."""
        self.checkpoint = checkpoint
        self._number = itertools.count(1)

    def times(self, method):
        return [at for name, at in self.calls if name == method]

    def count(self, method):
        return len(self.times(method))

    async def _called(self, method):
        self.calls.append((method, self.clock.boottime()))
        await self.checkpoint(f"{method} asked")
        await asyncio.sleep(0)
        queue = self.faults.get(method, [])
        fault = queue.pop(0) if queue else None
        if fault is not None:
            raise fault

    async def request_device_code(self, client_id, scope):
        await self._called("request_device_code")
        await self.checkpoint("device code issued")
        return DeviceCode("canary-device-code", "WDJB-MJHT", "https://github.com/login/device",
                          self.expires_in, self.interval)  # fmt: skip

    async def poll_device_grant(self, client_id, code):
        await self._called("poll_device_grant")
        answer = self.polls.pop(0) if self.polls else GitHubToken(f"gho_{next(self._number)}")
        await self.checkpoint("poll answered")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def identify(self, token):
        await self._called("identify")
        await self.checkpoint("user identified")
        return self.user

    async def exchange(self, token):
        await self._called("exchange")
        if self.gate is not None:
            await self.gate.wait()
        if token.value in self.revoked:
            raise bad_credentials()
        await self.checkpoint("token exchanged")
        value = f"tid=canary;n={next(self._number)}:mac"
        return CopilotToken(value, self.lifetime, self.refresh_in, "https://api.example.com")
