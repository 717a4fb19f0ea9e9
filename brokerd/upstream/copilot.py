"""The Copilot API: the port `brokerd.ports.CopilotApi`.

A completion is one POST, rendered here and sent once on a connection of the pool; the list of
models is a small call like any of GitHub's. A credential goes only where `hosts` permits.
"""

from __future__ import annotations

import asyncio
import re
from os import urandom
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.upstream import parsing
from brokerd.upstream.h1 import StreamTimeouts
from brokerd.upstream.hosts import OriginAllowList, UpstreamSettings
from brokerd.upstream.http import HttpClient
from brokerd.upstream.identity import Identity, presentable
from brokerd.upstream.pool import MAX_CONNECTIONS, Pool
from brokerd.upstream.refusals import refusal
from brokerd.upstream.reply import H1Reply, upstream_failure
from brokerd.upstream.tls import Trust


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.completions import UpstreamCall


__all__ = ["CLOSE_PATIENCE", "Copilot"]

CLOSE_PATIENCE = 900.0
"""Seconds that streams under way have after a configuration was replaced: most answers end within
it, and a daemon does not keep two ways to upstream for good."""

MAX_TARGETS = 64
"""Exchanges name one base or two for an account; beyond this the cache starts anew."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
"""RFC 9110 §5.6.2, lower case."""

PATH = re.compile(r"/[!-~]*")

OURS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What no caller may send: framing, and where the request and its credential go."""


class _Target:
    """One permitted origin, with the part of a request's head that never changes."""

    def __init__(self, origin: str, identity: Mapping[str, str]) -> None:
        self.origin = origin
        self._lines = {
            name.lower(): f"{name}: {value}\r\n"
            for name, value in {
                "Host": urlsplit(origin).netloc,
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                **identity,
            }.items()
        }
        self._all_lines = "".join(self._lines.values())

    def head(self, call: UpstreamCall) -> bytes:
        """Render the head of `call`; what its headers say replaces what we would say."""
        path, headers = call.path, call.headers
        if not PATH.fullmatch(path):
            raise _not_allowed("the path")
        own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        # All at once, since this is done for every request: no line more than there are headers,
        # and nothing but visible ASCII in them.
        bare = own.replace("\r\n", "")
        if (
            len(own) - len(bare) != 2 * len(headers)
            or not (bare.isascii() and bare.isprintable())
            or not OURS.isdisjoint(headers)
            or not all(map(HEADER_NAME.fullmatch, headers))
        ):
            raise _not_allowed("a header")
        if self._lines.keys().isdisjoint(headers):
            lines = self._all_lines
        else:
            lines = "".join(line for name, line in self._lines.items() if name not in headers)
        request_id = "" if "x-request-id" in headers else f"X-Request-Id: {_uuid4()}\r\n"
        return (
            f"POST {path} HTTP/1.1\r\n{lines}Authorization: Bearer {presentable(call.token)}\r\n"
            f"{request_id}{own}Content-Length: {len(call.body)}\r\n\r\n"
        ).encode("ascii")


class Copilot:
    """See `brokerd.ports.CopilotApi`; to be closed with `aclose`."""

    def __init__(
        self,
        settings: UpstreamSettings = UpstreamSettings(),  # noqa: B008 - frozen
        *,
        http: HttpClient | None = None,
        identity: Identity | None = None,
        trust: Trust | None = None,
        timeouts: StreamTimeouts = StreamTimeouts(),  # noqa: B008 - frozen
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        trust = trust or Trust(settings.ca_file)
        self._settings = settings
        self._http = http or HttpClient(settings, trust=trust)
        self._identity = identity or Identity(settings.identity)
        self._pool = Pool(
            proxy=settings.proxy, trust=trust, timeouts=timeouts, max_connections=max_connections
        )
        self._targets: dict[tuple[str, str], _Target] = {}

    async def open(self, call: UpstreamCall) -> H1Reply:
        """Send it, once, and return when the head of the answer (any status) is there.

        Cancelling it cuts the connection. Raises TransientError where there is no answer,
        PermanentError (DENIED) for a base that a credential may not go to.
        """
        target = self._targets.get((call.host, call.api_base)) or self._target_of(call)
        head = target.head(call)
        pool = self._pool
        connection = pool.take(target.origin) or await pool.connect(target.origin)
        waiter = asyncio.get_running_loop().create_future()
        reply = H1Reply(connection, waiter)
        connection.send(reply, head, call.body)
        try:
            await waiter
        except BaseException:
            reply.close()
            raise
        if not reply.status:
            text = f"{target.origin} closed the connection without an answer"
            raise TransientError(reply.failure or upstream_failure("upstream_cut", text))
        return reply

    async def models(self, host: str, api_base: str, token: str) -> list[dict[str, Any]]:
        """`GET /models`: GitHub's own entries, each id once.

        Raises PermanentError `copilot_token_rejected` for a 401, else as the refusal means.
        """
        permitted = OriginAllowList(host, self._settings)
        origin = permitted.copilot_origin(api_base)
        headers = self._identity.for_copilot(token, "model-access")
        answer = await self._http.get(origin, "/models", headers)
        if answer.status == 401:  # of the Copilot token; the login is not in question
            raise PermanentError(
                Failure(
                    ErrorClass.DENIED,
                    "copilot_token_rejected",
                    "the Copilot API does not accept the token",
                    "Run: copilot-cred refresh",
                )
            )
        if answer.status != 200:
            raise refusal(answer, permitted)
        return parsing.models(answer)

    async def aclose(self, patience: float = CLOSE_PATIENCE) -> None:
        """Let streams under way end within `patience` seconds, then cut them."""
        await self._pool.aclose(patience)
        await self._http.aclose()

    def _target_of(self, call: UpstreamCall) -> _Target:
        origin = OriginAllowList(call.host, self._settings).copilot_origin(call.api_base)
        if len(self._targets) >= MAX_TARGETS:
            self._targets.clear()
        target = _Target(origin, self._identity.for_client())
        self._targets[call.host, call.api_base] = target
        return target


def _uuid4() -> str:
    """Return a random UUID (RFC 9562 §5.4) in a third of the time that `uuid.uuid4` takes."""
    digits = urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _not_allowed(what: str) -> PermanentError:
    return PermanentError(
        Failure(
            ErrorClass.USAGE,
            "header_not_allowed",
            f"{what} cannot be sent",
            "See what may be: copilot-cred --help",
        )
    )
