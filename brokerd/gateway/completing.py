"""One completion for an HTTP client, from its request to the last byte: calls, and no task.

A refusal of Copilot's comes back with its status and, where it is none that the caller's library
could read, in words that it can. An answer passes as it is, unless it has to be translated or a
repair fires. A task there is only where something has to be waited for: the account's first list
of models, a token, a connection.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final

from brokerd.core.fim import WholeCompletion
from brokerd.core.refusals import explain_whole
from brokerd.core.repairs.answering import AnswerRepairs, answer_repairs
from brokerd.core.unseen_usage import unseen_usage
from brokerd.core.usage_tail import UsageTail, usage_of
from brokerd.errors import BrokerError, ErrorClass, Failure
from brokerd.gateway.changed import Repaired, Untouched
from brokerd.gateway.collected import Collected
from brokerd.gateway.messages import Reply
from brokerd.gateway.plan import ACCOUNT
from brokerd.gateway.relay import Relay
from brokerd.gateway.replies import ERROR, defect, refused
from brokerd.gateway.wanted import FIM, Asked, account_of, permit, wanted, wanted_fim
from brokerd.proxy.outcome import Outcome


if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from brokerd.core.usage_tail import Usage
    from brokerd.gate import Caller
    from brokerd.gateway.changed import Changed
    from brokerd.gateway.messages import Outlet
    from brokerd.gateway.plan import Plan
    from brokerd.gateway.wanted import Wanted
    from brokerd.gateway.workshop import Workshop
    from brokerd.proxy import Answer
    from brokerd.proxy.begun import Begun


__all__ = ["Completing"]

log = logging.getLogger(__name__)

TRANSLATED: Final = "x-copilot-broker-translated"
"""Of an answer that was translated: from which endpoint's words into which."""

MODEL: Final = "x-copilot-broker-model"
"""Of an answer by a model that was asked for under another name."""

REPAIRED: Final = "x-copilot-broker-repaired"
"""Of an answer: names of the repairs that were made, as far as they are known at its head."""

_NOT_OURS_TO_PASS: Final = (
    "access-control-", "alt-svc", "location", "refresh", "strict-transport-security",
)  # fmt: skip
"""Beginnings of upstream's headers that are about itself: what pages may read it, where else it
can be found. Said by us they would be about this machine, and a library that follows a redirect
would take its prompt, and its key to us, to wherever that leads."""

_LENGTH: Final = "content-length"

NAMES_MAX: Final = 256
"""Names of headers that are remembered; Copilot uses some thirty."""

_seen: set[str] = set()
_kept_back: set[str] = {_LENGTH}
"""Those of them that are not passed on."""

JSON: Final = "application/json"


