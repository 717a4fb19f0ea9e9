"""Small requests over httpx: one question, one bounded answer, one table of failures.

- httpx is loaded and the client made at the first request: an idle daemon does without both.
- No redirect is followed: a credential goes where it was meant to go or nowhere.
- No connection is kept: there is one exchange in 25 minutes, and a connection from before a
  suspend looks alive until it times out.
- No cookie is taken: one client asks for several people.
- Nothing is decompressed: a bounded answer stays bounded.
- Proxies come from the configuration, else from the environment; NO_PROXY holds for both, and
  loopback is never asked through a proxy.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
import types
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING
from urllib.request import getproxies

from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.upstream import network_errors
from brokerd.upstream.hosts import UpstreamSettings


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx


__all__ = ["Answer", "HttpClient", "Timeouts"]

# The longest true answer is the model list, some 200 KB.
MAX_BODY = 2 * 1024 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Keys of `getproxies` that stand for a proxy; `no` does not.
PROXIED = frozenset({"https", "all"})


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


class HttpClient:
    """Asks GitHub; shared by all accounts, to be closed with `aclose`."""

    def __init__(
        self,
        settings: UpstreamSettings = UpstreamSettings(),  # noqa: B008 - frozen
        *,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self._settings = settings
        self._timeouts = timeouts
        self._client: httpx.AsyncClient | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def get(self, origin: str, path: str, headers: Mapping[str, str]) -> Answer:
        """Send a GET; raises TransientError without an answer, PermanentError for bad settings."""
        return await self._ask("GET", origin, path, headers, None)

    async def post_form(
        self, origin: str, path: str, headers: Mapping[str, str], form: Mapping[str, str]
    ) -> Answer:
        """Send a POST with an urlencoded form; raises as `get` does."""
        return await self._ask("POST", origin, path, headers, form)

    async def aclose(self) -> None:
        """Let what is under way end (`Timeouts.total` at most), then give back the client.

        A later request makes a new one.
        """
        client, self._client = self._client, None
        if client is not None:
            await self._idle.wait()
            await client.aclose()

    async def _ask(
        self,
        method: str,
        origin: str,
        path: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
    ) -> Answer:
        _prepare_import()
        import httpx  # noqa: PLC0415 - on first use: 5 MB and 100 ms

        if self._client is None:
            self._client = _make_client(self._settings, self._timeouts)
        answer: Answer | None = None
        self._under_way += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self._timeouts.total):
                async with self._client.stream(
                    method, origin + path, headers=headers, data=form
                ) as response:
                    answer = await _receive(response, origin)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            proxied = self._settings.proxy is not None or bool(PROXIED & getproxies().keys())
            failure = network_errors.describe(error, origin, proxied=proxied)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        if answer is None:
            # Raised out here, so that the error carries no exception of httpx: those hold the
            # request, and the request holds the credential.
            raise TransientError(failure)
        return answer


async def _receive(response: httpx.Response, origin: str) -> Answer:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY:
            raise TransientError(_unreadable(f"the answer of {origin} is too long"))
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise TransientError(_unreadable(f"the answer of {origin} is compressed unasked"))
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(origin, response.status_code, headers, bytes(body))


def _unreadable(message: str) -> Failure:
    hint = "A proxy may have changed it; when that is mended, run: copilot-cred refresh"
    return Failure(ErrorClass.TEMPORARY, "bad_answer", message, hint)


def _prepare_import() -> None:
    """Keep httpx from loading its command line: click, rich and pygments are 6 MB."""
    if "httpx" not in sys.modules and "httpx._main" not in sys.modules:
        stub = types.ModuleType("httpx._main")
        stub.main = lambda: None  # type: ignore[attr-defined]
        sys.modules["httpx._main"] = stub


def _make_client(settings: UpstreamSettings, timeouts: Timeouts) -> httpx.AsyncClient:
    """Make the client; PermanentError (USAGE) names the setting that cannot be used."""
    import httpx  # noqa: PLC0415 - on first use: 5 MB and 100 ms

    for name in ("httpx", "httpcore"):  # a line for each request, and none that says why
        logging.getLogger(name).setLevel(logging.WARNING)
    context = _tls_context(settings.ca_file)
    limits = httpx.Limits(max_connections=16, max_keepalive_connections=0)
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {}
    try:
        if settings.proxy is not None:
            # Both schemes by name: these patterns are those of HTTP_PROXY and HTTPS_PROXY, which
            # would otherwise be more specific than ours and win.
            proxy = httpx.Proxy(settings.proxy)
            if not proxy.url.host:
                raise ValueError("no host")  # noqa: TRY301 - as httpx does for other addresses
            transport = httpx.AsyncHTTPTransport(verify=context, proxy=proxy, limits=limits)
            mounts = {"http://": transport, "https://": transport}
        mounts |= {f"all://{host}": None for host in LOOPBACK}
        return httpx.AsyncClient(
            verify=context,
            mounts=mounts,
            auth=httpx.Auth(),  # changes nothing, and so keeps 0.23 from asking ~/.netrc
            headers={"Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            timeout=httpx.Timeout(timeouts.read, connect=timeouts.connect),
            limits=limits,
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        pass  # raised below, free of a context that quotes the address and its password
    raise PermanentError(
        Failure(
            ErrorClass.USAGE,
            "proxy_unusable",
            "the proxy's address cannot be used (http:// and https:// can)",
            network_errors.PROXY_HINT,
        )
    )


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trust what the system trusts, and `ca_file` besides."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:
        import certifi  # noqa: PLC0415 - comes with httpx; only where the system has no store

        context.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError too: not a certificate
            raise PermanentError(
                Failure(
                    ErrorClass.USAGE,
                    "ca_file_unusable",
                    f"{ca_file} cannot be used: {error.strerror or 'no certificates in it'}",
                    "Mend network.ca_file in config.toml, then: "
                    "systemctl --user restart copilot-broker",
                )
            ) from None
    return context
