"""One completion: lease → upstream → answer, sent once; on a 401 or 421 once more.

The caller sees whatever Copilot answers; what the answer makes *us* do is the table in
`core.answers`, and it is done before the first byte has reached the caller. Bytes are never
touched: an answer that might be replaced is read and held, every other one passes as it comes.

An answer without a row in the table costs no task and no await of its own here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from brokerd.core.answers import Action, action_for, is_of_note, may_replay
from brokerd.core.completions import UpstreamCall
from brokerd.core.request_id import new_request_id
from brokerd.core.turns import Turn, may_be_agents, may_have_image, read_turn
from brokerd.errors import BrokerError, ErrorClass
from brokerd.proxy.answer import Answer, WatchedAnswer
from brokerd.proxy.begun import Begun
from brokerd.proxy.held import hold


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from brokerd.core.completions import CompletionRequest
    from brokerd.ports import CopilotApi, Reply
    from brokerd.proxy.begun import Listener
    from brokerd.views import LeasedToken


__all__ = ["DROP_PAUSE", "MIN_VALID", "Lender", "Proxy"]

log = logging.getLogger(__name__)

MIN_VALID = 10.0
"""Seconds a token must live on: Copilot looks at it when a request begins, and never again."""

DROP_PAUSE = 60.0
"""Seconds in which 403s make us drop one token per account: most are the plan's word."""

TELL_PAUSE = 1.0
"""Seconds in which a derived initiator that stays the same is logged once: a record costs more
than all else that is done for a turn, and a person's turns are seconds apart."""

NO_AGENT = Turn("user", "no_agent_role", has_image=False)
"""Of a body that names no role of an agent's."""

_REJECTED, _MISDIRECTED = "copilot_token_rejected", "misdirected"
"""What a 401 and a 421 are called where the port raises."""


class Lender(Protocol):
    """What the proxy needs of the broker."""

    async def lease(
        self, account: str | None = None, *, min_valid: float = 60.0, reject: str | None = None
    ) -> LeasedToken:
        """See `Broker.lease`."""
        ...

    def leasable(
        self, account: str | None, min_valid: float
    ) -> tuple[LeasedToken, int, float] | None:
        """See `Broker.leasable`."""
        ...

    def reject(self, account: str, token_id: str) -> None:
        """See `Broker.reject`."""
        ...


