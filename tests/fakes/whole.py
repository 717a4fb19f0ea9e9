"""The whole broker in one process and loop: door, proxy, pacer, broker, stores, real HTTP.

Only GitHub is simulated. Everybody lives by one clock: this machine's, plus what a test skips.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import time
from typing import TYPE_CHECKING, Any

from brokerd.broker import Broker, LoginRequest
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import GitHubToken, IndexEntry, Login, User
from brokerd.errors import BrokerError, ErrorClass
from brokerd.gate import Gate
from brokerd.host.logs.learning import LearningGitHub
from brokerd.host.peers.peercred import peer_of
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from brokerd.rpc.server import RpcServer
from brokerd.simulator import Simulator
from brokerd.stores.file import FileStore
from brokerd.stores.index import AccountIndex
from brokerd.stores.ladder import LoginStores
from brokerd.stores.memory import MemoryStore
from brokerd.upstream import Upstream, UpstreamSettings
from copilot_broker import AsyncClient
from fakes.clock import settle


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine
    from pathlib import Path

    from brokerd.broker import LoginProgress
    from brokerd.views import LeasedToken


__all__ = [
    "DIRECT_APP",
    "EXCHANGE",
    "PATIENCE",
    "POLL",
    "SECRET",
    "VSCODE",
    "SkippingClock",
    "Whole",
    "a_secret_in",
    "is_clear",
    "outcome",
    "simulated_world",
    "whole_broker",
]

VSCODE = "01ab8ac9400c4e429b23"
DIRECT_APP = "Ov23li8tweQw6odWQebz"
EXCHANGE = "/copilot_internal/v2/token"
POLL = "/login/oauth/access_token"
PATIENCE = 30.0
"""Seconds before a wait counts as hanging."""

SECRET = re.compile(r"gh[opsur]_\w{9}|github_pat_\w{9}|tid=\w|\b[0-9a-f]{40}\b")
"""What each credential of the simulator has in it."""
_COMMAND = re.compile(r"(?:copilot-cred|systemctl --user|timedatectl)(?: [\w.=|-]+)*$")
"""The end of a hint: what to type."""


def a_secret_in(*said: object) -> bool:
    """Whether a credential stands in one of them."""
    return any(SECRET.search(f"{each!s}\n{each!r}") for each in said)


def is_clear(failure: Any) -> bool:
    """Whether it is an error that a person can do something about, and nothing else."""
    return bool(
        re.fullmatch(r"[a-z][a-z0-9_]+", failure.code)
        and failure.code not in ("defect", "internal_error")
        and failure.error_class is not ErrorClass.INTERNAL
        and failure.message
        and _COMMAND.search(failure.hint)
        and not a_secret_in(failure.message, failure.hint, failure.url)
    )


class SkippingClock:
    """`ports.Clock` and the simulator's: true time, plus what was skipped."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._naps: set[asyncio.Future[None]] = set()

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    boottime = monotonic

    def wall(self) -> float:
        return time.time() + self._skipped

    async def sleep(self, seconds: float) -> None:
        """May end early, as naps may: whoever naps looks at the clock again."""
        loop = asyncio.get_running_loop()
        nap = loop.create_future()
        timer = loop.call_later(seconds, _end, nap)
        self._naps.add(nap)
        try:
            await nap
        finally:
            timer.cancel()
            self._naps.discard(nap)

    def skip(self, seconds: float) -> None:
        self._skipped += seconds
        for nap in self._naps:
            _end(nap)


def _end(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)


