"""One connection to an origin: HTTP/1.1 (RFC 9112), parsed by httptools, one exchange at a time.

- Nothing is sent twice, and nothing is decoded but the transfer coding.
- What one read brings is handed on as one piece, by a plain call: no task, no await per event.
- A connection is used again only after an answer that ended where its framing said, with nothing
  behind it, to a request that was wholly sent.
- A body that only the end of the connection ends is whole at that end (RFC 9112 §6.3); an event
  stream needs its `[DONE]` besides (`unframed`), and TLS an end that the peer announced.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import select
import ssl
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from brokerd.sockets.rounds import rounds_of
from brokerd.upstream import network_errors
from brokerd.upstream.heads import BadHeadError, read_head
from brokerd.upstream.reply import upstream_failure


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.errors import Failure
    from brokerd.upstream.reply import H1Reply


__all__ = ["Connection", "Keeper", "StreamTimeouts"]

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head, interim answers included; Copilot's are 2 KB."""

JOINED = 64 * 1024
"""Up to this size a body is copied behind its head, to be one write; a copy is then cheaper."""

READ = 256 * 1024
"""Bytes of one read, for asyncio's own protocols as well."""

MAX_LAST_READS = 4
"""What is fetched from a connection that refuses our writes: its answer, which says why."""


_buffer = memoryview(mmap.mmap(-1, READ))
"""What every connection reads into. For bytes of that size malloc(3) may make a mapping at each
read (mallopt(3), M_MMAP_THRESHOLD: it depends on what was freed before), which takes several times
as long as to read. Of this one only what was ever used is there."""


@dataclass(frozen=True)
class StreamTimeouts:
    """Seconds. A model thinks for minutes before its first byte, and between two."""

    connect: float = 10.0
    head: float = 600.0
    """From the request to the head of its answer."""
    idle: float = 600.0
    """Between two reads of a body."""


class Keeper(Protocol):
    """Who owns connections."""

    def keep(self, connection: Connection) -> bool:
        """Take it back for a further exchange; False: it is not wanted."""
        ...

    def lost(self, connection: Connection) -> None:
        """Know that it is gone."""
        ...


