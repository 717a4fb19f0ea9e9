"""The completions of one connection, from the question to the last byte: calls, and no task.

The proxy tells when the head of an answer is there. A whole answer is then collected and sent at
its end (`WholeAnswer`), a streamed one passes as it comes (`CompletionStream`); upstream's reads
drive both. Whatever gives a completion up closes what is under way for it, and upstream is cut at
once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from brokerd.core.refusals import explain_whole
from brokerd.rpc.completion_stream import CompletionStream
from brokerd.rpc.failures import REQUEST_CANCELLED, SHUTTING_DOWN, error_info, error_of
from brokerd.rpc.params import completion_request
from brokerd.rpc.shapes import completion_map, reply_account
from brokerd.rpc.tally import Tally
from brokerd.rpc.whole_answer import WholeAnswer
from copilot_broker.wire.errors import LocalProtocolError


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.errors import Failure
    from brokerd.gate import Caller
    from brokerd.ports import Exchange
    from brokerd.proxy import Answer, Proxy
    from brokerd.proxy.outcome import Outcome
    from brokerd.rpc.link import Link
    from copilot_broker.wire.connection import Connection
    from copilot_broker.wire.messages import ErrorInfo


__all__ = ["Completions"]

METHOD = "completion.create"


class Completions:
    """See the module's docstring. It is the `Outlet` of its streams."""

    def __init__(
        self,
        wire: Connection,
        caller: Caller,
        proxy: Proxy,
        link: Link,
        on_end: Callable[[Outcome], None],
    ) -> None:
        """`on_end` is told what became of each, before its caller is."""
        self._wire = wire
        self._caller = caller
        self._proxy = proxy
        self._link = link
        self._on_end = on_end
        self.send_chunk = link.send_chunk
        """The `Outlet`'s: chunks are the connection's business."""
        self._asked: dict[int, Exchange | WholeAnswer] = {}
        """msgid → what will answer it; closing that gives it up."""
        self._tallies: dict[int, Tally] = {}
        """msgid → what will be told of those in `_asked`."""
        self._prompts: dict[int, int] = {}
        """msgid → bytes of the prompt, kept until Copilot has answered: it may have to queue."""
        self._collected_bytes = 0
        self._flows: dict[int, CompletionStream] = {}
        self._stalled: dict[int, CompletionStream] = {}
        """Flows that wait for credit or room, in the order in which they came to."""

    def __len__(self) -> int:
        return len(self._asked) + len(self._flows)

    def __bool__(self) -> bool:
        return bool(self._asked or self._flows)

    @property
    def kept(self) -> int:
        """Bytes that wait: prompts for an answer, what came of it for its rest, credit or room."""
        kept = self._collected_bytes
        if self._prompts:
            kept += sum(self._prompts.values())
        if self._stalled:
            kept += sum(flow.kept for flow in self._stalled.values())
        return kept

    def begin(self, msgid: int, params: Mapping[str, Any]) -> None:
        """Ask upstream. Raises BrokerError for what is refused at once."""
        request = completion_request(params, self._caller.peer.pid)
        tally = Tally(self._caller, request, self._on_end)
        listener = partial(self._arrived, msgid, request.stream)
        self._asked[msgid] = tally.begun = self._proxy.begin(request, listener)
        self._tallies[msgid] = tally
        self._prompts[msgid] = tally.prompt_bytes

    def cancel_request(self, msgid: int) -> None:
        """Give up what still waits for its answer; it is answered with an error."""
        if (asked := self._asked.get(msgid)) is not None:
            asked.close()
            self._tallies[msgid].over()
            self._refuse(msgid, REQUEST_CANCELLED)

    def cancel_stream(self, stream: int) -> None:
        """Give up a stream that the wire has ended already."""
        if (flow := self._forget_flow(stream)) is not None:
            flow.close()
            flow.tally.over()
            self._link.one_less()

    def credit_came(self, stream: int) -> bool:
        """Go on with a stream whose receiver has granted more; False: it is none that waits."""
        flow = self._stalled.pop(stream, None)
        if flow is not None:
            flow.go_on()
        return flow is not None

    def room_came(self) -> None:
        """Go on with all streams, those first that have waited longest."""
        for stream in list(self._stalled):
            if not self._link.has_room:
                break
            self.credit_came(stream)

    def give_up(self) -> None:
        """End everything; its callers are told."""
        for msgid, asked in list(self._asked.items()):
            asked.close()
            self._tallies[msgid].over()
            self._refuse(msgid, SHUTTING_DOWN)
        for stream, flow in list(self._flows.items()):
            self._forget_flow(stream)
            flow.close()
            flow.tally.over()
            self._wire.end_stream(stream, SHUTTING_DOWN)

    def close(self) -> None:
        """End everything; nobody is told."""
        under_way = [*self._asked.values(), *self._flows.values()]
        tallies = [*self._tallies.values(), *(flow.tally for flow in self._flows.values())]
        self._asked.clear()
        self._tallies.clear()
        self._prompts.clear()
        self._flows.clear()
        self._stalled.clear()
        for what in under_way:
            what.close()
        for tally in tallies:
            tally.over()

    # -- the head is there --------------------------------------------------------------------

    def _arrived(self, msgid: int, wants_stream: bool, outcome: Answer | BaseException) -> None:
        if isinstance(outcome, BaseException):
            self._refuse(msgid, error_info(outcome, METHOD))
            return
        del self._prompts[msgid]
        account = reply_account(outcome)
        self._tallies[msgid].answered(outcome, account)
        self._caller.complete(account)
        if wants_stream:
            del self._asked[msgid]
            self._start_flow(msgid, outcome, account, self._tallies.pop(msgid))
        else:
            on_end = partial(self._collected, msgid, outcome)
            whole = WholeAnswer(outcome, on_end, self._collecting)
            self._asked[msgid] = whole
            whole.start()
            self._link.tell_held()

    def _collecting(self, nbytes: int) -> None:
        self._collected_bytes += nbytes
        self._link.tell_held()

    def _collected(self, msgid: int, reply: Answer, body: bytes, failure: Failure | None) -> None:
        if failure is not None:
            self._refuse(msgid, error_of(failure))
            return
        refusal = reply.refusal
        if refusal is None and (refusal := explain_whole(body)) is not None:
            self._proxy.note_refusal(reply_account(reply), refusal)
        tally = self._tallies[msgid]
        tally.tail.feed(body)
        tally.over("" if refusal is None else refusal.code)
        try:
            self._wire.send_result(msgid, completion_map(reply, body), error_of(refusal))
        except LocalProtocolError as raised:
            self._refuse(msgid, error_info(raised, METHOD))
            return
        del self._asked[msgid], self._tallies[msgid]
        self._link.transmit()
        self._link.one_less()

    def _refuse(self, msgid: int, error: ErrorInfo) -> None:
        del self._asked[msgid]
        self._prompts.pop(msgid, None)
        self._tallies.pop(msgid).over(error.code)
        self._wire.send_error(msgid, error)
        self._link.transmit()
        self._link.one_less()

    # -- streams ------------------------------------------------------------------------------

    def _start_flow(self, msgid: int, reply: Answer, account: str, tally: Tally) -> None:
        headers, refusal = dict(reply.headers), error_of(reply.refusal)
        stream = self._wire.open_stream(msgid, reply.status, headers, refusal, account=account)
        outgoing = self._wire.outgoing_stream(stream)
        flow = self._flows[stream] = CompletionStream(outgoing, reply, self, tally)
        flow.start()  # what is there already leaves together with the head
        self._link.transmit()

    def stream_stalled(self, stream: int) -> None:
        """Let it go on when there may be room."""
        self._stalled[stream] = self._flows[stream]
        self._link.tell_held()

    def stream_refused(self, reply: Answer, refusal: Failure) -> None:
        """Have the proxy remember it."""
        self._proxy.note_refusal(reply_account(reply), refusal)

    def stream_ended(self, stream: int, failure: Failure | None, refusal: Failure | None) -> None:
        """Tell the caller, and forget it."""
        flow = self._forget_flow(stream)
        if flow is not None:
            wrong = failure or refusal or flow.refusal
            flow.tally.over("" if wrong is None else wrong.code)
        self._wire.end_stream(stream, error_of(failure), error_of(refusal))
        self._link.transmit()
        self._link.one_less()

    def _forget_flow(self, stream: int) -> CompletionStream | None:
        self._stalled.pop(stream, None)
        return self._flows.pop(stream, None)
