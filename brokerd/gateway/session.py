"""One connection of a client that speaks HTTP/1.1: request after request, one at a time.

What comes behind a request waits until that is answered, and bytes are read for nothing else
meanwhile than to notice that the client has hung up: then its request is given up at once, so
that upstream is not paid for an answer that nobody reads. As in common servers, the end of what it
sends counts as hanging up.

Busy clients wait for each other, and for those of the other door, only (`sockets.turns`). The
connection dies with the process that opened it, and with the rules that let it in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from brokerd.gateway.answering import OUT_HIGH, Answering
from brokerd.gateway.messages import Reply
from brokerd.gateway.parser import MAX_BODY, Parser, RefusedError
from brokerd.gateway.rendering import CONTINUE, head_of
from brokerd.gateway.unreadable import reply_to
from brokerd.sockets.alarm import Alarm
from brokerd.sockets.channel import DescriptorsRefusedError
from brokerd.sockets.seat import Holder, Seat


if TYPE_CHECKING:
    import socket

    from brokerd.gate import Caller
    from brokerd.gateway.known_heads import KnownHeads
    from brokerd.gateway.messages import Handler
    from brokerd.sockets.turns import Turns


__all__ = ["WAITING_MAX", "Owner", "Session", "SessionLimits"]

log = logging.getLogger(__name__)

RECV_CHUNK: Final = 16 * 1024
"""Bytes read at once: most requests."""

RECV_LARGE: Final = 112 * 1024
"""Bytes read at once of a body. Of 128 KB and more malloc(3) makes a mapping for each read."""

WAITING_MAX: Final = 64 * 1024
"""Bytes behind a request that is being answered; then nothing is read, its end neither."""

OUT_LOW: Final = OUT_HIGH // 4
"""Unwritten bytes below which an answer that had to wait goes on."""

UNTOLD_MAX: Final = 4 * 1024
"""Bytes of a request under way that are too few to be added up with those of all others."""

LATE: Final = 1.0
"""Seconds more for a client whose bytes we have not got round to read."""

JUST_NOW: Final = 1.0
"""Seconds: who connected longer ago and has not asked is not about to."""

STUCK: Final = 30.0
"""Seconds in which a client has taken nothing of its answer: then it may go where others want in.
A person who has stopped a program for a moment is not cut off."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Seconds and bytes that one connection may take."""

    head: float = 10.0
    """From a request's first byte to the end of its head; idle is free."""
    progress: float = 10.0
    """Between two reads of a body."""
    body: float = 600.0
    """From the head to the end of the body: 32 MiB at 56 KB/s."""
    unread: float = 1800.0
    """Without a byte of its answer being taken."""
    max_body: int = MAX_BODY


class Owner(Holder, Protocol):
    """What a session tells the door about itself."""

    def session_moved(self, session: Session) -> None:
        """Note that something arrived: it is the youngest now."""

    def session_idle(self, session: Session) -> None:
        """Note that it may be evicted, or has settled."""

    def session_left(self, sock: socket.socket) -> None:
        """Take over a socket to which the last word was written."""

    def session_closed(self, session: Session) -> None:
        """Note that it is over; called once."""


