"""A broker that answers what the test says, with the real one's face."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from brokerd.core.quota import Quota
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.views import (
    AccountView,
    LeasedToken,
    LoginProgress,
    LoginRequest,
    QuotaAttempt,
    QuotaView,
    WatchState,
)


__all__ = ["CANARY", "FakeBroker", "a_lease", "a_quota", "a_view", "signed_out"]

CANARY = "tid=canary0123456789;exp=1"


def a_lease(**changes) -> LeasedToken:
    lease = LeasedToken(
        token=CANARY,
        token_id="0a1b2c3d",
        expires_at=1_900_000_000,
        expires_in=1500.0,
        api_base="https://api.example.test",
        account="default",
        host="github.com",
        clamped=False,
        completions_base="https://proxy.example.test",
    )
    return replace(lease, **changes)


def a_view(**changes) -> AccountView:
    view = AccountView(
        name="default",
        host="github.com",
        user_id=583231,
        login="octocat",
        client_id="Iv1.0000",
        mode="exchange",
        source="login",
        store="memory",
        default=True,
        state="ready",
        unsaved=False,
        token_id="0a1b2c3d",
        expires_in=1500.0,
        refresh_in=1200.0,
        error=None,
        scopes="user:email",
        sku="monthly_subscriber",
        api_base="https://api.example.test",
    )
    return replace(view, **changes)


def a_quota(**changes) -> QuotaView:
    failure = Failure(
        ErrorClass.USAGE, "no_pat", "no token is kept", "Keep one: copilot-cred quota set-pat"
    )
    view = QuotaView(
        account="default",
        host="github.com",
        login="octocat",
        source="seat",
        kinds=(
            Quota("chat", unlimited=True),
            Quota("premium_interactions", 300.0, 95.33, 204.67, 68.2, resets_at=1_769_904_000),
        ),
        tried=(
            QuotaAttempt("billing", "not_configured", failure),
            QuotaAttempt("seat", "used"),
        ),
        age=12.5,
        plan="individual_pro",
        sku="monthly_subscriber",
    )
    return replace(view, **changes)


def signed_out() -> PermanentError:
    return PermanentError(
        Failure(
            ErrorClass.LOGIN_REQUIRED,
            "login_required",
            "nobody is signed in",
            "copilot-cred login",
        )
    )


class FakeQuotas:
    """Set `view`."""

    def __init__(self, calls: list[tuple]) -> None:
        self.calls = calls
        self.view = a_quota()

    async def get(self, account=None, *, fresh=False, pat=None, tier=None):
        self.calls.append(("quota", account, fresh, pat, tier))
        if isinstance(self.view, Exception):
            raise self.view
        return self.view

    async def set_pat(self, pat, account=None):
        self.calls.append(("set_pat", pat, account))
        return self.view

    async def forget_pat(self, account=None):
        self.calls.append(("forget_pat", account))
        return account or "default", True


class FakeBroker:
    """Set `lease_answer`; clear `may_answer` to keep callers waiting; feed `steps` and `states`."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.lease_answer: LeasedToken | Exception = a_lease()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.waiting = 0
        self.states: asyncio.Queue[WatchState | Exception] = asyncio.Queue()
        self.steps: asyncio.Queue[LoginProgress | Exception | None] = asyncio.Queue()
        self.watch_left = asyncio.Event()
        self.login_left = asyncio.Event()
        self.login_request: LoginRequest | None = None
        self.views = [a_view()]
        self.at_hand: LeasedToken | None = None
        self.on_change_callbacks: list = []
        self.quotas = FakeQuotas(self.calls)
        self.is_locked = False
        self.unlock_answer: bool | Exception = True

    async def lock(self, passphrase=None):
        self.calls.append(("lock", passphrase))
        was_locked, self.is_locked = self.is_locked, True
        return not was_locked

    async def unlock(self, passphrase=None):
        self.calls.append(("unlock", passphrase))
        await self.may_answer.wait()
        if isinstance(self.unlock_answer, Exception):
            raise self.unlock_answer
        self.is_locked = False
        return self.unlock_answer

    async def _answer(self) -> LeasedToken:
        self.waiting += 1
        try:
            await self.may_answer.wait()
        finally:
            self.waiting -= 1
        if isinstance(self.lease_answer, Exception):
            raise self.lease_answer
        return self.lease_answer

    async def lease(self, account=None, *, min_valid=60.0, reject=None, timeout=None):
        self.calls.append(("lease", account, min_valid, reject))
        return await self._answer()

    def leasable(self, account, min_valid):
        """Nothing is at hand unless the test says so: set `at_hand` to a lease."""
        if self.at_hand is None or min_valid > self.at_hand.expires_in:
            return None
        self.calls.append(("leasable", account, min_valid))
        return self.at_hand, self.at_hand.expires_at, self.at_hand.expires_in

    def on_change(self, callback):
        self.on_change_callbacks.append(callback)

    def reject(self, account, token_id):
        self.calls.append(("reject", account, token_id))

    async def refresh(self, account=None):
        self.calls.append(("refresh", account))
        return await self._answer()

    async def watch(self, account=None):
        self.calls.append(("watch", account))
        try:
            while True:
                state = await self.states.get()
                if isinstance(state, Exception):
                    raise state
                yield state
        finally:
            self.watch_left.set()

    async def login(self, request: LoginRequest):
        self.login_request = request
        try:
            while (step := await self.steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.login_left.set()

    async def logout(self, account=None, *, revoke=False):
        """Revoked is what was to be revoked."""
        self.calls.append(("logout", account, revoke))
        return revoke

    async def use(self, account):
        self.calls.append(("use", account))

    def accounts(self):
        return list(self.views)

    def default_account(self):
        return next((view.name for view in self.views if view.default), "")

    def summary(self) -> str:
        return "signed in as octocat"