class Completing:
    """`Work` of one request; what it is waiting for, or what the answer flows through."""

    __slots__ = (
        "_account", "_account_used", "_answered", "_begun", "_body", "_code", "_head_seconds",
        "_initiator", "_is_over",
        "_is_permitted", "_manner", "_model", "_outlet", "_plan", "_repairs", "_route", "_shop",
        "_since", "_size", "_status", "_tail", "_task", "_under_way", "_usage", "_wanted",
        "caller",
    )  # fmt: skip

    def __init__(
        self, shop: Workshop, body: bytes, plan: Plan, outlet: Outlet, caller: Caller
    ) -> None:
        assert plan.route is not None
        self._shop = shop
        self._body = body
        self._plan = plan
        self._route = plan.route
        self._outlet = outlet
        self._manner = shop.manner
        self._account = account_of(plan.account, caller)
        """Whose login is asked for; None: the default one's."""
        self._begun: Begun | None = None
        self._task: asyncio.Task[None] | None = None
        self._under_way: Relay | Collected | None = None
        self._wanted: Wanted | None = None
        self._repairs: AnswerRepairs | None = None
        self._is_over = self._is_permitted = False
        self.caller = caller
        self._account_used = self._initiator = self._model = self._code = ""
        self._status = self._answered = 0
        self._tail: UsageTail | None = None
        """Of a stream."""
        self._usage: Usage | None = None
        """Of a whole answer."""
        self._head_seconds: float | None = None
        self._size = 0
        """Bytes of a whole answer."""
        self._since = monotonic()
        shop.on_begin()

    def start(self) -> None:
        """Begin; it may be answered when this returns."""
        if self._plan.bad_header is not None:
            self._refuse(self._plan.bad_header)
            return
        if self._route.path == FIM:  # its host has models of its own
            self._send({})
            return
        try:
            self._is_permitted = permit(self._body, self._account, self.caller, self._manner)
        except BrokerError as error:
            self._refuse(error.failure)
            return
        account = self._account or self._shop.default_account()
        known = self._shop.catalogue.now(account)
        if known is None:
            self._task = asyncio.get_running_loop().create_task(self._wait(account))
        else:
            self._send(known)

    def go_on(self) -> None:
        """See `Work.go_on`."""
        if self._under_way is not None:
            self._under_way.go_on()

    def close(self) -> None:
        """See `Work.close`."""
        if self._task is not None:
            self._task.cancel()
        if self._begun is not None:
            self._note_sent(self._begun)
            self._begun.close()
        if self._under_way is not None:
            self._under_way.close()
        self._over()

    # -- the question -------------------------------------------------------------------------

    async def _wait(self, account: str) -> None:
        known = await self._shop.catalogue.get(account)
        self._task = None
        self._send(known)

    def _send(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        route, plan = self._route, self._plan
        try:
            asked = Asked(self._body, self._account, plan.headers)
            if route.path == FIM:
                found = wanted_fim(asked, self.caller, route.model, self._manner)
            else:
                found = wanted(
                    asked,
                    self.caller,
                    route.path,
                    known,
                    self._manner,
                    is_permitted=self._is_permitted,
                )
            self._wanted, self._model = found, found.model
            self._begun = self._shop.proxy.begin(found.request, self._arrived)
        except BrokerError as error:
            self._refuse(error.failure)
        except Exception:
            log.exception("request not served")
            self._reply(defect(plan.dialect))

    def _arrived(self, outcome: Answer | BaseException) -> None:
        begun, self._begun = self._begun, None
        if begun is not None and isinstance(outcome, BaseException):
            self._note_sent(begun)
        if isinstance(outcome, BrokerError):
            self._refuse(outcome.failure)
        elif isinstance(outcome, BaseException):
            log.error("request not served", exc_info=outcome)
            self._reply(defect(self._plan.dialect))
        else:
            self._head_seconds = monotonic() - self._since
            self._account_used, self._initiator = outcome.account, outcome.initiator
            self.caller.complete(outcome.account)
            try:
                self._answer(outcome)
            except Exception:
                log.exception("answer not passed on")
                outcome.close()
                self._reply(defect(self._plan.dialect))

    def _note_sent(self, begun: Begun) -> None:
        """Know whose login it cost, though there was no answer."""
        if begun.sent is not None:
            self._account_used, self._initiator = begun.sent

    # -- the answer ---------------------------------------------------------------------------

    def _answer(self, answer: Answer) -> None:
        assert self._wanted is not None
        self._status = self._answered = answer.status
        request = self._wanted.request
        self._repairs = answer_repairs(
            request.path, self._manner.repairs, request.body, self._plan.dialect
        )
        kind = answer.headers.get("content-type", "")
        is_stream = answer.refusal is None and kind.startswith("text/event-stream")
        if answer.headers.get("content-encoding", "identity") != "identity":
            is_stream = False  # packed, though we asked for it plain: no event could be put in
        if not is_stream or self._wanted.wants_whole:
            body = answer.take_whole()
            if body is None:
                whole = Collected(answer, self._shop.held, partial(self._collected, answer))
                self._under_way = whole
                whole.start()
            else:
                answer.close()
                self._collected(answer, body, None)
            return
        self._tail = UsageTail()
        relay = self._under_way = Relay(
            answer,
            self._outlet,
            self._shop.keepalive,
            self._tail,
            self._changed(),
            on_end=self._streamed,
            on_refusal=self._refused_within,
        )
        self._outlet.start(answer.status, self._headers(answer))
        relay.start()

    def _changed(self) -> Changed:
        assert self._wanted is not None
        assert self._repairs is not None
        repairs = self._repairs.stream()
        translation = self._wanted.translation
        told = Untouched(self._plan.dialect) if translation is None else translation.stream()
        return told if repairs is None else Repaired(repairs, told)

    def _refused_within(self, failure: Failure) -> None:
        self._code = failure.code
        self._shop.proxy.note_refusal(self._account_used, failure)

    def _streamed(self, failure: Failure | None) -> None:
        self._under_way = None
        if failure is not None:
            self._code = failure.code
        self._over()

    def _collected(self, answer: Answer, body: bytes, failure: Failure | None) -> None:
        self._under_way = None
        try:
            self._reply(self._whole(answer, body, failure))
        except BrokerError as error:
            self._refuse(error.failure)
        except Exception:
            log.exception("answer not passed on")
            self._reply(defect(self._plan.dialect))

    def _whole(self, answer: Answer, body: bytes, failure: Failure | None) -> Reply:
        assert self._wanted is not None
        if failure is not None:  # upstream has died: whether it was served is not known
            self._code = failure.code
            return refused(self._plan.dialect, failure, more={ACCOUNT: answer.account})
        headers = self._headers(answer)
        assert self._repairs is not None
        refusal = answer.refusal
        if refusal is not None:
            self._code = refusal.code
            told, body = self._repairs.whole(answer.status, headers, body, refusal)
            return Reply(answer.status, {**told, ERROR: refusal.code}, body)
        self._usage, self._size = usage_of(body), len(body)
        if (failure := explain_whole(body)) is not None:
            self._code = failure.code
            self._shop.proxy.note_refusal(answer.account, failure)
        elif self._wanted.wants_whole:
            body = _fim_whole(body)
            headers["content-type"] = JSON
        else:
            _, body = self._repairs.whole(answer.status, headers, body)
            if self._wanted.translation is not None:
                try:
                    body = self._wanted.translation.whole(body)
                except ValueError as error:
                    more = {ACCOUNT: answer.account}
                    return refused(self._plan.dialect, _unreadable(error), 502, more)
        if repairs := (*self._wanted.repairs, *self._repairs.fired):
            headers[REPAIRED] = ", ".join(repairs)
        return Reply(answer.status, headers, body)

    def _headers(self, answer: Answer) -> dict[str, str]:
        assert self._wanted is not None
        headers = _passed_on(answer.headers)
        if self._wanted.is_renamed:
            headers[MODEL] = self._model
        if self._wanted.repairs:
            headers[REPAIRED] = ", ".join(self._wanted.repairs)
        if self._wanted.translation is not None and answer.refusal is None:
            headers[TRANSLATED] = f"{self._wanted.request.path} to {self._route.path}"
        return headers

    def _refuse(self, failure: Failure) -> None:
        self._code = failure.code
        account = self._account or self._shop.default_account()
        more = {ACCOUNT: account} if account else None
        self._reply(refused(self._plan.dialect, failure, more=more))

    def _reply(self, reply: Reply) -> None:
        self._status = reply.status
        self._over()  # before anybody has it
        self._outlet.reply(reply)

    def _over(self) -> None:
        if not self._is_over:
            self._is_over = True
            usage = self._usage if self._tail is None else self._tail.usage()
            outcome = Outcome(
                self._route.path,
                self.caller,
                self._status,
                self._account_used,
                self._model,
                self._code,
                monotonic() - self._since,
                self._head_seconds,
                usage,
                self._spent(usage),
                self._initiator,
                self._answered,
            )
            self._shop.on_end(outcome)

    def _spent(self, usage: Usage | None) -> int:
        """Return the tokens that a budget is charged; who hangs up early pays as well."""
        if usage is not None and usage.total:
            return usage.total
        was_served = self._head_seconds is not None and self._status < HTTPStatus.MULTIPLE_CHOICES
        if not was_served or not self.caller.has_budget:
            return 0
        return unseen_usage(self._body, self._size if self._tail is None else self._tail.size)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what of upstream's headers is for the caller; which are, is found out once."""
    passed = dict(headers)
    if not passed.keys() <= _seen:
        for name in headers:
            if name.startswith(_NOT_OURS_TO_PASS):
                del passed[name]  # each time where there is no room to remember it
                if len(_seen) < NAMES_MAX:
                    _kept_back.add(name)
        _seen.update(islice(headers, NAMES_MAX - len(_seen)))
    for name in _kept_back:
        passed.pop(name, None)
    return passed


def _fim_whole(stream: bytes) -> bytes:
    whole = WholeCompletion()
    whole.feed(stream)
    return whole.end()


def _unreadable(error: ValueError) -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "answer_not_translatable",
        f"the answer cannot be translated: {error}",
        "Choose a model that speaks this endpoint: copilot-cred models",
    )
