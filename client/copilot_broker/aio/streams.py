"""Streams of the asyncio client: chunks as they come, each stream on a connection of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from copilot_broker import calls
from copilot_broker.calls.answers import is_error, text_in
from copilot_broker.calls.completion import head_of, refusal_in
from copilot_broker.calls.events import EventReader
from copilot_broker.calls.refusals import broken_off, refusal_of, unexplained
from copilot_broker.errors import CopilotBrokerError, InternalError, UpstreamRefused, error_from
from copilot_broker.wire.connection import StreamData, StreamEnd


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping

    from copilot_broker.aio.link import Link


__all__ = ["AsyncCompletionStream", "AsyncStream"]


class AsyncStream:
    """Chunks as they come, for `async for`; it begins with the first of them.

    Or earlier: `async with stream:` and `await stream` return once it has begun.
    """

    def __init__(self, begin: Callable[[], Awaitable[tuple[Link, dict[str, Any]]]]) -> None:
        self._begin = begin
        self._link: Link | None = None
        self._stream = 0
        self._credit = calls.Credit()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._link is not None and not self._link.is_ours:
            raise calls.foreign_stream()
        if self._closed:
            raise StopAsyncIteration
        try:
            link = await self._begun()
            found = await link.chunks.get()
            if isinstance(found, StreamData):
                if granted := self._credit.use(found.cost):
                    link.wire.grant_credit(self._stream, granted)
                    link.flush()
                return found.chunk
        except BaseException:
            await self.aclose()
            raise
        closed = self._closed
        await self.aclose()
        if isinstance(found, StreamEnd):
            self._take_end(found)
            if found.error is not None:
                raise error_from(found.error)
        elif not closed:
            raise found
        raise StopAsyncIteration

    async def begin(self) -> Self:
        """Connect and ask, once. Raises CopilotBrokerError."""
        await self._begun()
        return self

    async def _begun(self) -> Link:
        if self._link is None:
            self._link, result = await self._begin()
            self._stream = result["stream"]
            try:
                self._take_head(result)
            except BaseException:
                await self.aclose()
                raise
            if self._closed:  # while it began
                await self.aclose()
        return self._link

    def _take_head(self, result: dict[str, Any]) -> None:
        """Read what the answer tells before its chunks."""

    def _take_end(self, end: StreamEnd) -> None:
        """Read what the end tells besides its error."""

    async def aclose(self) -> None:
        """Stop it; upstream is cut at once. Closing twice is no error."""
        self._closed = True
        if self._link is not None and self._link.is_ours:
            self._link.cancel(self._stream)
            await asyncio.shield(self._link.closed)

    def __await__(self) -> Generator[Any, None, Self]:
        return self.begin().__await__()

    async def __aenter__(self) -> Self:
        return await self.begin()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._link is not None and not self._closed:
            self._link.abandon(self._stream)


class AsyncCompletionStream(AsyncStream):
    """A completion as it comes: iterate over upstream's own bytes, or `events`, or `text`.

    One of the three, once. Leaving early, or losing the last reference, cancels it at upstream.
    The bytes are given whatever they say; `events` and `text` raise what upstream refuses.
    """

    def __init__(self, begin: Callable[[], Awaitable[tuple[Link, dict[str, Any]]]]) -> None:
        super().__init__(begin)
        self.status = 0
        """Upstream's HTTP status; any may come. 0 until it has begun."""
        self.headers: Mapping[str, str] = {}
        """Lower-case names."""
        self.account = ""
        """Who has been asked for."""
        self.refusal: UpstreamRefused | None = None
        """What a status that is not 2xx means, or, once the stream has ended, an error that
        Copilot sent in the middle of it: an exception as a value, else None."""

    def _take_head(self, result: dict[str, Any]) -> None:
        self.status, self.headers, self.account = head_of(result)
        self.refusal = refusal_in(result)

    def _take_end(self, end: StreamEnd) -> None:
        if end.refusal is not None:
            self.refusal = refusal_of(end.refusal, self.status)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def __repr__(self) -> str:
        return f"<{type(self).__name__} status={self.status} account={self.account!r}>"

    async def __anext__(self) -> bytes:
        chunk = await super().__anext__()
        if not isinstance(chunk, bytes):
            await self.aclose()
            raise InternalError("bad_answer", "a chunk of a completion is not bytes")
        return chunk

    async def read(self) -> bytes:
        """Return the rest of the body. Raises the error that ended it, as iterating does."""
        return b"".join([chunk async for chunk in self])

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the JSON objects out of upstream's events, up to `[DONE]`.

        An `error` that Copilot sends in mid-stream is the last of them; after it UpstreamRefused
        is raised, as it is at once when the status is not 2xx.
        """
        await self.raise_for_status()
        reader = EventReader(self.headers)
        async for chunk in self:
            for event in reader.feed(chunk):
                yield event
                await self._check(event)
            if reader.done:
                await self._await_end()
                break
        else:
            for event in reader.finish():
                yield event
                await self._check(event)
        if self.refusal is not None:
            raise self.refusal

    async def _check(self, event: dict[str, Any]) -> None:
        if is_error(event):
            await self._await_end()
            raise self.refusal or broken_off(self.status)

    async def text(self) -> AsyncIterator[str]:
        """Yield the first choice's text as it comes.

        Raises UpstreamRefused when the status is not 2xx, or for an error in mid-stream.
        """
        async for event in self.events():
            if text := text_in(event):
                yield text

    async def raise_for_status(self) -> None:
        """Raise UpstreamRefused unless the status is 2xx; the stream is over then."""
        await self.begin()
        if not self.ok:
            await self.aclose()
            raise self.refusal or unexplained(self.status)

    async def _await_end(self) -> None:
        """Hear its end; and cancelling it before that would cut upstream's connection."""
        with suppress(TimeoutError, CopilotBrokerError):
            async with asyncio.timeout(calls.LAST_WORD_TIMEOUT):
                async for _ in self:
                    pass
