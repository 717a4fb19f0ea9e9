"""The answer to one request, on its way into the socket: `messages.Outlet`.

What upstream's one read brought is one chunk; the channel sends it with the head, where both come
in one round of the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from brokerd.gateway.rendering import has_body, head_of
from brokerd.sockets.channel import JOINED_MAX


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.gateway.messages import Head, Reply, Work
    from brokerd.sockets.channel import Channel


__all__ = ["OUT_HIGH", "Answering", "Line"]

OUT_HIGH: Final = 64 * 1024
"""Unwritten bytes above which the answer has to wait. One chunk may go beyond it."""

_END: Final = b"0\r\n\r\n"


class Line(Protocol):
    """The connection; `Session` is one."""

    def begins(self) -> bool:
        """Know that an answer begins; return whether the connection ends with it."""
        ...

    def behind(self) -> None:
        """Know that bytes wait to be written."""
        ...

    def answered(self, answer: Answering) -> None:
        """Know that it has been answered, or cut."""
        ...


class Answering:
    """See the module's docstring."""

    __slots__ = (
        "_channel",
        "_is_bare",
        "_is_chunked",
        "_is_head",
        "_left",
        "_line",
        "_version",
        "closes",
        "has_begun",
        "is_over",
        "waits",
        "work",
    )

    def __init__(
        self,
        line: Line,
        channel: Channel,
        head: Head,
        *,
        keep_alive: bool,
    ) -> None:
        self._line = line
        self._channel = channel
        self._is_head = head.method == "HEAD"
        self._version = head.version
        self._is_chunked = self._is_bare = False
        self._left: int | None = None
        """Bytes that are missing of an announced length."""
        self.work: Work | None = None
        self.closes = not keep_alive
        """The connection ends with it."""
        self.has_begun = self.is_over = False
        self.waits = False
        """It was told to hold the rest."""

    # -- `Outlet` -----------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """See `Outlet.reply`."""
        if self.is_over or self.has_begun:
            return
        body = reply.body
        head = self._begin(reply.status, reply.headers, len(body))
        self.is_over = True
        self._write(head if self._is_bare else head + body)
        self._line.answered(self)

    def start(self, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
        """See `Outlet.start`."""
        if self.is_over or self.has_begun:
            return
        head = self._begin(status, headers, length)
        self._left = None if self._is_bare else length
        self._channel.hold(head)
        if self._channel.out:
            self._line.behind()

    def send(self, chunk: bytes) -> bool:
        """See `Outlet.send`."""
        if self.is_over or self._is_bare or not chunk:
            return True
        channel = self._channel
        if self._is_chunked:
            size = len(chunk)
            if size > JOINED_MAX:  # it is not copied
                channel.hold(b"%x\r\n" % size)
                channel.hold(chunk)
                channel.write(b"\r\n")
            else:
                channel.write(b"%x\r\n%b\r\n" % (size, chunk))
        else:
            if self._left is not None:
                self._left -= len(chunk)
                if self._left < 0:  # a defect: the client would take it for another answer
                    self.cut()
                    return True
            channel.write(chunk)
        if not channel.out:
            return True
        self._line.behind()
        self.waits = len(channel.out) >= OUT_HIGH
        return not self.waits

    def end(self) -> None:
        """See `Outlet.end`."""
        if self.is_over:
            return
        if self._left or not self.has_begun:
            self.cut()
            return
        self.is_over = True
        if self._is_chunked and not self._is_bare:
            self._write(_END)
        self._line.answered(self)

    def cut(self) -> None:
        """See `Outlet.cut`."""
        if self.is_over:
            return
        self.is_over = self.closes = True
        self._line.answered(self)

    # -- the session's ------------------------------------------------------------------------

    def abandon(self) -> Work | None:
        """Let nothing more through: the client has gone. Return who still works at it."""
        self.is_over = True
        work, self.work = self.work, None
        return work

    # -- the rest -----------------------------------------------------------------------------

    def _begin(self, status: int, headers: Mapping[str, str], length: int | None) -> bytes:
        """Return the head."""
        self.has_begun = True
        self._is_bare = not has_body(status, is_head=self._is_head)
        framing = ""
        if length is not None and status not in (204, 304):
            framing = f"content-length: {length}\r\n"
        elif not self._is_bare and self._version == "1.1":
            self._is_chunked = True
            framing = "transfer-encoding: chunked\r\n"
        elif not self._is_bare:  # only the end of the connection ends it (RFC 9112 §6.3)
            self.closes = True
        is_last = self._line.begins() or headers.get("connection", "").lower() == "close"
        self.closes = self.closes or is_last
        if self.closes:
            framing += "connection: close\r\n"
        elif self._version == "1.0":
            framing += "connection: keep-alive\r\n"
        return head_of(status, headers, framing)

    def _write(self, data: bytes) -> None:
        self._channel.write(data)
        if self._channel.out:
            self._line.behind()
