"""A day of the whole broker against a simulated GitHub over real HTTP, in virtual time.

Broker, proxy, pacer and the edge to upstream are the real ones; what goes between them and
GitHub is counted on its way, so that it is known when all is still and time may pass.
"""

import asyncio
import contextlib
import random
import socket
from collections import Counter, deque

from aiohttp import web

from brokerd.broker import Broker
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import GitHubToken, IndexEntry, Login, User
from brokerd.errors import BrokerError, ErrorClass
from brokerd.gate import Gate
from brokerd.host.peers.peercred import peer_of
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from brokerd.rpc.server import RpcServer
from brokerd.simulator import Simulator
from brokerd.upstream import (
    Copilot,
    HttpClient,
    HttpGitHub,
    OriginAllowList,
    UpstreamSettings,
    urls_for,
)
from brokerd.views import LoginRequest
from copilot_broker import AsyncClient
from fakes.day_clock import DayClock, TrueClock, stillness
from fakes.day_edges import CountedCopilot, Listening
from fakes.simulated import EXCHANGE
from fakes.store import FakeIndex, FakeStores
from fakes.trouble import COMPLETION, Trouble


__all__ = ["ACCOUNTS", "ASK_MAX", "Day"]

ACCOUNTS = {"default": "octocat", "work": "hubot"}
CLIENT_ID = "Iv1.b507a08c87ecfe98"

LEASE_MAX = 5.0
"""Seconds in which a token or a clear error is there."""
ASK_MAX = 45.0
"""Seconds until a completion that GitHub answers at once is there or refused: 4 for the token
before the queue, 30 in it, 4 for one after it, 4 for another one instead."""
DUE_AGE = 1500 * 0.95
"""Seconds; a token of 1500 `refresh_in` is renewed no sooner (`refresh.REFRESH_JITTER`)."""
MOMENT = 2.0
"""Seconds by which times may differ that are told in whole ones."""
BUSY = 10_000
"""Things that may happen at one moment; each client wakes up once or twice."""
STORY = 60
"""Last events that are told of a day that went wrong."""