class Session(Seat):
    """See the module's docstring; created for an admitted, non-blocking socket."""

    __slots__ = (
        "_alarm",
        "_answer",
        "_asked",
        "_caller",
        "_draining",
        "_handler",
        "_in_answer",
        "_is_refused",
        "_kept",
        "_leaving",
        "_limits",
        "_linger",
        "_parser",
        "_phase",
        "_phase_end",
        "_unread_since",
    )

    _owner: Owner

    def __init__(
        self,
        sock: socket.socket,
        caller: Caller,
        handler: Handler,
        owner: Owner,
        *,
        turns: Turns,
        limits: SessionLimits,
        heads: KnownHeads | None = None,
    ) -> None:
        """`heads` are those that the door has read before."""
        super().__init__(sock, caller.peer, turns, owner)
        self._caller = caller
        self._handler = handler
        self._limits = limits
        self._parser = Parser(limits.max_body, heads)
        self._answer: Answering | None = None
        """To the request that is under way."""
        self._kept = 0
        """Bytes of the request that is being answered."""
        self._alarm = Alarm(self._on_late)
        self._phase: bool | None = None
        """What is awaited of a request that has begun: False: its head, True: its body."""
        self._phase_end = self._unread_since = 0.0
        self._asked = self._draining = self._linger = False
        self._leaving = self._is_refused = self._in_answer = False
        caller.on_revoked = partial(self.close, "revoked")
        self._channel.read_on(True)

    # -- what the door asks (`crowd.Member`) --------------------------------------------------

    @property
    def held(self) -> int:
        """Bytes kept for this connection, both directions."""
        parser = self._parser
        return len(parser.buffer) + parser.size + self._kept + len(self._channel.out)

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return self._answer is None

    @property
    def may_be_evicted(self) -> bool:
        """Idle with nothing to be read, half a request at most; or its answer is not taken."""
        channel = self._channel
        if channel.out:
            return self._loop.time() >= self._unread_since + STUCK
        if not self.idle:
            return False
        return self._leaving or not (
            (channel.reading or self._postponed) and channel.has_arrived()
        )

    @property
    def settled(self) -> bool:
        """Nothing is under way or unwritten, and a client that just came has asked."""
        return not (self._answer or self._parser.has_begun or self._channel.out or self._linger)

    def start_leaving(self) -> None:
        """Answer what has arrived by now, then close.

        Who connected and has not asked yet is still answered once: connecting and asking are two
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
        self._draining = True
        self._leave_if_settled()

    def stop_lingering(self) -> None:
        """Wait no longer for a first request."""
        self._linger = False
        self._leave_if_settled()

    def close(self, reason: str) -> None:
        """End it now; closing twice is no error. `reason` is for the log."""
        if self.closed:
            return
        self._end(reason)
        self._channel.close()
        self._owner.session_closed(self)

    # -- what answers ask (`answering.Line`) --------------------------------------------------

    def begins(self) -> bool:
        """Let go of the request; return whether the connection ends with the answer to it."""
        self._kept = 0
        if self._held_before:
            self.tell_held()
        return self._draining and not self._parser.has_begun

    def behind(self) -> None:
        """Note that bytes wait to be written."""
        if not self._alarm.is_set:
            self._unread_since = self._loop.time()
            self._alarm.set(self._limits.unread)
        self._in_answer = True  # the door may close us now: not while upstream is calling
        self.tell_held()
        self._in_answer = False

    def answered(self, answer: Answering) -> None:
        """Go on with the next request, or leave."""
        if answer is not self._answer:
            return
        self._answer = answer.work = None
        if not self._channel.out:
            self._alarm.clear()
        if answer.closes:
            self._leave()
            return
        if self._kept:  # there was no answer
            self._kept = 0
            self.tell_held()
        if self._parser.has_begun:
            self._turns.join(self, self._next, of=self._caller.peer.pid)
        elif self._draining:
            self._leave_if_settled()
        else:
            self._channel.read_on(True)
        if not self.closed:
            self._owner.session_idle(self)

    # -- what arrives -------------------------------------------------------------------------

    def _read(self) -> None:
        channel, parser = self._channel, self._parser
        if self.closed or not channel.reading:
            return
        try:
            data = channel.receive(RECV_LARGE if parser.in_body else RECV_CHUNK)
        except DescriptorsRefusedError:
            self._breached("descriptors_refused")
            self.close("descriptors_refused")
            return
        if data is None:
            return
        since = self._turns.clock()
        self._owner.session_moved(self)
        if not data:
            self.close("end_of_file")
        elif self._answer is not None:
            parser.wait(data)
            if parser.held > WAITING_MAX:
                channel.read_on(False)
            self.tell_held()
        else:
            if parser.buffer:  # it may stand in the line with that
                self._turns.leave(self)
            self._take(data)
        self._turns.used(self._turns.clock() - since)

    def _next(self) -> None:
        """Take what waited behind the request that has been answered."""
        self._channel.read_on(True)
        self._take(b"")
        self._leave_if_settled()

    def _take(self, data: bytes) -> None:
        parser = self._parser
        had_head = parser.in_body
        try:
            is_whole = parser.receive(data)
        except RefusedError as refused:
            self._refuse(RefusedError(403, "hostile") if self._is_hostile() else refused)
            return
        if is_whole:
            self._begin()
            return
        if parser.in_body and not had_head and self._is_hostile():
            self._refuse(RefusedError(403, "hostile"))  # before its body costs us anything
            return
        if parser.wants_continue:
            parser.wants_continue = False
            self._channel.write(CONTINUE)
        self._arm_reading()
        self.tell_held()

    def _is_hostile(self) -> bool:
        head = self._parser.head
        return head is not None and self._handler.refuses(head, self._caller)

    def _begin(self) -> None:
        parser = self._parser
        self._phase = None
        self._alarm.clear()
        request = parser.take()
        self._asked, self._linger = True, False
        self._kept = len(request.body)
        answer = self._answer = Answering(
            self, self._channel, request.head, keep_alive=parser.keep_alive
        )
        try:
            work = self._handler.begin(request, answer, self._caller)
        except Exception:
            log.exception("request not served")
            work = None
            if answer.has_begun:
                answer.cut()
            else:
                answer.reply(Reply(500, {"connection": "close"}))
        if self._answer is answer:
            answer.work = work
            if self._kept > UNTOLD_MAX or self._held_before:
                self.tell_held()

    def _refuse(self, refused: RefusedError) -> None:
        """Answer what cannot be read, and close: what follows cannot be understood."""
        self._breached(refused.reason)
        self._is_refused = True
        # A page that has had its own name looked up as ours may read what it is told; only the
        # head says that it is one.
        is_stranger = self._parser.head is None and not self._caller.peer.pid
        self._last_word(reply_to(refused, is_bare=is_stranger))

    def _last_word(self, reply: Reply) -> None:
        framing = f"content-length: {len(reply.body)}\r\nconnection: close\r\n"
        self._channel.write(head_of(reply.status, reply.headers, framing) + reply.body)
        self._leave()

    def _breached(self, reason: str) -> None:
        extra = {"REASON": reason, "PEER_PID": self._caller.peer.pid}
        log.warning("protocol breached", extra=extra)

    def _on_writable(self) -> None:
        """Go on with what waited for room."""
        channel = self._channel
        now = self._loop.time()
        self._unread_since = now
        if channel.out:
            self._alarm.set(self._limits.unread)
        else:
            self._alarm.clear()
            if self._answer is None and not self._leaving:
                self._arm_reading()
        self.tell_held()
        if self.closed:
            return
        if self._leaving:
            if not channel.out:
                self._depart()
            return
        answer = self._answer
        if answer is not None and answer.waits and len(channel.out) <= OUT_LOW:
            answer.waits = False
            if answer.work is not None:
                answer.work.go_on()
        if not channel.out:
            self._leave_if_settled()
            if not self.closed:
                self._owner.session_idle(self)

    def _on_behind(self) -> None:
        if not self.closed and self._channel.out:
            self.behind()

    # -- the end ------------------------------------------------------------------------------

    def _on_lost(self) -> None:
        """Close, but not in the middle of a call from upstream or from the handler."""
        if self._answer is not None:
            self._answer.is_over = True
        self._loop.call_soon(self.close, "connection_lost")

    def _leave_if_settled(self) -> None:
        if self._draining and not self.closed:
            if self.settled and not self._leaving:
                self._leave()
            else:
                self._owner.session_idle(self)

    def _leave(self) -> None:
        """Close as soon as everything is written."""
        if self.closed or self._leaving:
            return
        self._leaving = True
        self._channel.flush()
        self._turns.leave(self)
        self._channel.read_on(False)
        self._alarm.clear()
        if self._channel.out:
            self._alarm.set(self._limits.unread)
            self._owner.session_idle(self)
        else:
            self._depart()

    def _depart(self) -> None:
        """Close where nothing lies unread; else the answer may be lost with it."""
        if not (self._is_refused or self._parser.has_begun or self._channel.has_arrived()):
            self.close("answered")
            return
        self._end("answered")
        self._owner.session_left(self._channel.let_go())
        self._owner.session_closed(self)

    def _end(self, reason: str) -> None:
        self.closed = True
        extra = {"REASON": reason, "PEER_PID": self._caller.peer.pid}
        log.debug("connection closed", extra=extra)
        self._alarm.stop()
        self._turns.leave(self)
        self._forget_process()
        answer, self._answer = self._answer, None
        if answer is not None and (work := answer.abandon()) is not None:
            if self._in_answer:
                self._loop.call_soon(work.close)
            else:
                work.close()
        self._parser.discard()
        self._kept = 0
        self._caller.close()

    # -- the clock ----------------------------------------------------------------------------

    def _arm_reading(self) -> None:
        """Bound the time that the rest of a request may take."""
        limits, parser, now = self._limits, self._parser, self._loop.time()
        if not parser.has_begun:
            self._phase = None
            self._alarm.clear()
            return
        if self._phase is not parser.in_body:
            self._phase = parser.in_body
            self._phase_end = now + (limits.body if parser.in_body else limits.head)
        left = self._phase_end - now
        self._alarm.set(min(left, limits.progress) if parser.in_body else left)

    def _on_late(self) -> None:
        """Give up, unless it is we who are late: then a last look at what has arrived."""
        if self._channel.out:
            self.close("answer_not_read")
        elif self._postponed:
            self._alarm.set(LATE)
        elif self._answer is None and not self._leaving and self._phase is not None:
            if self._channel.reading and self._channel.has_arrived():
                self._read()
                if self._is_in_time():
                    return
            self._refuse(RefusedError(408, "request_too_slow"))

    def _is_in_time(self) -> bool:
        return self.closed or self._phase is None or self._loop.time() < self._phase_end
