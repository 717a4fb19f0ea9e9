"""The product on a stage: all of it that speaks to upstream, and a simulator in GitHub's place.

Nothing of the product is replaced. The simulator answers under GitHub's real names, so requests
carry the real hosts; the one clock stands still, so a page made twice is the same page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brokerd.broker import Broker, LoginRequest
from brokerd.core.completions import DEFAULT_PATH, CompletionRequest
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import GitHubToken
from brokerd.errors import BrokerError, Failure
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from brokerd.simulator import Simulator
from brokerd.stores.index import AccountIndex
from brokerd.stores.ladder import LoginStores
from brokerd.stores.memory import MemoryStore
from brokerd.upstream import Upstream, UpstreamSettings, preset_for
from fakes.real_names import RealNames


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from brokerd.ports import GitHub
    from brokerd.simulator.records import RecordedRequest


__all__ = ["APP", "NOW", "Part", "Section", "Stage", "staged"]

APP = "01ab8ac9400c4e429b23"
"""Client id of the preset `vscode`."""

NOW = 1767614400.0  # 2026-01-05T12:00:00Z: any moment will do
ANSWER_MAX = 1 << 20


class StillClock:
    """Clocks of a machine for which no time passes; the simulator's as well as the product's."""

    def __init__(self) -> None:
        self._naps: set[asyncio.Future[None]] = set()  # nobody else knows of them

    def boottime(self) -> float:
        """CLOCK_BOOTTIME."""
        return 1000.0

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC."""
        return 1000.0

    def wall(self) -> float:
        """Unix seconds."""
        return NOW

    async def sleep(self, seconds: float) -> None:
        """Nap until somebody ends it."""
        if seconds > 0:
            nap = asyncio.get_running_loop().create_future()
            self._naps.add(nap)
            await nap


@dataclass(frozen=True)
class Part:
    """Something asked, as a chapter shows it."""

    title: str
    about: str
    """What it is for, in a sentence of ours."""
    exchanges: list[RecordedRequest]
    """The first is shown whole, the others in one line each: what the product did about it."""
    failure: Failure | None = None
    """What it was taken for."""
    all_headers: bool = False
    """Show those of the answer too that are the same with all answers of a host."""
    answered_like: str = ""
    """Heading of the part whose answer says the same; empty = show this one's."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """By key: how many entries of a list to show."""


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    title: str
    about: str
    parts: list[Part]


class Stage:
    """One person's broker, and their GitHub."""

    def __init__(
        self, simulator: Simulator, upstream: Upstream, broker: Broker, proxy: Proxy, host: str
    ) -> None:
        self.simulator = simulator
        self.upstream = upstream
        self.broker = broker
        self.proxy = proxy
        self.host = host
        self._seen = 0

    @property
    def github(self) -> GitHub:
        """GitHub at this stage's host."""
        return self.upstream(self.host)

    def token(self, kind: str = "gho_", client_id: str = APP) -> GitHubToken:
        """Have GitHub mint a token."""
        scope = preset_for("vscode").scope
        minted = self.simulator.world.mint(kind, client_id=client_id, scope=scope, host=self.host)
        return GitHubToken(minted, scope=scope)

    async def sign_in(self, token: GitHubToken | None = None) -> None:
        """Give the broker a login, and let it get its first Copilot token."""
        request = LoginRequest(
            client_id=APP, host=self.host, token=(token or self.token()).value, store="memory"
        )
        async for _ in self.broker.login(request):
            pass
        self.taken()

    async def complete(
        self, body: Mapping[str, Any], path: str = DEFAULT_PATH, **headers: str
    ) -> Failure | None:
        """Ask for a completion as a caller of the broker would; return what a refusal means."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = CompletionRequest(json.dumps(body).encode(), path=path, headers=named)
        answer = await self.proxy.open(request)
        try:
            await answer.read(ANSWER_MAX)
        finally:
            answer.close()
        return answer.refusal

    def taken(self) -> list[RecordedRequest]:
        """Return what was asked of the simulator since this was last called."""
        requests = list(self.simulator.world.requests)
        new, self._seen = requests[self._seen :], len(requests)
        return new

    async def part(self, title: str, about: str, question: Awaitable[object], **more: Any) -> Part:
        """Wait for the answer, good or bad, and write down what was asked for it."""
        self.taken()
        failure: Failure | None = None
        try:
            answer = await question
        except BrokerError as error:
            failure = error.failure
        else:
            failure = answer if isinstance(answer, Failure) else None
        return Part(title, about, self.taken(), failure, **more)


@contextlib.asynccontextmanager
async def staged(
    host: str = "github.com", *, mode: str = "auto", **settings: Any
) -> AsyncIterator[Stage]:
    """Set up a stage; `settings` are the simulator's."""
    clock = StillClock()
    simulator = Simulator(clock=clock, keep_bodies=True, **settings)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with simulator, RealNames(simulator.url, folder) as names:
            upstream = Upstream(UpstreamSettings(proxy=names.url, ca_file=names.ca_file))
            pacer = Pacer(clock)
            broker = Broker(
                clock=clock,
                github=upstream,
                stores=_memory_only(),
                index=AccountIndex(folder / "accounts.json"),
                settings=lambda _account: AccountSettings(host=host, mode=mode),
                cooldown=pacer.cooldown,
            )
            proxy = Proxy(
                broker,
                lambda: upstream.copilot,
                pacer,
                monotonic=clock.monotonic,
                wall=clock.wall,
            )
            running = asyncio.create_task(broker.run())
            try:
                await broker.started.wait()
                yield Stage(simulator, upstream, broker, proxy, host)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await upstream.aclose(patience=0)


def _memory_only() -> LoginStores:
    store = MemoryStore()
    return LoginStores(file=store, memory=store, secret_service=lambda: store, default="memory")
