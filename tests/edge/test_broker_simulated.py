"""The broker, its real way to GitHub, its real store and index, and a simulated GitHub over HTTP.

Time is virtual on both sides; only the answers take as long as they take.
"""

import asyncio
import contextlib
import random

import pytest

from brokerd.broker import Broker, LoginRequest, LoginSucceeded
from brokerd.core.settings import AccountSettings
from brokerd.errors import BrokerError, ErrorClass
from brokerd.host.logs.learning import LearningGitHub
from brokerd.stores.file import FileStore
from brokerd.stores.index import AccountIndex
from brokerd.stores.ladder import LoginStores
from brokerd.stores.memory import MemoryStore
from fakes.broker_world import failure_of
from fakes.clock import FakeClock, settle
from fakes.simulated import CLIENT_ID, EXCHANGE, simulated


RENEWAL = "/login/oauth/access_token"
LIFE = 3600.0
PATIENCE = 20.0
REQUEST = LoginRequest(client_id=CLIENT_ID)


class Household:
    """One machine, of which daemons come and go."""

    def __init__(self, folder, edge, clock):
        self.folder, self.edge, self.clock = folder, edge, clock
        self.task = None

    async def start(self):
        self.store = FileStore(self.folder / "logins")
        self.broker = Broker(
            clock=self.clock,
            github=lambda host: LearningGitHub(self.edge.github),
            stores=LoginStores(
                file=self.store, memory=MemoryStore(), secret_service=None, default="file"
            ),
            index=AccountIndex(self.folder / "accounts.json"),
            settings=lambda name: AccountSettings(),
            random=random.Random(1),
        )
        self.bell = asyncio.Event()
        self.broker.on_change(self.bell.set)
        self.task = asyncio.create_task(self.broker.run())
        await asyncio.wait_for(self.broker.started.wait(), PATIENCE)
        return self.broker

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.bell.clear()
                await self.bell.wait()

    async def login(self, request=REQUEST):
        async with contextlib.aclosing(self.broker.login(request)) as steps:
            async with asyncio.timeout(PATIENCE):
                later = asyncio.ensure_future(anext(steps))
                while True:
                    await asyncio.wait({later}, timeout=0.02)
                    if later.done():
                        step = later.result()
                        if isinstance(step, LoginSucceeded):
                            return step.account
                        later = asyncio.ensure_future(anext(steps))
                    else:
                        await self.clock.advance(1.0)

    async def pass_time(self, seconds):
        """As the machine does: whatever falls due is answered before more time passes."""
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 0:
            await self.clock.advance(min(left, self.clock.due_in), rounds=8)
            await self.until(lambda: not self.asks())

    def asks(self):
        return any(runner.machine.question for runner in self.broker._roster.runners())

    def answers(self, path):
        return [each.status for each in self.edge.simulator.world.requests if each.path == path]

    async def kept(self):
        [key] = await self.store.keys()
        return (await self.store.load(key)).token


@pytest.fixture
async def clock():
    return FakeClock()


@pytest.fixture
async def home(tmp_path, clock):
    settings = {"auto_approve": True, "github_token_expires_in": LIFE}
    async with simulated(clock=clock, **settings) as edge:
        home = Household(tmp_path, edge, clock)
        await home.start()
        yield home
        await home.stop()


async def test_a_day_of_renewals_and_no_refusal(home):
    await home.login()
    seen = {(await home.kept()).value}
    for _ in range(24):
        await home.pass_time(LIFE)
        seen.add((await home.kept()).value)
        assert (await home.broker.lease(None)).token
    # At every third refresh (4500 s): none before that leaves less than is needed.
    assert len(home.answers(RENEWAL)) - 1 == len(seen) - 1 == 86_400 // 4500
    assert set(home.answers(EXCHANGE)) == {200}
    assert set(home.answers(RENEWAL)) == {200}


async def test_killed_before_the_new_pair_was_saved_a_new_login_is_asked_for_and_nothing_erased(
    home,
):
    await home.login()
    old = await home.kept()
    await home.stop()
    await home.edge.github.renew(CLIENT_ID, old)  # the answer died with us
    asked = len(home.answers(EXCHANGE)) + len(home.answers(RENEWAL))
    await home.start()
    failures = await asyncio.gather(
        *(failure_of(home.broker.lease(None, timeout=PATIENCE)) for _ in range(200))
    )
    assert {f.error_class for f in failures} == {ErrorClass.LOGIN_REQUIRED}
    assert await home.kept() == old
    now = len(home.answers(EXCHANGE)) + len(home.answers(RENEWAL))
    assert now - asked == 2, "one exchange, one renewal"
    assert (await home.login()).state == "ready"
    assert (await home.kept()).value != old.value


async def test_revoked_is_dead_at_github_and_gone_here(home):
    await home.login()
    token = await home.kept()
    assert await home.broker.logout(None, revoke=True) is True
    assert await home.store.keys() == []
    with pytest.raises(BrokerError) as caught:
        await home.edge.github.exchange(token)
    assert caught.value.failure.error_class is ErrorClass.LOGIN_REQUIRED


async def test_a_revocation_that_github_does_not_take_leaves_the_login(home):
    await home.login()
    home.edge.fault("/credentials/revoke", 500)
    failure = await failure_of(home.broker.logout(None, revoke=True))
    assert "not revoked" in failure.message
    assert (await home.broker.lease(None)).token
    assert await home.kept()


async def test_an_app_that_may_not_exchange_is_used_directly_and_remembered(home):
    home.edge.simulator.world.settings.refused_clients = [CLIENT_ID]
    assert (await home.login()).mode == "direct"
    lease = await home.broker.lease(None)
    assert lease.is_direct
    await home.stop()
    await home.start()
    assert (await home.broker.lease(None)).is_direct
    assert home.answers(EXCHANGE) == [404]


@pytest.mark.parametrize("mode", ["exchange", "direct"])
async def test_bad_credentials_end_after_one_request_and_lock_nobody_out(home, mode):
    world = home.edge.simulator.world
    world.settings.github_token_expires_in = None
    if mode == "direct":
        world.settings.refused_clients = [CLIENT_ID]
    await home.login()
    token = await home.kept()
    await home.stop()
    world.revoke_all()
    before = len(world.requests)
    await home.start()
    await settle()
    calls = [home.broker.lease(None, timeout=PATIENCE) for _ in range(200)]
    failures = await asyncio.gather(*map(failure_of, calls))
    assert {f.code for f in failures} == {"bad_credentials"}
    await home.pass_time(7200.0)
    home.broker.poke()
    assert (await failure_of(home.broker.refresh(None))).code == "bad_credentials"
    assert len(world.requests) - before == 1
    kept = await home.kept()
    assert kept.value == token.value
