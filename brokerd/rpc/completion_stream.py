"""A completion on its way from upstream's reads to its caller's stream, with no task of its own.

Each read is a call that ends in a write. Where the caller's credit or the room on its connection
is used up, upstream is paused, and what did not fit of that one read is all that is kept.

The peer's process is polled before the head of the answer and not before each chunk: its pidfd is
watched by the same loop, which closes the connection in the turn that the process ends, and what
passes here is the caller's own completion and no credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol


if TYPE_CHECKING:
    from brokerd.errors import Failure
    from brokerd.ports import Reply


__all__ = ["CHUNK_MAX", "CompletionStream", "Outlet"]

CHUNK_MAX = 64 * 1024
"""Bytes of one chunk: upstream's reads are of up to 256 KiB, and a frame delays what follows."""


class Outlet(Protocol):
    """What a stream needs of its connection."""

    def has_room(self, stream: int) -> bool:
        """Whether a chunk may be sent now: credit is left, and not too much is unwritten."""
        ...

    def send_chunk(self, stream: int, chunk: bytes) -> None:
        """Send it, credit or not owed."""
        ...

    def stream_stalled(self, stream: int) -> None:
        """Call `go_on` when there may be room again."""
        ...

    def stream_ended(self, stream: int, failure: Failure | None) -> None:
        """Tell the caller that nothing follows, and forget the stream."""
        ...


class CompletionStream:
    """`ports.Receiver` of one reply; closes it."""

    def __init__(self, stream: int, reply: Reply, outlet: Outlet) -> None:
        self._stream = stream
        self._reply = reply
        self._outlet = outlet
        self._kept = b""
        self._paused = self._closed = self._ended = False
        self._failure: Failure | None = None

    @property
    def kept(self) -> int:
        """Bytes read from upstream that did not fit."""
        return len(self._kept)

    def start(self) -> None:
        """Let it flow; chunks may leave before this returns."""
        self._reply.stream_to(self)

    def data(self, chunk: bytes) -> None:
        """Take what one read brought."""
        outlet, stream = self._outlet, self._stream
        if self._kept or len(chunk) > CHUNK_MAX or not outlet.has_room(stream):
            if not self._closed:
                self._kept += chunk
                self._push()
            return
        outlet.send_chunk(stream, chunk)
        if not outlet.has_room(stream):
            self._pause()

    def ended(self, failure: Failure | None) -> None:
        """Know that nothing follows."""
        self._ended, self._failure = True, failure
        if not self._kept:
            self._finish()

    def go_on(self) -> None:
        """Send what is kept and then let it flow again, as far as there is room."""
        self._push()
        if self._closed or not self._paused or not self._outlet.has_room(self._stream):
            return
        self._paused = False
        self._reply.resume()

    def stop(self) -> None:
        """Want no more; upstream is cut at once. Nothing is told: twice is no error."""
        self._closed = True
        self._kept = b""
        self._reply.close()

    def _push(self) -> None:
        """Send what is kept, in pieces, as far as there is room; pause upstream if that ends."""
        kept, at = self._kept, 0
        while at < len(kept) and not self._closed and self._outlet.has_room(self._stream):
            piece = kept[at : at + CHUNK_MAX]
            at += len(piece)
            self._outlet.send_chunk(self._stream, piece)
        if self._closed:
            return
        self._kept = kept[at:]
        if self._ended and not self._kept:
            self._finish()
        elif not self._outlet.has_room(self._stream):
            self._pause()

    def _pause(self) -> None:
        if self._closed:
            return
        if not self._paused:
            self._paused = True
            self._reply.pause()
        self._outlet.stream_stalled(self._stream)

    def _finish(self) -> None:
        if not self._closed:
            self.stop()
            self._outlet.stream_ended(self._stream, self._failure)
