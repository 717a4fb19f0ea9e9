"""A broker with fake edges in virtual time, and what outlives it."""

import asyncio
import contextlib
import random

import pytest

from brokerd.broker import Broker, LoginRequest
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import GitHubToken, IndexEntry, Login, User
from brokerd.errors import BrokerError
from fakes.clock import FakeClock, settle
from fakes.github import FakeGitHub, no_checkpoint
from fakes.store import FakeIndex, FakeStore, FakeStores


REQUEST = LoginRequest(client_id="app")


class World:
    """What outlives a broker, and the broker of the moment."""

    def __init__(self, checkpoint=no_checkpoint, clock=None):
        self.clock = clock or FakeClock()
        self.github = FakeGitHub(self.clock, checkpoint=checkpoint)
        self.store = FakeStore(checkpoint)
        self.stores = FakeStores(self.store)
        self.index = FakeIndex()
        self.settings = {}
        self.given = {}
        """What accounts are given from outside."""
        self.cooldowns = {}
        self.cooldown_reasons = {}
        self.withdrawals = 0
        """How often others were told to forget what they keep of secrets."""
        self.broker = None
        self.task = None

    def keep_login(self, name="default", user=42, value="gho_kept", *, life=None, is_direct=False):
        """`life`: seconds that an expiring GitHub token has left of its eight hours."""
        token = GitHubToken(value, scope="read:user")
        if life is not None:
            token = GitHubToken(value, f"ghr_of_{value}", 28_800.0, self.clock.wall() + life)
        login = Login("github.com", User(user, f"user{user}"), token, "app")
        self.store.items[login.key] = login
        entry = IndexEntry("github.com", user, f"user{user}", "memory", "app", is_direct=is_direct)
        self.index.put(name, entry)
        self.index.default = self.index.default or name
        return login

    async def start(self):
        self.broker = Broker(
            clock=self.clock,
            github=lambda host: self.github,
            stores=self.stores,
            index=self.index,
            settings=lambda name: self.settings.get(name, AccountSettings()),
            cooldown=self._cooldown,
            cooldown_reason=self.cooldown_reasons.get,
            on_withdrawn=self._withdrawn,
            given=lambda: self.given,
            random=random.Random(1),
        )
        self.task = asyncio.create_task(self.broker.run())
        await settle()
        return self.broker

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await settle()

    def _withdrawn(self):
        self.withdrawals += 1

    def _cooldown(self, account):
        left = self.cooldowns.get(account, 0.0) - self.clock.boottime()
        return left if left > 0 else None

    def cool_down(self, account, seconds):
        """What the pacing gate does: note it, and have it announced."""
        self.cooldowns[account] = self.clock.boottime() + seconds
        self.broker.announce()

    def view(self):
        return self.broker.accounts()[0]

    def kept_tokens(self):
        """The GitHub tokens that the store holds."""
        return [login.token.value for login in self.store.items.values()]


async def ask(coroutine):
    """Start a call and let it come as far as it can without time passing."""
    task = asyncio.create_task(coroutine)
    await settle()
    return task


async def failure_of(awaitable):
    with pytest.raises(BrokerError) as caught:
        await awaitable
    return caught.value.failure


async def collect(iterator):
    return [item async for item in iterator]


async def cancel(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await settle()


class Killer:
    """Stops the world for good at the n-th place where somebody awaits."""

    def __init__(self, nth):
        self.left = nth
        self.at = None
        self.dead = asyncio.Event()

    async def __call__(self, name):
        self.left -= 1
        if self.left == 0:
            self.at = name
            self.dead.set()
        if self.left <= 0:
            await asyncio.Event().wait()
