"""A daemon's upstream edge and a simulated GitHub, back to back over real HTTP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brokerd.core.tokens import GitHubToken
from brokerd.simulator import Simulator
from brokerd.simulator.world import Fault
from brokerd.upstream import (
    Copilot,
    HttpClient,
    HttpGitHub,
    OriginAllowList,
    Timeouts,
    UpstreamSettings,
    urls_for,
)
from fakes.real_names import RealNames


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


EXCHANGE = "/copilot_internal/v2/token"
CLIENT_ID = "Iv1.0000000000000000"


@dataclass
class Simulated:
    simulator: Simulator
    github: HttpGitHub
    http: HttpClient
    copilot: Copilot

    def fault(self, path: str, status: int | None = None, body: Any = "", **more: Any) -> None:
        self.simulator.world.queue_faults(path, [Fault(status=status, body=body, **more)])

    def token(self, login: str | None = None) -> GitHubToken:
        world = self.simulator.world
        return GitHubToken(world.issue_github_token(world.person(login), CLIENT_ID)[0])

    def paths(self) -> list[str]:
        return [each.path for each in self.simulator.world.requests]


@asynccontextmanager
async def simulated_by_name(
    folder: Path, *, timeouts: Timeouts | None = None, host: str = "github.com", **settings: Any
) -> AsyncIterator[tuple[Simulated, RealNames]]:
    """The same under GitHub's real names: the daemon's own addresses and rules, nothing replaced."""
    async with Simulator(**settings) as simulator, RealNames(simulator.url, folder) as names:
        chosen = UpstreamSettings(proxy=names.url, ca_file=names.ca_file)
        async with _edge(simulator, chosen, timeouts, host) as edge:
            yield edge, names


@asynccontextmanager
async def simulated(
    *, timeouts: Timeouts | None = None, host: str = "github.com", **settings: Any
) -> AsyncIterator[Simulated]:
    async with Simulator(**settings) as simulator:
        url = simulator.url
        chosen = UpstreamSettings(login=url, api=url, copilot=url)
        async with _edge(simulator, chosen, timeouts, host) as edge:
            yield edge


@asynccontextmanager
async def _edge(
    simulator: Simulator, chosen: UpstreamSettings, timeouts: Timeouts | None, host: str
) -> AsyncIterator[Simulated]:
    http = HttpClient(chosen, timeouts=timeouts or Timeouts())
    github = HttpGitHub(urls_for(host, chosen), http=http, permitted=OriginAllowList(host, chosen))
    copilot = Copilot(chosen, http=http)
    try:
        yield Simulated(simulator, github, http, copilot)
    finally:
        await copilot.aclose(patience=0)
