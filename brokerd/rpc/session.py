"""One connection: the socket on one side, `wire.Connection` on the other, requests in between.

Bytes are read only while there is room for what they may cause: not while more than `ANSWERS_HIGH`
waits to be written, and no faster than events are handled: `EVENTS_AT_ONCE`, then
`EVENTS_PER_TURN` whenever it is its turn (`turns`), so that busy callers wait for each other only.

The connection dies with the process that opened it, with its end of file, with the first breach of
the protocol, and with the rules that let it in; whatever it had asked for is cancelled then. Where
many end in the same round, they do so in turns as well.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from brokerd.rpc.failures import SHUTTING_DOWN
from brokerd.rpc.in_flight import InFlight
from brokerd.sockets.channel import DescriptorsRefusedError
from brokerd.sockets.seat import Holder, Seat
from copilot_broker.wire.connection import Connection, Role
from copilot_broker.wire.errors import RemoteProtocolError
from copilot_broker.wire.events import (
    ConnectionEnded,
    Event,
    RequestCancel,
    RequestReceived,
    StreamCancel,
    StreamCredit,
)


if TYPE_CHECKING:
    import asyncio
    import socket

    from brokerd.gate import Caller
    from brokerd.rpc.express import ExpressLane
    from brokerd.rpc.methods import Methods
    from brokerd.sockets.turns import Turns
    from copilot_broker.wire.limits import Limits
    from copilot_broker.wire.outgoing import OutgoingStream


__all__ = [
    "ANSWERS_HIGH",
    "EVENTS_AT_ONCE",
    "EVENTS_PER_TURN",
    "OUT_HIGH",
    "RECV_CHUNK",
    "Owner",
    "Session",
]

log = logging.getLogger(__name__)

RECV_CHUNK = 16 * 1024
"""Bytes read at once: many requests, yet few enough that a flood of tiny ones takes one turn of
the loop only some milliseconds."""

RECV_LARGE = 112 * 1024
"""Bytes read at once of a message that is known to be long: a prompt is no flood. Of 128 KB and
more malloc(3) makes a mapping for each read."""

EVENTS_AT_ONCE = 2
"""Events handled as soon as they arrive: a hello and a request. For the rest it is `turns`."""

EVENTS_PER_TURN = 32
"""Events handled before others have their turn."""

OUT_HIGH = 64 * 1024
"""Unwritten bytes above which nothing more is streamed. One chunk may go beyond it, so streams
hold this and `CHUNK_MAX`."""

ANSWERS_HIGH = 192 * 1024
"""Unwritten bytes above which nothing more is read: dozens of tokens. One answer may go beyond it.
It is more than streams may leave unwritten, so that a caller who says how much more it takes, and
only then reads, is heard in any case."""

JUST_NOW = 1.0
"""Seconds: who connected longer ago and has not asked is not about to."""


class Owner(Holder, Protocol):
    """What a session tells the server about itself."""

    def session_moved(self, session: Session) -> None:
        """Note that something arrived: it is the youngest now, and may be evicted if idle."""

    def session_idle(self, session: Session) -> None:
        """Note that it has no request in flight any more."""

    def session_closed(self, session: Session) -> None:
        """Note that it is over; called once."""


class Session(Seat):
    """See the module's docstring; created for an admitted, non-blocking socket."""

    _owner: Owner

    def __init__(
        self,
        sock: socket.socket,
        caller: Caller,
        methods: Methods,
        express: ExpressLane,
        owner: Owner,
        *,
        limits: Limits,
        turns: Turns,
    ) -> None:
        super().__init__(sock, caller.peer, turns, owner)
        self._caller = caller
        self._express = express
        self._wire = Connection(Role.SERVER, limits=limits)
        self._requests = InFlight(self._wire, caller, methods, self)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._asked = self._refusing = self._linger = False
        caller.on_revoked = partial(self.close, "revoked")
        self._channel.read_on(True)

    # -- what the server asks -----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """No request is in flight."""
        return not self._requests

    @property
    def may_be_evicted(self) -> bool:
        """Idle, and no request of its lies in the socket that we have not got round to read."""
        reads = self._channel.reading or self._postponed
        return self.idle and not (reads and self._channel.has_arrived())

    @property
    def settled(self) -> bool:
        """Nothing is in flight, nothing unwritten, and a caller that just came has asked."""
        return not (self._requests or self._channel.out or self._linger)

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """What is in flight; after `close`, what is still being cancelled."""
        return self._requests.tasks

    @property
    def held(self) -> int:
        """Bytes kept for this connection, both directions."""
        return self._wire.buffered + len(self._channel.out) + self._requests.kept

    def start_refusing(self) -> None:
        """Serve what had arrived by now, refuse what comes later, end endless streams.

        Who connected and has not asked yet is still served once: connecting and asking are two
        steps, and a broker that restarts between them should not be noticed.
        """
        if self._postponed:
            self._turns.leave(self)
            self._read_late()
        else:
            self._read()
        if self.closed:
            return
        self._linger = not self._asked and self._loop.time() < self._since + JUST_NOW
        self._refusing = True
        self._requests.start_refusing()
        self._owner.session_idle(self)

    def stop_lingering(self) -> None:
        """Wait no longer for a first request."""
        self._linger = False

    def give_up(self) -> None:
        """Cancel what is in flight; its callers are told."""
        self._requests.give_up()

    def close(self, reason: str) -> None:
        """End it now; closing twice is no error. `reason` is for the log."""
        if self.closed:
            return
        self.closed = True
        extra = {"REASON": reason, "PEER_PID": self._caller.peer.pid}
        log.debug("connection closed", extra=extra)
        if self._timer is not None:
            self._timer.cancel()
        self._turns.leave(self)
        self._forget_process()
        self._requests.close()
        self._wire.discard()  # what it held is free, even if we are kept alive
        self._caller.close()
        self._channel.close()
        self._owner.session_closed(self)

    # -- what requests ask (`Link`) -----------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether more may be streamed without holding too much."""
        return len(self._channel.out) + self._wire.unsent < OUT_HIGH

    @property
    def _may_answer(self) -> bool:
        return len(self._channel.out) + self._wire.unsent < ANSWERS_HIGH

    def send_chunk(self, stream: OutgoingStream, chunk: bytes) -> bool:
        """Send it; False, and nothing is sent, where credit or the room for it is used up."""
        wire, channel = self._wire, self._channel
        if stream.credit <= 0 or len(channel.out) + wire.unsent >= OUT_HIGH:
            return False
        if wire.unsent:
            wire.send_stream_data(stream.stream, chunk)
            self.transmit()
        else:  # nothing is before it: no need to queue it
            channel.write(stream.data(chunk))
            if channel.out:
                self.tell_held()
        return True

    def transmit(self) -> None:
        """Write what can be written; the rest waits for the socket."""
        if self.closed:
            return
        if data := self._wire.data_to_send():
            self._channel.write(data)
        self.tell_held()

    def one_less(self) -> None:
        """Tell the server when nothing is in flight any more."""
        if not self.closed and self.idle:
            self._owner.session_idle(self)

    # -- what arrives -------------------------------------------------------------------------

    def _on_lost(self) -> None:
        self.close("connection_lost")

    def _read(self) -> None:
        wire, channel = self._wire, self._channel
        if self.closed or not channel.reading:
            return
        quiet = wire.is_quiet
        size = RECV_CHUNK if quiet else max(RECV_CHUNK, min(wire.missing, RECV_LARGE))
        try:
            data = channel.receive(size)
        except DescriptorsRefusedError:
            text = "a file descriptor was sent along"
            self._on_breach(RemoteProtocolError("descriptors_refused", text))
            return
        if data is None:
            return
        self._owner.session_moved(self)
        if quiet and not (self._refusing or channel.out or self._requests.full):
            answer = self._express.answer(data, self._caller)
            if answer is not None:
                self._asked = True
                channel.write(answer)
                if channel.out:
                    self.tell_held()
                return
            self._express.learn(data)
        since = self._turns.clock()
        try:
            wire.receive_data(data, self._loop.time())
        except RemoteProtocolError as error:
            self._on_breach(error)
        else:
            self._handle_some(EVENTS_AT_ONCE)
        self._turns.used(self._turns.clock() - since)

    def _on_writable(self) -> None:
        """Go on with what waited for room."""
        self.tell_held()
        if self.settled:
            self._owner.session_idle(self)
        if self.has_room:
            self._requests.room_came()
        ends = self.closed or self._ending
        if not ends and not self._channel.reading and self._may_answer:
            self._turns.join(self, self._turn, of=self._caller.peer.pid)

    def _on_behind(self) -> None:
        if not self.closed:
            self.tell_held()

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
        self.transmit()  # answers to what came before it
        self.close(error.code)

    def _turn(self) -> None:
        """Handle a fair share of what has arrived, write, and decide whether to read on."""
        self._handle_some(EVENTS_PER_TURN)

    def _handle_some(self, most: int) -> None:
        self._turns.leave(self)
        unfinished = True
        for _ in range(most):
            if self.closed or not self._may_answer:
                break
            event = self._wire.next_event()
            if event is None:
                unfinished = False
                break
            self._handle(event)
        self.transmit()
        if self.closed:
            return
        if self.settled:
            self._owner.session_idle(self)
        if unfinished and self._may_answer:
            self._turns.join(self, self._turn, of=self._caller.peer.pid)
        self._channel.read_on(not unfinished)
        self._arm()

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case StreamCredit(stream):
                self._requests.credit_came(stream)
            case StreamCancel(stream):
                self._requests.cancel_stream(stream)
            case RequestCancel(msgid):
                self._requests.cancel_request(msgid)
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
        if served:
            self._requests.begin(request)
        else:
            self._wire.send_error(request.msgid, SHUTTING_DOWN)

    def _arm(self) -> None:
        """Follow the wire's deadline."""
        at = self._wire.deadline()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at is None else self._loop.call_at(at, self._on_timer)
