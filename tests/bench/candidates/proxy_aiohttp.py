"""A plain proxy, as one writes it in an afternoon: aiohttp.web before aiohttp's client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from bench.candidates.shell import arguments


if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def main() -> None:
    """Listen until SIGTERM."""
    path, port = arguments()
    url = f"http://127.0.0.1:{port}/chat/completions"
    sessions: list[aiohttp.ClientSession] = []

    async def client(_: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            sessions.append(session)
            yield

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"content-type": "application/json"}
        async with sessions[0].post(url, data=body, headers=headers) as got:
            told = {"content-type": got.headers["content-type"]}
            if "content-length" in got.headers:
                told["content-length"] = got.headers["content-length"]
            answer = web.StreamResponse(status=got.status, headers=told)
            await answer.prepare(request)
            async for piece in got.content.iter_any():
                await answer.write(piece)
            await answer.write_eof()
            return answer

    app = web.Application(client_max_size=1 << 25)
    app.cleanup_ctx.append(client)
    app.router.add_post("/chat/completions", forward)
    web.run_app(app, path=path, access_log=None, print=None, backlog=1024)


if __name__ == "__main__":
    main()