class Whole:
    """See `whole_broker`."""

    def __init__(
        self, folder: Path, simulator: Simulator, upstream: UpstreamSettings | None = None
    ) -> None:
        """`upstream`: the way there; by default straight to the simulator's own address."""
        self.simulator = simulator
        self.world = simulator.world
        self.clock: SkippingClock = simulator.world.clock
        self.settings: dict[str, AccountSettings] = {}
        self.logins = folder / "logins"
        self.store = FileStore(self.logins)
        self.index = AccountIndex(folder / "accounts.json")
        url = simulator.url
        self.upstream = Upstream(upstream or UpstreamSettings(login=url, api=url, copilot=url))
        pacer = Pacer(self.clock)
        self.broker = Broker(
            clock=self.clock,
            github=lambda host: LearningGitHub(self.upstream(host)),
            stores=LoginStores(
                file=self.store, memory=MemoryStore(), secret_service=MemoryStore, default="file"
            ),
            index=self.index,
            settings=lambda name: self.settings.get(name, AccountSettings()),
            cooldown=pacer.cooldown,
            cooldown_reason=lambda name: pacer.view(name).reason,
            random=random.Random(1),
        )
        pacer.on_change(self.broker.announce)
        self.proxy = Proxy(
            self.broker,
            lambda: self.upstream.copilot,
            pacer,
            monotonic=self.clock.boottime,
            wall=self.clock.wall,
            on_used_up=self.broker.quotas.used_up,
        )
        self.broker.quotas.watch_headers(self.proxy.quota)
        self.path = folder / "s"
        self._door = RpcServer(
            self.broker,
            Gate(),
            peer_of,
            proxy=self.proxy,
            version="0",
            headers_for_client=self.upstream.headers_for_client,
            login_request=lambda params: LoginRequest(
                client_id=VSCODE, account=params.get("account", "default")
            ),
            extra_status=dict,
            about_app=lambda request: {},
        )

    # What is kept, and what was asked.

    async def keep(
        self,
        name: str = "default",
        login: str | None = None,
        client_id: str = VSCODE,
        *,
        kind: str | None = None,
        life: float | None = None,
        is_direct: bool = False,
    ) -> Login:
        """Keep a login that GitHub has issued; before the start.

        `kind`: the token's prefix, where it is no app's. `life`: an expiring pair, with so many
        seconds left by its record.
        """
        person = self.world.person(login)
        if kind is not None:
            token = GitHubToken(self.world.mint(kind, login, client_id))
        else:
            value, refresh_token = self.world.issue_github_token(person, client_id)
            token = GitHubToken(value)
            if life is not None:
                token = GitHubToken(value, refresh_token, 28_800.0, self.clock.wall() + life)
        kept = Login("github.com", User(person.id, person.login), token, client_id)
        await self.store.save(kept)
        self.index.load()
        entry = IndexEntry(
            "github.com", person.id, person.login, "file", client_id, is_direct=is_direct
        )
        self.index.put(name, entry)
        if self.index.default is None:
            self.index.default = name
        return kept

    def kept(self) -> dict[str, bytes]:
        """Every login in the store, byte for byte."""
        return {path.name: path.read_bytes() for path in sorted(self.logins.glob("*.json"))}

    def asked(self, path: str) -> list[Any]:
        """The simulator's records of the requests for it."""
        return [each for each in self.world.requests if each.path == path]

    def view(self, name: str = "default") -> Any:
        return next(each for each in self.broker.accounts() if each.name == name)

    # What is done.

    async def login(self, account: str = "default", **more: Any) -> list[LoginProgress]:
        """Sign in, and skip all waits; raises BrokerError."""
        request = LoginRequest(**({"client_id": VSCODE, "account": account} | more))

        async def progress() -> list[LoginProgress]:
            return [each async for each in self.broker.login(request)]

        return await self.hurried(progress())

    async def refresh(self, account: str | None = None) -> LeasedToken:
        """Have a new token, as if nobody had demanded one for a while."""
        self.broker._leases._refreshes.clear()
        return await self.broker.refresh(account)

    async def hurried(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await it; time is skipped whenever nobody has a question out."""
        task = asyncio.create_task(work)
        try:
            async with asyncio.timeout(PATIENCE):
                while not task.done():
                    await asyncio.sleep(0.001)
                    if self.is_busy:
                        continue
                    await settle()  # what has just been answered is passed on first
                    if not task.done() and not self.is_busy:
                        self.clock.skip(self.broker._roster.nap_length())
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def skip(self, seconds: float) -> None:
        """Pass over so much time, and let the broker do what is due then."""
        self.clock.skip(seconds)
        await settle()
        await self.until(lambda: not self.is_busy)

    @property
    def is_busy(self) -> bool:
        """Whether a question is out, to GitHub or a store."""
        return any(each.is_busy for each in self.broker._roster.runners())

    def client(self) -> AsyncClient:
        """One caller at the door; close it."""
        return AsyncClient(self.path, timeout=PATIENCE)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Whole]:
        """Load what is kept, and open the door."""
        task = asyncio.create_task(self.broker.run())
        sock = socket.socket(socket.AF_UNIX)
        try:
            async with asyncio.timeout(PATIENCE):
                await self.broker.started.wait()
            sock.bind(str(self.path))
            sock.listen(1024)
            await self._door.serve(sock)
            yield self
            assert not task.done()
        finally:
            await self._door.drain(0)
            sock.close()
            self.path.unlink(missing_ok=True)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.upstream.aclose(patience=0)

    async def until(self, condition: Any) -> None:
        """Let the loop turn until it holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def simulated_world(**settings: Any) -> AsyncIterator[Simulator]:
    """A simulator by a clock that skips."""
    chosen = {"auto_approve": True, "lockout_after": 10**9} | settings
    async with Simulator(clock=SkippingClock(), **chosen) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def whole_broker(folder: Path, **settings: Any) -> AsyncIterator[Whole]:
    """A broker that runs, signed in as `default`, and GitHub behind it."""
    async with simulated_world(**settings) as simulator:
        whole = Whole(folder, simulator)
        await whole.keep()
        async with whole.running():
            await whole.broker.lease(timeout=PATIENCE)
            yield whole


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """Return what it does, or the failure that it raises."""
    try:
        return await awaitable
    except BrokerError as error:
        return error.failure
