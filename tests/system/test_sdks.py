"""Real SDKs over the Unix socket by `copilot_broker.http`, against the installed daemon.

The environments are those of the other tests of clients, so both httpx are met; the package is
installed for them as a person would, with msgpack and nothing else. The programs run among keys,
addresses and proxies that are for others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from brokerd.simulator.refusals import rate_limit
from system.clients import install
from system.conftest import start_anew
from system.http_door import completions, new_key
from system.scripted import good, with_more
from system.session import SOCKETS, eventually
from system.test_clients import (
    CLAUDE,
    FILES,
    HERE,
    LIMITED,
    SCENES,
    WRONG_KEY,
    Door,
    question,
    said,
)


if TYPE_CHECKING:
    from pathlib import Path

    from system.github import GitHub
    from system.session import Session


pytestmark = pytest.mark.timeout(600)
"""The first one builds and installs the daemon, and the SDKs if they are not there yet."""

CONFIG = """
[models.aliases]
"an-alias-of-mine" = "sim-embedding"
"claude-*" = "sim-claude"
"""

FOR_OTHERS = {
    "OPENAI_API_KEY": "sk-of-somebody-elses",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    "ANTHROPIC_API_KEY": "sk-ant-of-somebody-elses",
    "ANTHROPIC_AUTH_TOKEN": "of-somebody-elses",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    "ANTHROPIC_CUSTOM_HEADERS": "x-api-key: of-somebody-elses",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
HINT = "Run: systemctl --user start copilot-broker.socket"


def more(text: str, family: str) -> dict[str, Any]:
    return {
        "many_at_once": [True] * 20,
        "many_at_once_async": [True] * 20,
        "stream_async": True,
        "account": [text, "PermissionDeniedError", "login_required"],
        "nobody_there": ["APIConnectionError", "ConnectError", "BrokerUnreachable", HINT],
        "sent": [True],
        "library": [family, False, True],
    }


TOLD: dict[str, dict[str, Any]] = {
    "openai": SCENES["openai"] | more(said("hi"), "httpx2"),
    "anthropic": SCENES["anthropic"] | more(said("hi", CLAUDE), "httpx2"),
    "litellm": {"litellm_chat": said("hi"), "litellm_async": said("hi"), "litellm_embedding": 1}
    | more(said("hi"), "httpx"),
}
LEAVERS = ("OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic")


@pytest.fixture(scope="module")
def clients() -> install.Clients:
    return install.clients()


@pytest.fixture(scope="module")
def package(installed: Path, clients: install.Clients) -> Path:
    """A folder with the client package and what it depends on."""
    folder = installed.parent / "package"
    (wheel,) = (installed.parent / "wheel").glob("*.whl")
    python = install.kept_in() / clients.sdk / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    quiet = ["--disable-pip-version-check", "--no-input", "--target", folder]
    subprocess.run([*pip, *quiet, wheel], check=True, umask=0o022)
    found = {each.name for each in folder.iterdir() if each.suffix != ".dist-info"}
    assert found <= {"bin", "brokerd", "copilot_broker", "msgpack", "share"}
    return folder


class Played(Door):
    """Programs in an environment for others, with the package on their path."""

    package: Path

    def program(self, environment: str, *arguments: str) -> list[str]:
        given = [f"{name}={value}" for name, value in FOR_OTHERS.items()]
        given.append(f"PYTHONPATH={self.package}")
        python = self.clients.python(environment)
        return ["env", *given, python, "clients/by_package.py", *arguments]

    def told_by(self, client: str) -> dict[str, Any]:
        """Return what came of all scenes of a client."""
        if client not in self.played:
            keys = {"key": "", "wrong_key": WRONG_KEY, "limited_key": self.limited_key}
            stdin = json.dumps(keys | {"socket": self.session.http})
            environment = "litellm" if client == "litellm" else "sdk"
            try:
                run = self.run(client, *self.program(environment, client), stdin=stdin)
                self.played[client] = json.loads(run)
            except (AssertionError, ValueError) as error:  # not once more for each scene
                self.played[client] = error
        if isinstance(self.played[client], Exception):
            raise self.played[client]
        return dict(self.played[client])


@pytest.fixture(scope="module")
def door(
    plain_session: Session, simulator: GitHub, clients: install.Clients, package: Path
) -> Played:
    """The daemon runs, without TCP, and is signed in; upstream has limited one model."""
    session = plain_session
    simulator.forget()
    start_anew(session, simulator, "file")
    with_more(session, CONFIG)
    session.systemctl("start", *SOCKETS)
    for name in (*FILES, "by_package.py"):
        session.write(f"clients/{name}", (HERE / name).read_text())
    good(session, "login")
    limited = new_key(session, "few", "--rpm", "1")
    door = Played(session, clients, "", "", limited)
    door.package = package
    fault = rate_limit("user_model_rate_limited", 3600)
    simulator.world.queue_faults("/chat/completions", [fault])
    refused = door.curl("unix", "/v1/chat/completions", body=question("hi", LIMITED))
    assert refused.status == 429
    return door


@pytest.mark.parametrize(
    ("client", "scene"), [(client, scene) for client, told in TOLD.items() for scene in told]
)
def test_scene(door: Played, client: str, scene: str) -> None:
    told = door.told_by(client)[scene]
    if isinstance(told, dict) and "failed" in told:
        pytest.fail("\n".join([told["failed"], *told["where"]]), pytrace=False)
    expected: Any = TOLD[client][scene]
    if callable(expected):
        expected(told)
    else:
        assert told == expected


@pytest.mark.parametrize("client", TOLD)
def test_every_scene_is_looked_at(door: Played, client: str) -> None:
    assert door.told_by(client).keys() == TOLD[client].keys()


def test_nobody_turns_to_another_machine(door: Played) -> None:
    for client in TOLD:
        door.told_by(client)
    assert {client: door.turned_to[client] for client in TOLD} == {client: [] for client in TOLD}


@pytest.mark.parametrize(
    ("environment", "client"),
    [("sdk", each) for each in LEAVERS] + [("litellm", each) for each in LEAVERS[:2]],
)
def test_who_leaves_a_stream_cuts_it_upstream(
    door: Played, simulator: GitHub, environment: str, client: str
) -> None:
    settings = simulator.world.settings
    settings.change({"chat_chunks": 1000, "chat_interval": 0.05})
    try:
        simulator.world.requests.clear()
        door.session.good(*door.program(environment, "leave", client))
        (request,) = completions(simulator)
        eventually(lambda: request.cancelled, within=5)
        assert not request.finished
    finally:
        settings.change({"chat_chunks": None, "chat_interval": 0})
