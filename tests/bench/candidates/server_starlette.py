"""Server: starlette on uvicorn before the httptools client."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002 - starlette looks at the annotation
from starlette.responses import StreamingResponse
from starlette.routing import Route

from bench.candidates.client_httptools import Client
from bench.candidates.pulled import Pulled
from bench.candidates.server_asgi import run
from bench.candidates.shell import arguments


def application(port: int) -> Starlette:
    """Return the application."""
    client = Client(port)

    async def forward(request: Request) -> StreamingResponse:
        pulled = await Pulled.asked(client, await request.body())
        headers = {"content-type": pulled.kind.decode()}
        if pulled.length is not None:
            headers["content-length"] = pulled.length.decode()
        return StreamingResponse(pulled.pieces(), status_code=pulled.status, headers=headers)

    return Starlette(routes=[Route("/chat/completions", forward, methods=["POST"])])


if __name__ == "__main__":
    run(application(arguments()[1]), arguments()[0])
