"""One connection of the blocking client: a socket and its protocol."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from copilot_broker import calls
from copilot_broker.errors import UsageError
from copilot_broker.wire.address import NoBroker, connect
from copilot_broker.wire.connection import Connection, ConnectionEnded, ResponseReceived, Role
from copilot_broker.wire.errors import ProtocolError


if TYPE_CHECKING:
    from copilot_broker.wire.connection import Event


__all__ = ["Link"]


class Link:
    """Used by one thread at a time, `wake` excepted; deadlines are in `time.monotonic` seconds.

    Belongs to the process that opened it: a forked copy can be closed, and the other side does not
    notice.
    """

    def __init__(self, path: str, deadline: float, name: str | None, *, greet: bool) -> None:
        """Connect; with `greet`, or a name to tell, the first request follows a hello."""
        try:
            raw = connect(path, max(0.0, deadline - time.monotonic()))
        except NoBroker as found:
            raise calls.no_broker(found) from None
        except BlockingIOError:
            raise calls.busy() from None
        self.sock = socket.socket(fileno=raw.detach())
        self.wire = Connection(Role.CLIENT)
        self.answered = False
        """Whether the broker has answered anything."""
        self._pid = os.getpid()
        if (
            greet or name is not None
        ):  # goes out with the first request; its answer changes nothing
            self.wire.send_request("broker.hello", calls.hello_params(name))

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it."""
        return self._pid == os.getpid()

    def ask(
        self, method: str, params: dict[str, Any], deadline: float, first: float | None = None
    ) -> ResponseReceived:
        """Send and wait; something must have been answered at `first`.

        Raises TimeoutError, ConnectionLost, InternalError, UsageError.
        """
        try:
            msgid = self.wire.send_request(method, params)
        except ProtocolError as error:
            raise UsageError(error.code, error.message) from None
        first = deadline if first is None else first
        self.flush(first)
        while True:
            event = self.next_event(deadline if self.answered else first)
            if isinstance(event, ResponseReceived):
                self.answered = True
                if event.msgid == msgid:
                    return event

    def flush(self, deadline: float) -> None:
        """Write what the protocol wants written."""
        self._bound(deadline)
        try:
            self.sock.sendall(self.wire.data_to_send())
        except TimeoutError:
            raise
        except OSError:
            raise calls.ConnectionLost from None

    def next_event(self, deadline: float | None) -> Event:
        """Wait for what happens next; with no deadline only a half message may not take long."""
        try:
            while (event := self.wire.next_event()) is None:
                half = self.wire.deadline()
                self._bound(half if deadline is None else deadline)
                self.wire.receive_data(self.sock.recv(calls.RECV_SIZE), time.monotonic())
        except ProtocolError as error:
            raise calls.protocol_broken(error) from None
        except TimeoutError:
            raise
        except OSError:
            raise calls.ConnectionLost from None
        if isinstance(event, ConnectionEnded):
            if event.error is not None:
                raise calls.protocol_broken(event.error)
            raise calls.ConnectionLost
        return event

    def _bound(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)

    def is_usable(self) -> bool:
        """Whether the broker has not hung up meanwhile."""
        self.sock.setblocking(False)  # MSG_DONTWAIT alone still waits for the socket's timeout
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def cancel(self, stream: int) -> None:
        """Say that the stream is no longer wanted, if that can be said without waiting."""
        self.wire.cancel_stream(stream)
        if data := self.wire.data_to_send():
            with suppress(OSError):
                self.sock.setblocking(False)
                self.sock.send(data)

    def wake(self) -> None:
        """Hang up, from any thread: whoever waits in `next_event` gets ConnectionLost."""
        if self.is_ours:
            with suppress(OSError):  # the broker was quicker, or it is closed
                self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up, even where a child holds a copy; a copy is only let go. Twice is no error."""
        self.wake()
        self.sock.close()
