"""Nobody is asked where nobody sits, and no token is shown to who has not asked for one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from client.cli.running import COMMAND, PATIENCE, Terminal
from fakes.wire_server import Stream, WireServer


TOKEN = "tid=canary;exp=1800000000;sku=x:mac"
LEASE = {
    "token": TOKEN,
    "token_type": "bearer",
    "expires_at": 1_800_000_000,
    "expires_in": 1499.5,
    "api_base": "https://api.individual.githubcopilot.com",
    "headers": {},
    "account": "default",
    "token_id": "1a2b3c4d",
    "clamped": False,
}
ACCOUNT = {
    "name": "default",
    "host": "github.com",
    "user_id": 583231,
    "login": "octocat",
    "client_id": "vscode",
    "mode": "exchange",
    "source": "login",
    "store": "file",
    "default": True,
    "state": "ready",
    "unsaved": False,
    "token_id": "1a2b3c4d",
    "expires_in": 1475.0,
    "refresh_in": 1319.0,
    "error": None,
}
USER_CODE = {
    "event": "user_code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://github.com/login/device",
    "expires_in": 899.0,
    "interval": 5.0,
    "app": "Some Editor",
    "client": "editor",
    "means": [],
}
STATUS = {
    "version": "0.1.0",
    "pid": 4711,
    "uptime": 7300.0,
    "simulated": False,
    "store": {"kind": "file"},
    "accounts": [ACCOUNT],
    "summary": "signed in as octocat",
}
MODELS = {"account": "default", "models": [{"id": "gpt-4.1", "name": "GPT-4.1"}], "age": 1.0}

VERBS = [
    ["get"],
    ["login"],
    ["logout"],
    ["status"],
    ["watch"],
    ["refresh"],
    ["account", "list"],
    ["account", "use", "default"],
    ["models"],
]
ASKED_FOR = ["get"]
"""The only verb of these whose purpose is to show a token."""
ENDS = {"watch": 3}
"""Exit code where it is not 0: a watch has no end of its own, so the broker must have gone."""


@pytest.fixture
def server():
    answers = {
        "token.get": LEASE,
        "broker.status": STATUS,
        "broker.refresh": {k: v for k, v in LEASE.items() if k != "token"},
        "account.list": {"accounts": [ACCOUNT], "default": "default"},
        "account.use": {"default": "default"},
        "account.logout": {"revoked": False},
        "account.login": lambda _: Stream([USER_CODE, {"event": "done", "account": ACCOUNT}]),
        "token.watch": lambda _: Stream([{"event": "token", **LEASE}]),
        "models.list": MODELS,
    }
    with WireServer(answers) as server:
        yield server


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_without_a_terminal_nobody_is_asked(server, verb):
    """In a session that has none, with a stdin that never ends and that nobody writes to."""
    with subprocess.Popen(
        [*COMMAND, *verb],
        env=server.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what opens /dev/tty there gets ENXIO
    ) as process:
        assert process.wait(PATIENCE) == ENDS.get(verb[0], 0), process.stderr.read()
        said = process.stdout.read() + process.stderr.read()
    assert "Press Enter" not in said
    assert "? [" not in said
    assert (TOKEN in said) is (verb == ASKED_FOR)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_terminal_shows_no_token_that_was_not_asked_for(server, verb):
    with Terminal(*verb, env=server.env) as terminal:
        assert terminal.ends() == ENDS.get(verb[0], 0), terminal.shown
    assert (TOKEN in terminal.shown) is (verb == ASKED_FOR)


OUTPUTS = ["pipe", "file", "closed"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_token_goes_where_stdout_goes_and_not_to_the_terminal_beside_it(
    server, tmp_path, output
):
    closed = [
        sys.executable,
        "-P",
        "-c",
        "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])",
    ]
    with (tmp_path / "out").open("w+b") as file:
        stdout = {"pipe": subprocess.PIPE, "file": file, "closed": None}[output]
        command = [*closed, *COMMAND] if output == "closed" else COMMAND
        with Terminal("get", env=server.env, stdout=stdout, command=command) as terminal:
            code = terminal.ends()
            got = terminal.process.stdout.read() if output == "pipe" else None
        file.seek(0)
        got = file.read() if output == "file" else got
    assert TOKEN not in terminal.shown
    if output == "closed":
        assert code != 0
    else:
        assert (code, got, terminal.shown) == (0, f"{TOKEN}\n".encode(), "")


def test_a_session_of_its_own_has_no_terminal():
    """The control: what `start_new_session` is for."""
    look = "import os; os.open('/dev/tty', os.O_RDWR)"
    done = subprocess.run(
        [sys.executable, "-c", look],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert "No such device or address" in done.stderr
