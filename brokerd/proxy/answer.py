"""What a caller of the proxy gets: upstream's answer, and whose it is.

Streams go from upstream to the receiver past us, unless somebody debugs: then one object stands
between and writes down how it went.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.core.usage_tail import UsageTail
from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.errors import Failure
    from brokerd.ports import Receiver, Reply


__all__ = ["ACCOUNT_HEADER", "Answer", "WatchedAnswer"]

log = logging.getLogger(__name__)

ACCOUNT_HEADER = "x-copilot-broker-account"
"""Names the account that an answer was had with."""


class Answer:
    """Upstream's answer, and whose it is: `ports.Reply` with an account."""

    __slots__ = ("_reply", "account", "headers", "status")

    def __init__(self, reply: Reply, account: str) -> None:
        self._reply = reply
        self.account = account
        """Name of the account it was had with."""
        self.status = reply.status
        self.headers: Mapping[str, str] = {**reply.headers, ACCOUNT_HEADER: account}

    async def read(self, limit: int) -> bytes:
        """See `Reply.read`."""
        return await self._reply.read(limit)

    def stream_to(self, receiver: Receiver) -> None:
        """See `Reply.stream_to`; upstream then calls the receiver itself."""
        self._reply.stream_to(receiver)

    def pause(self) -> None:
        """See `Reply.pause`."""
        self._reply.pause()

    def resume(self) -> None:
        """See `Reply.resume`."""
        self._reply.resume()

    def close(self) -> None:
        """See `Reply.close`."""
        self._reply.close()


class WatchedAnswer(Answer):
    """An answer that writes down how it went, once, when it is over; for debugging."""

    __slots__ = ("_began_at", "_is_told", "_monotonic", "_receiver", "_tail", "_turn")
    _receiver: Receiver

    def __init__(
        self,
        reply: Reply,
        account: str,
        turn: Mapping[str, str],
        began_at: float,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(reply, account)
        self._turn = turn
        self._began_at = began_at
        self._monotonic = monotonic
        self._tail = UsageTail()
        self._is_told = False

    async def read(self, limit: int) -> bytes:
        """See `Reply.read`."""
        try:
            body = await self._reply.read(limit)
        except BrokerError as error:
            self._tell(error.failure.code)
            raise
        self._tail.feed(body)
        self._tell("whole")
        return body

    def stream_to(self, receiver: Receiver) -> None:
        """See `Reply.stream_to`; what passes is looked at on its way."""
        self._receiver = receiver
        self._reply.stream_to(self)

    def data(self, chunk: bytes) -> None:
        """See `Receiver.data`."""
        self._tail.feed(chunk)
        self._receiver.data(chunk)

    def ended(self, failure: Failure | None) -> None:
        """See `Receiver.ended`."""
        self._tell(failure.code if failure else "whole")
        self._receiver.ended(failure)

    def close(self) -> None:
        """See `Reply.close`."""
        self._reply.close()
        self._tell("left")

    def _tell(self, end: str) -> None:
        if self._is_told:
            return
        self._is_told = True
        usage = self._tail.usage()
        extra: dict[str, object] = {
            **self._turn,
            "ACCOUNT": self.account,
            "STATUS": self.status,
            "BYTES": self._tail.size,
            "DURATION_MS": round((self._monotonic() - self._began_at) * 1000),
            "END": end,
            "DONE": int(self._tail.is_done),
        }
        if usage is not None:
            extra |= {
                "PROMPT_TOKENS": usage.prompt,
                "COMPLETION_TOKENS": usage.completion,
                "CACHED_TOKENS": usage.cached,
                "TOTAL_TOKENS": usage.total,
            }
        log.debug("completion ended", extra=extra)
