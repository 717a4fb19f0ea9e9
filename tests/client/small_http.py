"""An HTTP server on a Unix socket, in threads of its own: it keeps what it got, and says little."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path


__all__ = ["SmallHTTP", "serving"]

PATIENCE = 10.0


class SmallHTTP(ThreadingUnixStreamServer):
    """`/stream` begins an answer, and ends when the caller has hung up; all else is "ok"."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        self.heads: list[Message] = []
        self.hung_up = threading.Event()
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    server: SmallHTTP

    def do_GET(self) -> None:
        self.server.heads.append(self.headers)
        if self.path == "/stream":
            self._stream()
            return
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3\r\none\r\n")
        self.wfile.flush()
        self.close_connection = True
        if self.connection.recv(1) == b"":
            self.server.hung_up.set()

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(path: Path) -> Iterator[SmallHTTP]:
    with SmallHTTP(path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
