"""An answer on its way: the port `brokerd.ports.Reply` over one exchange of an `h1.Connection`.

The connection stores here what nobody takes yet; as soon as a receiver takes it, `push` is the
receiver's own `data` and the connection calls it directly, once per read. What is stored is
bounded: by `limit` for `read`, else by pausing the connection, which costs two reads at most.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.upstream.unframed import UntilDone, ends_in_done, is_done


if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from brokerd.ports import Receiver


__all__ = ["Exchange", "H1Reply", "upstream_failure", "wake"]

AGAIN_HINT = "Ask again; what the broker sees: copilot-cred status"


def upstream_failure(code: str, message: str) -> Failure:
    """Make the failure of an exchange that was begun; whether it was served cannot be known."""
    return Failure(ErrorClass.TEMPORARY, code, message, AGAIN_HINT)


def wake(waiter: asyncio.Future[None]) -> None:
    """Let go on who waits, unless nobody does any more."""
    if not waiter.done():
        waiter.set_result(None)


class Exchange(Protocol):
    """What an answer needs of the connection that brings it."""

    origin: str
    new_waiter: Callable[[], asyncio.Future[None]]

    def pause_reading(self) -> None:
        """Read no more; twice is no error."""
        ...

    def resume_reading(self) -> None:
        """Read on; twice is no error."""
        ...

    def cut(self) -> None:
        """Close at once; this exchange hears nothing more."""
        ...


class H1Reply:
    """See `brokerd.ports.Reply`; the connection calls what comes first here."""

    __slots__ = (
        "_connection",
        "_held",
        "_limit",
        "_on_arrival",
        "_origin",
        "_over",
        "_paused",
        "_receiver",
        "_size",
        "_taken",
        "failure",
        "has_no_end",
        "headers",
        "push",
        "status",
    )

    def __init__(self, connection: Exchange, on_arrival: Callable[[], None]) -> None:
        """`on_arrival` is called once: when the head is there, or when none comes (`failure`)."""
        self.status = 0  # until the head is there
        self.headers: Mapping[str, str] = {}
        self.has_no_end = False
        """Nothing but the end of the connection says that the body is whole."""
        self.failure: Failure | None = None
        self.push: Callable[[bytes], None] | None = None
        self._origin = connection.origin
        self._connection: Exchange | None = connection  # None: the exchange is over
        self._on_arrival: Callable[[], None] | None = on_arrival
        self._receiver: Receiver | None = None
        self._held: list[bytes] = []
        self._size = 0
        self._limit: int | None = None
        self._taken = False
        self._paused = False
        self._over = False

    # The connection's side.

    def arrived(self) -> None:
        """Know that the head is there, or that no more of it comes: wake who waits."""
        on_arrival, self._on_arrival = self._on_arrival, None
        if on_arrival is not None:
            on_arrival()

    def detach(self) -> None:
        """Know that all has arrived: the connection is somebody else's now."""
        self._connection = None

    def arrived_whole(self, body: bytes) -> None:
        """Know that head and body are there; nothing follows. Called after `detach`."""
        if body:
            self.store(body)
        self._over = True
        self.arrived()

    def store(self, chunk: bytes) -> None:
        """Keep what nobody takes now."""
        self._held.append(chunk)
        self._size += len(chunk)
        connection = self._connection
        if connection is None or self._receiver is not None:
            return  # all is there; or paused already, and these are the rest of that read
        if self._limit is None:
            if len(self._held) > 1:
                connection.pause_reading()
        elif self._size > self._limit:
            connection.cut()
            self.finish(self._too_long())

    def finish(self, failure: Failure | None) -> None:
        """Know that nothing follows; None: the body is whole."""
        if self._over:
            return
        self._over = True
        self.failure = failure
        self._connection = None
        if self._on_arrival is not None:
            self.arrived()
        if self._receiver is not None and not self._paused and not self._held:
            self._end()

    # The holder's side.

    async def read(self, limit: int) -> bytes:
        """Return the whole body; TransientError when it is cut or longer than `limit` bytes."""
        self._take()
        self._limit = limit
        connection = self._connection
        if self._size > limit:
            self.close()
            self.failure = self._too_long()
        elif connection is not None:
            connection.resume_reading()
            waiter = connection.new_waiter()
            self._on_arrival = partial(wake, waiter)
            try:
                await waiter
            except BaseException:
                self.close()
                raise
        held, self._held = self._held, []
        if self.failure is not None:
            raise TransientError(self.failure)
        body = held[0] if len(held) == 1 else b"".join(held)
        if self._must_be_done and not is_done(body):
            raise TransientError(self._broken_off())
        return body

    def take_whole(self) -> bytes | None:
        """See `brokerd.ports.Reply.take_whole`."""
        if not self._over or self.failure is not None or self.has_no_end or len(self._held) > 1:
            return None
        self._take()
        held, self._held = self._held, []
        return held[0] if held else b""

    def stream_to(self, receiver: Receiver) -> None:
        """Push what has arrived and then what arrives, until the end or `close`."""
        self._take()
        if self.has_no_end and self._must_be_done:
            receiver = UntilDone(receiver, self._broken_off())
        self._receiver = receiver
        self._flow()

    def pause(self) -> None:
        """Take no more from upstream; the receiver hears nothing until `resume`."""
        self._paused = True
        self.push = None
        if self._connection is not None:
            self._connection.pause_reading()

    def resume(self) -> None:
        """Go on; may call the receiver before it returns."""
        if self._paused:
            self._paused = False
            self._flow()

    def close(self) -> None:
        """Want no more; what is still under way is cut at once."""
        self._receiver = self.push = None
        self._held = []
        if not self.status:
            self._on_arrival = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cut()
            self._over = True
            self.failure = upstream_failure("upstream_cut", "the answer was given up")
            self.arrived()

    def _take(self) -> None:
        if self._taken:
            raise RuntimeError("the body is read or streamed once")
        self._taken = True

    def _flow(self) -> None:
        while self._held and self._receiver is not None and not self._paused:
            held, self._held = self._held, []
            self._receiver.data(held[0] if len(held) == 1 else b"".join(held))
        if self._receiver is None or self._paused:
            return
        if self._over:
            self._end()
        else:  # even where the connection is done: its last read may be on its way to us
            self.push = self._receiver.data
            if self._connection is not None:
                self._connection.resume_reading()

    def _end(self) -> None:
        receiver, self._receiver, self.push = self._receiver, None, None
        if receiver is not None:
            receiver.ended(self.failure)

    @property
    def _must_be_done(self) -> bool:
        return self.has_no_end and ends_in_done(self.headers)

    def _broken_off(self) -> Failure:
        text = f"the answer of {self._origin} broke off before its end ([DONE])"
        return upstream_failure("upstream_cut", text)

    def _too_long(self) -> Failure:
        text = f"the answer of {self._origin} is longer than {self._limit} bytes"
        return upstream_failure("upstream_too_long", text)
