"""A broker of a few lines, in threads: the real wire on a real socket, answers from a table.

A handler takes the parameters and returns a result, raises `Refuse`, or returns a generator whose
chunks are streamed. It runs in the connection's own thread.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import GeneratorType

from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    RequestReceived,
    Role,
    StreamCancel,
)
from copilot_broker.wire.errors import ProtocolError


PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""


class Refuse(Exception):  # noqa: N818
    def __init__(self, error) -> None:
        super().__init__(str(error))
        self.error = error


class HangUp(Exception):  # noqa: N818
    """Raised by a handler to close the connection without an answer."""


class SmallBroker:
    def __init__(self, folder, handlers) -> None:
        self.folder = folder
        self.path = str(folder / "broker.sock")
        self.handlers = {
            "broker.hello": lambda _: {"protocol": 1, "name": "copilot-broker"},
            **handlers,
        }
        self.asked: list[tuple[str, dict]] = []
        self.connections = 0
        self.gone = threading.Semaphore(0)
        """Released whenever a client has hung up."""

    def __enter__(self):
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(self.path)
        self._sock.listen(64)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._sock.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._sock.close()
        (self.folder / "broker.sock").unlink()

    def hang_up(self) -> None:
        """Drop all connections, as a broker does that is restarted."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock) -> None:
        wire = Connection(Role.SERVER)
        try:
            with sock:
                while self._turn(sock, wire):
                    pass
        except (OSError, ProtocolError, HangUp):
            pass
        finally:
            self.gone.release()

    def _turn(self, sock, wire) -> bool:
        wire.receive_data(sock.recv(65536), time.monotonic())
        while (event := wire.next_event()) is not None:
            if isinstance(event, ConnectionEnded | StreamCancel):
                return False
            if isinstance(event, RequestReceived):
                self._answer(sock, wire, event)
        sock.sendall(wire.data_to_send())
        return True

    def _answer(self, sock, wire, request) -> None:
        self.asked.append((request.method, request.params))
        stream = None
        try:
            if request.method == "broker.hello":
                wire.apply_hello(request.params)
            result = self.handlers[request.method](request.params)
            if not isinstance(result, GeneratorType):
                wire.send_result(request.msgid, result)
                return
            stream = wire.open_stream(request.msgid)
            for chunk in result:
                while not wire.stream_credit(stream):
                    sock.sendall(wire.data_to_send())
                    wire.receive_data(sock.recv(65536), time.monotonic())
                    while isinstance(wire.next_event(), ConnectionEnded):
                        raise HangUp
                wire.send_stream_data(stream, chunk)
                sock.sendall(wire.data_to_send())
            wire.end_stream(stream)
        except Refuse as refused:
            if stream is None:
                wire.send_error(request.msgid, refused.error)
            else:
                wire.end_stream(stream, refused.error)
