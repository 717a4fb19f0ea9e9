"""One connection: the socket on one side, `wire.Connection` on the other, requests in between.

Bytes are read only while there is room for what they may cause: not while more than `OUT_HIGH`
waits to be written, and no faster than events are handled (`EVENTS_PER_TURN`, so that one busy
caller does not keep the loop from the others). Of `REQUESTS_IN_FLIGHT` + 1 requests the last is
refused (`too_many_requests`) rather than left unread, because the credit that lets earlier ones
end comes through the same socket. A stream is in flight until its end.

The connection dies with the process that opened it, with its end of file, and with the first
breach of the protocol; whatever it had asked for is cancelled then.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Protocol

from brokerd.rpc.failures import SHUTTING_DOWN, TOO_MANY_REQUESTS, error_info
from brokerd.rpc.methods import Call, Methods
from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    Event,
    RequestReceived,
    Role,
    StreamCancel,
    StreamCredit,
)
from copilot_broker.wire.errors import RemoteProtocolError
from copilot_broker.wire.limits import REQUESTS_IN_FLIGHT, Limits


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from brokerd.gate import Caller
    from copilot_broker.wire.messages import ErrorInfo


__all__ = ["EVENTS_PER_TURN", "OUT_HIGH", "RECV_CHUNK", "Owner", "Session"]

log = logging.getLogger(__name__)

RECV_CHUNK = 16 * 1024
"""Bytes read at once: many requests, yet few enough that a flood of tiny ones takes one turn of
the loop only some milliseconds."""

EVENTS_PER_TURN = 32
"""Events handled before others have their turn; as many as the wire keeps decoded."""

OUT_HIGH = 64 * 1024
"""Unwritten bytes above which nothing more is read or streamed: dozens of tokens. One answer or
chunk may go beyond it, so a connection holds this and the largest of those."""

JUST_NOW = 1.0
"""Seconds: who connected longer ago and has not asked is not about to."""


class Owner(Protocol):
    """What a session tells the server about itself."""

    def session_moved(self, session: Session) -> None:
        """Note that something arrived: it is the youngest now."""

    def session_held(self, session: Session) -> None:
        """Note that `held` may have changed."""

    def session_idle(self, session: Session) -> None:
        """Note that it has no request in flight any more."""

    def session_closed(self, session: Session) -> None:
        """Note that it is over; called once."""


class Session:
    """See the module's docstring; created for an admitted, non-blocking socket."""

    def __init__(
        self,
        sock: socket.socket,
        caller: Caller,
        methods: Methods,
        owner: Owner,
        limits: Limits,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._sock = sock
        self._caller = caller
        self._methods = methods
        self._owner = owner
        self._wire = Connection(Role.SERVER, limits=limits)
        self._out = bytearray()
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: dict[int, asyncio.Task[None]] = {}
        self._turn_due: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._reading = self._writing = False
        self._asked = self._refusing = self._closed = False
        self._linger = False
        self._pidfd = -1 if caller.peer.pidfd is None else caller.peer.pidfd.fileno()
        if self._pidfd >= 0:  # readable once the process has ended (pidfd_open(2))
            self._loop.add_reader(self._pidfd, self._on_peer_gone)
        self._set_reading(True)

    # -- what the server asks -----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """No request is in flight."""
        return not self._tasks

    @property
    def may_be_evicted(self) -> bool:
        """Idle, and no request of its lies in the socket that we have not got round to read."""
        if self._tasks or not self._reading:
            return not self._tasks
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except OSError:  # EAGAIN: nothing there
            return True

    @property
    def settled(self) -> bool:
        """Nothing is in flight, nothing unwritten, and a caller that just came has asked."""
        return not (self._tasks or self._out or self._linger)

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """What is in flight; after `close`, what is still being cancelled."""
        return frozenset(self._tasks)

    @property
    def held(self) -> int:
        """Bytes kept for this connection, both directions."""
        return self._wire.buffered + len(self._out)

    def start_refusing(self) -> None:
        """Serve what had arrived by now, refuse what comes later, end all streams.

        Who connected and has not asked yet is still served once: connecting and asking are two
        steps, and a broker that restarts between them should not be noticed.
        """
        self._on_readable()
        if self._closed:
            return
        self._linger = not self._asked and self._loop.time() < self._since + JUST_NOW
        self._refusing = True
        for task in self._streams.values():
            task.cancel()
        self._owner.session_idle(self)

    def stop_lingering(self) -> None:
        """Wait no longer for a first request."""
        self._linger = False

    def give_up(self) -> None:
        """Cancel what is in flight; its callers are told."""
        for task in self._tasks:
            task.cancel()

    def close(self, reason: str) -> None:
        """End it now; closing twice is no error. `reason` is for the log."""
        if self._closed:
            return
        self._closed = True
        extra = {"REASON": reason, "PEER_PID": self._caller.peer.pid}
        log.debug("connection closed", extra=extra)
        for handle in (self._timer, self._turn_due):
            if handle is not None:
                handle.cancel()
        self._set_reading(False)
        self._set_writing(False)
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
        for task in self._tasks:
            task.cancel()
        self._wire = Connection(Role.SERVER)  # what it held is free, even if we are kept alive
        self._out.clear()
        self._caller.close()
        self._sock.close()
        self._owner.session_closed(self)

    # -- the socket ---------------------------------------------------------------------------

    def _on_peer_gone(self) -> None:
        self.close("peer_gone")

    def _on_readable(self) -> None:
        if self._closed or not self._reading:
            return
        try:
            data = self._sock.recv(RECV_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close("connection_lost")
            return
        self._owner.session_moved(self)
        try:
            self._wire.receive_data(data, self._loop.time())
        except RemoteProtocolError as error:
            self._on_breach(error)
            return
        self._turn()

    def _on_writable(self) -> None:
        self._write()
        if not self._closed and len(self._out) < OUT_HIGH:
            self._room.set()
            self._turn()

    def _on_timer(self) -> None:
        self._timer_at = None
        try:
            self._wire.handle_timer(self._loop.time())
        except RemoteProtocolError as error:
            self._on_breach(error)
        else:
            self._arm()

    def _on_breach(self, error: RemoteProtocolError) -> None:
        """Close: after a breach nothing that follows can be understood."""
        extra = {"REASON": error.code, "PEER_PID": self._caller.peer.pid}
        log.warning("protocol breached", extra=extra)
        self._transmit()  # answers to what came before it
        self.close(error.code)

    def _turn(self) -> None:
        """Handle a fair share of what has arrived, write, and decide whether to read on."""
        if self._turn_due is not None:
            self._turn_due.cancel()
            self._turn_due = None
        unfinished = True
        for _ in range(EVENTS_PER_TURN):
            if self._closed or len(self._out) >= OUT_HIGH:
                break
            event = self._wire.next_event()
            if event is None:
                unfinished = False
                break
            self._handle(event)
            self._out += self._wire.data_to_send()
        self._transmit()
        if self._closed:
            return
        if unfinished and len(self._out) < OUT_HIGH:
            self._turn_due = self._loop.call_soon(self._turn)
        self._set_reading(not unfinished)
        self._arm()

    def _transmit(self) -> None:
        """Write what can be written; the rest waits for the socket."""
        if self._closed:
            return
        self._out += self._wire.data_to_send()
        if not self._writing:
            self._write()
        self._owner.session_held(self)

    def _write(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close("connection_lost")
            return
        self._set_writing(bool(self._out))
        self._owner.session_held(self)
        if self.settled:
            self._owner.session_idle(self)

    def _set_reading(self, wanted: bool) -> None:
        if wanted and not self._reading:
            self._loop.add_reader(self._sock, self._on_readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._sock)
        self._reading = wanted

    def _set_writing(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._sock, self._on_writable)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._sock)
        self._writing = wanted

    def _arm(self) -> None:
        """Follow the wire's deadline."""
        at = self._wire.deadline()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at is None else self._loop.call_at(at, self._on_timer)

    # -- requests -----------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case StreamCredit():
                self._room.set()
            case StreamCancel():
                if (task := self._streams.get(event.stream)) is not None:
                    task.cancel()
            case ConnectionEnded(error):
                if error is None:
                    self.close("end_of_file")
                else:
                    self._on_breach(error)
            case _:
                pass

    def _begin(self, request: RequestReceived) -> None:
        served = not self._refusing or self._linger
        self._asked, self._linger = True, False
        if not served:
            self._wire.send_error(request.msgid, SHUTTING_DOWN)
            return
        if len(self._tasks) >= REQUESTS_IN_FLIGHT:
            self._wire.send_error(request.msgid, TOO_MANY_REQUESTS)
            return
        call = Call(self._caller, request.method, request.params)
        try:
            self._caller.check(call.method)
            if call.method == "broker.hello":
                self._wire.apply_hello(request.params)
            chunks = self._methods.stream(call)
        except Exception as error:  # noqa: BLE001 - each ends as an answer
            self._wire.send_error(request.msgid, error_info(error, call.method))
            return
        if chunks is None:
            self._track(self._loop.create_task(self._answer(request.msgid, call)))
            return
        stream = self._wire.open_stream(request.msgid)
        task = self._loop.create_task(self._pump(stream, call, chunks))
        self._streams[stream] = task
        # In a callback, as a task that is cancelled before its first step runs no code of its own.
        task.add_done_callback(lambda task: self._end_stream(stream, call, task))
        self._track(task)

    def _track(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._untrack)

    def _untrack(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._closed and self.idle:
            self._owner.session_idle(self)

    async def _answer(self, msgid: int, call: Call) -> None:
        """Answer one request; between the gate's last look and the write there is no await."""
        error: ErrorInfo | None = None
        result: object = None
        try:
            result = await self._methods.answer(call)
        except asyncio.CancelledError:
            if self._closed:
                raise
            error = SHUTTING_DOWN
        except Exception as raised:  # noqa: BLE001 - each ends as an answer
            error = error_info(raised, call.method)
        if self._closed:
            return
        if error is None:
            self._wire.send_result(msgid, result)
        else:
            self._wire.send_error(msgid, error)
        self._transmit()

    async def _pump(
        self, stream: int, call: Call, chunks: AsyncGenerator[dict[str, object], None]
    ) -> None:
        """Send chunks as fast as their receiver grants credit."""
        try:
            async for chunk in chunks:
                while self._wire.stream_credit(stream) <= 0 or len(self._out) >= OUT_HIGH:
                    self._room.clear()
                    await self._room.wait()
                self._caller.prove_alive(call.method)
                self._wire.send_stream_data(stream, chunk)
                self._transmit()
        finally:
            await chunks.aclose()

    def _end_stream(self, stream: int, call: Call, task: asyncio.Task[None]) -> None:
        del self._streams[stream]
        error: ErrorInfo | None = None
        if task.cancelled():
            error = SHUTTING_DOWN if self._refusing else None
        elif (raised := task.exception()) is not None:
            error = error_info(raised, call.method)
        if not self._closed:
            self._wire.end_stream(stream, error)  # nothing if its receiver cancelled it
            self._transmit()
