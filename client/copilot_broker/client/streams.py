"""Streams of the blocking client: chunks as they come, each stream on a connection of its own."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from copilot_broker import calls
from copilot_broker.calls.answers import is_error, text_in
from copilot_broker.calls.completion import head_of, refusal_in
from copilot_broker.calls.events import EventReader
from copilot_broker.calls.refusals import broken_off, refusal_of, unexplained
from copilot_broker.errors import CopilotBrokerError, InternalError, error_from
from copilot_broker.wire.connection import StreamData, StreamEnd


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copilot_broker.client.link import Link


__all__ = ["CompletionStream", "Stream"]


class Stream:
    """Chunks as they come; ends after the last one, or raises the error that ended it.

    Iterate in one thread; `close` may be called from any, and wakes that one. A stream stays with
    the process that opened it: after a fork the child can only let go of its copy.
    """

    def __init__(self, link: Link, result: dict[str, Any]) -> None:
        self._link = link
        self._stream: int = result["stream"]
        self._credit = calls.Credit()
        self._closed = False
        self._iterating = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._next(None)

    def _next(self, deadline: float | None) -> Any:
        """Return the next chunk. Raises StopIteration, TimeoutError, CopilotBrokerError."""
        if not self._link.is_ours:
            raise calls.foreign_stream()
        with self._iterating:
            if self._is_closed():
                self._link.close()
                raise StopIteration
            try:
                return self._next_chunk(deadline)
            except BaseException as error:
                if self._was_closed() and isinstance(error, CopilotBrokerError):
                    raise StopIteration from None
                raise
            finally:
                if self._is_closed():
                    self._hang_up()

    def _is_closed(self) -> bool:
        return self._closed

    def _was_closed(self) -> bool:
        """Whether somebody has closed it, perhaps another thread; from now on it is."""
        closed, self._closed = self._closed, True
        return closed

    def _next_chunk(self, deadline: float | None) -> Any:
        while True:
            try:
                event = self._link.next_event(deadline)
            except TimeoutError:
                raise calls.ConnectionLost from None
            if isinstance(event, StreamData):
                self._use(event.cost)
                return event.chunk
            if isinstance(event, StreamEnd):
                self._take_end(event)
                if event.error is not None:
                    raise error_from(event.error)
                raise StopIteration

    def _take_end(self, end: StreamEnd) -> None:
        """Read what the end tells besides its error."""

    def _use(self, cost: int) -> None:
        granted = self._credit.use(cost)
        if granted:
            self._link.wire.grant_credit(self._stream, granted)
            try:
                with suppress(calls.ConnectionLost):  # its end may lie there unread
                    self._link.flush(time.monotonic() + calls.DEFAULT_TIMEOUT)
            except TimeoutError:
                raise calls.ConnectionLost from None

    def _hang_up(self) -> None:
        """Cancel what has not ended, then close; for whoever holds `_iterating`."""
        self._link.cancel(self._stream)
        self._link.close()

    def close(self) -> None:
        """Stop it; upstream is cut at once. Closing twice is no error."""
        closed = self._was_closed()
        if not self._link.is_ours:
            self._link.close()
        elif self._iterating.acquire(blocking=False):
            try:
                if not closed:
                    self._hang_up()
                self._link.close()
            finally:
                self._iterating.release()
        else:  # whoever iterates wakes up and closes it
            self._link.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class CompletionStream(Stream):
    """A completion as it comes: iterate over upstream's own bytes, or `events`, or `text`.

    One of the three, once. Leaving early, or losing the last reference, cancels it at upstream.
    The bytes are given whatever they say; `events` and `text` raise what upstream refuses.
    """

    def __init__(self, link: Link, result: dict[str, Any]) -> None:
        super().__init__(link, result)
        status, headers, account = head_of(result)
        self.status = status
        """Upstream's HTTP status; any may come."""
        self.headers: Mapping[str, str] = headers
        """Lower-case names."""
        self.account = account
        """Who has been asked for."""
        self.refusal = refusal_in(result)
        """What a status that is not 2xx means, or, once the stream has ended, an error that
        Copilot sent in the middle of it: an exception as a value, else None."""

    def _take_end(self, end: StreamEnd) -> None:
        if end.refusal is not None:
            self.refusal = refusal_of(end.refusal, self.status)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def __repr__(self) -> str:
        return f"<{type(self).__name__} status={self.status} account={self.account!r}>"

    def __next__(self) -> bytes:
        chunk = super().__next__()
        if not isinstance(chunk, bytes):
            self.close()
            raise InternalError("bad_answer", "a chunk of a completion is not bytes")
        return chunk

    def read(self) -> bytes:
        """Return the rest of the body. Raises the error that ended it, as iterating does."""
        return b"".join(self)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects out of upstream's events, up to `[DONE]`.

        An `error` that Copilot sends in mid-stream is the last of them; after it UpstreamRefused
        is raised, as it is at once when the status is not 2xx.
        """
        self.raise_for_status()
        reader = EventReader(self.headers)
        for chunk in self:
            yield from self._told(reader.feed(chunk))
            if reader.done:
                self._await_end()
                break
        else:
            yield from self._told(reader.finish())
        if self.refusal is not None:
            raise self.refusal

    def _told(self, events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for event in events:
            yield event
            if is_error(event):
                self._await_end()
                raise self.refusal or broken_off(self.status)

    def text(self) -> Iterator[str]:
        """Yield the first choice's text as it comes.

        Raises UpstreamRefused when the status is not 2xx, or for an error in mid-stream.
        """
        for event in self.events():
            if text := text_in(event):
                yield text

    def raise_for_status(self) -> None:
        """Raise UpstreamRefused unless the status is 2xx; the stream is over then."""
        if not self.ok:
            self.close()
            raise self.refusal or unexplained(self.status)

    def _await_end(self) -> None:
        """Hear its end; and cancelling it before that would cut upstream's connection."""
        until = time.monotonic() + calls.LAST_WORD_TIMEOUT
        with suppress(StopIteration, CopilotBrokerError):
            while True:
                self._next(until)
