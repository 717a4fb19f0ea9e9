"""An answer taken out of upstream's hands whole, because another may take its place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from brokerd.errors import BrokerError, ErrorClass, Failure, TransientError


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.ports import Receiver, Reply


__all__ = ["HELD_MAX", "HOLD_TIMEOUT", "HeldReply", "hold"]

HELD_MAX = 64 * 1024
"""Bytes of an answer that may be replaced; Copilot's are one line."""

HOLD_TIMEOUT = 5.0
"""Seconds for such a body to arrive; its head is there already."""


class HeldReply:
    """An answer whose body we have: `ports.Reply` without upstream behind it."""

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes, failure: Failure | None
    ) -> None:
        """`failure` is what its body ends in for whoever takes it."""
        self.status = status
        self.headers = headers
        self.body = body
        self._rest = body
        self._failure = failure
        self._receiver: Receiver | None = None
        self._is_paused = False

    async def read(self, limit: int) -> bytes:
        """See `Reply.read`."""
        if self._failure is not None:
            raise TransientError(self._failure)
        if len(self.body) > limit:
            raise TransientError(_unread("is longer than was asked for"))
        return self.body

    def stream_to(self, receiver: Receiver) -> None:
        """See `Reply.stream_to`."""
        self._receiver = receiver
        self._push()

    def pause(self) -> None:
        """See `Reply.pause`."""
        self._is_paused = True

    def resume(self) -> None:
        """See `Reply.resume`."""
        self._is_paused = False
        self._push()

    def close(self) -> None:
        """See `Reply.close`."""
        self._receiver = None

    def _push(self) -> None:
        if self._receiver is not None and not self._is_paused and self._rest:
            rest, self._rest = self._rest, b""
            self._receiver.data(rest)  # which may pause or close
        if self._receiver is not None and not self._is_paused:
            receiver, self._receiver = self._receiver, None
            receiver.ended(self._failure)


async def hold(reply: Reply) -> HeldReply:
    """Take the answer out of upstream's hands; one that cannot be had whole is held as cut."""
    body, failure = b"", None
    try:
        async with asyncio.timeout(HOLD_TIMEOUT):
            body = await reply.read(HELD_MAX)
    except TimeoutError:
        failure = _unread("does not end")
    except BrokerError as error:
        failure = error.failure
    finally:
        reply.close()
    return HeldReply(reply.status, reply.headers, body, failure)


def _unread(why: str) -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "upstream_cut",
        f"the Copilot API refused, and its answer {why}",
        "Ask again; see: copilot-cred status",
    )