class Proxy:
    """Sends completions for callers that never see a token."""

    def __init__(
        self,
        broker: Lender,
        copilot: Callable[[], CopilotApi],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`copilot` gives the API of the moment: a changed configuration brings another."""
        self._broker = broker
        self._copilot = copilot
        self._monotonic = monotonic
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._dropped_at: dict[str, float] = {}
        self._told: dict[str, tuple[Turn, float]] = {}
        """Account → what its log was last told of a derived initiator, and when."""

    async def open(self, request: CompletionRequest) -> Answer:
        """Send it and return the answer, whatever its status, once its head is there.

        The headers name the account (`x-copilot-broker-account`). Cancelling it cuts upstream.
        Raises BrokerError for the broker's own refusals: no login, no answer.
        """
        is_watched = log.isEnabledFor(logging.DEBUG)
        began_at = self._monotonic() if is_watched else 0.0
        lease = await self._broker.lease(request.account, min_valid=MIN_VALID)
        headers, reason = self._headers(request, lease.account)
        reply = await self._ask(request, lease, headers)
        if not is_watched:
            return Answer(reply, lease.account)
        said = headers["x-initiator"]
        turn = {"INITIATOR": said if said in ("user", "agent") else "other", "REASON": reason}
        return WatchedAnswer(reply, lease.account, turn, began_at, self._monotonic)

    def begin(self, request: CompletionRequest, listener: Listener) -> Begun:
        """As `open`, for who does not want to wait: the listener is told how it went, once.

        Not before this returns. Where a token and a connection are at hand there is no task, nor
        an await. Raises BrokerError for what is refused at once.
        """
        begun = Begun(listener)
        # Who debugs is answered the long way, which writes down how it went.
        is_watched = log.isEnabledFor(logging.DEBUG)
        found = None if is_watched else self._broker.leasable(request.account, MIN_VALID)
        if found is None:
            begun.wait_for(self._track(self.open(request)))
        else:
            self._begin_with(request, found[0], begun)
        return begun

    def _begin_with(self, request: CompletionRequest, lease: LeasedToken, begun: Begun) -> None:
        headers, _ = self._headers(request, lease.account)

        def listener(outcome: Reply | BrokerError) -> None:
            if isinstance(outcome, BrokerError):
                begun.tell(outcome)
            elif is_of_note(outcome.status):
                begun.wait_for(self._track(self._settle(outcome, request, lease, headers)))
            else:
                begun.tell(Answer(outcome, lease.account))

        exchange = self._copilot().begin(_call(request, lease, headers), listener)
        if exchange is not None:
            begun.wait_on(exchange)
        else:  # a connection has to be made first; what was read of the body stands
            begun.wait_for(self._track(self._answer(request, lease, headers)))

    async def _settle(
        self,
        reply: Reply,
        request: CompletionRequest,
        lease: LeasedToken,
        headers: Mapping[str, str],
    ) -> Answer:
        return Answer(await self._act_on(reply, request, lease, headers), lease.account)

    async def _answer(
        self, request: CompletionRequest, lease: LeasedToken, headers: Mapping[str, str]
    ) -> Answer:
        return Answer(await self._ask(request, lease, headers), lease.account)

    async def _ask(
        self, request: CompletionRequest, lease: LeasedToken, headers: Mapping[str, str]
    ) -> Reply:
        """Send it, do what the answer makes us do, and return the answer to pass on."""
        reply = await self._copilot().open(_call(request, lease, headers))
        if is_of_note(reply.status):
            reply = await self._act_on(reply, request, lease, headers)
        return reply

    def _track(self, work: Coroutine[None, None, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(self._tasks.discard)
        return task

    async def models(self, account: str | None) -> tuple[str, list[dict[str, Any]]]:
        """Return the account's name and the models that Copilot lists for it.

        A refused token is replaced and the question asked once more. Raises BrokerError.
        """
        lease = await self._broker.lease(account, min_valid=MIN_VALID)
        try:
            return lease.account, await self._models(lease)
        except BrokerError as error:
            if error.failure.code not in (_REJECTED, _MISDIRECTED):
                raise
            refused = error
        _tell_rejected(lease, is_misdirected=refused.failure.code == _MISDIRECTED)
        fresh = await self._replaced(lease)
        if fresh is None:
            raise refused
        return fresh.account, await self._models(fresh)

    async def _models(self, lease: LeasedToken) -> list[dict[str, Any]]:
        return await self._copilot().models(lease.host, lease.api_base, lease.token)

    def _headers(self, request: CompletionRequest, account: str) -> tuple[dict[str, str], str]:
        """Return what is sent besides the identity, and where its initiator comes from.

        What the caller says is never changed, and then nothing is read for it.
        """
        headers = dict(request.headers)
        if "x-request-id" not in headers:
            headers["x-request-id"] = new_request_id()
        has_initiator = "x-initiator" in headers
        has_vision = "copilot-vision-request" in headers
        if has_initiator and (has_vision or not may_have_image(request.body)):
            return headers, "caller"
        if may_be_agents(request.body) or may_have_image(request.body):
            turn = read_turn(request.body)
        else:
            turn = NO_AGENT
        if turn.has_image and not has_vision:
            headers["copilot-vision-request"] = "true"
        if has_initiator:
            return headers, "caller"
        headers["x-initiator"] = turn.initiator
        self._tell_derived(account, turn)
        return headers, turn.reason

    def _tell_derived(self, account: str, turn: Turn) -> None:
        told, at = self._told.get(account, (None, 0.0))
        now = self._monotonic()
        if told == turn and now - at < TELL_PAUSE:
            return
        self._told[account] = turn, now
        extra = {"ACCOUNT": account, "INITIATOR": turn.initiator, "REASON": turn.reason}
        log.info("initiator derived", extra=extra)

    async def _act_on(
        self,
        reply: Reply,
        request: CompletionRequest,
        lease: LeasedToken,
        headers: Mapping[str, str],
    ) -> Reply:
        """Do what the table says; return the answer to pass on."""
        body = b""
        if may_replay(reply.status):
            reply = await hold(reply)
            body = reply.body
        action = action_for(reply.status, body, is_replay=False)
        if action is Action.REPLAY or action is Action.REPLAY_ELSEWHERE:
            _tell_rejected(lease, is_misdirected=action is Action.REPLAY_ELSEWHERE)
            fresh = await self._lease_instead(lease)
            if fresh is None:
                return reply
            lease = fresh
            # The same headers: a request sent again keeps its x-request-id.
            reply = await self._copilot().open(_call(request, lease, headers))
            action = action_for(reply.status, is_replay=True)
        if action is Action.DROP_TOKEN:
            self._drop_token(lease)
        elif action is Action.REREAD_QUOTA:
            extra = {"ACCOUNT": lease.account, "STATUS": reply.status}
            log.info("quota used up", extra=extra)
        return reply

    async def _lease_instead(self, lease: LeasedToken) -> LeasedToken | None:
        """Have a refused token replaced; None when the refusal is all there is to tell.

        A refresh that fails for good says more than a bare 401 (sign in again, no access), so it
        is raised. One that fails for now says less than Copilot's own words.
        """
        try:
            return await self._replaced(lease)
        except BrokerError as error:
            if error.failure.error_class is not ErrorClass.TEMPORARY:
                raise
            extra = {"ACCOUNT": lease.account, "ERROR_CODE": error.failure.code}
            log.info("refusal passed on", extra=extra)
            return None

    async def _replaced(self, lease: LeasedToken) -> LeasedToken | None:
        """Have a refused token replaced; None when the same comes back: no use asking again."""
        fresh = await self._broker.lease(lease.account, min_valid=MIN_VALID, reject=lease.token_id)
        is_same = (fresh.token_id, fresh.api_base) == (lease.token_id, lease.api_base)
        return None if is_same else fresh

    def _drop_token(self, lease: LeasedToken) -> None:
        now = self._monotonic()
        dropped_at = self._dropped_at.get(lease.account)
        is_due = dropped_at is None or now - dropped_at >= DROP_PAUSE
        extra = {"ACCOUNT": lease.account, "TOKEN_FP": lease.token_id, "DROPPED": int(is_due)}
        log.info("completion forbidden", extra=extra)
        if is_due:
            self._dropped_at[lease.account] = now
            self._broker.reject(lease.account, lease.token_id)


def _tell_rejected(lease: LeasedToken, *, is_misdirected: bool) -> None:
    extra = {"ACCOUNT": lease.account, "TOKEN_FP": lease.token_id}
    if is_misdirected:
        log.info("wrong host for the token", extra={**extra, "API_BASE": lease.api_base})
    else:
        log.warning("token rejected by Copilot", extra=extra)


def _call(
    request: CompletionRequest, lease: LeasedToken, headers: Mapping[str, str]
) -> UpstreamCall:
    return UpstreamCall(
        lease.host, lease.api_base, lease.token, request.path, request.body, headers
    )