class Connection(asyncio.BufferedProtocol):
    """Made by `dial`; `send` begins an exchange, its `H1Reply` hears the rest."""

    __slots__ = (
        "_complete", "_has_head", "_head_size", "_heard", "_is_tls", "_keeper", "_loop",
        "_may_keep", "_parse", "_parser", "_paused", "_pieces", "_poll", "_raw_head",
        "_reply", "_request", "_rounds", "_timeouts", "_timer", "_transport",
        "_until_eof", "_whole", "new_waiter", "on_body", "origin",
    )  # fmt: skip

    def __init__(self, origin: str, timeouts: StreamTimeouts, keeper: Keeper) -> None:
        self.origin = origin
        self._timeouts = timeouts
        self._keeper = keeper
        self._loop = loop = asyncio.get_running_loop()
        self.new_waiter: Callable[[], asyncio.Future[None]] = loop.create_future
        """A future of the connection's loop; to ask for that loop is a system call each time."""
        self._rounds = rounds_of(loop)
        self._request = b""
        """What is sent at the end of this round."""
        self._reply: H1Reply | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._paused = False
        self._raw_head: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._has_head = False
        self._until_eof = False
        self._complete = False
        self._whole = 0  # pieces that belong to the complete body
        self._may_keep = False
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # httptools calls it; a list's own method is cheapest
        self._parser = httptools.HttpResponseParser(self)
        self._parse: Callable[[bytes | memoryview], None] = self._parser.feed_data

    # What the pool and the reply ask for.

    @property
    def is_open(self) -> bool:
        """Whether its end is not known yet."""
        return not self._transport.is_closing()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent: open, and nothing has come unasked, no end either.

        It asks the kernel, since the loop may not have come to it yet: one system call, 1 µs.
        """
        return not self._transport.is_closing() and not self._poll(0)

    def send(self, reply: H1Reply, head: bytes, body: bytes) -> None:
        """Begin an exchange."""
        self._reply = reply
        self._raw_head.clear()
        self._head_size = 0
        self._has_head = self._until_eof = self._complete = False
        self._heard = monotonic()
        if self._timer is None:
            first = min(self._timeouts.head, self._timeouts.idle)
            self._timer = self._loop.call_later(first, self._look_at_the_clock)
        if len(body) <= JOINED:
            self._request = head + body
            if self._rounds.is_alone:
                self._send_request()
            else:
                self._rounds.then(self._send_request)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def pause_reading(self) -> None:
        """Read no more; twice is no error."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on; twice is no error."""
        if self._paused:
            self._paused = False
            self._heard = monotonic()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def cut(self) -> None:
        """Close at once; who waits for an answer hears nothing."""
        self._reply = None
        self._request = b""
        self._transport.abort()

    def abandon(self) -> None:
        """Close at once; who waits for an answer is told."""
        text = f"the way to {self.origin} was closed in mid-answer"
        self._fail(upstream_failure("upstream_cut", text))

    # asyncio.BufferedProtocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get ready for the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._is_tls = transport.get_extra_info("ssl_object") is not None
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._poll = poll.poll

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where to read to; it is read from before anybody else is."""
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what one read has brought and hand it on as one piece."""
        self._received(_buffer[:nbytes])

    def _received(self, data: bytes | memoryview) -> None:
        reply = self._reply
        if reply is None:  # unasked
            self._transport.abort()
            return
        self._heard = monotonic()
        broken = False
        had_head = self._has_head
        if not had_head:
            self._head_size += len(data)
        try:
            self._parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            broken = True
        if had_head and not broken and not self._complete:  # most reads: the body goes on
            pieces = self._pieces
            if pieces:
                chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                pieces.clear()
                push = reply.push
                if push is not None:
                    push(chunk)
                else:
                    reply.store(chunk)
        else:
            self._first_or_last(reply, broken=broken, is_first=not had_head)

    def eof_received(self) -> None:
        """Take the end of the connection for the end of a body that has no other."""
        reply = self._reply
        if reply is not None and self._has_head and self._until_eof and self._is_true_end():
            self._reply = None
            reply.finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        if self._reply is not None:
            self._read_last_words()
        if self._timer is not None:
            self._timer.cancel()
        self._keeper.lost(self)
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.finish(self._cut_failure(exc))
        del self._parser, self._parse  # they hold our own methods

    # What the parser finds.

    def on_message_begin(self) -> None:
        """Notice an answer that nobody asked for."""
        if self._complete:
            self._may_keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a line of the head; trailers are nobody's."""
        if not self._has_head:
            self._raw_head.append((name, value))

    def on_headers_complete(self) -> None:
        """Make the head of the answer, unless it is an interim one (RFC 9110 §15.2)."""
        status = self._parser.get_status_code()
        reply = self._reply
        if status < 200 or self._complete or reply is None:
            return
        if self._head_size > MAX_HEAD and self._exact_head_size() > MAX_HEAD:
            raise BadHeadError  # seen by _received as the parser's own error
        reply.headers, self._until_eof = read_head(self._raw_head, status)
        reply.has_no_end = self._until_eof
        reply.status = status
        self._has_head = True

    def on_message_complete(self) -> None:
        """Notice the end of the body."""
        if not self._has_head:  # of an interim answer
            self._raw_head.clear()
        elif not self._complete:
            self._complete = True
            self._whole = len(self._pieces)
            self._may_keep = self._parser.should_keep_alive()

    # The rest.

    def _send_request(self) -> bool:
        data, self._request = self._request, b""
        if data:
            self._transport.write(data)
        # What asyncio and its TLS call into the loop is theirs; a refused write is told that way.
        return self._is_tls or self._transport.is_closing()

    def _first_or_last(self, reply: H1Reply, *, broken: bool, is_first: bool) -> None:
        if not self._has_head:
            if broken:
                self._fail(upstream_failure("bad_answer", f"{self.origin} answers no HTTP"))
            elif self._head_size > MAX_HEAD:
                text = f"the head of {self.origin}'s answer is longer than {MAX_HEAD} bytes"
                self._fail(upstream_failure("bad_answer", text))
            return
        pieces, is_complete = self._pieces, self._complete
        if is_complete:
            del pieces[self._whole :]
            reply.detach()  # before anybody hears of the last piece: they may pause or close it
            self._release(may_keep=self._may_keep and not broken)
        chunk = b"".join(pieces)
        pieces.clear()
        if is_first:
            if is_complete:
                reply.arrived_whole(chunk)
                return
            reply.arrived()
        if chunk:
            push = reply.push
            if push is not None:
                push(chunk)
            else:
                reply.store(chunk)
        # Whoever was called may have begun another exchange here by now.
        if is_complete:
            reply.finish(None)
        elif broken and self._reply is reply:
            text = f"the answer of {self.origin} breaks the rules of HTTP"
            self._fail(upstream_failure("bad_answer", text))

    def _release(self, *, may_keep: bool) -> None:
        self._reply = None
        transport = self._transport
        if not may_keep or transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
            return
        if self._paused:
            self.resume_reading()  # else its end would go unnoticed
        if not self._keeper.keep(self):
            transport.abort()

    def _fail(self, failure: Failure) -> None:
        reply, self._reply = self._reply, None
        self._transport.abort()
        if reply is not None:
            reply.finish(failure)

    def _look_at_the_clock(self) -> None:
        """Cut an exchange that has been silent for too long; armed anew only now and then."""
        self._timer = None
        if self._reply is None:
            return
        limit = self._timeouts.idle if self._has_head else self._timeouts.head
        left = limit if self._paused else limit - (monotonic() - self._heard)
        if left > 0:
            left = min(left, self._timeouts.idle)
            self._timer = self._loop.call_later(left, self._look_at_the_clock)
        elif self._has_head:
            text = f"{self.origin} has sent nothing for {limit:.0f} s in mid-answer"
            self._fail(upstream_failure("upstream_stalled", text))
        else:
            text = f"no answer from {self.origin} within {limit:.0f} s"
            self._fail(upstream_failure("upstream_slow_head", text))

    def _read_last_words(self) -> None:
        """Take the answer of a peer that closed while we were still writing.

        asyncio gives a connection up at the first refused write, with what has arrived unread.
        """
        transport = self._transport
        if self._is_tls:
            return
        try:
            fd = transport.get_extra_info("socket").fileno()
            for _ in range(MAX_LAST_READS):
                data = os.read(fd, READ)
                if not data or self._reply is None:
                    break
                self._received(data)
        except OSError:
            pass

    def _is_true_end(self) -> bool:
        """Whether the peer ended it, and not somebody on the way (RFC 9112 §9.8)."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)  # b"" after close_notify
        except ssl.SSLError:
            return False

    def _cut_failure(self, exc: Exception | None) -> Failure:
        if isinstance(exc, ssl.SSLError):
            return network_errors.describe(
                exc, self.origin, network_hint=network_errors.ASK_AGAIN_HINT
            )
        if self._has_head:
            return upstream_failure("upstream_cut", f"the answer of {self.origin} broke off")
        return upstream_failure(
            "upstream_cut", f"{self.origin} closed the connection without an answer"
        )

    def _exact_head_size(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self._raw_head)
