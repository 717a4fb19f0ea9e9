"""The proxy between a lender and a Copilot that answer from scripts, asked in each of its ways."""

import asyncio
import logging

import pytest

from brokerd.core.completions import CompletionRequest
from brokerd.errors import BrokerError
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from fakes.broker import a_lease, a_view
from fakes.clock import FakeClock
from fakes.copilot import FakeCopilot, FakeReply


__all__ = [
    "AUTHORIZE",
    "BODY",
    "EXPIRED",
    "FIRST",
    "LOG",
    "SECOND",
    "WAY",
    "Asked",
    "FakeLender",
    "Taker",
    "Ticker",
    "each_way",
    "failure_of",
    "fields",
    "proxy_of",
    "refused",
    "request",
]

BODY = b'{"messages": [{"role": "user", "content": "canary-prompt \xe2\x82\xac"}],  "n":1}'
EXPIRED = b"unauthorized: token expired\n"
AUTHORIZE = b'{"error": {"authorize_url": "https://example.com/authorize"}}\n'
FIRST = a_lease(token="canary-token-1", token_id="00000001", api_base="https://one.example.test")
SECOND = a_lease(token="canary-token-2", token_id="00000002", api_base="https://two.example.test")


LOG = logging.getLogger("brokerd.proxy")


class WAY:
    """How completions are asked for in this test."""

    now = "open"


@pytest.fixture(autouse=True, params=["open", "begin", "at once"])
def each_way(request):
    """`open`, `begin` where it has to wait for something, and `begin` where it has not."""
    WAY.now = request.param
    level = LOG.level
    LOG.setLevel(logging.INFO)  # who debugs is answered by `open` in any case
    yield
    LOG.setLevel(level)
    WAY.now = "open"


class Asked(Proxy):
    """The proxy, asked in the way of the test."""

    async def open(self, request, *more):
        if WAY.now == "open" or asyncio.current_task() in self._tasks:  # its own long way
            return await super().open(request, *more)
        told = asyncio.get_running_loop().create_future()

        def listener(outcome):
            assert not told.done(), "told twice"
            told.set_result(outcome)

        begun = self.begin(request, listener)
        assert not told.done(), "told too early"
        try:
            outcome = await asyncio.shield(told)
        except asyncio.CancelledError:
            begun.close()
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class FakeLender:
    """Lends `leases` in turn, the last one for ever; raises those that are errors."""

    def __init__(self, *leases):
        self.leases = list(leases or (FIRST, SECOND))
        self.calls = []
        self.rejected = []
        self.gate = None
        self.views = [a_view(), a_view(name="work", user_id=7, default=False)]

    async def lease(self, account=None, *, min_valid=60.0, reject=None):
        self.calls.append((account, min_valid, reject))
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        answer = self.leases.pop(0) if len(self.leases) > 1 else self.leases[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leasable(self, account, min_valid):
        if WAY.now != "at once" or self.gate is not None or isinstance(self.leases[0], Exception):
            return None
        self.calls.append((account, min_valid, None))
        lease = self.leases.pop(0) if len(self.leases) > 1 else self.leases[0]
        return lease, lease.expires_at, lease.expires_in

    def reject(self, account, token_id):
        self.rejected.append((account, token_id))

    def accounts(self):
        return self.views

    def on_change(self, callback):
        self.changed = callback


class Taker:
    """ports.Receiver that notes everything, and acts on the first chunk if told to."""

    def __init__(self, on_data=None):
        self.chunks = []
        self.ends = []
        self.on_data = on_data

    def data(self, chunk):
        assert not self.ends
        self.chunks.append(chunk)
        if self.on_data is not None:
            self.on_data()

    def ended(self, failure):
        self.ends.append(failure)


class Ticker:
    now = 1000.0

    def __call__(self):
        return self.now


def request(body=BODY, **more):
    return CompletionRequest(body=body, **more)


def refused(status, body=EXPIRED, **headers):
    return FakeReply(status, {"content-type": "text/plain", **headers}, [body])


def proxy_of(*answers, lender=None, ticker=None, clock=None):
    lender, copilot = lender or FakeLender(), FakeCopilot(*answers)
    copilot.has_connection = WAY.now == "at once"
    pacer = Pacer(clock or FakeClock())
    proxy = Asked(
        lender, lambda: copilot, pacer, monotonic=ticker or Ticker(), wall=lambda: 1_780_000_000.0
    )
    return proxy, copilot, lender


async def failure_of(awaitable):
    with pytest.raises(BrokerError) as caught:
        await awaitable
    return caught.value.failure


def fields(caplog, message):
    return [record.__dict__ for record in caplog.records if record.getMessage() == message]
