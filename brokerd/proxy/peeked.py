"""An answer whose beginning was read before anybody took it: to explain it, or to replace it.

Refusals are one line, and then all of it is here. One that is longer, or does not end soon, is
passed on as it comes after what was read: nothing is lost, nothing is cut.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure, TransientError


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.ports import Receiver, Reply


__all__ = ["PEEK_MAX", "PEEK_TIMEOUT", "PeekedReply", "peek"]

PEEK_MAX = 64 * 1024
"""Bytes that are waited for; Copilot's refusals have some hundred."""

PEEK_TIMEOUT = 5.0
"""Seconds for a refusal's body to arrive; its head is there already."""


class PeekedReply:
    """`ports.Reply` and, towards upstream, `ports.Receiver`."""

    __slots__ = (
        "_failure",
        "_held",
        "_is_over",
        "_is_paused",
        "_limit",
        "_receiver",
        "_reply",
        "_size",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self._reply = reply
        self._held: list[bytes] = []
        self._size = 0
        self._limit = PEEK_MAX
        self._is_over = self._is_paused = False
        self._failure: Failure | None = None
        self._receiver: Receiver | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def body(self) -> bytes:
        """As much as was read of what nobody has taken yet."""
        return b"".join(self._held)

    async def peek(self) -> None:
        """Read the beginning; once, before anything else."""
        self._reply.stream_to(self)
        try:
            async with asyncio.timeout(PEEK_TIMEOUT):
                await self._more()
        except TimeoutError:
            pass
        if not self._is_over:
            self._reply.pause()

    # Towards whoever takes it.

    async def read(self, limit: int) -> bytes:
        """See `Reply.read`."""
        self._limit = limit
        if not self._is_over and self._size <= limit:
            self._reply.resume()
            try:
                await self._more()
            except BaseException:
                self.close()
                raise
        if self._size > limit:
            self.close()
            raise TransientError(_too_long(limit))
        if self._failure is not None:
            raise TransientError(self._failure)
        return self.body

    def take_whole(self) -> bytes | None:
        """See `brokerd.ports.Reply.take_whole`: its beginning was read already."""
        return None

    def stream_to(self, receiver: Receiver) -> None:
        """See `Reply.stream_to`."""
        self._receiver = receiver
        self._flow()

    def pause(self) -> None:
        """See `Reply.pause`."""
        self._is_paused = True
        if not self._is_over:
            self._reply.pause()

    def resume(self) -> None:
        """See `Reply.resume`."""
        self._is_paused = False
        self._flow()

    def close(self) -> None:
        """See `Reply.close`."""
        self._receiver = None
        self._reply.close()

    # Towards upstream.

    def data(self, chunk: bytes) -> None:
        """See `Receiver.data`."""
        if self._receiver is not None and not self._held and not self._is_paused:
            self._receiver.data(chunk)
            return
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            self._reply.pause()
            self._wake()

    def ended(self, failure: Failure | None) -> None:
        """See `Receiver.ended`."""
        self._is_over, self._failure = True, failure
        self._wake()
        self._flow()

    def _flow(self) -> None:
        while self._held and self._receiver is not None and not self._is_paused:
            body, self._held = self.body, []
            self._receiver.data(body)  # which may pause or close
        if self._receiver is None or self._is_paused:
            return
        if self._is_over:
            self._end()
        else:
            self._reply.resume()

    def _end(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.ended(self._failure)

    async def _more(self) -> None:
        """Wait until it is over, or longer than may be held."""
        if not self._is_over and self._size <= self._limit:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def peek(reply: Reply) -> PeekedReply:
    """Read the beginning of an answer; it is closed when that is given up."""
    peeked = PeekedReply(reply)
    try:
        await peeked.peek()
    except BaseException:
        reply.close()
        raise
    return peeked


def _too_long(limit: int) -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "upstream_too_long",
        f"the answer of the Copilot API is longer than {limit} bytes",
        "Ask again; what the broker sees: copilot-cred status",
    )
