"""What a caller of the proxy gets: upstream's answer, whose it is, and what a refusal means.

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
    from brokerd.pacer import Ticket
    from brokerd.ports import Receiver, Reply


__all__ = ["ACCOUNT_HEADER", "Answer", "WatchedAnswer"]

log = logging.getLogger(__name__)

ACCOUNT_HEADER = "x-copilot-broker-account"
"""Names the account that an answer was had with."""


class Answer:
    """Upstream's answer, and whose it is: `ports.Reply` with an account.

    It counts as under way until it is closed: whoever holds it closes it, at its end too.
    """

    __slots__ = ("account", "headers", "initiator", "refusal", "reply", "status", "ticket")

    def __init__(
        self,
        reply: Reply,
        account: str,
        ticket: Ticket,
        refusal: Failure | None = None,
        *,
        initiator: str = "",
    ) -> None:
        self.reply = reply
        """For the proxy."""
        self.ticket = ticket
        """For the proxy."""
        self.account = account
        """Name of the account it was had with."""
        self.refusal = refusal
        """What a status of 300 or above means; None below."""
        self.initiator = initiator
        """Who began the turn, as upstream was told; "" where it was not told."""
        self.status = reply.status
        self.headers: Mapping[str, str] = {**reply.headers, ACCOUNT_HEADER: account}

    async def read(self, limit: int) -> bytes:
        """See `Reply.read`."""
        return await self.reply.read(limit)

    def take_whole(self) -> bytes | None:
        """See `Reply.take_whole`."""
        return self.reply.take_whole()

    def stream_to(self, receiver: Receiver) -> None:
        """See `Reply.stream_to`; upstream then calls the receiver itself."""
        self.reply.stream_to(receiver)

    def pause(self) -> None:
        """See `Reply.pause`."""
        self.reply.pause()

    def resume(self) -> None:
        """See `Reply.resume`."""
        self.reply.resume()

    def close(self) -> None:
        """See `Reply.close`."""
        self.reply.close()
        self.ticket.close()


class WatchedAnswer(Answer):
    """An answer that writes down how it went, once, when it is over; for debugging."""

    __slots__ = ("_began_at", "_is_told", "_monotonic", "_receiver", "_tail", "_turn")
    _receiver: Receiver

    def __init__(
        self,
        answer: Answer,
        turn: Mapping[str, str],
        began_at: float,
        monotonic: Callable[[], float],
    ) -> None:
        """Take the place of `answer`."""
        super().__init__(
            answer.reply,
            answer.account,
            answer.ticket,
            answer.refusal,
            initiator=answer.initiator,
        )
        self._turn = turn
        self._began_at = began_at
        self._monotonic = monotonic
        self._tail = UsageTail()
        self._is_told = False

    async def read(self, limit: int) -> bytes:
        """See `Reply.read`."""
        try:
            body = await self.reply.read(limit)
        except BrokerError as error:
            self._tell(error.failure.code)
            raise
        self._tail.feed(body)
        self._tell("whole")
        return body

    def take_whole(self) -> bytes | None:
        """Have it streamed: what passes is looked at on its way."""
        return None

    def stream_to(self, receiver: Receiver) -> None:
        """See `Reply.stream_to`; what passes is looked at on its way."""
        self._receiver = receiver
        self.reply.stream_to(self)

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
        super().close()
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
