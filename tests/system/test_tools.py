"""Every recipe of `copilot-cred env` that installs here, done with the real tool, as it is printed.

What is run is read off the page that the command prints: its commands, its variables, its files in
their places. Large tools are run by hand only: `system.tools.registry.COMMAND`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from copilot_broker.cli.recipes.parts import HEADINGS
from copilot_broker.cli.recipes.tools import RECIPES
from system.clients import install
from system.clients.egress import arguments, loopback, names, outside, watched
from system.conftest import start_anew
from system.http_door import free_port
from system.scripted import good, with_more
from system.session import SOCKETS
from system.tools.registry import ALL, COMMAND, NOT_RUN, TOOLS


if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from system.github import GitHub
    from system.session import Session


pytestmark = pytest.mark.timeout(600)
"""The first one builds and installs the daemon, and each the tool if it is not there yet."""

RECORD = "tools/record"
TEXT = 600
"""Bytes of arguments and of what is sent that the record has."""

ANSWER = re.compile(r"This is (\S+), simulated\. You said: .*?Say\s+hello", re.DOTALL)
"""The simulator's; some put more before the words, some break lines."""

FILE = re.compile(re.escape(HEADINGS["file"]).replace(re.escape("{path}"), r"(\S+)"))


@dataclass(frozen=True)
class Page:
    """What `env` printed, taken apart."""

    once: str
    shell: str
    files: dict[str, str]
    run: str

    @classmethod
    def read(cls, text: str) -> Page:
        """Read it as a person does: a heading, and what stands below it."""
        blocks = re.split(r"\n\n(?=# |## )", text.rstrip("\n"))
        told = dict(block[3:].split("\n", 1) for block in blocks if block.startswith("## "))
        files = {}
        for heading, body in told.items():
            if found := FILE.fullmatch(heading):
                files[found[1]] = f"{body}\n"
        commands = {each: told.get(HEADINGS[each], "") for each in ("once", "shell", "run")}
        assert len(told) == len(files) + sum(map(bool, commands.values())), told.keys()
        return cls(files=files, **commands)


@dataclass
class Tools:
    """The user, the daemon's TCP door, and the tools before it."""

    session: Session
    port: int

    def page(self, name: str, *options: str) -> Page:
        """Return the settings as `copilot-cred` prints them."""
        return Page.read(good(self.session, "env", "--for", name, *options))

    def home(self, name: str, way: str) -> str:
        """Make a home with nothing in it but the programs that the tool's makers would install."""
        tool, home = TOOLS[name], f"tools/{way}/{name}"
        folder = f"{install.PLACE}/{install.one(tool.environment)}"
        node = install.node_program(install.one("sdk"))
        for program, command in tool.programs.items():
            line = command.format(folder=folder, node=node)
            self.session.write(f"{home}/bin/{program}", f'#!/bin/sh\nexec {line} "$@"\n')
        self.session.good("sh", "-c", f"chmod +x {home}/bin/*")
        if tool.uses_modules:
            self.session.good("ln", "-s", f"{folder}/node_modules", f"{home}/node_modules")
        return f"{self.session.home}/{home}"

    def run(self, home: str, page: Page) -> tuple[str, str]:
        """Do as the page says; return what was said, and what was seen of it."""
        done = self.do(home, page)
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert "error" not in done.stderr.lower(), done.stderr
        return done.stdout, self.session.good("cat", RECORD)

    def do(self, home: str, page: Page) -> subprocess.CompletedProcess[str]:
        """Do as the page says, watched."""
        for path, text in page.files.items():
            self.session.write(
                f"{path.replace('~', home) if '~' in path else f'{home}/{path}'}", text
            )
        path = f"{home}/bin:{self.session.home}/.local/bin:/usr/bin:/bin"
        variables = (f"HOME={home}", f"PATH={path}")
        here = ("env", "-C", home, *variables, "bash", "-euo", "pipefail", "-c")
        if page.once:
            self.session.good(*here, page.once)
        commands = watched(f"{self.session.home}/{RECORD}", *here, text=TEXT)
        return self.session.run(*commands, f"{page.shell}\n{page.run}", timeout=150)


