"""One completion: leave to send → lease → upstream → answer, sent once; on a 401 or 421 once more.

The caller sees whatever Copilot answers; what the answer makes *us* do is the table in
`core.answers`, and it is done before the first byte has reached the caller. Bytes are never
touched: the beginning of a refusal is read, to explain it and to replace it where it can be;
every other answer passes as it comes and costs no task and no await of its own here.

The pacer gives leave to send, one ticket for each request whatever becomes of it. Until there is
an answer the ticket is ours (or `Begun`'s), then it is the answer's: whoever holds that closes it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from brokerd.core.answers import REFUSED_FROM, Action, action_for
from brokerd.core.completions import ENGINES, UpstreamCall
from brokerd.core.hints import addressed
from brokerd.core.pacing.model_name import model_of
from brokerd.core.refusals import MODEL_NOT_SUPPORTED, explain, is_limit, with_terms
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import BrokerError, PermanentError, TransientError
from brokerd.proxy.answer import Answer, WatchedAnswer
from brokerd.proxy.begun import Begun
from brokerd.proxy.lender import MIN_VALID
from brokerd.proxy.models import Models
from brokerd.proxy.peeked import PeekedReply, peek
from brokerd.proxy.refused_tokens import RefusedTokens
from brokerd.proxy.seen import Seen
from brokerd.proxy.turn_headers import TurnHeaders
from brokerd.proxy.whose import Whose


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from brokerd.core.completions import CompletionRequest
    from brokerd.core.quota_header import QuotaSnapshot
    from brokerd.core.refusals import Refusal
    from brokerd.errors import Failure
    from brokerd.pacer import Pacer, Ticket
    from brokerd.ports import CopilotApi, Reply
    from brokerd.proxy.begun import Listener
    from brokerd.proxy.lender import Lender
    from brokerd.views import LeasedToken, ModelList, PacingView

    OnSent: TypeAlias = Callable[[str, str], None]


__all__ = ["Proxy"]

log = logging.getLogger(__name__)

_NOT_SENT = frozenset({"upstream_busy", "cooling_down"})
"""Codes of the TransientErrors without an answer that are not upstream's fault: nothing was sent,
for we have as many connections as we may, or others were refused while one was made."""

INITIATOR = "x-initiator"

_boottime = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class Proxy:
    """Sends completions for callers that never see a token."""

    def __init__(
        self,
        broker: Lender,
        copilot: Callable[[], CopilotApi],
        pacer: Pacer,
        *,
        monotonic: Callable[[], float] = _boottime,
        wall: Callable[[], float] = time.time,
        on_used_up: Callable[[str], None] = lambda _account: None,
    ) -> None:
        """`copilot` gives the API of the moment: a changed configuration brings another.

        `monotonic` should count suspend: an hour of sleep ages a list of models too. `on_used_up`
        is told the account when Copilot says that its quota is used up (402).
        """
        self._broker = broker
        self._copilot = copilot
        self._pacer = pacer
        self._monotonic = monotonic
        self._wall = wall
        self._on_used_up = on_used_up
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._turns = TurnHeaders(monotonic)
        self._tokens = RefusedTokens(broker, monotonic)
        self._seen = Seen(monotonic)
        whose = Whose(broker, self.forget)
        self._models = Models(broker, copilot, pacer, self._tokens, whose, seconds=monotonic)
        self.peek_models: Callable[[str], Sequence[Mapping[str, Any]]] = self._models.peek
        """Return the list that is kept, however old; nothing is asked. Empty: there is none."""

    # -- completions --------------------------------------------------------------------------

    async def open(
        self, request: CompletionRequest, on_sent: OnSent = lambda _account, _initiator: None
    ) -> Answer:
        """Send it and return the answer, whatever its status, once its head is there.

        A refusal is there once it was read. The headers name the account
        (`x-copilot-broker-account`). Cancelling it cuts upstream. Raises BrokerError for the
        broker's own refusals: no login, no answer, upstream wants no requests for now.
        """
        is_watched = log.isEnabledFor(logging.DEBUG)
        began_at = self._monotonic() if is_watched else 0.0
        lease = await self._broker.lease(request.account, min_valid=MIN_VALID)
        naming = request.naming
        ticket = self._pacer.enter(lease.account, request.peer, naming)
        try:
            if ticket is None:
                ticket = await self._pacer.turn(lease.account, request.peer, naming)
                # That may have taken a while.
                lease = await self._broker.lease(lease.account, min_valid=MIN_VALID)
                ticket.again()
            headers, reason = self._turns.of(request, lease.account)
            answer = await self._answer(request, lease, headers, ticket, on_sent)
        except BaseException:
            if ticket is not None:
                ticket.close()
            raise
        if not is_watched:
            return answer
        said = headers.get("x-initiator", "none")
        turn = {
            "INITIATOR": said if said in ("user", "agent", "none") else "other",
            "REASON": reason,
        }
        return WatchedAnswer(answer, turn, began_at, self._monotonic)

    def begin(self, request: CompletionRequest, listener: Listener) -> Begun:
        """As `open`, for who does not want to wait: the listener is told how it went, once.

        Not before this returns. Where a token and a connection are at hand and nothing is held
        back there is no task, nor an await. Raises BrokerError for what is refused at once.
        """
        # Who debugs is answered the long way, which writes down how it went.
        is_watched = log.isEnabledFor(logging.DEBUG)
        found = None if is_watched else self._broker.leasable(request.account, MIN_VALID)
        if found is not None:
            lease = found[0]
            ticket = self._pacer.enter(lease.account, request.peer, request.naming)
            if ticket is not None:
                try:
                    return self._begin_with(request, lease, listener, ticket)
                except BaseException:
                    ticket.close()
                    raise
        begun = Begun(listener)
        begun.wait_for(self._track(self.open(request, begun.note_sent)))
        return begun

    def _begin_with(
        self, request: CompletionRequest, lease: LeasedToken, listener: Listener, ticket: Ticket
    ) -> Begun:
        headers, _ = self._turns.of(request, lease.account)
        begun = Begun(listener, ticket)

        def arrived(outcome: Reply | BrokerError) -> None:
            if isinstance(outcome, BrokerError):
                _tell_lost(ticket, outcome)
                begun.tell(outcome)
            elif outcome.status >= REFUSED_FROM:
                note = begun.note_sent
                work = self._settled(outcome, request, lease, headers, ticket, on_sent=note)
                begun.wait_for(self._track(work))
            else:
                begun.tell(self._passed(outcome, lease.account, ticket, headers))

        exchange = self._copilot().begin(_call(request, lease, headers), arrived)
        if exchange is not None:
            begun.sent = lease.account, headers.get(INITIATOR, "")
            begun.wait_on(exchange)
        else:  # a connection has to be made first; what was read of the body stands
            work = self._answer(request, lease, headers, ticket, begun.note_sent)
            begun.wait_for(self._track(work))
        return begun

    def _track(self, work: Coroutine[None, None, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(
        self,
        request: CompletionRequest,
        lease: LeasedToken,
        headers: Mapping[str, str],
        ticket: Ticket,
        on_sent: OnSent,
    ) -> Answer:
        """Send it, do what the answer makes us do, and return the answer to pass on."""
        reply = await self._send(request, lease, headers, ticket, on_sent)
        if reply.status >= REFUSED_FROM:
            return await self._settled(reply, request, lease, headers, ticket, on_sent=on_sent)
        return self._passed(reply, lease.account, ticket, headers)

    async def _send(
        self,
        request: CompletionRequest,
        lease: LeasedToken,
        headers: Mapping[str, str],
        ticket: Ticket,
        on_sent: OnSent,
    ) -> Reply:
        sent = partial(on_sent, lease.account, headers.get(INITIATOR, ""))
        try:
            # A connection that has to be made takes a while.
            return await self._copilot().open(_call(request, lease, headers), ticket.again, sent)
        except BrokerError as error:
            _tell_lost(ticket, error)
            raise

    def _passed(
        self, reply: Reply, account: str, ticket: Ticket, headers: Mapping[str, str]
    ) -> Answer:
        ticket.answered(reply.status, None)
        self._seen.headers(account, reply.headers)
        return Answer(reply, account, ticket, initiator=headers.get(INITIATOR, ""))

    # -- refusals -----------------------------------------------------------------------------

    async def _settled(
        self,
        reply: Reply,
        request: CompletionRequest,
        lease: LeasedToken,
        headers: Mapping[str, str],
        ticket: Ticket,
        *,
        on_sent: OnSent,
    ) -> Answer:
        """Do what the table says of a refusal; return the answer to pass on, explained."""
        peeked = await _peeked(reply, ticket)
        try:
            body = peeked.body
            action = action_for(reply.status, body, is_replay=False, is_direct=lease.is_direct)
            if action is Action.REPLAY or action is Action.REPLAY_ELSEWHERE:
                is_misdirected = action is Action.REPLAY_ELSEWHERE
                fresh = await self._tokens.instead(lease, is_misdirected=is_misdirected)
                if fresh is not None:
                    ticket.again()  # a new token took a while
                    peeked.close()
                    lease = fresh
                    # The same headers: a request sent again keeps its x-request-id.
                    reply = await self._send(request, lease, headers, ticket, on_sent)
                    if reply.status < REFUSED_FROM:
                        return self._passed(reply, lease.account, ticket, headers)
                    peeked = await _peeked(reply, ticket)
                    body = peeked.body
                    action = action_for(reply.status, is_replay=True)
            if action is Action.DROP_TOKEN:
                self._tokens.drop(lease, is_rejected=reply.status == 401)
            elif action is Action.REREAD_QUOTA:
                extra = {"ACCOUNT": lease.account, "STATUS": reply.status}
                log.info("quota used up", extra=extra)
                self._on_used_up(lease.account)
            refusal = self._explained(reply, body, request, lease.account)
            ticket.answered(reply.status, refusal)
        except BaseException:
            peeked.close()
            raise
        initiator = headers.get(INITIATOR, "")
        return Answer(peeked, lease.account, ticket, refusal.failure, initiator=initiator)

    def _explained(
        self, reply: Reply, body: bytes, request: CompletionRequest, account: str
    ) -> Refusal:
        refusal = explain(reply.status, reply.headers, body, now=self._wall())
        if refusal.failure.code == MODEL_NOT_SUPPORTED and (models := self._models.peek(account)):
            failure = with_terms(refusal.failure, model_of(request.naming), models)
            refusal = replace(refusal, failure=failure)
        # Who names none means the chosen default; `login` means the account called `default`.
        if request.account is not None or account != DEFAULT_ACCOUNT:
            refusal = replace(refusal, failure=addressed(refusal.failure, account))
        self._seen.headers(account, reply.headers)
        self.note_refusal(account, refusal.failure)
        extra = {"ACCOUNT": account, "STATUS": reply.status, "ERROR_CODE": refusal.failure.code}
        log.info("completion refused", extra=extra)
        return refusal

    # -- models -------------------------------------------------------------------------------

    async def models(self, account: str | None, *, fresh: bool = False) -> ModelList:
        """Return the models that Copilot lists for the account, at most ten minutes old.

        Older where GitHub does not tell for now: `failure` says why. A refused token is replaced
        and the question asked once more. Raises BrokerError.
        """
        with _about(account):
            return await self._models.listed(account, fresh=fresh)

    async def enable_model(self, account: str | None, model: str) -> tuple[str, str]:
        """Accept a model's terms for the person; return the account's name and the policy's state.

        Raises BrokerError: PermanentError USAGE `unknown_model` for one that Copilot has not.
        """
        with _about(account):
            return await self._models.enable(account, model)

    # -- what is known of an account ----------------------------------------------------------

    def note_refusal(self, account: str, failure: Failure) -> None:
        """Keep it as the account's last one: an error in the middle of a stream, say."""
        self._seen.refusal(account, failure)

    def last_refusal(self, account: str) -> tuple[Failure, float] | None:
        """Return the last refusal of Copilot's, and how many seconds ago it was."""
        return self._seen.last_refusal(account)

    def quota(self, account: str) -> dict[str, QuotaSnapshot]:
        """Return what is left of the plan, as the last answer that had it in its headers said."""
        return self._seen.quota(account)

    def pacing(self, account: str) -> PacingView:
        """Show how its pacing gate stands."""
        return self._pacer.view(account)

    def forget(self, account: str) -> None:
        """Start anew with it: somebody else is signed in under that name."""
        log.info("account changed hands", extra={"ACCOUNT": account})
        self._seen.forget(account)
        self._models.forget(account)
        self._tokens.forget(account)
        self._pacer.forget(account)


@contextmanager
def _about(account: str | None) -> Iterator[None]:
    """Let the next steps of failures name the account that was asked for."""
    try:
        yield
    except BrokerError as error:
        if account is None:  # the default one
            raise
        kind = TransientError if isinstance(error, TransientError) else PermanentError
        raise kind(addressed(error.failure, account)) from error


async def _peeked(reply: Reply, ticket: Ticket) -> PeekedReply:
    """Read the beginning of a refusal; nobody else's request is sent into a limit meanwhile."""
    if is_limit(reply.status, reply.headers):
        ticket.limited()
    return await peek(reply)


def _tell_lost(ticket: Ticket, error: BrokerError) -> None:
    """Tell the pacer of an answer that did not come, unless that was not for upstream's sake."""
    if isinstance(error, TransientError) and error.failure.code not in _NOT_SENT:
        ticket.lost()


def _call(
    request: CompletionRequest, lease: LeasedToken, headers: Mapping[str, str]
) -> UpstreamCall:
    is_fim = request.path.startswith(ENGINES)
    return UpstreamCall(
        lease.host,
        lease.completions_base if is_fim else lease.api_base,
        lease.token,
        request.path,
        request.body,
        headers,
        lease.is_direct,
        is_fim,
    )
