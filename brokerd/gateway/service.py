"""What becomes of each request of the HTTP door: guard → key → route → endpoint.

The guard comes first and for every route: who is kept out by it learns nothing. Then, where the
listener wants one, the caller's key; and only then what was asked for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from brokerd.core.http_guard import hosts_of
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.gateway.completing import Completing
from brokerd.gateway.plan import KEY_MARK, plan_of
from brokerd.gateway.replies import BARE_403, defect, method_not_allowed, refused, unknown_path
from brokerd.gateway.routes import Endpoint


if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from brokerd.core.dialects.dialect import Dialect
    from brokerd.gate import Caller, Gate
    from brokerd.gateway.messages import Head, Outlet, Reply, Request, Work
    from brokerd.gateway.pages import Pages
    from brokerd.gateway.plan import Plan
    from brokerd.gateway.workshop import Workshop


__all__ = ["Service"]

log = logging.getLogger(__name__)


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

        A run's are those of its address. `keyed` names the listeners where everybody has to show a
        key.
        """
        self._gate = gate
        self._shop = shop
        self._pages = pages
        self._hosts = hosts
        self._keyed = keyed

    def begin(self, request: Request, outlet: Outlet, caller: Caller) -> Work | None:
        """See `Handler.begin`."""
        plan = self._plan(request.head, caller)
        if plan.hostile is not None:
            caller.tell_denied("http.request", _hostile(plan.hostile))
            outlet.reply(BARE_403)
            return None
        try:
            if caller.listener in self._keyed or plan.secret.startswith(KEY_MARK):
                caller = self._gate.with_key(caller, plan.secret)
            if plan.bad_account is not None:
                raise PermanentError(plan.bad_account)
        except BrokerError as error:
            outlet.reply(refused(plan.dialect, error.failure))
            return None
        route = plan.route
        if route is None:
            outlet.reply(unknown_path(plan.dialect))
        elif request.head.method not in route.methods:
            outlet.reply(method_not_allowed(plan.dialect, route.methods))
        elif route.endpoint is Endpoint.COMPLETION:
            completing = Completing(self._shop, request.body, plan, outlet, caller)
            completing.start()
            return completing
        else:
            return _Page(self._pages.answer(request, route, caller), outlet, plan.dialect)
        return None

    def refuses(self, head: Head, caller: Caller) -> bool:
        """See `Handler.refuses`."""
        reason = self._plan(head, caller).hostile
        if reason is not None:
            caller.tell_denied("http.request", _hostile(reason))
        return reason is not None

    def _plan(self, head: Head, caller: Caller) -> Plan:
        """Return what a head asks for here; most are known."""
        where = caller.at or caller.listener
        plan: Plan | None = head.notes.get(where)
        if plan is None:
            hosts = hosts_of(caller.at) if caller.at else self._hosts[caller.listener]
            plan = head.notes[where] = plan_of(head, hosts)
        return plan


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


def _hostile(reason: str) -> Failure:
    return Failure(
        ErrorClass.DENIED,
        f"http_{reason}",
        "the request is not from a program here, or not meant for the broker",
        "What is refused, and why: docs/http.md",
    )
