"""One connection of the asyncio client: moves bytes between a transport and the protocol."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from copilot_broker import calls
from copilot_broker.errors import UsageError
from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    ResponseReceived,
    Role,
    StreamData,
    StreamEnd,
)
from copilot_broker.wire.errors import ProtocolError


if TYPE_CHECKING:
    from copilot_broker.errors import CopilotBrokerError
    from copilot_broker.wire.connection import Event


__all__ = ["Link"]


class Link(asyncio.Protocol):
    """Brings answers to futures and chunks to a queue, which the granted credit bounds.

    Belongs to its loop and its process: a forked child must not touch it, as it shares the
    kernel's list of what the loop watches.
    """

    def __init__(self, name: str | None, *, greet: bool) -> None:
        """With `greet`, or a name to tell, the first request follows a hello."""
        self.wire = Connection(Role.CLIENT)
        self.chunks: asyncio.Queue[StreamData | StreamEnd | CopilotBrokerError] = asyncio.Queue()
        self.lost: CopilotBrokerError | None = None
        self.answered = False
        """Whether the broker has answered anything."""
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        self._pid = os.getpid()
        self._news = asyncio.Event()  # the first answer, or the end
        self._answers: dict[int, asyncio.Future[ResponseReceived]] = {}
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        if (
            greet or name is not None
        ):  # goes out with the first request; its answer changes nothing
            self.wire.send_request("broker.hello", calls.hello_params(name))

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it."""
        return self._pid == os.getpid()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio.Protocol)."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        self._feed(data)

    def eof_received(self) -> None:
        """Take note that nothing follows."""
        self._feed(b"")

    def connection_lost(self, _: Exception | None) -> None:
        """End: everything open fails."""
        self._fail(calls.ConnectionLost())
        if not self.closed.done():
            self.closed.set_result(None)

    async def ask(
        self, method: str, params: dict[str, Any], first: float | None = None
    ) -> ResponseReceived:
        """Send and wait; something must have been answered at `first` (the loop's time).

        Raises TimeoutError, UsageError, or what broke the connection.
        """
        if self.lost is not None:
            raise calls.ConnectionLost
        try:
            msgid = self.wire.send_request(method, params)
        except ProtocolError as error:
            raise UsageError(error.code, error.message) from None
        answer: asyncio.Future[ResponseReceived] = self._loop.create_future()
        self._answers[msgid] = answer
        self.flush()
        try:
            if first is not None:
                async with asyncio.timeout_at(first):
                    await self._news.wait()
            return await answer
        finally:
            self._answers.pop(msgid, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, should this task have been cancelled meanwhile

    def flush(self) -> None:
        """Write what the protocol wants written."""
        if self._transport is not None and self.lost is None and (d := self.wire.data_to_send()):
            self._transport.write(d)

    def abort(self) -> None:
        """Hang up now."""
        if self.is_ours:
            self._fail(calls.ConnectionLost())

    def cancel(self, stream: int) -> None:
        """Cancel the stream unless it has ended, and hang up now."""
        if self.is_ours:
            self.wire.cancel_stream(stream)
            self.flush()
            self.abort()

    def abandon(self, stream: int) -> None:
        """As `cancel`, from wherever the garbage collector happens to run."""
        if self.is_ours:
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                self._loop.call_soon_threadsafe(self.cancel, stream)

    def _feed(self, data: bytes) -> None:
        try:
            self.wire.receive_data(data, self._loop.time())
            while self.lost is None and (event := self.wire.next_event()) is not None:
                self._take(event)
        except ProtocolError as error:
            self._fail(calls.protocol_broken(error))
        self._arm()

    def _take(self, event: Event) -> None:
        if isinstance(event, StreamData | StreamEnd):
            self.chunks.put_nowait(event)
        elif isinstance(event, ResponseReceived):
            self.answered = True
            self._news.set()
            answer = self._answers.get(event.msgid)
            if answer is not None and not answer.done():
                answer.set_result(event)
        elif isinstance(event, ConnectionEnded):
            error = event.error
            self._fail(calls.ConnectionLost() if error is None else calls.protocol_broken(error))

    def _arm(self) -> None:
        """Follow the protocol's deadline for half a message."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.wire.deadline()
        if at is not None and self.lost is None:
            self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        try:
            self.wire.handle_timer(self._loop.time())
        except ProtocolError as error:
            self._fail(calls.protocol_broken(error))

    def _fail(self, error: CopilotBrokerError) -> None:
        if self.lost is not None:
            return
        self.lost = error
        self._news.set()
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        self.chunks.put_nowait(error)
        if self._transport is not None:
            with suppress(OSError):  # closing would not end it while a child holds a copy
                self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            self._transport.abort()
