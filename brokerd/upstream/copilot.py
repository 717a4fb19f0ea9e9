"""The Copilot API: the port `brokerd.ports.CopilotApi`.

A completion is one POST, rendered here and sent once on a connection of the pool; the list of
models is a small call like any of GitHub's. A credential goes only where `hosts` permits.
"""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from brokerd.core.completions import MODEL_ID
from brokerd.core.refusals import Refusal, explain
from brokerd.core.refused_calls import refused_call
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.upstream import parsing
from brokerd.upstream.bodies import fields_of
from brokerd.upstream.h1 import StreamTimeouts
from brokerd.upstream.hosts import OriginAllowList, UpstreamSettings
from brokerd.upstream.http import HttpClient, Manner
from brokerd.upstream.identity import Identity
from brokerd.upstream.pool import MAX_CONNECTIONS, Pool
from brokerd.upstream.reply import H1Reply, upstream_failure, wake
from brokerd.upstream.request_head import RequestHead
from brokerd.upstream.tls import Trust


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.completions import UpstreamCall
    from brokerd.errors import BrokerError
    from brokerd.ports import Exchange, Reply
    from brokerd.upstream.http import Answer


__all__ = ["CLOSE_PATIENCE", "Copilot"]

CLOSE_PATIENCE = 900.0
"""Seconds that streams under way have after a configuration was replaced: most answers end within
it, and a daemon does not keep two ways to upstream for good."""

ACTED_ON = {401: "copilot_token_rejected", 421: "misdirected"}
"""What refusals of the token are called whoever asked: the token is in question, not the login."""

STATE = re.compile(r"[a-z_]{1,32}")

SMALL_CALLS = Manner(
    max_body=8 * 1024 * 1024, network_hint="Check the network, then ask again: copilot-cred models"
)
"""Lists of models have some 200 KB, and grow with every model; their logins are in no question."""

SHOWN_MAX = 64
"""Characters of a caller's word repeated back to it."""

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
        self._targets: dict[tuple[str, str, bool, bool], RequestHead] = {}

    def forget_tokens(self) -> None:
        """Hold none; each request brings its own."""
        self._targets.clear()

    async def open(
        self,
        call: UpstreamCall,
        still_wanted: Callable[[], None] | None = None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> H1Reply:
        """Send it, once, and return when the head of the answer (any status) is there.

        `still_wanted` is asked right before it is sent over a new connection, and may raise;
        `on_sent` is called once it is on its way.

        Cancelling it cuts the connection. Raises TransientError where there is no answer,
        PermanentError (DENIED) for a base that a credential may not go to.
        """
        target = self._target_of(call)
        head = target.render(call)
        connection = self._pool.take(target.origin)
        if connection is None:
            connection = await self._pool.connect(target.origin)
            if still_wanted is not None:
                try:
                    still_wanted()
                except BaseException:
                    if not self._pool.keep(connection):
                        connection.cut()
                    raise
        waiter = connection.new_waiter()
        reply = H1Reply(connection, partial(wake, waiter))
        connection.send(reply, head, call.body)
        on_sent()
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

    async def models(
        self, host: str, api_base: str, token: str, *, is_direct: bool = False
    ) -> list[dict[str, Any]]:
        """`GET /models`: GitHub's own entries, each id once.

        Raises PermanentError `copilot_token_rejected` for a 401, else as the refusal means.
        """
        origin = OriginAllowList(host, self._settings).copilot_origin(api_base)
        headers = self._identity.for_copilot(token, "model-access", is_direct=is_direct)
        answer = await self._http.get(origin, "/models", headers, SMALL_CALLS)
        _demand_success(answer)
        return parsing.models(answer)

    async def enable_model(
        self, host: str, api_base: str, token: str, model: str, *, is_direct: bool = False
    ) -> str:
        """Accept a model's terms for the person; return the policy's state. Raises as `models`.

        And PermanentError USAGE `unknown_model` for one that Copilot does not have.
        """
        if not MODEL_ID.fullmatch(model):
            raise PermanentError(_unknown_model(model))
        origin = OriginAllowList(host, self._settings).copilot_origin(api_base)
        headers = self._identity.for_copilot(token, "chat-policy", is_direct=is_direct)
        path = f"/models/{quote(model, safe='')}/policy"
        wish = {"state": "enabled"}
        answer = await self._http.post_json(origin, path, headers, wish, SMALL_CALLS)
        if answer.status == 404:
            raise refused_call(404, Refusal(_unknown_model(model)))
        _demand_success(answer)
        return _policy_state(answer)

    async def aclose(self, patience: float = CLOSE_PATIENCE) -> None:
        """Let streams under way end within `patience` seconds, then cut them."""
        await self._pool.aclose(patience)
        await self._http.aclose()

    def _target_of(self, call: UpstreamCall) -> RequestHead:
        key = call.host, call.api_base, call.is_direct, call.is_fim
        target = self._targets.get(key)
        if target is not None:
            return target
        origin = OriginAllowList(call.host, self._settings).copilot_origin(call.api_base)
        if len(self._targets) >= MAX_TARGETS:
            self._targets.clear()
        identity = self._identity
        named = identity.for_completions if call.is_fim else identity.for_client
        target = RequestHead(origin, named(is_direct=call.is_direct))
        self._targets[key] = target
        return target


def _demand_success(answer: Answer) -> None:
    """Raise what a refusal means: as for a completion, but for the two codes that we act on."""
    if 200 <= answer.status < 300:
        return
    refusal = explain(answer.status, answer.headers, answer.body, now=time.time())
    raise refused_call(answer.status, refusal, ACTED_ON.get(answer.status))


def _policy_state(answer: Answer) -> str:
    """Read what became of it: the organization's policy wins over the person's word."""
    fields = fields_of(answer)
    state = fields.get("state") if fields else None
    # Tolerant: no client that is known reads more than the status.
    return state if isinstance(state, str) and STATE.fullmatch(state) else "enabled"


def _unknown_model(model: str) -> Failure:
    return Failure(
        ErrorClass.USAGE,
        "unknown_model",
        f"Copilot has no model {model[:SHOWN_MAX]!r} whose terms could be accepted",
        "Choose one of: copilot-cred models",
    )


def _unanswered(reply: H1Reply, origin: str) -> TransientError:
    text = f"{origin} closed the connection without an answer"
    return TransientError(reply.failure or upstream_failure("upstream_cut", text))
