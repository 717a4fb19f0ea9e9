"""Client: aiohttp; `iter_any` gives what a read brought. One task a request."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from bench.candidates import shell


async def start(port: int) -> Any:
    """Return what forwards."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    )
    url = f"http://127.0.0.1:{port}/chat/completions"
    headers = {"content-type": "application/json"}
    tasks: set[asyncio.Task[None]] = set()

    async def forward(caller: shell.Caller, body: bytes) -> None:
        async with session.post(url, data=body, headers=headers) as answer:
            length = answer.headers.get("content-length")
            kind = answer.headers["content-type"].encode()
            caller.head(answer.status, kind, length and length.encode())
            async for chunk in answer.content.iter_any():
                caller.data(chunk)
            caller.end()

    def ask(caller: shell.Caller, body: bytes) -> None:
        task = asyncio.get_running_loop().create_task(forward(caller, body))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return ask


if __name__ == "__main__":
    shell.serve(start)