class Day:
    """`async with Day(seed, monkeypatch, folder) as day`; then clients, a script, `pass_time`."""

    def __init__(self, seed, monkeypatch, folder):
        self.seed = seed
        self.socket = folder / "broker.sock"
        self.clock = DayClock()
        self.counts = Counter()
        self.under_way = 0
        """Requests to upstream whose answer, or its body, is waited for."""
        self.issued = {name: [] for name in ACCOUNTS}
        """Account → when each token it got was asked for."""
        self._exchanging = {name: set() for name in ACCOUNTS}
        self._rejected = dict.fromkeys(ACCOUNTS, 0)
        self._rejected_at = float("-inf")
        self._accounts = {}
        self._clients = set()
        self._error = None
        self._story = deque(maxlen=STORY)
        self._began_at = self.clock.boottime()
        self._monkeypatch = monkeypatch
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        async with contextlib.AsyncExitStack() as stack:
            self._simulator = await stack.enter_async_context(
                Simulator(clock=TrueClock(self.clock), chat_chunks=3)
            )
            self.world = self._simulator.world
            self.trouble = Trouble(self, random.Random(self.seed + 1))
            self.trouble.install(self._monkeypatch)
            self.bases = [self._simulator.url, await self._second_address()]
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind, error, traceback):
        if error is not None:
            print(f"\nseed {self.seed}: {error}\nthe last events:")  # noqa: T201 - for pytest
            print("\n".join(self._story))  # noqa: T201
        await self._stack.aclose()

    async def _second_address(self):
        """Where the same Copilot lives for another plan."""
        runner = self._simulator._runner
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[-1][1]}"

    async def _start(self, stack):
        one, other = self.bases
        settings = UpstreamSettings(login=one, api=one, copilot=one, completions=other)
        http = HttpClient(settings)
        permitted = OriginAllowList("github.com", settings)
        self._github = HttpGitHub(urls_for("github.com", settings), http=http, permitted=permitted)
        copilot, own = Copilot(settings, http=http), Copilot(settings)
        for each in (copilot, own):
            each._pool._clock = self.clock.boottime
            stack.push_async_callback(each.aclose, patience=0)
        self.copilot = CountedCopilot(self, copilot)
        self.own_copilot = CountedCopilot(self, own)
        """What a client uses that was lent a token: not the broker's."""
        stores, index = FakeStores(), FakeIndex()
        for name, login in ACCOUNTS.items():
            person = self.world.person(login)
            token = self.world.issue_github_token(person, CLIENT_ID)[0]
            kept = Login("github.com", User(person.id, login), GitHubToken(token), CLIENT_ID)
            stores.store.items[kept.key] = kept
            index.put(name, IndexEntry("github.com", person.id, login, "memory", CLIENT_ID))
            index.default = index.default or name
            self._accounts[token] = name
            self.trouble.knows(name, token)
        self.pacer = Pacer(self.clock)
        self.broker = Broker(
            clock=self.clock,
            github=lambda _host: self,
            stores=stores,
            index=index,
            settings=lambda _name: AccountSettings(),
            cooldown=self.pacer.cooldown,
            random=random.Random(self.seed + 2),
        )
        self.pacer.on_change(self.broker.announce)
        self.proxy = Proxy(
            self.broker,
            lambda: self.copilot,
            self.pacer,
            monotonic=self.clock.boottime,
            wall=self.clock.wall,
        )
        stack.enter_context(Listening(self))
        running = asyncio.create_task(self.broker.run())
        stack.push_async_callback(_end, running)
        stack.callback(self.pacer.close)
        await self._open_door(stack)
        stack.push_async_callback(self.dismiss)
        await self.still()

    async def _open_door(self, stack):
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self.socket))
        listener.listen(128)
        door = RpcServer(
            self.broker,
            Gate(),
            peer_of,
            proxy=self.proxy,
            version="1",
            headers_for_client=dict,
            login_request=lambda _params: LoginRequest(CLIENT_ID),
        )
        await door.serve(listener)
        stack.push_async_callback(door.drain, 0)

    def tool(self):
        """Make a client of the library; whoever has it closes it."""
        return AsyncClient(self.socket)

    # Time.

    async def still(self):
        """Wait until nothing moves any more but by time."""
        await stillness(lambda: self.under_way != self.trouble.held)
        if self._error is not None:
            raise self._error

    async def pass_time(self, seconds):
        """Let so much true time pass, suspends included, with all that happens in it."""
        end = self.clock.boottime() + seconds
        await self.still()
        at, happened = self.clock.boottime(), 0
        while self.clock.pass_to_next(end):
            await self.still()
            before, at = at, self.clock.boottime()
            happened = happened + 1 if at == before else 0
            if happened > BUSY:
                self.fail("somebody naps for no time, again and again")

    def suspend(self, seconds):
        """Close the lid; when it opens, somebody wants a token at once of each account."""
        self.counts["suspends"] += 1
        self.counts["exchanges cut by a suspend"] += any(map(self._open_ones, ACCOUNTS))
        self.tell(f"suspend for {seconds:.0f} s")
        self.clock.suspend(seconds)
        for account in ACCOUNTS:
            self.client(self.lease(f"resume of {account}", account))

    def jump_wall(self, seconds):
        self.counts["wall jumps"] += 1
        self.tell(f"the wall clock jumps by {seconds:.0f} s")
        for account in ACCOUNTS:
            self.broker.leasable(account, 0.0)  # which it then has at hand
        self.clock.jump_wall(seconds)
        for account in ACCOUNTS:
            self.client(self.lease(f"jump of {account}", account))

    def change_plan(self):
        """Have Copilot live at the other address from now on (421 at the old one)."""
        self.bases.reverse()
        now = self.clock.boottime()
        self.tell("the plan changes")
        self.trouble.note(COMPLETION, now, now)
        host = self.bases[0].removeprefix("http://")
        self.world.settings.change({"api_base": self.bases[0], "copilot_host": host})

    # Who asks.

    def client(self, coroutine):
        """Let a client live; what it raises ends the day."""
        task = asyncio.create_task(coroutine)
        self._clients.add(task)
        task.add_done_callback(self._client_ended)
        return task

    def _client_ended(self, task):
        self._clients.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()

    async def dismiss(self):
        """Send all clients home."""
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def lease(self, who, account, lend=None, **more):
        """Take a token; None when there is none for now, which has to be for a reason."""
        question = (lend or self.broker.lease)(account=account, **more)
        lease = await self.asked(who, question, LEASE_MAX, EXCHANGE, name="lease")
        if lease is not None:
            self._check_told(who, lease)
        return lease

    def _check_told(self, who, lease):
        """Compare what is told by the wall clock with what is meant, which is no wall clock's."""
        wall, cooldown = self.clock.wall(), self.pacer.cooldown(lease.account)
        if abs(lease.expires_at - (wall + lease.expires_in)) > MOMENT:
            self.fail(f"{who} is told a wrong expires_at")
        until = lease.cooldown_until
        if cooldown is not None and (until is None or abs(until - (wall + cooldown)) > MOMENT):
            self.fail(f"{who} is told a wrong cooldown_until")

    async def asked(self, who, question, longest, *paths, name):
        """Ask and judge the outcome: None for an error that is in order."""
        began, began_mono = self.clock.boottime(), self.clock.monotonic()
        self.counts[name] += 1
        failure = answer = None
        try:
            answer = await question
        except BrokerError as error:
            failure = error.failure
        else:
            status = getattr(answer, "status", 200)
            if status == 401:
                self.fail(f"{who} gets a 401")
            if status >= 400:
                failure = answer.refusal
        is_well = self.trouble.was_well(began, self.clock.boottime(), *paths)
        self.counts[f"{name} while all is well"] += is_well
        if failure is not None:
            self.counts[f"{name} refused"] += 1
            self.tell(f"{who}: {failure.code}: {failure.message}")
            if not failure.hint or failure.error_class is ErrorClass.INTERNAL:
                self.fail(f"{who} gets no clear error: {failure}")
            if is_well:
                self.fail(f"{who} is refused although all is well: {failure}")
        took = self.clock.monotonic() - began_mono
        if took > longest and who not in self.trouble.held_names:
            self.fail(f"{who} has waited for {took:.0f} s")
        return answer

    # GitHub as the broker sees it: `ports.GitHub`, of which a kept login needs one method.

    async def exchange(self, token, plan="auto"):
        account, now = self._accounts[token.value], self.clock.boottime()
        if self._open_ones(account):
            self.fail(f"two exchanges of {account} at once")
        task = asyncio.current_task()
        self._exchanging[account].add(task)
        self.under_way += 1
        self.counts["exchange requests"] += 1
        try:
            minted = await self._github.exchange(token, plan)
        except BrokerError as error:
            self.counts["exchanges failed"] += 1
            self.tell(f"exchange of {account}: {error.failure.code}")
            raise
        finally:
            self.under_way -= 1
            self._exchanging[account].discard(task)
        self._check_need(account, now)
        return minted

    def _open_ones(self, account):
        return [task for task in self._exchanging[account] if not task.cancelling()]

    def _check_need(self, account, now):
        """Fail when the token before this one was neither due nor rejected."""
        self.counts["exchanges"] += 1
        issued, rejected = self.issued[account], self._rejected[account]
        self.tell(f"{account} has a new token")
        if issued and not rejected:
            age = now - issued[-1]
            self.counts["expiries"] += 1
            if age < DUE_AGE:
                self.fail(f"{account} exchanges a good token after {age:.0f} s")
        self._rejected[account] = 0
        issued.append(now)

    def rejected(self, account):
        """Know that a token was dropped, by its log record."""
        self.counts["rejected"] += 1
        self._rejected[account] += 1
        self._rejected_at = self.clock.boottime()
        self.tell(f"a token of {account} is rejected")

    def has_rejected_lately(self):
        """Whether a further rejection would be held back for a while."""
        return self.clock.boottime() - self._rejected_at < 120.0

    # What is told.

    def tell(self, text):
        """Note what happens, for who has to find out why the day went wrong."""
        self._story.append(f"{self._hours(self.clock.boottime())}  {text}")

    def _hours(self, at):
        return f"{(at - self._began_at) / 3600:9.5f} h"

    def fail(self, text):
        """End the day."""
        self.tell(f"FAILED: {text}")
        error = AssertionError(f"seed {self.seed}: {text}")
        self._error = self._error or error

    def early_completions(self):
        """Tell of completions that came sooner than their account or model was told to.

        Not of those that met the refusal itself on their way: no time passes between them.
        """
        refused = {
            (each.account, each.monotonic)
            for each in self.world.requests
            if each.status in (403, 429, 503) and not each.early
        }
        return [
            f"{each.model} of {each.account} at {self._hours(each.monotonic)}"
            for each in self.world.requests
            if each.early and (each.account, each.monotonic) not in refused
        ]


async def _end(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
