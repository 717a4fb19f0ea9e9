"""Proxy and pacing gate against a simulated Copilot that watches manners, by one clock for both."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from brokerd.core.completions import CompletionRequest
from brokerd.errors import TransientError
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from brokerd.simulator.world import Fault
from fakes.broker import a_lease
from fakes.clock import FakeClock
from fakes.proxied import FakeLender
from fakes.simulated import simulated
from fakes.simulated_chat import CHAT, SECONDS, until


class House:
    """What a test has in hand."""

    def __init__(self, simulator, clock, pacer, proxy):
        self.world, self.clock, self.pacer = simulator.world, clock, pacer
        self._proxy = proxy

    async def ask(self, model="sim-chat", peer=1):
        """Ask for a completion and read it: its status."""
        said = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        request = CompletionRequest(json.dumps(said).encode(), peer=peer)
        async with asyncio.timeout(SECONDS):
            answer = await self._proxy.open(request)
            try:
                await answer.read(1_000_000)
            finally:
                answer.close()
        return answer.status

    async def refused(self, **more):
        with pytest.raises(TransientError) as caught:
            await self.ask(**more)
        return caught.value.failure

    def fault(self, status, **headers):
        fault = Fault(status, {name.replace("_", "-"): value for name, value in headers.items()})
        self.world.queue_faults(CHAT, [fault])

    @property
    def seen(self):
        return [each for each in self.world.requests if each.path == CHAT]


@contextlib.asynccontextmanager
async def house(**settings):
    clock = FakeClock()
    async with simulated(clock=clock, **settings) as sim:
        token, _ = sim.simulator.world.issue_copilot_token()
        lease = a_lease(token=token, api_base=sim.simulator.url)
        pacer = Pacer(clock)
        try:
            yield House(
                sim.simulator, clock, pacer, Proxy(FakeLender(lease), lambda: sim.copilot, pacer)
            )
        finally:
            pacer.close()


async def test_nothing_goes_up_before_retry_after():
    async with house() as at:
        at.fault(429, retry_after="60")
        assert await at.ask() == 429
        assert (await at.refused()).code == "cooling_down"
        await at.clock.advance(59)
        assert (await at.refused(model="sim-claude")).retry_after == 1.0
        await at.clock.advance(1)
        assert await at.ask() == 200
        assert [(each.status, each.early) for each in at.seen] == [(429, False), (200, False)]


async def test_another_model_is_asked_meanwhile():
    async with house() as at:
        at.fault(503, retry_after="60")  # the model's provider
        assert await at.ask() == 503
        assert "'sim-chat'" in (await at.refused()).message
        assert await at.ask("sim-claude") == 200
        assert not any(each.early for each in at.seen)


async def test_what_is_under_way_is_never_cut_and_lifts_nothing():
    async with house(chat_head_delay=SECONDS) as at:
        slow = asyncio.create_task(at.ask())
        await until(lambda: sum(at.world.copilot.in_flight.values()) == 1)
        at.world.settings.chat_head_delay = 0
        at.fault(429, retry_after="60")
        assert await at.ask() == 429
        assert at.pacer.view("default").in_flight == 1
        assert not slow.done()
        assert (await at.refused()).code == "cooling_down"
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert at.pacer.view("default").in_flight == 0


async def test_a_failing_upstream_gets_one_request_to_try():
    async with house() as at:
        for _ in range(11):
            at.fault(500)
        for _ in range(10):
            assert await at.ask() == 500
        assert (await at.refused()).code == "upstream_down"
        await at.clock.advance(5)
        assert await at.ask() == 500
        assert (await at.refused()).retry_after == 10.0
        await at.clock.advance(10)
        assert await at.ask() == 200
        assert await at.ask() == 200
        assert len(at.seen) == 13


async def test_a_rate_is_found_and_kept_to():
    async with house(requests_per_minute=5) as at:
        for _ in range(5):
            assert await at.ask() == 200
            await at.clock.advance(2)
        assert await at.ask() == 429
        for _ in range(5):
            assert (await at.refused()).retry_after == 50.0
        await at.clock.advance(50)
        assert await at.ask() == 200
        assert not any(each.early for each in at.seen)
        assert len(at.seen) == 7


async def test_who_is_one_too_many_takes_turns():
    async with house(max_concurrent=2, chat_head_delay=SECONDS) as at:
        slow = [asyncio.create_task(at.ask()) for _ in range(2)]
        await until(lambda: sum(at.world.copilot.in_flight.values()) == 2)
        at.world.settings.chat_head_delay = 0
        assert await at.ask() == 429
        assert at.pacer.view("default").limit == 1
        await at.clock.advance(1)
        turn = asyncio.create_task(at.ask(peer=2))
        await until(lambda: at.pacer.view("default").queued == 1)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        # Upstream may not have noticed yet that it has room again; then it says so once more.
        assert await turn in (200, 429)
        await until(lambda: not sum(at.world.copilot.in_flight.values()))
        await at.clock.advance(1)
        assert await at.ask() == 200
        assert not any(each.early for each in at.seen)
