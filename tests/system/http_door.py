"""Clients of the HTTP door, run as the user: raw requests, and what came back to the last byte.

They are asked through stdin, so that no key ever stands in an argument.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from system.scripted import CONFIG, good, with_more
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from brokerd.simulator.records import RecordedRequest
    from system.github import GitHub
    from system.session import Session


__all__ = [
    "DIALECTS",
    "PROMPT",
    "UPSTREAMS",
    "WAYS",
    "Answer",
    "Asked",
    "Way",
    "address_of",
    "ask",
    "ask_all",
    "code_of",
    "completions",
    "free_port",
    "new_key",
    "with_tcp",
]

Where: TypeAlias = "str | tuple[str, int]"

PROMPT = "count to three"

ASKS = """
import concurrent.futures, http.client, json, socket, sys

where, asked = json.load(sys.stdin)

def connected():
    if not isinstance(where, str):
        return http.client.HTTPConnection(*where, timeout=40)
    connection = http.client.HTTPConnection("localhost", timeout=40)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(40)
    connection.sock.connect(where)
    return connection

def told(request):
    connection = connected()
    try:
        connection.request(*request)
        answer = connection.getresponse()
        try:
            body, is_whole = answer.read(), True
        except http.client.IncompleteRead as error:
            body, is_whole = error.partial, False
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return [answer.status, headers, body.decode(), is_whole]
    except (ConnectionError, http.client.HTTPException) as error:
        return [0, {}, repr(error), False]
    finally:
        connection.close()

with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
    print(json.dumps(list(pool.map(told, asked))))
"""


@dataclass(frozen=True)
class Asked:
    """One request as a client sends it."""

    path: str
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    method: str = ""
    """"" = POST where there is a body, else GET."""

    def as_sent(self) -> list[object]:
        """What `http.client` takes."""
        if self.body is None:
            return [self.method or "GET", self.path, None, self.headers]
        headers = {"content-type": "application/json", **self.headers}
        return [self.method or "POST", self.path, json.dumps(self.body), headers]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    """0: there was no answer."""
    headers: dict[str, str]
    body: str
    is_whole: bool
    """As HTTP has it; a stream that breaks off in an error event is whole too."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; "[DONE]" as it is."""
        lines = [line[6:] for line in self.body.splitlines() if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


@dataclass(frozen=True)
class Way:
    """How a completion is asked for, and by which endpoint of upstream's it is served."""

    path: str
    model: str
    upstream: str

    @property
    def dialect(self) -> str:
        return self.path.removeprefix("/v1/")

    @property
    def end(self) -> str:
        """What only a stream has that came to its end."""
        return DIALECTS[self.dialect]

    def asked(self, *, stream: bool = False, **headers: str) -> Asked:
        """Build the request."""
        messages = [{"role": "user", "content": PROMPT}]
        more = {
            "chat/completions": {"messages": messages},
            "messages": {"messages": messages, "max_tokens": 4000},
            "responses": {"input": PROMPT},
        }
        body = {"model": self.model, "stream": stream, **more[self.dialect]}
        return Asked(self.path, body, {k.replace("_", "-"): v for k, v in headers.items()})


DIALECTS = {
    "chat/completions": "data: [DONE]",
    "messages": "message_stop",
    "responses": "response.completed",
}
WAYS = {
    "chat": Way("/v1/chat/completions", "sim-chat", "/chat/completions"),
    "messages": Way("/v1/messages", "sim-claude", "/v1/messages"),
    "responses": Way("/v1/responses", "sim-responses", "/responses"),
    "messages by chat": Way("/v1/messages", "sim-chat", "/chat/completions"),
    "responses by chat": Way("/v1/responses", "sim-chat", "/chat/completions"),
    "chat by responses": Way("/v1/chat/completions", "sim-responses", "/responses"),
    "messages by responses": Way("/v1/messages", "sim-responses", "/responses"),
}
"""Each dialect as it is and translated, as far as the models ask for it."""

UPSTREAMS = frozenset(way.upstream for way in WAYS.values()) | {"/embeddings"}


def ask_all(session: Session, asked: list[Asked], where: Where = "") -> list[Answer]:
    """Send all at once, each on a connection of its own: to http.sock, or by TCP."""
    told = json.dumps([where or session.http, [each.as_sent() for each in asked]])
    out = session.good("/usr/bin/python3", "-c", ASKS, stdin=told, timeout=90)
    return [Answer(*each) for each in json.loads(out)]


def ask(session: Session, asked: Asked, where: Where = "") -> Answer:
    """Send one request."""
    (answer,) = ask_all(session, [asked], where)
    return answer


def completions(github: GitHub) -> list[RecordedRequest]:
    """Return what upstream got of completions so far."""
    return [request for request in list(github.world.requests) if request.path in UPSTREAMS]


def code_of(answer: Answer, dialect: str) -> str:
    """Return our code of an error, having checked that it is in the words of its dialect."""
    assert answer.headers["content-type"] == "application/json", answer
    told = answer.json
    error = told["error"]
    assert error["message"]
    if dialect == "messages":
        assert told["type"] == "error", told
        assert error["type"], told
    assert answer.headers["x-copilot-broker-error"] == error["code"]
    return str(error["code"])


# -- TCP and keys --------------------------------------------------------------------------------


def free_port() -> int:
    """Find a port that nobody has for now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def address_of(port: int) -> tuple[str, int]:
    """Where TCP clients connect."""
    return ("127.0.0.1", port)


def with_tcp(session: Session, port: int, more: str = "") -> None:
    """Have the daemon listen on TCP too, and start it anew."""
    with_more(session, f'[http]\ntcp = "127.0.0.1:{port}"\n{more}')
    session.systemctl("restart", SERVICE)
    eventually(lambda: session.show("ActiveState") == "active")
    assert f"127.0.0.1:{port}" in session.good("cat", CONFIG)


def new_key(session: Session, name: str, *options: str) -> str:
    """Make a key."""
    return good(session, "key", "create", name, *options).strip()
