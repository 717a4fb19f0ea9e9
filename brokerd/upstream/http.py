"""Small requests over httpx: one question, one bounded answer, one table of failures.

- httpx is loaded and the client made at the first request: an idle daemon does without both.
- No redirect is followed: a credential goes where it was meant to go or nowhere.
- No connection is kept: there is one exchange in 25 minutes, and a connection from before a
  suspend looks alive until it times out.
- No cookie is taken: one client asks for several people.
- Nothing is decompressed: a bounded answer stays bounded.
- Through which proxy a request goes is said in `routes`, not by httpx.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import types
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.upstream import network_errors
from brokerd.upstream.hosts import UpstreamSettings
from brokerd.upstream.routes import route_to
from brokerd.upstream.tls import Trust


if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import httpx

    from brokerd.upstream.routes import Route


__all__ = ["Answer", "HttpClient", "Manner", "Timeouts"]

# The longest true answer but lists of models has some 10 KB.
MAX_BODY = 2 * 1024 * 1024
# Few are under way at a time; more would be a loop of ours.
MAX_CONNECTIONS = 16
UNAUTHORIZED = 401


@dataclass(frozen=True)
class Timeouts:
    """Seconds."""

    connect: float = 10.0
    read: float = 20.0
    total: float = 30.0
    """From the first packet to the last byte: a trickle never trips `read`."""


@dataclass(frozen=True)
class Answer:
    """What upstream said; the body may hold a secret."""

    origin: str
    status: int
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Manner:
    """What is particular to one kind of question."""

    max_body: int = MAX_BODY
    """Bytes of an answer."""
    network_hint: str = network_errors.NETWORK_HINT
    """The next step where no answer comes."""
    again: str = "copilot-cred refresh"
    """The command that asks once more."""


_USUAL = Manner()


class HttpClient:
    """Asks GitHub; shared by all accounts, to be closed with `aclose`."""

    def __init__(
        self,
        settings: UpstreamSettings = UpstreamSettings(),  # noqa: B008 - frozen
        *,
        timeouts: Timeouts = Timeouts(),
        trust: Trust | None = None,
    ) -> None:
        self._settings = settings
        self._timeouts = timeouts
        self._trust = trust or Trust(settings.ca_file)
        self._clients: dict[str | None, httpx.AsyncClient] = {}  # by the proxy's address
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def get(
        self, origin: str, path: str, headers: Mapping[str, str], manner: Manner = _USUAL
    ) -> Answer:
        """Send a GET; raises TransientError without an answer, PermanentError for bad settings."""
        return await self._ask("GET", origin, path, headers, {}, manner=manner)

    async def post_form(
        self, origin: str, path: str, headers: Mapping[str, str], form: Mapping[str, str]
    ) -> Answer:
        """Send a POST with an urlencoded form; raises as `get` does."""
        return await self._ask("POST", origin, path, headers, {"data": form})

    async def post_json(
        self,
        origin: str,
        path: str,
        headers: Mapping[str, str],
        value: Mapping[str, Any],
        manner: Manner = _USUAL,
    ) -> Answer:
        """Send a POST with a JSON body; raises as `get` does."""
        return await self._ask("POST", origin, path, headers, {"json": value}, manner=manner)

    async def aclose(self) -> None:
        """Let what is under way end (`Timeouts.total` at most), then give back the client.

        A later request makes a new one.
        """
        clients, self._clients = self._clients, {}
        if clients:
            await self._idle.wait()
            for client in clients.values():
                await client.aclose()

    async def _ask(
        self,
        method: str,
        origin: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any],
        *,
        manner: Manner = _USUAL,
    ) -> Answer:
        _prepare_import()
        import httpx  # noqa: PLC0415 - on first use: 5 MB and 100 ms

        route = route_to(origin, self._settings.proxy)
        client = self._client_for(route)
        answer: Answer | None = None
        self._under_way += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self._timeouts.total):
                async with client.stream(
                    method, origin + path, headers=headers, **body
                ) as response:
                    answer = await _receive(response, origin, manner)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            failure = network_errors.describe(
                error,
                origin,
                proxied=route.proxy is not None,
                network_hint=manner.network_hint,
            )
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        if answer is None:
            # Raised out here, so that the error carries no exception of httpx: those hold the
            # request, and the request holds the credential.
            raise TransientError(failure)
        return answer

    def _client_for(self, route: Route) -> httpx.AsyncClient:
        url = None if route.proxy is None else route.proxy.url
        client = self._clients.get(url)
        if client is None:
            client = _make_client(url, self._trust.context(), self._timeouts)
            self._clients[url] = client
        return client


async def _receive(response: httpx.Response, origin: str, manner: Manner) -> Answer:
    import httpx  # noqa: PLC0415 - on first use: 5 MB and 100 ms

    status = response.status_code
    try:
        body = await _body_of(response, origin, manner)
    except (httpx.HTTPError, OSError, TransientError):
        # A 401 is a verdict whatever its body: asked again, it would lock the person out.
        if status != UNAUTHORIZED:
            raise
        body = b""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(origin, status, headers, body)


async def _body_of(response: httpx.Response, origin: str, manner: Manner) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > manner.max_body:
            raise TransientError(_unreadable(f"the answer of {origin} is too long", manner))
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        message = f"the answer of {origin} is compressed unasked"
        raise TransientError(_unreadable(message, manner))
    return bytes(body)


def _unreadable(message: str, manner: Manner) -> Failure:
    hint = f"A proxy may have changed it; when that is mended, run: {manner.again}"
    return Failure(ErrorClass.TEMPORARY, "bad_answer", message, hint)


def _prepare_import() -> None:
    """Keep httpx from loading its command line: click, rich and pygments are 6 MB."""
    if "httpx" not in sys.modules and "httpx._main" not in sys.modules:
        stub = types.ModuleType("httpx._main")
        stub.main = lambda: None  # type: ignore[attr-defined]
        sys.modules["httpx._main"] = stub


def _make_client(
    proxy: str | None, context: ssl.SSLContext, timeouts: Timeouts
) -> httpx.AsyncClient:
    import httpx  # noqa: PLC0415 - on first use: 5 MB and 100 ms

    for name in ("httpx", "httpcore"):  # a line for each request, and none that says why
        logging.getLogger(name).setLevel(logging.WARNING)
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0)
    client = httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(
            verify=context, proxy=None if proxy is None else httpx.Proxy(proxy), limits=limits
        ),
        trust_env=False,  # neither proxies nor ~/.netrc
        headers={"Accept-Encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        timeout=httpx.Timeout(timeouts.read, connect=timeouts.connect),
    )
    del client.headers["User-Agent"]  # httpx's own; ours comes with the request, or none does
    return client
