"""The requests of one connection that are under way, from the gate's word to the last answer.

What can be answered at once never waits. A method that has to wait is a task; so is a stream of
maps (`token.watch`, `account.login`) for as long as it runs. Completions are driven by upstream's
reads (`completions`). Each counts as in flight until its end; of `REQUESTS_IN_FLIGHT` + 1 the last
is refused (`too_many_requests`) rather than left unread, because the credit that lets earlier ones
end comes through the same socket.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from brokerd.core.asked_model import asked_model
from brokerd.rpc.call import Call, Later
from brokerd.rpc.completions import Completions
from brokerd.rpc.failures import (
    REQUEST_CANCELLED,
    SHUTTING_DOWN,
    TOO_MANY_REQUESTS,
    error_info,
)
from copilot_broker.wire.errors import LocalProtocolError
from copilot_broker.wire.limits import REQUESTS_IN_FLIGHT


if TYPE_CHECKING:
    from collections.abc import Coroutine

    from brokerd.gate import Caller
    from brokerd.rpc.call import Chunks
    from brokerd.rpc.link import Link
    from brokerd.rpc.methods import Methods
    from copilot_broker.wire.connection import Connection
    from copilot_broker.wire.events import RequestReceived
    from copilot_broker.wire.messages import ErrorInfo


__all__ = ["InFlight"]


class InFlight:
    """See the module's docstring."""

    def __init__(self, wire: Connection, caller: Caller, methods: Methods, link: Link) -> None:
        self._wire = wire
        self._caller = caller
        self._methods = methods
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, asyncio.Task[None]] = {}
        """msgid → the task that will answer it."""
        self._pumps: dict[int, asyncio.Task[None]] = {}
        self._completions = Completions(wire, caller, methods.proxy, link, methods.on_completed)
        self._room = asyncio.Event()
        self._refusing = False

    def __bool__(self) -> bool:
        return bool(self._tasks or self._completions)

    @property
    def full(self) -> bool:
        """Whether one more request would be refused."""
        return len(self._tasks) + len(self._completions) >= REQUESTS_IN_FLIGHT

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """What runs; after `close`, what is still being cancelled."""
        return frozenset(self._tasks)

    @property
    def kept(self) -> int:
        """Bytes of completions that wait to be passed on."""
        return self._completions.kept

    def begin(self, request: RequestReceived) -> None:
        """Ask the gate, then begin; what can be answered at once is answered when this returns."""
        msgid = request.msgid
        if self.full:
            self._wire.send_error(msgid, TOO_MANY_REQUESTS)
            return
        call = Call(self._caller, request.method, request.params)
        try:
            self._caller.check(call.method, call.params.get("account"), self._model_of(call))
            params = self._caller.pinned(call.method, call.params)
            if params is not call.params:
                call = replace(call, params=params)
            if call.method == "broker.hello":
                self._wire.apply_hello(request.params)
            if call.method == "completion.create":
                self._completions.begin(msgid, call.params)
                return
            begun = self._methods.begin(call)
        except Exception as error:  # noqa: BLE001 - each ends as an answer
            self._wire.send_error(msgid, error_info(error, call.method))
            return
        if isinstance(begun, dict):
            self._send_result(msgid, call, begun)
        elif isinstance(begun, Later):
            self._wait_for(msgid, self._answer(msgid, call, begun))
        else:
            self._begin_stream(msgid, call, begun)

    def _model_of(self, call: Call) -> str | None:
        """Which model it is about; None where that plays no part in this caller's rights."""
        if not self._caller.models_matter:
            return None
        if call.method == "completion.create":
            return asked_model(call.params.get("body"), call.params.get("path"))
        model = call.params.get("model") if call.method == "models.enable" else None
        return model if isinstance(model, str) else None

    def cancel_request(self, msgid: int) -> None:
        """Give up what still waits for its answer; it is answered with an error."""
        if msgid in self._waiting:
            self._cancel_waiting(msgid, REQUEST_CANCELLED)
        else:
            self._completions.cancel_request(msgid)

    def cancel_stream(self, stream: int) -> None:
        """Give up a stream that the wire has ended already."""
        if (task := self._pumps.get(stream)) is not None:
            task.cancel()
        else:
            self._completions.cancel_stream(stream)

    def credit_came(self, stream: int) -> None:
        """Go on with a stream whose receiver has granted more."""
        if not self._completions.credit_came(stream):
            self._room.set()

    def room_came(self) -> None:
        """Go on with all streams, those first that have waited longest."""
        self._room.set()
        self._completions.room_came()

    def start_refusing(self) -> None:
        """End the streams that would never end by themselves; completions may."""
        self._refusing = True
        for task in self._pumps.values():
            task.cancel()

    def give_up(self) -> None:
        """Cancel everything; its callers are told."""
        for msgid in list(self._waiting):
            self._cancel_waiting(msgid, SHUTTING_DOWN)
        for task in self._pumps.values():
            task.cancel()
        self._completions.give_up()
        self._link.transmit()
        self._link.one_less()

    def close(self) -> None:
        """Cancel everything; nobody is told."""
        for task in self._tasks:
            task.cancel()
        self._completions.close()

    # -- one answer ---------------------------------------------------------------------------

    def _wait_for(self, msgid: int, answering: Coroutine[None, None, None]) -> None:
        """Run what will answer; it says `_answered` itself, which spares it a turn of the loop."""
        self._waiting[msgid] = self._track(answering)

    def _answered(self, msgid: int) -> None:
        task = self._waiting.pop(msgid, None)
        if task is not None:
            self._untrack(task)

    def _cancel_waiting(self, msgid: int, error: ErrorInfo) -> None:
        """Have it end, and answer once it has: it may know the answer by then."""
        task = self._waiting[msgid]

        def on_end(task: asyncio.Task[None]) -> None:
            if self._waiting.get(msgid) is not task:
                return
            self._answered(msgid)
            if not self._link.closed:
                self._wire.send_error(msgid, error)
                self._link.transmit()

        # In a callback, as a task that is cancelled before its first step runs no code of its own.
        task.add_done_callback(on_end)
        task.cancel()

    async def _answer(self, msgid: int, call: Call, later: Later) -> None:
        """Answer one request; between the gate's last look and the write there is no await."""
        try:
            result = await later.start()
        except asyncio.CancelledError as cancelled:
            self._fail_unless_cancelled(msgid, call, cancelled)
            raise
        except Exception as raised:  # noqa: BLE001 - each ends as an answer
            self._fail(msgid, call, raised)
            return
        self._answered(msgid)
        if not self._link.closed:
            self._send_result(msgid, call, result)
            self._link.transmit()

    def _send_result(self, msgid: int, call: Call, result: dict[str, object]) -> None:
        try:
            self._wire.send_result(msgid, result)
        except LocalProtocolError as raised:  # upstream's JSON may hold what MessagePack cannot
            self._wire.send_error(msgid, error_info(raised, call.method))

    def _fail_unless_cancelled(
        self, msgid: int, call: Call, raised: asyncio.CancelledError
    ) -> None:
        """Answer also when what was waited for, and not we, was cancelled: a defect."""
        task = self._waiting.get(msgid)
        if task is not None and not task.cancelling():
            self._fail(msgid, call, raised)

    def _fail(self, msgid: int, call: Call, raised: BaseException) -> None:
        error = error_info(raised, call.method)  # a defect is logged whoever still listens
        self._answered(msgid)
        if not self._link.closed:
            self._wire.send_error(msgid, error)
            self._link.transmit()

    # -- streams of maps ----------------------------------------------------------------------

    def _begin_stream(self, msgid: int, call: Call, chunks: Chunks) -> None:
        stream = self._wire.open_stream(msgid)
        task = self._pumps[stream] = self._track(self._pump(stream, call, chunks))
        # In a callback, for the reason given above.
        task.add_done_callback(partial(self._end_pump, stream, call))

    async def _pump(self, stream: int, call: Call, chunks: Chunks) -> None:
        """Send chunks as fast as their receiver grants credit."""
        try:
            async for chunk in chunks:
                while not (self._wire.stream_credit(stream) > 0 and self._link.has_room):
                    self._room.clear()
                    await self._room.wait()
                self._caller.prove_alive(call.method)
                self._wire.send_stream_data(stream, chunk())
                self._link.transmit()
        finally:
            await chunks.aclose()

    def _end_pump(self, stream: int, call: Call, task: asyncio.Task[None]) -> None:
        self._untrack(task)
        del self._pumps[stream]
        error: ErrorInfo | None = None
        if task.cancelled():
            error = SHUTTING_DOWN if self._refusing else None
        elif (raised := task.exception()) is not None:
            error = error_info(raised, call.method)
        if not self._link.closed:
            self._wire.end_stream(stream, error)  # nothing if its receiver cancelled it
            self._link.transmit()

    # -- tasks --------------------------------------------------------------------------------

    def _track(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        return task

    def _untrack(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._link.one_less()
