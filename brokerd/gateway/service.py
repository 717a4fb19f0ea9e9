"""What becomes of each request of the HTTP door: guard → key → route → endpoint.

The guard comes first and for every route: who is kept out by it learns nothing. Then, where the
listener wants one, the caller's key; and only then what was asked for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.http_guard import hosts_of, refuse
from brokerd.core.setting_checks import NotAllowedError, account_name
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.gateway.completing import Completing
from brokerd.gateway.replies import BARE_403, defect, method_not_allowed, refused, unknown_path
from brokerd.gateway.routes import Endpoint, find
from brokerd.gateway.wanted import ACCOUNT


if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from brokerd.gate import Caller, Gate
    from brokerd.gateway.messages import Outlet, Reply, Request, Work
    from brokerd.gateway.pages import Pages
    from brokerd.gateway.routes import Route
    from brokerd.gateway.workshop import Workshop


__all__ = ["Service"]

log = logging.getLogger(__name__)

KEY_MARK: Final = "cpb_"
"""What our keys begin with. Tools that want some key are given any word on a Unix socket."""

_BEARER: Final = "bearer "


class Service:
    """`Handler` of the whole door."""

    def __init__(
        self,
        gate: Gate,
        shop: Workshop,
        pages: Pages,
        *,
        hosts: Mapping[str, frozenset[str]],
        keyed: frozenset[str],
    ) -> None:
        """`pages` answers all but completions; `hosts` are each listener's own names.

        A run's are those of its address.
        `keyed` names the listeners where everybody has to show a key.
        """
        self._gate = gate
        self._shop = shop
        self._pages = pages
        self._hosts = hosts
        self._keyed = keyed

    def begin(self, request: Request, outlet: Outlet, caller: Caller) -> Work | None:
        """See `Handler.begin`."""
        if self.refuses(request.method, request.headers, request.has_body, caller):
            outlet.reply(BARE_403)
            return None
        route = find(request.path)
        dialect = _dialect_of(request, route)
        try:
            caller = self._who(request, caller)
        except BrokerError as error:
            outlet.reply(refused(dialect, error.failure))
            return None
        if route is None:
            outlet.reply(unknown_path(dialect))
        elif request.method not in route.methods:
            outlet.reply(method_not_allowed(dialect, route.methods))
        elif route.endpoint is Endpoint.COMPLETION:
            completing = Completing(self._shop, request, outlet, caller, route)
            completing.start()
            return completing
        else:
            return _Page(self._pages.answer(request, route, caller), outlet, dialect)
        return None

    def refuses(
        self, method: str, headers: Mapping[str, str], has_body: bool, caller: Caller
    ) -> bool:
        """See `Handler.refuses`."""
        hosts = hosts_of(caller.at) if caller.at else self._hosts[caller.listener]
        reason = refuse(method, headers, hosts, has_body=has_body)
        if reason is not None:
            caller.tell_denied("http.request", _hostile(reason))
        return reason is not None

    def _who(self, request: Request, caller: Caller) -> Caller:
        """Return the caller with its key's rights.

        Raises BrokerError for a key that is not good, and for what can be no account: its name is
        repeated in answers and logs.
        """
        secret = _secret(request.headers)
        if caller.listener in self._keyed or secret.startswith(KEY_MARK):
            caller = self._gate.with_key(caller, secret)
        if named := request.headers.get(ACCOUNT):
            _check_account(named)
        return caller


class _Page:
    """`Work` of a request that is answered by a coroutine."""

    def __init__(self, answer: Awaitable[Reply], outlet: Outlet, dialect: Dialect) -> None:
        self._outlet = outlet
        self._dialect = dialect
        self._task = asyncio.ensure_future(self._answered(answer))

    def go_on(self) -> None:
        """See `Work.go_on`: it is answered in one piece."""

    def close(self) -> None:
        """See `Work.close`."""
        self._task.cancel()

    async def _answered(self, answer: Awaitable[Reply]) -> None:
        try:
            reply = await answer
        except BrokerError as error:
            reply = refused(self._dialect, error.failure)
        except Exception:
            log.exception("request not served")
            reply = defect(self._dialect)
        self._outlet.reply(reply)


def _secret(headers: Mapping[str, str]) -> str:
    """Return what a tool shows as its key: `Authorization: Bearer`, or Anthropic's `x-api-key`.

    Where both are there, and only one of them is ours, it is that one.
    """
    authorization = headers.get("authorization", "")
    bearer = authorization[7:].strip() if authorization[:7].lower() == _BEARER else ""
    key = headers.get("x-api-key", "").strip()
    return key if key.startswith(KEY_MARK) or not bearer else bearer


def _check_account(named: str) -> None:
    try:
        account_name(named)
    except NotAllowedError as allowed:
        failure = Failure(
            ErrorClass.USAGE,
            "bad_account",
            f"an account's name in {ACCOUNT} must be {allowed}",
            "See the names: copilot-cred account list",
        )
        raise PermanentError(failure) from None


def _dialect_of(request: Request, route: Route | None) -> Dialect:
    if route is not None and route.path:
        return Dialect.of(route.path)
    is_anthropic = route is not None and route.endpoint is Endpoint.COUNT_TOKENS
    if is_anthropic or "anthropic-version" in request.headers:
        return Dialect.MESSAGES
    return Dialect.CHAT


def _hostile(reason: str) -> Failure:
    return Failure(
        ErrorClass.DENIED,
        f"http_{reason}",
        "the request is not from a program here, or not meant for the broker",
        "What is refused, and why: docs/http.md",
    )
