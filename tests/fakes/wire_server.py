"""A small real broker's door for the tests of clients: a Unix socket, threads, no broker behind it.

Each method answers with what the test put under its name: a map, an ErrorInfo, a `Stream` of
chunks (a generator may wait between them), `SILENCE` or `HANG_UP`; a callable gets the params.
Chunks wait for credit; what clients say about streams is kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    RequestReceived,
    Role,
    StreamCancel,
    StreamCredit,
)
from copilot_broker.wire.errors import RemoteProtocolError
from copilot_broker.wire.messages import ErrorInfo


if TYPE_CHECKING:
    from collections.abc import Iterable


PATIENCE = 20.0
"""Seconds that a test waits for something that should happen at once."""

HELLO = {"protocol": 1, "name": "copilot-broker", "version": "0", "features": [], "scope": "admin"}


@dataclass(frozen=True)
class Stream:
    chunks: Iterable[Any]
    error: ErrorInfo | None = None
    status: int = 0
    headers: dict[str, str] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Further keys of the answer, `refusal` (a map) among them."""
    refusal: ErrorInfo | None = None
    """Told at the end, for an error among the chunks."""


SILENCE = object()
HANG_UP = object()


class WireServer:
    """`with WireServer({"token.get": {...}}) as server: ... server.path ...`."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = {"broker.hello": HELLO, **answers}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.left = threading.Event()
        """Set when a client that had a stream open has gone."""
        self.departures = threading.Semaphore(0)
        """Released whenever a client has gone."""
        self.credits: list[int] = []
        """Bytes of each `stream.credit`."""
        self.cancelled = threading.Event()
        """Set by a `stream.cancel` for a stream that had not ended."""
        self._folder = Path(tempfile.mkdtemp(prefix="cb-"))  # short: sun_path holds 107 bytes
        self.path = str(self._folder / "broker.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener.listen(64)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._peers):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)
        for sock in (self._listener, *self._peers):
            sock.close()
        shutil.rmtree(self._folder)

    @property
    def env(self) -> dict[str, str]:
        """A small environment that leads a client here."""
        return {"PATH": os.environ["PATH"], "HOME": "/nowhere", "COPILOT_BROKER_SOCKET": self.path}

    def calls(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.requests if name == method]

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._peers)

    def hang_up(self) -> None:
        """Leave everybody who is connected."""
        for peer in self._peers:
            peer.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            self._start(_Peer(self, peer).run)


class _Peer:
    def __init__(self, server: WireServer, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._lock = threading.Condition()  # notified when a stream may go on, or must end
        self._connection = Connection(Role.SERVER)
        self._streamed = self._gone = False

    def run(self) -> None:
        try:
            while self._turn():
                pass
        except (OSError, RemoteProtocolError):
            pass
        with self._lock:
            self._gone = True
            self._lock.notify_all()
        self._server.departures.release()
        if self._streamed:
            self._server.left.set()

    def _turn(self) -> bool:
        data = self._sock.recv(65536)
        with self._lock:
            self._connection.receive_data(data, time.monotonic())
            while (event := self._connection.next_event()) is not None:
                match event:
                    case RequestReceived():
                        if not self._answer(event):
                            return False
                        self._flush()
                    case StreamCredit():
                        self._server.credits.append(event.bytes)
                        self._lock.notify_all()
                    case StreamCancel():
                        self._server.cancelled.set()
                        self._lock.notify_all()
                    case ConnectionEnded():
                        return False
            self._flush()
        return True

    def _answer(self, request: RequestReceived) -> bool:
        self._server.requests.append((request.method, request.params))
        answer = self._server.answers.get(
            request.method, ErrorInfo(ErrorClass.USAGE, "no_such_method", "no such method")
        )
        if callable(answer):
            answer = answer(request.params)
        if answer is HANG_UP:
            self._sock.shutdown(socket.SHUT_RDWR)
            return False
        if isinstance(answer, ErrorInfo):
            self._connection.send_error(request.msgid, answer)
        elif isinstance(answer, Stream):
            self._streamed = True
            more = dict(answer.more)
            if "refusal" in more:
                more["refusal"] = ErrorInfo.from_wire(more["refusal"])
            stream = self._connection.open_stream(
                request.msgid, answer.status, answer.headers, **more
            )
            self._server._start(self._stream, stream, answer)
        elif answer is not SILENCE:
            self._connection.send_result(request.msgid, answer)
        return True

    def _stream(self, stream: int, answer: Stream) -> None:
        try:
            for chunk in answer.chunks:
                with self._lock:
                    self._lock.wait_for(lambda: self._may_send(stream), PATIENCE)
                    if self._gone or not self._connection.send_stream_data(stream, chunk):
                        return  # nobody wants it any more
                    self._flush()
            with self._lock:
                self._connection.end_stream(stream, answer.error, answer.refusal)
                self._flush()
        except OSError:
            pass  # the client has gone

    def _may_send(self, stream: int) -> bool:
        if self._gone or stream not in self._connection.open_streams:
            return True
        return self._connection.stream_credit(stream) > 0

    def _flush(self) -> None:
        if data := self._connection.data_to_send():  # nothing would fail, too, on what has gone
            self._sock.sendall(data)
