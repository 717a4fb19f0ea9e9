"""Real clients against the installed daemon and the simulator: each does what it promises its users.

The clients of `system.clients.install` play scenes, over TCP with a key and over the Unix socket
without one; curl and an agent are run by the tests themselves. Nobody may turn to any address
outside this machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from brokerd.simulator.refusals import rate_limit
from system.clients import install
from system.clients.egress import outside, watched
from system.conftest import start_anew
from system.http_door import free_port, new_key
from system.scripted import good, with_more
from system.session import SOCKETS


if TYPE_CHECKING:
    from system.clients.install import Clients
    from system.github import GitHub
    from system.session import Session


pytestmark = pytest.mark.timeout(600)
"""The first one builds and installs the daemon, and the clients if they are not there yet."""

HERE = Path(__file__).parent / "clients"
FILES = ("driving.py", "openai_sdk.py", "anthropic_sdk.py", "litellm_sdk.py", "openai_sdk.mjs")
WRONG_KEY = "cpb_" + "x" * 43
WAYS = ("tcp", "unix")
RECORD = "clients/egress"
LIMITED = "sim-small"
"""The model that upstream has limited for an hour before the first scene is played."""

CONFIG = """
[http]
tcp = "{tcp}"
[models.aliases]
"an-alias-of-mine" = "sim-embedding"
"claude-*" = "sim-claude"
"""


@dataclass
class Door:
    """The daemon's HTTP door, and the user's clients before it."""

    session: Session
    clients: Clients
    tcp: str
    key: str
    limited_key: str
    played: dict[str, Any] = field(default_factory=dict)
    turned_to: dict[str, list[str]] = field(default_factory=dict)

    def run(self, name: str, *command: str, stdin: str = "") -> str:
        """Run one of the clients to its good end; return what it said."""
        said = self.session.good(*watched(RECORD, *command), stdin=stdin, timeout=120)
        self.turned_to.setdefault(name, []).extend(outside(self.session.good("cat", RECORD)))
        return said

    def told(self, client: str) -> Any:
        """Return what came of all scenes of a client: way → scene → what it told."""
        if client not in self.played:
            given = {
                "root": f"http://{self.tcp}",
                "key": self.key,
                "wrong_key": WRONG_KEY,
                "limited_key": self.limited_key,
                "socket": self.session.http,
            }
            try:
                said = self.run(client, *self._command(client), stdin=json.dumps(given))
                self.played[client] = json.loads(said)
            except (AssertionError, ValueError) as error:  # not once more for each scene
                self.played[client] = error
        if isinstance(self.played[client], Exception):
            raise self.played[client]
        return self.played[client]

    def _command(self, client: str) -> list[str]:
        if client == "openai_node":
            node = [self.clients.node_program, "clients/openai_sdk.mjs"]
            return [*node, self.clients.node_modules]
        python = self.clients.python("litellm" if client == "litellm" else "sdk")
        offline = "LITELLM_LOCAL_MODEL_COST_MAP=True"
        return ["env", offline, python, f"clients/{client}_sdk.py"]

    def curl(self, way: str, path: str, *options: str, body: Any = None, **headers: str) -> Answer:
        """Ask by curl; what is secret goes by its standard input. `headers`: `x_y` is `x-y`."""
        given = {"authorization": f"Bearer {self.key}"} if way == "tcp" else {}
        if body is not None:
            given["content-type"] = "application/json"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f'header = "{name}: {value}"' for name, value in given.items()]
        if body is not None:
            self.session.write("clients/body.json", json.dumps(body, ensure_ascii=False))
            options = ("--data-binary", "@clients/body.json", *options)
        base = f"http://{self.tcp}"
        if way == "unix":
            base, options = "http://localhost", (*options, "--unix-socket", self.session.http)
        command = ["curl", "-sS", "-i", "--max-time", "30", "--config", "-", *options]
        return Answer.read(self.run("curl", *command, f"{base}{path}", stdin="\n".join(lines)))


@dataclass
class Answer:
    """What curl shows."""

    status: int
    headers: dict[str, str]
    body: str
    was_told_to_go_on: bool
    """100 Continue."""

    @classmethod
    def read(cls, text: str) -> Answer:
        head, _, body = text.partition("\n\n")
        goes_on = head.startswith("HTTP/1.1 100")
        if goes_on:
            head, _, body = body.partition("\n\n")
        first, *lines = head.splitlines()
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return cls(int(first.split()[1]), headers, body, goes_on)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def clients() -> Clients:
    return install.clients()


@pytest.fixture(scope="module")
def door(plain_session: Session, simulator: GitHub, clients: Clients) -> Door:
    """The daemon runs, is signed in, has a port and two keys; upstream has limited one model."""
    session = plain_session
    simulator.forget()
    start_anew(session, simulator, "file")
    tcp = f"127.0.0.1:{free_port()}"
    with_more(session, CONFIG.format(tcp=tcp))
    session.systemctl("start", *SOCKETS)
    for name in FILES:
        session.write(f"clients/{name}", (HERE / name).read_text())
    good(session, "login")
    key, limited = new_key(session, "all"), new_key(session, "few", "--rpm", "1")
    return Door(session, clients, tcp, key, limited)


@pytest.fixture(scope="module")
def limited(door: Door, simulator: GitHub) -> Answer:
    """What comes when upstream limits a model."""
    fault = rate_limit("user_model_rate_limited", 3600)
    simulator.world.queue_faults("/chat/completions", [fault])
    return door.curl("tcp", "/v1/chat/completions", body=question("hi", LIMITED))


def question(text: str, model: str = "sim-chat", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


# What the scenes have to tell. A function looks itself.


def said(text: str, model: str = "sim-chat") -> str:
    return f"This is {model}, simulated. You said: {text}"


def answered(model: str = "sim-chat") -> str:
    return f"This is {model}, simulated. The tool said: rain in Zürich"


@dataclass(frozen=True)
class Refusal:
    """An error that the library knows by its kind, with what the door says of it."""

    kind: str
    status: int | None
    code: str
    waits: range | None = None
    type: str | None = None

    def __call__(self, told: Any) -> None:
        assert (told["kind"], told["status"]) == (self.kind, self.status), told
        body = told["body"]
        if body is None:  # litellm keeps the words only
            assert told["text"], told
        else:
            error = body.get("error", body)
            assert (error["code"], bool(error["message"])) == (self.code, True), told
            assert self.type in (None, error.get("type")), told
        if self.waits is not None:
            assert int(told["retry_after"]) in self.waits, told


def _models(told: Any) -> None:
    found = {each[0]: each[1:] for each in told}
    assert {"sim-chat", "sim-claude", "sim-responses", "sim-embedding"} <= found.keys()
    assert not {"sim-premium", "sim-disabled", "sim-unfinished"} & found.keys(), "not to be used"
    assert all(about[0] == "model" and about[1] for about in found.values())


UNKNOWN = Refusal("BadRequestError", 400, "model_not_supported")
NO_KEY = Refusal("AuthenticationError", 401, "key_unknown", type="authentication_error")
FEW = Refusal("RateLimitError", 429, "request_rate", range(1, 61), "rate_limit_error")
MANY = Refusal("RateLimitError", 429, "cooling_down", range(3000, 3601), "rate_limit_error")
TOOL_AND_ANSWER = ["tool_calls", "get_weather", answered()]
VISION = said("What is this?")

OPENAI: dict[str, Any] = {
    "models": _models,
    "model": ["sim-chat", "model", "Simulator", 1767225600],
    "chat": [said("Grüße"), "stop", True],
    "chat_stream": [said("Grüße"), True, "stop", True],
    "chat_first_chunk": said("hi"),
    "chat_helper": [said("hi", "sim-claude"), said("hi", "sim-claude"), "stop"],
    "tools": TOOL_AND_ANSWER,
    "tools_translated_to_responses": [*TOOL_AND_ANSWER[:2], answered("sim-responses")],
    "vision": VISION,
    "embeddings": [2, 4, True, True],
    "responses": [said("Grüße", "sim-responses"), "completed", True],
    "responses_stream": [said("hi"), said("hi"), "completed"],
    "responses_translated_to_chat": [said("hi"), said("hi"), "completed"],
    "responses_tools": ["get_weather", answered("sim-responses")],
    "unknown_model": UNKNOWN,
    "unknown_model_retrieved": Refusal("NotFoundError", 404, "model_not_found"),
    "wrong_key": NO_KEY,
    "limited_by_key": FEW,
    "limited_upstream": MANY,
    "broken_stream": Refusal("APIError", None, "internal_error"),
}
CLAUDE = "sim-claude"
MESSAGES_TOOL = ["tool_use", "get_weather"]

SCENES: dict[str, dict[str, Any]] = {
    "openai": OPENAI
    | {
        "chat_async": said("Grüße"),
        "tools_streamed": ["tool_calls", "get_weather", {"city": "Zürich"}, True],
        "two_choices": ["tool_calls", "get_weather"],
        "responses_tools_translated_to_chat": ["get_weather", answered()],
    },
    "openai_node": OPENAI | {"tools_run": answered(CLAUDE)},
    "anthropic": {
        "models": _models,
        "model": [CLAUDE, "model", 2026],
        "messages": [said("Grüße", CLAUDE), "end_turn", True],
        "named_by_alias": said("hi", CLAUDE),
        "messages_async": said("Grüße", CLAUDE),
        "messages_stream": [said("Grüße", CLAUDE)] * 2 + ["end_turn", True],
        "messages_translated_to_chat": [said("Grüße")] * 2 + ["end_turn", True],
        "messages_translated_to_responses": [said("Grüße", "sim-responses")] * 2
        + ["end_turn", True],
        "tools": [*MESSAGES_TOOL, answered(CLAUDE)],
        "tools_streamed": [*MESSAGES_TOOL, answered(CLAUDE)],
        "tools_translated_to_chat": [*MESSAGES_TOOL, answered()],
        "tools_translated_to_chat_streamed": [*MESSAGES_TOOL, answered()],
        "tools_translated_to_responses": [*MESSAGES_TOOL, answered("sim-responses")],
        "vision": [said("What is this?", CLAUDE), VISION],
        "betas": said("hi", CLAUDE),
        "count_tokens": [True, True],
        "unknown_model": UNKNOWN,
        "wrong_key": NO_KEY,
        "wrong_token": NO_KEY,
        "limited_by_key": FEW,
        "limited_upstream": MANY,
        "broken_stream": lambda told: Refusal("APIStatusError", 200, "")(
            told | {"body": {"error": {"code": "", **told["body"]["error"]}}}
        ),
    },
    "litellm": {
        "chat": [said("Grüße"), "stop"],
        "chat_stream": said("Grüße"),
        "claude_stream": said("Grüße", CLAUDE),
        "tools": TOOL_AND_ANSWER,
        "vision": VISION,
        "embeddings": [2, 1536],
        "unknown_model": UNKNOWN,
        "wrong_key": NO_KEY,
        "limited_by_key": FEW,
        "limited_upstream": MANY,
        "tcp_messages": [said("Grüße", CLAUDE), "stop"],
        "tcp_messages_stream": said("Grüße", CLAUDE),
        "tcp_messages_tools": [*TOOL_AND_ANSWER[:2], answered(CLAUDE)],
        "tcp_chat_async": said("Grüße"),
        "tcp_responses": said("Grüße", "sim-responses"),
        "tcp_responses_stream": said("Grüße", "sim-responses"),
    },
}


@pytest.mark.parametrize(
    ("client", "way", "scene"),
    [
        (client, way, scene)
        for client, scenes in SCENES.items()
        for way in WAYS
        for scene in scenes
        if way == "tcp" or not scene.startswith("tcp_")
    ],
)
@pytest.mark.usefixtures("limited")
def test_scene(door: Door, client: str, way: str, scene: str) -> None:
    told = door.told(client)[way][scene]
    if isinstance(told, dict) and "failed" in told:
        pytest.fail("\n".join([told["failed"], *told["where"]]), pytrace=False)
    expected: Any = SCENES[client][scene]
    if callable(expected):
        expected(told)
    else:
        assert told == expected


@pytest.mark.parametrize("client", SCENES)
@pytest.mark.usefixtures("limited")
def test_every_scene_is_looked_at(door: Door, client: str) -> None:
    told, expected = door.told(client), SCENES[client].keys()
    assert told["tcp"].keys() == expected
    assert told["unix"].keys() == {each for each in expected if not each.startswith("tcp_")}


# curl


def test_curl_is_told_of_a_limit_upstream(limited: Answer) -> None:
    assert (limited.status, limited.headers["retry-after"]) == (429, "3600")
    assert limited.headers["content-type"].startswith("application/json")
    assert limited.json["error"]["code"] == "user_model_rate_limited"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_curl_chats_and_lists_models(door: Door, way: str, prefix: str) -> None:
    answer = door.curl(way, f"{prefix}/chat/completions", body=question("Grüße"))
    assert (answer.status, answer.headers["x-copilot-broker-account"]) == (200, "default")
    assert answer.json["choices"][0]["message"]["content"] == said("Grüße")
    listed = door.curl(way, f"{prefix}/models").json
    _models([(each["id"], each["object"], each["owned_by"]) for each in listed["data"]])
    model = door.curl(way, f"{prefix}/models/sim-chat").json
    assert (model["id"], model["object"]) == ("sim-chat", "model")


@pytest.mark.parametrize("way", WAYS)
def test_curl_streams(door: Door, way: str) -> None:
    answer = door.curl(
        way, "/v1/chat/completions", "-N", "--compressed", body=question("hi", stream=True)
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.body.splitlines() if line]
    assert events[-1] == "[DONE]"
    choices = [choice for each in events[:-1] for choice in json.loads(each)["choices"]]
    assert "".join(each["delta"].get("content") or "" for each in choices) == said("hi")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framing", [{}, {"transfer_encoding": "chunked"}])
def test_curl_waits_with_a_large_body(door: Door, way: str, framing: dict[str, str]) -> None:
    body = question("many words " * 20_000)
    answer = door.curl(way, "/v1/chat/completions", body=body, expect="100-continue", **framing)
    assert (answer.status, answer.was_told_to_go_on) == (200, True)
    assert answer.json["choices"][0]["message"]["content"].startswith(said("many words"))


@pytest.mark.parametrize("way", WAYS)
def test_curl_speaks_messages_and_counts(door: Door, way: str) -> None:
    key = {"authorization": "", "x_api_key": door.key} if way == "tcp" else {}
    body = question("Grüße", CLAUDE, max_tokens=9)
    headers = {"anthropic_version": "2023-06-01", **key}
    answer = door.curl(way, "/v1/messages?beta=true", body=body, **headers)
    assert answer.json["content"][0]["text"] == said("Grüße", CLAUDE)
    counted = door.curl(way, "/v1/messages/count_tokens", body=body, **headers)
    assert counted.json["input_tokens"] > 0


@pytest.mark.parametrize("way", WAYS)
def test_curl_makes_embeddings_and_responses(door: Door, way: str) -> None:
    body = {"model": "sim-embedding", "input": ["one", "two"], "dimensions": 4}
    answer = door.curl(way, "/v1/embeddings", body=body)
    assert [len(each["embedding"]) for each in answer.json["data"]] == [4, 4]
    response = door.curl(way, "/v1/responses", body={"model": "sim-responses", "input": "hi"})
    assert response.json["output"][0]["content"][0]["text"] == said("hi", "sim-responses")


@pytest.mark.parametrize("way", WAYS)
def test_curl_asks_how_the_door_is(door: Door, way: str) -> None:
    assert door.curl(way, "/", "--head").status == 200
    assert door.curl(way, "/healthz").status == 200
    metrics = door.curl(way, "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "copilot_broker_" in metrics.body


def test_curl_without_a_key(door: Door) -> None:
    """Who comes by TCP needs one, for everything; in the words of the API it speaks."""
    chat = door.curl("tcp", "/v1/chat/completions", body=question("hi"), authorization="")
    assert (chat.status, chat.json["error"]["code"]) == (401, "key_missing")
    told = door.curl("tcp", "/v1/messages", body=question("hi", CLAUDE), authorization="")
    assert (told.status, told.json["type"]) == (401, "error")
    assert told.json["error"]["type"] == "authentication_error"
    assert door.curl("tcp", "/healthz", authorization="").status == 401


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "model"), [("/v1/chat/completions", "sim-chat"), ("/v1/messages", CLAUDE)]
)
def test_curl_with_a_wrong_key(door: Door, way: str, path: str, model: str) -> None:
    for headers in (
        {"x_api_key": WRONG_KEY, "authorization": ""},
        {"authorization": f"Bearer {WRONG_KEY}"},
    ):
        answer = door.curl(way, path, body=question("hi", model), **headers)
        assert (answer.status, answer.json["error"]["code"]) == (401, "key_unknown")


@pytest.mark.parametrize("way", WAYS)
def test_what_curl_sends_of_itself_is_no_json(door: Door, way: str) -> None:
    """A form, as a web page can send it: a bare 403."""
    form = "application/x-www-form-urlencoded"
    answer = door.curl(way, "/v1/chat/completions", body=question("hi"), content_type=form)
    assert (answer.status, answer.body) == (403, "")


# An agent, which calls a tool of its own and says what came of it.


AGENT = {
    "chat": ("openai-completions", "/v1", "sim-chat"),
    "responses": ("openai-responses", "/v1", "sim-responses"),
    "messages": ("anthropic-messages", "", CLAUDE),
}


@pytest.mark.parametrize("api", AGENT)
def test_an_agent_uses_its_tools(door: Door, simulator: GitHub, api: str) -> None:
    providers = {
        name: {
            "api": kind,
            "apiKey": door.key,
            "baseUrl": f"http://{door.tcp}{base}",
            "models": [{"id": model}],
        }
        for name, (kind, base, model) in AGENT.items()
    }
    door.session.write("clients/pi/models.json", json.dumps({"providers": providers}))
    home = f"PI_CODING_AGENT_DIR={door.session.home}/clients/pi"
    program = f"{door.clients.node_modules}/@mariozechner/pi-coding-agent/dist/cli.js"
    options = ["--offline", "--no-session", "-p", "--model", f"{api}/{AGENT[api][2]}"]
    wish = 'Please use bash with {"command": "echo pi-said-$((6*7))"} and tell me.'
    before = len(simulator.world.requests)
    told = door.run("pi", "env", home, door.clients.node_program, program, *options, wish)
    assert told.strip() == f"This is {AGENT[api][2]}, simulated. The tool said: pi-said-42"
    asked = [each for each in list(simulator.world.requests)[before:] if each.method == "POST"]
    assert [each.headers.get("x-initiator") for each in asked] == ["user", "agent"]


# Of all together.


@pytest.mark.usefixtures("limited")
def test_nobody_turns_to_another_machine(door: Door) -> None:
    for client in SCENES:
        door.told(client)
    assert {client: found for client, found in door.turned_to.items() if found} == {}
    assert {"curl", *SCENES} <= door.turned_to.keys()


@pytest.mark.parametrize(
    ("call", "address"),
    [
        ("s = socket.socket(); s.setblocking(False); s.connect_ex", ("192.0.2.1", 443)),
        ("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect", ("127.0.0.1", 53)),
        (
            "s = socket.socket(socket.AF_INET6); s.setblocking(False); s.connect_ex",
            ("2001:db8::1", 80),
        ),
    ],
)
def test_who_turned_to_another_machine_would_be_seen(
    door: Door, call: str, address: tuple[str, int]
) -> None:
    source = f"import socket; {call}({address})"
    door.session.good(*watched(RECORD, "/usr/bin/python3", "-c", source))
    assert outside(door.session.good("cat", RECORD)) == [f"{address[0]}:{address[1]}"]


def test_no_key_of_ours_goes_upstream(door: Door, simulator: GitHub) -> None:
    door.curl("tcp", "/v1/chat/completions", body=question("hi"), x_api_key=door.key)
    sent = [value for each in list(simulator.world.requests) for value in each.headers.values()]
    assert sent
    assert not any("cpb_" in value for value in sent)
