"""Server: uvicorn (its httptools protocol) with a bare ASGI application, before our client."""

from __future__ import annotations

from typing import Any

import uvicorn

from bench.candidates.client_httptools import Client
from bench.candidates.pulled import Pulled
from bench.candidates.shell import arguments


class App:
    """The application."""

    def __init__(self, port: int) -> None:
        self._client = Client(port)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        pulled = await Pulled.asked(self._client, body)
        headers = [(b"content-type", pulled.kind)]
        if pulled.length is not None:
            headers.append((b"content-length", pulled.length))
        start = {"type": "http.response.start", "status": pulled.status, "headers": headers}
        await send(start)
        async for piece in pulled.pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def run(app: Any, path: str) -> None:
    """Listen until SIGTERM; uvicorn says so itself."""
    uvicorn.run(
        app,
        uds=path,
        http="httptools",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        ws="none",
    )


if __name__ == "__main__":
    run(App(arguments()[1]), arguments()[0])
