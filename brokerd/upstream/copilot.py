"""The Copilot API: the port `brokerd.ports.CopilotApi`.

A completion is one POST, rendered here and sent once on a connection of the pool; the list of
models is a small call like any of GitHub's. A credential goes only where `hosts` permits.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.upstream import parsing
from brokerd.upstream.h1 import StreamTimeouts
from brokerd.upstream.hosts import OriginAllowList, UpstreamSettings
from brokerd.upstream.http import HttpClient
from brokerd.upstream.identity import Identity
from brokerd.upstream.pool import MAX_CONNECTIONS, Pool
from brokerd.upstream.refusals import refusal
from brokerd.upstream.reply import H1Reply, upstream_failure, wake
from brokerd.upstream.request_head import RequestHead
from brokerd.upstream.tls import Trust


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.completions import UpstreamCall
    from brokerd.errors import BrokerError
    from brokerd.ports import Exchange, Reply


__all__ = ["CLOSE_PATIENCE", "Copilot"]

CLOSE_PATIENCE = 900.0
"""Seconds that streams under way have after a configuration was replaced: most answers end within
it, and a daemon does not keep two ways to upstream for good."""

MAX_TARGETS = 64
"""Exchanges name one base or two for an account; beyond this the cache starts anew."""


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
        self._targets: dict[tuple[str, str], RequestHead] = {}

    async def open(self, call: UpstreamCall) -> H1Reply:
        """Send it, once, and return when the head of the answer (any status) is there.

        Cancelling it cuts the connection. Raises TransientError where there is no answer,
        PermanentError (DENIED) for a base that a credential may not go to.
        """
        target = self._target_of(call)
        head = target.render(call)
        connection = self._pool.take(target.origin) or await self._pool.connect(target.origin)
        waiter = connection.new_waiter()
        reply = H1Reply(connection, partial(wake, waiter))
        connection.send(reply, head, call.body)
        try:
            await waiter
        except BaseException:
            reply.close()
            raise
        if not reply.status:
            raise _unanswered(reply, target.origin)
        return reply

    def begin(
        self, call: UpstreamCall, listener: Callable[[Reply | BrokerError], None]
    ) -> Exchange | None:
        """Send it at once if a connection is at hand; see `brokerd.ports.CopilotApi`."""
        target = self._target_of(call)
        head = target.render(call)
        connection = self._pool.take(target.origin)
        if connection is None:
            return None

        def on_arrival() -> None:
            listener(reply if reply.status else _unanswered(reply, target.origin))

        reply = H1Reply(connection, on_arrival)
        connection.send(reply, head, call.body)
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

    def _target_of(self, call: UpstreamCall) -> RequestHead:
        target = self._targets.get((call.host, call.api_base))
        if target is not None:
            return target
        origin = OriginAllowList(call.host, self._settings).copilot_origin(call.api_base)
        if len(self._targets) >= MAX_TARGETS:
            self._targets.clear()
        target = RequestHead(origin, self._identity.for_client())
        self._targets[call.host, call.api_base] = target
        return target


def _unanswered(reply: H1Reply, origin: str) -> TransientError:
    text = f"{origin} closed the connection without an answer"
    return TransientError(reply.failure or upstream_failure("upstream_cut", text))
