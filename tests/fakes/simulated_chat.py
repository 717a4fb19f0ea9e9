"""Asking the simulated Copilot by hand: over httpx, and over a bare socket to see the bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx

from brokerd.simulator import Simulator


CHAT = "/chat/completions"
EDITOR = {"Editor-Version": "test/1"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SECONDS = 10


@contextlib.asynccontextmanager
async def copilot(**settings):
    async with (
        Simulator(**settings) as running,
        httpx.AsyncClient(  # plain HTTP: no certificates to load, which is slow
            base_url=running.url, headers=signed_in(running), trust_env=False, verify=False
        ) as http,
    ):
        yield running, http


def signed_in(running):
    token, _ = running.world.issue_copilot_token()
    return {"Authorization": f"Bearer {token}", **EDITOR}


def question(model="sim-chat", text="why is the sky blue", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def ask(http, model="sim-chat", text="why is the sky blue", *, headers=None, **more):
    return await http.post(CHAT, json=question(model, text, **more), headers=headers)


async def control(http, verb, **body):
    answer = await http.post(f"/_control/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def last(http, **params):
    return (await http.get("/_control/last_body", params=params)).json()


async def until(condition):
    """Wait for what a server in the same loop will do."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def events(text):
    """Read the data fields; the last is DONE unless it's missing."""
    blocks = text.replace("\r\n", "\n").removesuffix("\n\n").split("\n\n")
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    data = [line.removeprefix("data: ") for line in lines]
    return [json.loads(each) if each != "[DONE]" else each for each in data]


def spoken(chunks):
    return "".join(
        choice["delta"].get("content") or ""
        for each in chunks
        if isinstance(each, dict)
        for choice in each.get("choices") or ()
        if choice["delta"].get("role") != "function"
    )


async def connected(running):
    return await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))


async def sent(running, *, stream=True, connection="close"):
    """Ask over a bare socket: (reader, writer)."""
    reader, writer = await connected(running)
    body = json.dumps(question(stream=stream)).encode()
    headers = {
        **signed_in(running), "Host": "sim", "User-Agent": "raw", "Connection": connection,
        "Content-Length": str(len(body)),
    }  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST {CHAT} HTTP/1.1\r\n{head}\r\n".encode() + body)
    return reader, writer


async def raw(running, **more):
    """Ask over a bare socket: (all bytes until the server closes, the error if it was one)."""
    reader, writer = await sent(running, **more)
    error, got = None, b""
    try:
        async with asyncio.timeout(SECONDS):
            while piece := await reader.read(65536):
                got += piece
    except ConnectionResetError as failure:
        error = failure
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return got, error


def dechunked(data):
    """Take chunks apart by hand: (chunks, whether the last one came)."""
    chunks = []
    while data:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            assert data == b"\r\n"
            return chunks, True
        chunks.append(data[: int(size, 16)])
        if len(data) < int(size, 16) + 2:
            return chunks, False
        data = data[int(size, 16) + 2 :]
    return chunks, False
