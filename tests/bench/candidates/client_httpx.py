"""Client: httpx; `aiter_raw` gives what a read brought. One task a request."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from bench.candidates import shell


async def start(port: int) -> Any:
    """Return what forwards."""
    client = httpx.AsyncClient(
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        timeout=None,
        trust_env=False,
    )
    url = f"http://127.0.0.1:{port}/chat/completions"
    headers = {"content-type": "application/json"}
    tasks: set[asyncio.Task[None]] = set()

    async def forward(caller: shell.Caller, body: bytes) -> None:
        async with client.stream("POST", url, content=body, headers=headers) as answer:
            length = answer.headers.get("content-length")
            kind = answer.headers["content-type"].encode()
            caller.head(answer.status_code, kind, length and length.encode())
            async for chunk in answer.aiter_raw():
                caller.data(chunk)
            caller.end()

    def ask(caller: shell.Caller, body: bytes) -> None:
        task = asyncio.get_running_loop().create_task(forward(caller, body))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return ask


if __name__ == "__main__":
    shell.serve(start)
