"""The HTTP door's service over a scripted Copilot: requests go in as values, answers come out."""

import asyncio
import json
from dataclasses import replace

from brokerd.core.http_guard import SOCKET_HOSTS
from brokerd.core.peer import Peer
from brokerd.core.settings import Config
from brokerd.gate import Gate
from brokerd.gateway.catalogue import Catalogue
from brokerd.gateway.collected import Held
from brokerd.gateway.keepalive import Keepalive
from brokerd.gateway.messages import Head, Request
from brokerd.gateway.service import Service
from brokerd.gateway.workshop import Workshop
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from fakes.clock import FakeClock
from fakes.copilot import FakeCopilot, FakeReply
from fakes.proxied import FIRST, FakeLender


__all__ = ["JSON", "SSE", "Outlet", "Stand", "a_model", "events_of", "streamed"]

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
UID = 1000


def a_model(name, *endpoints, kind="chat"):
    entry = {"id": name, "object": "model", "capabilities": {"type": kind}}
    return entry | ({"supported_endpoints": list(endpoints)} if endpoints else {})


def streamed(*chunks, **more):
    return FakeReply(headers=SSE, chunks=chunks, **more)


def events_of(body):
    """The data of each event of a stream; JSON is read."""
    found = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line[5:].strip() for line in block.split("\n") if line.startswith("data:")]
        if lines:
            text = "\n".join(lines)
            found.append(text if text == "[DONE]" else json.loads(text))
    return found


class Outlet:
    """`Outlet` that keeps what it is given."""

    def __init__(self):
        self.status, self.headers, self.chunks = 0, {}, []
        self.is_chunked = self.is_cut = False
        self.over = asyncio.Event()
        self.changed = asyncio.Event()
        self.has_room = True

    @property
    def body(self):
        return b"".join(self.chunks)

    @property
    def json(self):
        return json.loads(self.body)

    def reply(self, reply):
        assert not self.status, "answered twice"
        self.status, self.headers = reply.status, dict(reply.headers)
        self.chunks.append(reply.body)
        self.over.set()

    def start(self, status, headers, length=None):
        assert not self.status, "answered twice"
        self.status, self.headers, self.is_chunked = status, dict(headers), length is None

    def send(self, chunk):
        assert self.status
        assert chunk
        assert not self.over.is_set(), "sent after the end"
        self.chunks.append(chunk)
        self.changed.set()
        return self.has_room

    def end(self):
        assert not self.over.is_set(), "ended twice"
        self.over.set()

    def cut(self):
        self.is_cut = True
        self.over.set()


class Stand:
    """`Stand(*answers, models=[...])`; `await stand.post(path, body)` is the whole answer."""

    def __init__(self, *answers, models=(), config=None, rules=(), keepalive=15.0, pages=None):
        self.copilot = FakeCopilot(*answers)
        self.copilot.models_answers = [list(models)] if models else []
        self.lender = FakeLender(FIRST)
        self.clock = FakeClock()
        self.config = config or Config()
        self.proxy = Proxy(
            self.lender, lambda: self.copilot, Pacer(self.clock, lambda account: account)
        )
        self.gate = Gate(rules, own_uid=UID)
        self.ended = []
        self.catalogue = Catalogue(self.proxy)
        self.keepalive = Keepalive(lambda: keepalive)
        self.held = Held()
        shop = Workshop(
            self.proxy,
            self.catalogue,
            self.keepalive,
            self.held,
            config=lambda: self.config,
            default_account=lambda: "default",
            on_begin=lambda: None,
            on_end=self.ended.append,
        )
        self.service = Service(
            self.gate,
            shop,
            pages or {},
            hosts={"http": SOCKET_HOSTS, "http-tcp": frozenset({"127.0.0.1:4141"})},
            keyed=frozenset({"http-run", "http-tcp"}),
        )

    def caller(self, listener="http", **who):
        return self.gate.admit(replace(Peer(1234, UID, UID), **who), listener)

    def begin(self, path, body=b"", *, method="POST", caller=None, **headers):
        """Begin one; returns its outlet and its work."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        usual = {"host": "localhost"}
        if method == "POST":
            usual["content-type"] = "application/json"
        outlet = Outlet()
        request = Request(Head(method, path, "", usual | given, method == "POST"), content)
        work = self.service.begin(request, outlet, caller or self.caller())
        return outlet, work

    async def ask(self, path, body=b"", **more):
        outlet, _ = self.begin(path, body, **more)
        async with asyncio.timeout(10):
            await outlet.over.wait()
        return outlet

    @property
    def sent(self):
        """The bodies that upstream was sent."""
        return [json.loads(call.body) for call in self.copilot.calls]
