"""`copilot-cred lock` and `unlock`: passphrases come from the terminal or stdin, never from argv."""

from __future__ import annotations

import json

import pytest

from client.cli.running import Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


PASSPHRASE = "canary hörse"
NEEDED = ErrorInfo(ErrorClass.DENIED, "passphrase_required", "it has one", "copilot-cred unlock")
WRONG = ErrorInfo(ErrorClass.DENIED, "wrong_passphrase", "not this one", "copilot-cred unlock")
LOCKED = ErrorInfo(
    ErrorClass.LOCKED,
    "broker_locked",
    "the broker is locked",
    "Unlock it with copilot-cred unlock",
)


def opened(params):
    """A broker that was locked with PASSPHRASE."""
    if "passphrase" not in params:
        return NEEDED
    is_right = params["passphrase"] == PASSPHRASE
    return {"locked": False, "changed": True} if is_right else WRONG


@pytest.fixture
def server():
    answers = {"broker.lock": {"locked": True, "changed": True}, "broker.unlock": opened}
    with WireServer(answers) as server:
        yield server


def test_lock_without_a_passphrase(server):
    done = run("lock", env=server.env, stdin="not read")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Locked. To unlock it: copilot-cred unlock\n"
    assert server.calls("broker.lock") == [{}]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_passphrase_comes_from_stdin(server, end):
    done = run("lock", "--passphrase", env=server.env, stdin=PASSPHRASE + end)
    assert (done.returncode, done.stdout) == (0, "")
    done = run("unlock", env=server.env, stdin=PASSPHRASE + end)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Unlocked.\n")
    assert server.calls("broker.lock") == [{"passphrase": PASSPHRASE}]
    assert server.calls("broker.unlock") == [{}, {"passphrase": PASSPHRASE}]


def test_only_one_end_of_line_is_none_of_it(server):
    run("lock", "--passphrase", env=server.env, stdin=" two \nlines\n\n")
    assert server.calls("broker.lock") == [{"passphrase": " two \nlines\n"}]


def test_a_terminal_is_asked_twice_and_shows_nothing(server):
    with Terminal("lock", "--passphrase", env=server.env) as terminal:
        terminal.wait_for(r"Passphrase \(not shown\): ")
        terminal.press(f"{PASSPHRASE}\n")
        terminal.wait_for("The same again: ")
        terminal.press(f"{PASSPHRASE}\n")
        assert terminal.ends() == 0
    assert "Locked." in terminal.shown
    assert "canary" not in terminal.shown
    assert server.calls("broker.lock") == [{"passphrase": PASSPHRASE}]


@pytest.mark.parametrize("second", ["another\n", "\n", "\x04"])
def test_two_that_differ_lock_nothing(server, second):
    with Terminal("lock", "--passphrase", env=server.env) as terminal:
        terminal.wait_for(r"Passphrase")
        terminal.press(f"{PASSPHRASE}\n")
        terminal.wait_for("The same again: ")
        terminal.press(second)
        assert terminal.ends() == 2
    assert "differ" in terminal.shown
    assert server.calls("broker.lock") == []


def test_unlock_asks_once_and_only_where_it_needs_to(server):
    with Terminal("unlock", env=server.env) as terminal:
        terminal.wait_for(r"Passphrase \(not shown\): ")
        terminal.press(f"{PASSPHRASE}\n")
        assert terminal.ends() == 0
    assert "again" not in terminal.shown
    server.answers["broker.unlock"] = {"locked": False, "changed": True}
    with Terminal("unlock", env=server.env) as terminal:
        assert terminal.ends() == 0
    assert "Passphrase" not in terminal.shown


def test_a_wrong_one_is_denied(server):
    done = run("--error-format", "json", "unlock", env=server.env, stdin="wrong")
    assert done.returncode == 5
    assert json.loads(done.stderr)["code"] == "wrong_passphrase"


@pytest.mark.parametrize("verb", [("lock", "--passphrase"), ("unlock",)])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "there is no passphrase"),
        ("\n", "there is no passphrase"),
        ("x" * 1025, "more than 1024 bytes"),
        ("é" * 513, "more than 1024 bytes"),
    ],
)
def test_what_is_no_passphrase_is_not_sent(server, verb, given, said):
    done = run(*verb, env=server.env, stdin=given)
    assert done.returncode == 2
    assert said in done.stderr
    assert "copilot-cred lock --help" in done.stderr
    assert not any("passphrase" in params for _, params in server.requests)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("lock",), "It was locked already. To unlock it: copilot-cred unlock"),
        (("lock", "--passphrase"), "it was locked already, so its passphrase"),
        (("unlock",), "It was not locked."),
    ],
)
def test_what_changes_nothing_is_said_and_no_error(server, argv, said):
    server.answers["broker.lock"] = {"locked": True, "changed": False}
    server.answers["broker.unlock"] = {"locked": False, "changed": False}
    done = run(*argv, env=server.env, stdin=PASSPHRASE)
    assert done.returncode == 0
    assert said in done.stderr


@pytest.mark.parametrize(
    "argv", [("lock", PASSPHRASE), ("lock", "--passphrase=x"), ("unlock", "x")]
)
def test_no_passphrase_is_an_argument(server, argv):
    done = run(*argv, env=server.env)
    assert done.returncode == 2
    assert server.requests == []


def test_a_locked_broker_is_exit_code_6(server):
    server.answers["token.get"] = LOCKED
    done = run("get", env=server.env)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.endswith("Unlock it with copilot-cred unlock\n")


def test_status_says_locked(server):
    error = {"class": 6, "code": "broker_locked", "message": "the broker is locked", "hint": "h"}
    account = {"name": "default", "login": "octocat", "host": "github.com"}
    account |= {"state": "exchanging", "error": error, "refresh_in": None}
    server.answers["broker.status"] = {"summary": "locked: run it", "accounts": [account]}
    lines = run("status", env=server.env).stdout.splitlines()
    (row,) = [line for line in lines if line.startswith("default ")]
    assert row.split()[:4] == ["default", "octocat", "github.com", "locked"]


def test_what_is_no_text_is_refused(server):
    given = {"stdin": "\udcff\udcfe", "encoding": "utf-8", "errors": "surrogateescape"}
    done = run("lock", "--passphrase", env=server.env, **given)
    assert (done.returncode, "not UTF-8" in done.stderr) == (2, True)
    assert server.requests == []
