"""A completion under way for one who does not wait: told of by a call, given up by another."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias


if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from brokerd.pacer import Ticket
    from brokerd.ports import Exchange
    from brokerd.proxy.answer import Answer


__all__ = ["Begun", "Listener", "Sent"]

Listener: TypeAlias = "Callable[[Answer | BaseException], None]"
"""Takes the answer, or why there is none: a BrokerError, or else a defect."""

Sent: TypeAlias = "tuple[str, str]"
"""The account that a request was sent with, and the initiator that upstream was told, or ""."""


class Begun:
    """Tells its listener once how it went, or nothing after `close`."""

    __slots__ = ("_exchange", "_listener", "_task", "_ticket", "sent")

    def __init__(self, listener: Listener, ticket: Ticket | None = None) -> None:
        """`ticket` is closed if no answer comes of it; an answer closes it itself."""
        self._listener: Listener | None = listener
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[Answer] | None = None
        self._ticket = ticket
        self.sent: Sent | None = None
        """Known from the moment on that it is sent, for who counts what has no answer."""

    def close(self) -> None:
        """Want no answer: upstream is cut at once; twice is no error."""
        self._listener = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()
        if self._task is not None:
            self._task.cancel()
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.close()

    # For the proxy.

    def note_sent(self, account: str, initiator: str) -> None:
        """Know that it is on its way."""
        self.sent = account, initiator

    def wait_on(self, exchange: Exchange) -> None:
        """Remember what brings the answer."""
        self._exchange = exchange

    def wait_for(self, task: asyncio.Task[Answer]) -> None:
        """Let a task bring the answer; whatever was waited on before is its business."""
        self._exchange = None
        self._task = task
        task.add_done_callback(self._task_ended)

    def tell(self, outcome: Answer | BaseException) -> None:
        """Bring the answer; one that nobody wants any more is given up."""
        listener, self._listener = self._listener, None
        self._exchange = self._task = None
        ticket, self._ticket = self._ticket, None
        if ticket is not None and isinstance(outcome, BaseException):
            ticket.close()
        if listener is not None:
            listener(outcome)
        elif not isinstance(outcome, BaseException):
            outcome.close()

    def _task_ended(self, task: asyncio.Task[Answer]) -> None:
        if task.cancelled():
            if self._listener is not None:  # not by us: a defect
                self.tell(RuntimeError("a completion was cancelled from elsewhere"))
        else:
            self.tell(task.exception() or task.result())
