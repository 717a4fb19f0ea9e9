"""`copilot-cred login`: with a terminal, without one, with a token somebody has already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading

import pytest

from client.cli.running import COMMAND, PATIENCE, WITHOUT_RICH, Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import Stream, WireServer


ACCOUNT = {
    "name": "default",
    "host": "github.com",
    "user_id": 583231,
    "login": "octocat",
    "client_id": "Iv1.example",
    "mode": "exchange",
    "source": "login",
    "store": "secret-service",
    "default": True,
    "state": "exchanging",
    "unsaved": False,
    "token_id": None,
    "expires_in": None,
    "refresh_in": None,
    "error": None,
}
USER_CODE = {
    "event": "user_code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://github.com/login/device",
    "expires_in": 899.0,
    "interval": 5.0,
    "app": "GitHub Copilot Plugin",
    "client": "copilot",
    "means": [
        "GitHub shows GitHub Copilot Plugin, made by GitHub, \x1b[1mand not copilot-broker",
        "its permissions are settled by its owner and shown to you there, " * 2,
    ],
}
ADVICE = "GitHub keeps telling us to slow down: \x1bthis machine's clock seems to run fast"
DONE = {"event": "done", "account": ACCOUNT}
GOOD_TOKEN = "github_pat_canary11"


class Approval:
    """A sign-in that goes on when the test says so."""

    def __init__(self, *after, error=None):
        self._approved = threading.Event()
        self._after = after
        self.answer = Stream(self._chunks(), error)

    def _chunks(self):
        yield USER_CODE
        assert self._approved.wait(PATIENCE)
        yield {"event": "waiting", "expires_in": 600.0}
        for _ in range(2):
            yield {"event": "waiting", "expires_in": 590.0, "advice": ADVICE}
        yield from self._after

    def decide(self):
        self._approved.set()


@pytest.fixture
def approval():
    approval = Approval(DONE)
    yield approval
    approval.decide()


@pytest.fixture
def server(approval):
    with WireServer({"account.login": lambda _params: approval.answer}) as server:
        yield server
        approval.decide()


@pytest.fixture
def desktop(tmp_path):
    """An environment whose `xdg-open` writes down what it was to open."""
    opener = tmp_path / "xdg-open"
    os.mkfifo(tmp_path / "opened")
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    opener.chmod(0o755)
    return tmp_path


def test_without_a_terminal_the_code_is_printed_once_on_stderr(server, approval):
    with subprocess.Popen(
        [*COMMAND, "login"],
        env=server.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        shown = ""
        for line in process.stderr:
            shown += line
            if "Waiting" in line:
                break
        assert process.poll() is None
        approval.decide()
        out, rest = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "")
    assert shown.count("WDJB-MJHT") == 1
    assert "https://github.com/login/device" in shown
    assert "Waiting for the approval, at most 14 min" in shown
    assert "Signed in as octocat on github.com (account default)." in rest
    assert "secret-service" in rest
    assert "\x1b" not in shown + rest


def test_a_login_that_copilot_refuses_is_kept_and_its_refusal_told(server, approval, monkeypatch):
    refusal = ErrorInfo(ErrorClass.DENIED, "no_copilot_access", "no plan", "copilot-cred refresh")
    monkeypatch.setitem(ACCOUNT, "error", refusal.to_map())
    approval.decide()
    done = run("login", env=server.env)
    assert done.returncode == ErrorClass.DENIED
    assert "Signed in as octocat" in done.stderr
    assert "copilot-cred: no plan\n  hint: copilot-cred refresh\n" in done.stderr


def test_it_says_which_app_is_approved_and_what_that_means(server, approval):
    approval.decide()
    shown = run("login", env=server.env).stderr
    lines = shown.splitlines()
    assert "You approve the app: GitHub Copilot Plugin (client id copilot)" in lines
    means = lines[lines.index("Approving means:") + 1 :][:4]
    assert means[0].startswith("  - GitHub shows GitHub Copilot Plugin, made by GitHub, ?[1mand")
    assert means[1].startswith("    ")
    assert means[2].startswith("  - its permissions")
    assert max(map(len, lines)) < 80
    assert "Unofficial" in shown
    assert "One login is one person" in shown


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        (
            {"app": "Visual Studio Code", "client": "vscode"},
            "Visual Studio Code (client id vscode)",
        ),
        (
            {"app": "the app with client id Iv1.x", "client": "Iv1.x"},
            "the app with client id Iv1.x",
        ),
        ({"app": "VS Code", "client": None, "means": None}, "VS Code"),
        (
            {"app": None, "client": "Iv1.x", "means": "much"},
            "the app of this client id (client id Iv1.x)",
        ),
    ],
)
def test_who_is_approved_is_named_as_well_as_can_be(server, approval, about, shown, monkeypatch):
    for key, value in about.items():
        monkeypatch.setitem(USER_CODE, key, value)
    approval.decide()
    err = run("login", env=server.env).stderr
    assert f"You approve the app: {shown}\n" in err
    assert ("Approving means:" in err) == ("means" not in about)
    assert ("https://github.com/settings/applications\n" in err) == ("means" in about)


def test_advice_is_shown_once(server, approval):
    approval.decide()
    shown = run("login", env=server.env).stderr
    assert (
        " ".join(shown.split()).count("GitHub keeps telling us to slow down: ?this machine's") == 1
    )
    assert "clock seems to run fast.\n" in shown


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_advice_is_shown_once_on_a_terminal_too(server, approval, command):
    with Terminal("login", env=server.env, command=command) as terminal:
        terminal.wait_for(r"Waiting for the approval")
        approval.decide()
        assert terminal.ends() == 0
    assert terminal.shown.count("GitHub keeps telling us") == 1


def test_what_a_login_may_do_and_how_it_is_used_is_said(server, approval, monkeypatch):
    monkeypatch.setitem(ACCOUNT, "scopes", "read:user,user:email")
    approval.decide()
    shown = run("login", env=server.env).stderr
    assert "(scopes): read:user,user:email\n" in shown
    assert "directly" not in shown
    monkeypatch.setitem(ACCOUNT, "mode", "direct")
    monkeypatch.setitem(ACCOUNT, "mode_reason", "exchange_unknown")
    server.answers["account.login"] = Stream([DONE])
    shown = " ".join(run("login", env=server.env).stderr.split())
    assert "is used directly: Copilot's exchange does not know this app's tokens." in shown
    assert "copilot-cred get has nothing to hand out." in shown


def test_a_token_that_is_never_exchanged_is_said_to_be(server, monkeypatch):
    monkeypatch.setitem(ACCOUNT, "mode", "direct")
    monkeypatch.setitem(ACCOUNT, "mode_reason", "token_kind")
    server.answers["account.login"] = Stream([DONE])
    done = run("login", "--with-token", env=server.env, stdin=f"{GOOD_TOKEN}\n")
    shown = " ".join(done.stderr.split())
    assert "is used directly: tokens of this kind are not for Copilot's exchange." in shown


def test_options_reach_the_broker_and_nothing_else_does(server, approval):
    approval.decide()
    run("login", env=server.env)
    arguments = ["--account", "work", "--host", "octo.ghe.com", "--client-id", "vscode"]
    arguments += ["--store", "file", "--scope", "read:user user:email"]
    run("login", *arguments, env=server.env)
    assert server.calls("account.login") == [
        {},
        {
            "account": "work",
            "host": "octo.ghe.com",
            "client_id": "vscode",
            "store": "file",
            "scope": "read:user user:email",
        },
    ]


@pytest.mark.parametrize(
    ("store", "told"),
    [("secret-service", ""), ("file", "not encrypted"), ("memory", "forgotten")],
)
def test_what_a_store_is_worth_is_said(server, approval, monkeypatch, store, told):
    monkeypatch.setitem(ACCOUNT, "store", store)
    approval.decide()
    said = run("login", env=server.env).stderr
    assert told in said.partition(f"The login is kept in: {store}.\n")[2]
    assert ("not encrypted" in said) is (store == "file")


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_on_a_terminal_it_counts_down_and_ends_by_itself(server, approval, command):
    with Terminal("login", env=server.env, command=command) as terminal:
        terminal.wait_for(r"Press Enter to open")
        terminal.wait_for(r"Waiting for the approval \.\.\. 14:5\d")
        terminal.wait_for(r"Waiting for the approval \.\.\. 14:5[0-7]")
        approval.decide()
        assert terminal.ends() == 0
        assert "WDJB-MJHT" in terminal.shown
        assert "Signed in as octocat" in terminal.shown


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_enter_opens_the_browser_and_nothing_else_does(server, approval, desktop, command):
    env = {**server.env, "PATH": f"{desktop}:{server.env['PATH']}"}
    with Terminal("login", env=env, command=command) as terminal:
        terminal.wait_for(r"Waiting for the approval")
        terminal.press("\n")
        assert (desktop / "opened").read_text() == "https://github.com/login/device"
        assert terminal.process.poll() is None
        approval.decide()
        assert terminal.ends() == 0


def test_where_no_browser_is_enter_says_so(server, approval, tmp_path):
    with Terminal("login", env={**server.env, "PATH": str(tmp_path)}) as terminal:
        terminal.wait_for(r"Waiting for the approval")
        terminal.press("\n")
        terminal.wait_for("open the page on any device")
        approval.decide()
        assert terminal.ends() == 0


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "-h", "https://x/\x1b", "https://x y"])
def test_only_web_addresses_are_handed_to_the_desktop(server, approval, desktop, uri, monkeypatch):
    monkeypatch.setitem(USER_CODE, "verification_uri", uri)
    env = {**server.env, "PATH": f"{desktop}:{server.env['PATH']}"}
    with Terminal("login", env=env) as terminal:
        terminal.wait_for(r"Waiting for the approval")
        terminal.press("\n")
        terminal.wait_for("open the page on any device")
        approval.decide()
        assert terminal.ends() == 0


@pytest.mark.parametrize(
    ("more", "arguments"),
    [({}, ["--no-input"]), ({"CI": "true"}, []), ({"COPILOT_CRED_INTERACTIVE": "0"}, [])],
    ids=str,
)
def test_nothing_is_asked_where_that_is_not_wanted(server, approval, more, arguments):
    with Terminal("login", *arguments, env={**server.env, **more}) as terminal:
        terminal.wait_for("Waiting for the approval, at most")
        approval.decide()
        assert terminal.ends() == 0
        assert "Press Enter" not in terminal.shown


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_ctrl_c_gives_up_and_the_broker_sees_it(server, command):
    with Terminal("login", env=server.env, command=command) as terminal:
        terminal.wait_for(r"Waiting for the approval")
        terminal.press("\x03")
        assert terminal.ends() == 130
        assert "Traceback" not in terminal.shown
    assert server.left.wait(PATIENCE)


def test_interrupted_without_a_terminal_too(server):
    with subprocess.Popen(
        [*COMMAND, "login"],
        env=server.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if "Waiting" in line:
                break
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest) == (130, "")
    assert server.left.wait(PATIENCE)


def test_ctrl_d_is_no_decision(server, approval):
    with Terminal("login", env=server.env) as terminal:
        terminal.wait_for(r"Waiting for the approval")
        terminal.press("\x04")
        terminal.wait_for(r"Waiting for the approval \.\.\. 14:5[0-7]")
        approval.decide()
        assert terminal.ends() == 0


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_denial_is_the_error_of_the_stream(server, on_terminal):
    error = ErrorInfo(ErrorClass.DENIED, "access_denied", "it was denied", "copilot-cred login")
    denied = Approval(error=error)
    denied.decide()
    server.answers["account.login"] = denied.answer
    if on_terminal:
        with Terminal("login", env=server.env) as terminal:
            assert terminal.ends() == 5
            shown = terminal.shown
    else:
        done = run("login", env=server.env)
        assert done.returncode == 5
        shown = done.stderr
    assert "copilot-cred: it was denied" in shown
    assert "Signed in" not in shown


def test_no_store_exits_9_naming_the_choices(server):
    hint = "Run: copilot-cred login --store file|memory"
    server.answers["account.login"] = ErrorInfo(
        ErrorClass.STORE_UNAVAILABLE, "no_store", "there is no Secret Service", hint
    )
    done = run("login", env=server.env)
    assert done.returncode == 9
    assert done.stderr.endswith("copilot-cred login --store file|memory\n")


def test_a_stream_that_ends_without_outcome_is_no_success(server):
    server.answers["account.login"] = Stream([USER_CODE])
    done = run("login", env=server.env)
    assert done.returncode == 1
    assert done.stderr.endswith("copilot-cred status\n")


def test_a_broker_that_dies_meanwhile_is_no_success(server):
    process = subprocess.Popen(
        [*COMMAND, "login"],
        env=server.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        for line in process.stderr:
            if "Waiting" in line:
                break
        server.hang_up()
        _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert rest.endswith("systemctl --user start copilot-broker.socket\n")


def test_a_token_comes_through_stdin(server):
    server.answers["account.login"] = Stream([DONE])
    done = run("login", "--with-token", env=server.env, stdin=f"{GOOD_TOKEN}\n")
    assert done.returncode == 0, done.stderr
    assert server.calls("account.login") == [{"token": GOOD_TOKEN}]
    assert GOOD_TOKEN not in done.stdout + done.stderr
    assert "One login is one person" in done.stderr


def test_a_token_typed_on_a_terminal_is_not_echoed(server):
    server.answers["account.login"] = Stream([DONE])
    with Terminal("login", "--with-token", env=server.env) as terminal:
        terminal.wait_for(r"not shown")
        terminal.press(f"{GOOD_TOKEN}\n")
        assert terminal.ends() == 0
        assert GOOD_TOKEN not in terminal.shown
    assert server.calls("account.login") == [{"token": GOOD_TOKEN}]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("ghp_canary22\n", "classic personal access token"),
        ("gho_one\ngho_two\n", "is not a GitHub token"),
        ("gho_one gho_two", "is not a single token"),
        ("gho_" + "x" * 5000, "is not a GitHub token"),
        ("gho_é", "is not a GitHub token"),
    ],
)
def test_what_is_no_usable_token_goes_nowhere(server, given, why):
    done = run("login", "--with-token", env=server.env, stdin=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert "canary" not in done.stderr
    assert done.stderr.endswith("copilot-cred login\n")
    assert server.requests == []


def test_from_env_takes_the_first_usable_and_tells_of_the_others(server):
    server.answers["account.login"] = Stream([DONE])
    env = {"COPILOT_GITHUB_TOKEN": "ghp_canary33", "GH_TOKEN": "gho_b", "GITHUB_TOKEN": "gho_c"}
    done = run("login", "--from-env", env={**server.env, **env})
    assert done.returncode == 0, done.stderr
    assert server.calls("account.login") == [{"token": "gho_b"}]
    assert "COPILOT_GITHUB_TOKEN is a classic personal access token" in done.stderr
    assert "using GH_TOKEN" in done.stderr
    assert "canary" not in done.stderr


def test_from_env_with_nothing_usable_says_why(server):
    done = run("login", "--from-env", env={**server.env, "GITHUB_TOKEN": "ghp_canary44"})
    assert done.returncode == 2
    assert "GITHUB_TOKEN is a classic personal access token" in done.stderr
    done = run("login", "--from-env", "--error-format", "json", env=server.env)
    assert json.loads(done.stderr)["code"] == "token_unusable"
    assert server.requests == []


def test_a_token_is_never_in_the_command_line(server):
    for arguments in (["login", GOOD_TOKEN], ["login", "--with-token", GOOD_TOKEN]):
        done = run(*arguments, env=server.env, stdin="")
        assert done.returncode == 2
        assert GOOD_TOKEN not in done.stderr
