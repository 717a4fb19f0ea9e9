"""A completion on its way from upstream's reads to its caller's stream, with no task of its own.

Each read is a call that ends in a write. Where the caller's credit or the room on its connection
is used up, upstream is paused, and what did not fit of that one read is all that is kept.

Copilot may put an error among the events of an answer that has begun with 200. The bytes pass as
they are; what they mean is told at the stream's end.

The peer's process is not polled before its completion leaves, as it is before a token: its pidfd
is watched by the same loop, which closes the connection in the turn that the process ends, and
what passes here is the caller's own and no credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from brokerd.core.refusals import explain_event


if TYPE_CHECKING:
    from brokerd.errors import Failure
    from brokerd.proxy import Answer
    from brokerd.rpc.tally import Tally
    from copilot_broker.wire.outgoing import OutgoingStream


__all__ = ["CHUNK_MAX", "CompletionStream", "Outlet"]

CHUNK_MAX = 64 * 1024
"""Bytes of one chunk: upstream's reads are of up to 256 KiB, and a frame delays what follows."""

SUSPECT_MAX = 64 * 1024
"""Bytes kept of a line when a read ends in it: its rest may make it an error's. Those have some
hundred."""

_ERROR = b'"error"'
"""What each error has in it; in a model's text the quotes are escaped (RFC 8259 §7)."""


class Outlet(Protocol):
    """What a stream needs of its connection."""

    def send_chunk(self, stream: OutgoingStream, chunk: bytes) -> bool:
        """Send it; False, and nothing is sent, where credit or the room for it is used up."""
        ...

    def stream_stalled(self, stream: int) -> None:
        """Call `go_on` when there may be room again."""
        ...

    def stream_refused(self, reply: Answer, refusal: Failure) -> None:
        """Have it remembered that upstream has put an error into its answer."""
        ...

    def stream_ended(self, stream: int, failure: Failure | None, refusal: Failure | None) -> None:
        """Tell the caller that nothing follows, and forget the stream.

        `failure` is why the body is not whole, `refusal` what an error in it means.
        """
        ...


class CompletionStream:
    """`ports.Receiver` of one reply; closes it."""

    def __init__(
        self, stream: OutgoingStream, reply: Answer, outlet: Outlet, tally: Tally
    ) -> None:
        self.tally = tally
        self._note_usage = tally.tail.feed
        self._stream = stream
        self._reply = reply
        self._outlet = outlet
        self._send = outlet.send_chunk
        self._kept = b""
        self._paused = self._closed = self._ended = False
        self._failure: Failure | None = None
        self._refusal: Failure | None = None
        self._suspect = b""
        self._may_refuse = reply.refusal is None
        self.refusal = reply.refusal
        """What the answer's status means; None where it is none of a refusal's."""

    @property
    def kept(self) -> int:
        """Bytes read from upstream that did not fit."""
        return len(self._kept)

    def start(self) -> None:
        """Let it flow; chunks may leave before this returns."""
        self._reply.stream_to(self)

    def data(self, chunk: bytes) -> None:
        """Take what one read brought."""
        self._note_usage(chunk)
        if self._suspect or _ERROR in chunk or not chunk.endswith(b"\n"):
            self._look_at(chunk)
        stream = self._stream
        if self._kept or len(chunk) > CHUNK_MAX or not self._send(stream, chunk):
            if not self._closed:
                self._kept += chunk
                self._push()
        elif stream.credit <= 0:
            self._pause()

    def ended(self, failure: Failure | None) -> None:
        """Know that nothing follows."""
        self._ended, self._failure = True, failure
        if not self._kept:
            self._finish()

    def go_on(self) -> None:
        """Send what is kept and then let it flow again, as far as there is room."""
        self._push()
        if self._paused and not (self._closed or self._kept):
            if self._stream.credit > 0:
                self._paused = False
                self._reply.resume()
            else:
                self._pause()

    def close(self) -> None:
        """Want no more; upstream is cut at once. Nothing is told: twice is no error."""
        self._closed = True
        self._kept = b""
        self._reply.close()

    def _look_at(self, chunk: bytes) -> None:
        """Explain the error in it, if it is one; a line that is not whole waits for its rest."""
        if not self._may_refuse:
            return
        seen = self._suspect + chunk
        self._suspect = b""
        self._refusal = explain_event(seen)
        if self._refusal is not None:
            self._may_refuse = False
            self._outlet.stream_refused(self._reply, self._refusal)
            return
        rest = seen[seen.rfind(b"\n") + 1 :]
        if len(rest) <= SUSPECT_MAX:
            self._suspect = rest

    def _push(self) -> None:
        """Send what is kept, in pieces, as far as there is room; pause upstream where it ends."""
        kept, at = self._kept, 0
        while at < len(kept):
            piece = kept[at : at + CHUNK_MAX]
            if not self._send(self._stream, piece):
                break
            at += len(piece)
        if self._closed:
            return
        self._kept = kept[at:]
        if self._kept:
            self._pause()
        elif self._ended:
            self._finish()
        elif self._stream.credit <= 0:
            self._pause()

    def _pause(self) -> None:
        if self._closed:
            return
        if not self._paused:
            self._paused = True
            self._reply.pause()
        self._outlet.stream_stalled(self._stream.stream)

    def _finish(self) -> None:
        if not self._closed:
            self.close()
            self._outlet.stream_ended(self._stream.stream, self._failure, self._refusal)
