"""What a request over HTTP leaves behind: nothing that only the garbage collector would find.

A prompt that waits for the collector lies in memory for as long as nobody else asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections import Counter
from dataclasses import replace

import pytest

from brokerd.gateway.messages import Reply
from brokerd.upstream.copilot import Copilot
from brokerd.upstream.hosts import UpstreamSettings
from fakes.clock import settle
from fakes.http_door import OpenDoor
from fakes.http_service import Stand, a_model
from fakes.proxied import FIRST, WAY
from fakes.rpc_door import until
from fakes.upstream_server import Exchange, Origin, chunked


MODELS = [a_model("gpt-x"), a_model("other", "/responses")]
WHOLE = b'{"id":"c1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":3}}'
EVENT = b'data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
OPENING = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
JSON = ("Content-Type: application/json",)


async def answer(exchange: Exchange) -> None:
    """As the prompt wants it."""
    if exchange.line.startswith("GET"):
        await exchange.answer(json.dumps({"data": MODELS}).encode(), headers=JSON)
        return
    asked = exchange.body
    if b"refuse" in asked:
        await exchange.answer(b'{"error":{"code":"x","message":"no"}}', "400 Bad Request", JSON)
    elif b"never" in asked:
        await exchange.wait_until_client_leaves()
    elif b'"stream":true' not in asked:
        await exchange.answer(WHOLE, headers=JSON)
    else:
        await exchange.send(OPENING + chunked(EVENT))
        if b"die" in asked:
            exchange.reset()
        elif b"go on" in asked:
            await exchange.wait_until_client_leaves()
        else:
            await exchange.send(chunked(EVENT, DONE) + b"0\r\n\r\n")


def a_request(prompt: str, *, stream: bool = False, model: str = "gpt-x") -> bytes:
    asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    body = json.dumps(asked, separators=(",", ":")).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextlib.contextmanager
def nothing_left():
    """Fail where something of ours is found that nobody holds and that was not let go."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = Counter(f"{type(each).__module__}.{type(each).__name__}" for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not [kind for kind in kinds if kind.startswith("brokerd.")], kinds


class OnePage:
    """Whatever is asked for."""

    async def answer(self, *_):
        await asyncio.sleep(0)
        return Reply(200, {}, b"{}")


@pytest.fixture
async def world(tmp_path, monkeypatch):
    """A door before the real service and the real client of upstream; a list of models is had."""
    monkeypatch.setattr(WAY, "now", "at once")
    async with Origin(answer) as origin:
        stand = Stand(pages=OnePage())
        stand.copilot = Copilot(UpstreamSettings(copilot=origin.url))
        stand.lender.leases = [replace(FIRST, host="github.com", api_base=origin.url)]
        async with OpenDoor(tmp_path / "s", handler=stand.service) as door:
            assert (await door.knock().ask(a_request("hi"))).body == WHOLE
            yield stand, door
        stand.catalogue.close()
        await stand.copilot.aclose(0)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(a_request("hi"), id="whole"),
        pytest.param(a_request("hi", stream=True), id="stream"),
        pytest.param(a_request("refuse"), id="refused"),
        pytest.param(a_request("die", stream=True), id="upstream dies"),
        pytest.param(a_request("hi", model="other"), id="translated"),
        pytest.param(a_request("hi", model="other", stream=True), id="stream translated"),
        pytest.param(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n", id="a page"),
        pytest.param(b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n", id="no path"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nhost: example.com\r\n\r\n", id="hostile"),
    ],
)
async def test_an_answered_request_is_gone(world, request_):
    _, door = world
    await door.knock().ask(request_)  # whatever is made once is made now
    with nothing_left():
        for _ in range(3):
            assert (await door.knock().ask(request_)).status
        await settle()


@pytest.mark.parametrize("prompt", ["never", "go on"])
async def test_a_client_that_has_hung_up_is_gone_with_its_request(world, prompt):
    stand, door = world
    with nothing_left():
        client, ended = door.knock(), len(stand.ended)
        await client.send(a_request(prompt, stream=True))
        if prompt == "go on":
            await client.until(b"\r\n\r\n")
        else:
            await until(lambda: door.gate.connections == 2)
        client.close()
        await until(lambda: len(stand.ended) > ended and door.gate.connections == 1)
        await settle()


@pytest.mark.parametrize(
    "bytes_",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"POST / HTTP/1.1\r\nhost: loc", id="half a head"),
        pytest.param(a_request("hi")[:-5], id="half a body"),
        pytest.param(b"\x16\x03\x01 no HTTP", id="unreadable"),
        pytest.param(a_request("hi"), id="a request"),
    ],
)
async def test_a_closed_connection_is_gone(world, bytes_):
    _, door = world
    with nothing_left():
        client = door.knock()
        await until(lambda: door.gate.connections == 2)
        if bytes_:
            await client.send(bytes_)
        if bytes_ == a_request("hi"):
            await client.answer()
        await settle()
        client.close()
        await until(lambda: door.gate.connections == 1)
        await settle()
