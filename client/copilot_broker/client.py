"""The blocking client: a thin shell around `wire.Connection`, one call at a time.

One connection is kept and shared by all threads (a lock); it is opened when first needed, opened
again when the broker has restarted, and left to the parent after a fork. Each stream has a
connection of its own, so that a stream never delays a call.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from contextlib import suppress
from typing import Any, Self

from copilot_broker import calls
from copilot_broker.errors import CopilotBrokerError, InternalError, UsageError, error_from
from copilot_broker.tokens import Token
from copilot_broker.wire.address import NoBroker, connect
from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    Event,
    ResponseReceived,
    Role,
    StreamData,
    StreamEnd,
)
from copilot_broker.wire.errors import ProtocolError


__all__ = ["Client", "Stream"]


class _Link:
    """One connection: a socket and its protocol. `deadline` is in `time.monotonic` seconds."""

    def __init__(self, path: str, deadline: float, name: str | None) -> None:
        try:
            raw = connect(path, max(0.0, deadline - time.monotonic()))
        except NoBroker as found:
            raise calls.no_broker(found) from None
        except BlockingIOError:
            raise calls.busy() from None
        self.sock = socket.socket(fileno=raw.detach())
        self.wire = Connection(Role.CLIENT)
        if name is not None:  # goes out with the first request; its answer changes nothing
            self.wire.send_request("broker.hello", calls.hello_params(name))

    def ask(self, method: str, params: dict[str, Any], deadline: float) -> ResponseReceived:
        """Send and wait. Raises TimeoutError, ConnectionLost, InternalError."""
        try:
            msgid = self.wire.send_request(method, params)
        except ProtocolError as error:
            raise UsageError(error.code, error.message) from None
        self.flush(deadline)
        while True:
            event = self.next_event(deadline)
            if isinstance(event, ResponseReceived) and event.msgid == msgid:
                return event

    def flush(self, deadline: float | None) -> None:
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
            if event.error is not None and event.error.code != "cut_off":
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


class Stream:
    """Chunks as they come; ends after the last one, or raises the error that ended it.

    Iterate in one thread; `close` may be called from any, and wakes that one.
    """

    def __init__(self, link: _Link, stream: int, status: int, headers: dict[str, Any]) -> None:
        self.status = status
        """Upstream's HTTP status for a completion, else 0."""
        self.headers = headers
        self._link = link
        self._stream = stream
        self._pid = os.getpid()
        self._closed = False
        self._iterating = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._pid != os.getpid():
            raise UsageError(
                "forked", "a stream stays with the process that opened it", "Open another one"
            )
        with self._iterating:
            if self._closed:
                raise StopIteration
            try:
                return self._next_chunk()
            except BaseException as error:
                self._link.sock.close()
                if self._was_closed() and isinstance(error, CopilotBrokerError):
                    raise StopIteration from None
                raise

    def _was_closed(self) -> bool:
        """Whether somebody has closed it, perhaps another thread; from now on it is."""
        closed, self._closed = self._closed, True
        return closed

    def _next_chunk(self) -> Any:
        while True:
            try:
                event = self._link.next_event(None)
            except TimeoutError:
                raise calls.ConnectionLost from None
            if isinstance(event, StreamData):
                self._link.wire.grant_credit(self._stream, event.cost)
                with suppress(calls.ConnectionLost, TimeoutError):  # its end may lie there unread
                    self._link.flush(time.monotonic() + calls.DEFAULT_TIMEOUT)
                return event.chunk
            if isinstance(event, StreamEnd):
                if event.error is not None:
                    raise error_from(event.error)
                raise StopIteration

    def close(self) -> None:
        """Stop it; the broker sees the connection end. Closing twice is no error."""
        closed = self._was_closed()
        if self._pid == os.getpid():
            if not closed:
                with suppress(OSError):  # the broker was quicker
                    self._link.sock.shutdown(socket.SHUT_RDWR)  # wakes who waits in recv
            with self._iterating:
                self._link.sock.close()
        else:
            self._link.sock.close()  # a forked copy: the parent's goes on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Client:
    """Ask the broker. All methods raise the exceptions of `copilot_broker.errors`."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = calls.DEFAULT_TIMEOUT,
        name: str | None = None,
    ) -> None:
        """Nothing is opened yet.

        `path` is the socket's, else `$COPILOT_BROKER_SOCKET` or the runtime directory tells;
        `timeout` (seconds) bounds each call and a stream's beginning; `name` is shown in logs.
        """
        self._path = path
        self._timeout = timeout
        self._name = name
        self._link: _Link | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()

    # -- what can be asked --------------------------------------------------------------------

    def token(
        self, min_valid: float = 60.0, account: str | None = None, reject: str | None = None
    ) -> Token:
        """Get a token that lives `min_valid` seconds more.

        `reject` names a token (or its id) that upstream has answered with 401.
        """
        return Token.from_result(
            self.call("token.get", **calls.token_params(min_valid, account, reject))
        )

    def status(self) -> dict[str, Any]:
        """Tell how the broker is: version, accounts, store, one line for people."""
        return self._map("broker.status")

    def refresh(self, account: str | None = None) -> dict[str, Any]:
        """Fetch a new token now; the result is `token.get`'s without the token."""
        return self._map("broker.refresh", account=account)

    def accounts(self) -> dict[str, Any]:
        """`{"accounts": [...], "default": name or None}`."""
        return self._map("account.list")

    def use(self, account: str) -> None:
        """Make an account the default one."""
        self.call("account.use", account=account)

    def logout(self, account: str | None = None) -> None:
        """Sign out and forget the login."""
        self.call("account.logout", account=account)

    def hello(self) -> dict[str, Any]:
        """Tell name, version, features and what we may do."""
        return self._map("broker.hello", **calls.hello_params(self._name))

    def watch(self, account: str | None = None) -> Stream:
        """Follow an account: its full state at once, then each change, as maps."""
        return self.stream("token.watch", account=account)

    def login(self, account: str | None = None, **options: Any) -> Stream:
        """Sign in: maps with the user code, progress and, at last, the account.

        Options: `host`, `client_id`, `store`, `token`.
        """
        return self.stream("account.login", account=account, **options)

    # -- how ----------------------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> Any:
        """Ask and return the result; parameters that are None are left out."""
        given = calls.without_none(**params)
        deadline = time.monotonic() + self._timeout
        self._notice_fork()
        if not self._lock.acquire(timeout=max(0.0, self._timeout)):
            raise calls.timed_out(self._timeout)
        try:
            tries = 0
            while True:
                tries += 1
                try:
                    return calls.result_of(self._ask(method, given, deadline))
                except CopilotBrokerError as error:
                    if not calls.may_repeat(method, error, tries):
                        raise
                    self._drop()
        finally:
            self._lock.release()

    def _ask(self, method: str, params: dict[str, Any], deadline: float) -> ResponseReceived:
        try:
            if self._link is not None and not self._link.is_usable():
                self._drop()
            if self._link is None:
                self._link = _Link(calls.address(self._path), deadline, self._name)
            return self._link.ask(method, params, deadline)
        except BaseException as error:
            self._drop()  # an answer may still come, and nobody would know whose
            if isinstance(error, TimeoutError):
                raise calls.timed_out(self._timeout) from None
            raise

    def _map(self, method: str, **params: Any) -> dict[str, Any]:
        result = self.call(method, **params)
        if not isinstance(result, dict):
            raise InternalError("bad_answer", f"the answer to {method} is no map")
        return result

    def stream(self, method: str, **params: Any) -> Stream:
        """Ask for a stream, on a connection of its own; returns once it has begun."""
        deadline = time.monotonic() + self._timeout
        self._notice_fork()
        link = _Link(calls.address(self._path), deadline, self._name)
        try:
            answer = link.ask(method, calls.without_none(**params), deadline)
            result = calls.stream_result_of(method, answer)
        except TimeoutError:
            link.sock.close()
            raise calls.timed_out(self._timeout) from None
        except BaseException:
            link.sock.close()
            raise
        stream = Stream(
            link, result["stream"], result.get("status", 0), result.get("headers") or {}
        )
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Close all connections and streams; the client may be used again."""
        self._notice_fork()
        for stream in list(self._streams):
            stream.close()
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        link = self.__dict__.get("_link")
        if link is not None:
            link.sock.close()

    def _notice_fork(self) -> None:
        """After a fork leave the connection to the parent, and a lock that nobody will release."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._streams = weakref.WeakSet()
            self._drop()

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.sock.close()
