"""Server: httptools (llhttp) under an asyncio Protocol, before the httptools client.

As `shell`, but the request is really parsed, as a door must.
"""

from __future__ import annotations

from typing import Any

import httptools

from bench.candidates import client_httptools, shell


class Caller(shell.Caller):
    """One caller's connection."""

    def connection_made(self, transport: Any) -> None:
        """Get ready to parse."""
        super().connection_made(transport)
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Keep it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it."""
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """Keep it."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Forward what may be forwarded."""
        body = b"".join(self._body)
        allowed = self._parser.get_method() == b"POST" and self._url == b"/chat/completions"
        self._begin()
        if allowed:
            self._forward(self, body)
        else:
            self.cut()


if __name__ == "__main__":
    shell.serve(client_httptools.start, Caller)
