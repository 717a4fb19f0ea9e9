"""The simulator's server: one loopback address that is GitHub and Copilot at once.

`Simulator` lives in the caller's event loop, `SimulatorThread` in a thread of its own, for who has
no loop yet or must not share one (`copilot-brokerd --simulate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
import uuid
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from brokerd.simulator import answers
from brokerd.simulator.control import PREFIX, ControlRoutes
from brokerd.simulator.github import GitHubRoutes
from brokerd.simulator.world import Fault, RecordedRequest, Settings, World


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


__all__ = ["Simulator", "SimulatorThread"]

HOST = "127.0.0.1"  # never anything else: it signs everybody in
# A fault's body may be what a test calls far too big.
MAX_CONTROL_BODY = 64 * 1024 * 1024
START_TIMEOUT = 10.0
# All others may hold what nobody should read in a list of requests.
SHOWN_HEADERS = frozenset(
    {
        "accept", "content-type", "user-agent", "editor-version", "editor-plugin-version",
        "copilot-integration-id", "x-github-api-version", "openai-intent", "x-interaction-type",
    }
)  # fmt: skip


class _FaultyResponse(web.StreamResponse):
    """A response that does without some headers, also those that aiohttp adds by itself."""

    withheld: Sequence[str] = ()


async def _withhold(_request: web.Request, response: web.StreamResponse) -> None:
    if isinstance(response, _FaultyResponse):
        for name in response.withheld:
            response.headers.popall(name, None)


class Simulator:
    """GitHub for one test or demo; keyword arguments are `Settings`.

    `async with Simulator(auto_approve=True) as simulator: simulator.url`
    """

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        self.world = World(Settings(**settings))
        self.url = ""
        self._port = port
        self._github = GitHubRoutes(self.world)
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()

    async def start(self, port: int | None = None) -> None:
        """Listen; port 0 takes a free one. OSError when the port is taken."""
        app = web.Application(middlewares=[self._middleware()], client_max_size=MAX_CONTROL_BODY)
        self._github.add_to(app)
        ControlRoutes(self.world).add_to(app)
        app.on_response_prepare.append(_withhold)
        self._closing.clear()
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self._port if port is None else port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = self._github.base_url = f"http://{HOST}:{self._port}"

    async def close(self) -> None:
        """Stop listening; a later `start` takes the same port again."""
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _middleware(self) -> Any:
        @web.middleware
        async def middleware(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            if request.path.startswith(PREFIX):
                return await handler(request)
            recorded = self._record(request)
            answer = await self._answer(request, handler)
            recorded.status = answer.status
            return answer

        return middleware

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        fault = self.world.take_fault(request.path)
        if fault is not None:
            await self._pause(fault.delay)
        if fault is not None and (fault.status is not None or fault.reset):
            return await self._misbehave(request, fault)
        answer = await self._true_answer(request, handler)
        answer.headers.update(self._usual_headers())
        return answer

    @staticmethod
    async def _true_answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not request.headers.get("User-Agent"):
            return answers.no_user_agent()
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return answers.not_found()

    def _usual_headers(self) -> dict[str, str]:
        return {
            "Date": formatdate(self.world.wall(), usegmt=True),
            "x-github-request-id": uuid.uuid4().hex.upper(),
            "Cache-Control": "no-store",
        }

    async def _misbehave(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        headers: dict[str, str | None] = {**self._usual_headers()}
        if isinstance(fault.body, str):
            payload = fault.body.encode()
            headers["Content-Type"] = "text/plain; charset=utf-8"
        else:
            payload = web.json_response(fault.body).body  # type: ignore[assignment]
            headers["Content-Type"] = "application/json"
        for name, value in fault.headers.items():
            headers = {key: kept for key, kept in headers.items() if key.lower() != name.lower()}
            headers[name] = value
        if fault.reset and request.transport is not None:
            request.transport.abort()
        answer = _FaultyResponse(status=fault.status or 200)
        answer.withheld = [name for name, value in fault.headers.items() if value is None]
        answer.headers.update({key: value for key, value in headers.items() if value is not None})
        if fault.reset:
            return answer
        answer.content_length = len(payload)
        await answer.prepare(request)
        pieces = [payload] if not fault.drip else [payload[i : i + 1] for i in range(len(payload))]
        for piece in pieces:
            await answer.write(piece)
            await self._pause(fault.drip)
            if self._closing.is_set():
                break
        return answer

    async def _pause(self, seconds: float) -> None:
        """Wait, but not past the end of the simulator."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)

    def _record(self, request: web.Request) -> RecordedRequest:
        headers = {
            name.lower(): value
            for name, value in request.headers.items()
            if name.lower() in SHOWN_HEADERS
        }
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if secret:
            fingerprint = hashlib.sha256(secret.encode()).hexdigest()[:8]
            headers["authorization"] = f"{scheme} sha256:{fingerprint}"
        recorded = RecordedRequest(
            request.method, request.path, time.monotonic(), time.time(), headers
        )
        self.world.requests.append(recorded)
        return recorded


class SimulatorThread:
    """A simulator in a thread of its own.

    `with SimulatorThread(auto_approve=True) as simulator: simulator.url`
    """

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        self.url = ""
        self._port = port
        self._settings = settings
        self._thread = threading.Thread(target=self._main, name="simulator", daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Listen before returning; raises what went wrong."""
        self._thread.start()
        if not self._started.wait(START_TIMEOUT):
            raise TimeoutError("the simulator did not start")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop listening and end the thread; twice is no error."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(START_TIMEOUT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with Simulator(port=self._port, **self._settings) as simulator:
            self.url = simulator.url
            self._started.set()
            await self._stop.wait()