@pytest.fixture(scope="module")
def tools(plain_session: Session, simulator: GitHub) -> Iterator[Tools]:
    """The daemon runs, is signed in and has a port."""
    simulator.forget()
    start_anew(plain_session, simulator, "file")
    port = free_port()
    with_more(plain_session, f'[http]\ntcp = "127.0.0.1:{port}"\n')
    plain_session.systemctl("start", *SOCKETS)
    good(plain_session, "login")
    plain_session.good("sh", "-c", "rm -rf tools; mkdir tools")
    yield Tools(plain_session, port)
    plain_session.good("rm", "-rf", "tools")  # much to look through at the session's end


@pytest.fixture(params=TOOLS)
def name(request: pytest.FixtureRequest) -> str:
    wanted = str(request.param)
    if not TOOLS[wanted].in_every_run and not os.environ.get(ALL):
        pytest.skip(f"large; to run all tools: {COMMAND}")
    return wanted


def looked_at(name: str, said: str, record: str) -> None:
    """The right models answered, and nobody else was asked or told."""
    tool = TOOLS[name]
    assert tuple(ANSWER.findall(said)) == tool.models, said
    assert {each.split(".")[-2] for each in names(record)} <= tool.domains
    if not tool.domains:
        assert outside(record) == []
    assert "execve(" in arguments(record)
    assert "cpb_" not in arguments(record)


def test_by_hand(tools: Tools, name: str) -> None:
    page = tools.page(name)
    said, record = tools.run(tools.home(name, "by-hand"), page)
    looked_at(name, said, record)
    assert tools.port in loopback(record)


def test_under_exec(tools: Tools, name: str) -> None:
    page = tools.page(name, "--under-exec")
    assert page.once == ""
    said, record = tools.run(tools.home(name, "exec"), page)
    looked_at(name, said, record)
    assert loopback(record)
    assert tools.port not in loopback(record)


DEAD_FIRST = """#!/bin/sh
mkdir "$HOME/asked" 2>/dev/null && exec echo {dead}
exec {cred} "$@"
"""
"""Gives a key that is none, and from the second time on one that is good."""


@pytest.mark.parametrize("name", ["claude-code", "codex"])
def test_the_command_for_the_key_is_run_again_after_a_401(tools: Tools, name: str) -> None:
    """A key that was printed ends, at the latest with the daemon."""
    home = tools.home(name, "again")
    cred = f"{tools.session.home}/.local/bin/copilot-cred"
    stand_in = DEAD_FIRST.format(dead=f"cpb_{'x' * 43}", cred=cred)
    tools.session.write(f"{home}/bin/copilot-cred", stand_in)
    tools.session.good("chmod", "+x", f"{home}/bin/copilot-cred")
    done = tools.do(home, tools.page(name))
    tools.session.good("test", "-d", f"{home}/asked")
    assert tuple(ANSWER.findall(done.stdout)) == TOOLS[name].models, done


def test_curl_by_hand(tools: Tools) -> None:
    """The page has two ways, by the socket and by TCP."""
    page = tools.page("curl")
    said, record = tools.run(f"{tools.session.home}/tools", page)
    assert ANSWER.findall(said) == ["sim-chat", "sim-chat"]
    assert (outside(record), loopback(record)) == ([], {tools.port})
    assert "cpb_" not in arguments(record)


def test_curl_under_exec(tools: Tools) -> None:
    said, record = tools.run(f"{tools.session.home}/tools", tools.page("curl", "--under-exec"))
    assert '"sim-chat"' in said
    assert outside(record) == []
    assert "cpb_" not in arguments(record)


ASKS = r"""
import socket, sys
question = b"\0\1\1\0\0\1\0\0\0\0\0\0" b"\6a-name\7example\0" b"\0\1\0\1"
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(question, ("127.0.0.1", 53))
"""


def test_what_a_tool_must_not_do_would_be_seen(tools: Tools) -> None:
    """Ask for a name, turn to another machine's port, have a key in an argument."""
    command = watched(RECORD, "/usr/bin/python3", "-c", ASKS, "cpb_key", text=TEXT)
    tools.session.good(*command)
    record = tools.session.good("cat", RECORD)
    assert names(record) == {"a-name.example"}
    assert outside(record) == ["127.0.0.1:53"]
    assert "cpb_key" in arguments(record)


def test_every_recipe_is_run_or_said_why_not() -> None:
    """Those of `tools`, and curl, which every machine has."""
    assert {*TOOLS, *NOT_RUN, "curl"} == {each.name for each in RECIPES}
    assert len(RECIPES) == len(TOOLS) + len(NOT_RUN) + 1
