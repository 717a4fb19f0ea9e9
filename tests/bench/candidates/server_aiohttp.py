"""Server: aiohttp.web before the httptools client."""

from __future__ import annotations

from aiohttp import web

from bench.candidates.client_httptools import Client
from bench.candidates.pulled import Pulled
from bench.candidates.shell import arguments


def main() -> None:
    """Listen until SIGTERM."""
    path, port = arguments()
    client = Client(port)

    async def forward(request: web.Request) -> web.StreamResponse:
        pulled = await Pulled.asked(client, await request.read())
        headers = {"content-type": pulled.kind.decode()}
        if pulled.length is not None:
            headers["content-length"] = pulled.length.decode()
        answer = web.StreamResponse(status=pulled.status, headers=headers)
        await answer.prepare(request)
        async for piece in pulled.pieces():
            await answer.write(piece)
        await answer.write_eof()
        return answer

    app = web.Application(client_max_size=1 << 25)
    app.router.add_post("/chat/completions", forward)
    web.run_app(app, path=path, access_log=None, print=None, backlog=1024)


if __name__ == "__main__":
    main()
