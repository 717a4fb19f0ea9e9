"""`copilot-cred models enable`: terms are accepted when a person says so, and only then."""

from __future__ import annotations

import pytest

from client.cli.running import Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


TERMS = "Enable access to \x1b[2Jthe model. " + "It is served by its vendor. " * 4
MODELS = [
    {"id": "open"},
    {"id": "accepted", "policy": {"state": "enabled"}},
    {"id": "claude-x", "name": "Claude X", "policy": {"state": "unconfigured", "terms": TERMS}},
    {"id": "silent", "policy": {"state": "disabled"}},
]


@pytest.fixture
def server():
    answers = {
        "models.list": {"account": "default", "models": MODELS, "age": 400.0},
        "models.enable": {"account": "default", "model": "claude-x", "state": "enabled"},
    }
    with WireServer(answers) as server:
        yield server


def enable(server, *args, **options):
    return run("models", "enable", *args, env=server.env, **options)


def test_yes_accepts_after_showing_the_terms(server):
    done = enable(server, "--yes", "claude-x")
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "The policy of Claude X is: unconfigured"
    assert "  Enable access to ?[2Jthe model. It is served by its vendor." in lines[2]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Accepted: claude-x can be used now."
    assert server.calls("models.enable") == [{"model": "claude-x"}]


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "enable", "--account", "work", "--yes", "claude-x"],
        ["models", "--account", "work", "enable", "--yes", "claude-x"],
    ],
    ids=" ".join,
)
def test_the_account_may_be_named_on_either_side(server, arguments):
    assert run(*arguments, env=server.env).returncode == 0
    assert server.calls("models.list") == [{"account": "work"}]
    assert server.calls("models.enable") == [{"model": "claude-x", "account": "work"}]


@pytest.mark.parametrize("more", [{}, {"CI": "1"}], ids=["pipe", "CI"])
def test_without_a_terminal_yes_has_to_be_said(server, more):
    if more:
        with Terminal("models", "enable", "claude-x", env={**server.env, **more}) as terminal:
            code = terminal.ends()
        shown = terminal.shown.replace("\r\n", "\n")
    else:
        done = enable(server, "claude-x", stdin="y\n")
        code, shown = done.returncode, done.stderr
    assert code == 2
    assert "It is served by its vendor" in shown
    assert shown.endswith("copilot-cred models enable claude-x --yes\n")
    assert server.calls("models.enable") == []


@pytest.mark.parametrize(
    ("keys", "accepted"),
    [
        ("y\n", True),
        ("Yes\n", True),
        ("n\n", False),
        ("\n", False),
        ("yo\n", False),
        ("\x04", False),
    ],
)
def test_a_terminal_asks_and_takes_nothing_but_a_yes(server, keys, accepted):
    with Terminal("models", "enable", "claude-x", env=server.env) as terminal:
        terminal.wait_for(r"Accept these terms for this account\? \[y/N\]")
        assert "It is served by its vendor" in terminal.shown
        assert server.calls("models.enable") == []
        terminal.press(keys)
        assert terminal.ends() == (0 if accepted else 5)
    assert len(server.calls("models.enable")) == accepted
    assert ("nothing was changed" in terminal.shown) != accepted


def test_ctrl_c_at_the_question_changes_nothing(server):
    with Terminal("models", "enable", "claude-x", env=server.env) as terminal:
        terminal.wait_for(r"\[y/N\]")
        terminal.press("\x03")
        assert terminal.ends() == 130
    assert server.calls("models.enable") == []


@pytest.mark.parametrize("model", ["open", "accepted"])
def test_what_can_be_used_already_is_left_alone(server, model):
    done = enable(server, model)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{model} can be used already; nothing was changed.\n"
    assert server.calls("models.enable") == []


def test_terms_that_are_not_told_are_said_to_be(server):
    assert "GitHub names no terms." in enable(server, "--yes", "silent").stderr


def test_an_unknown_model_is_looked_up_anew_then_told_with_the_likes(server):
    done = enable(server, "--yes", "claude")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a model claude; did you mean claude-x?" in done.stderr
    assert done.stderr.endswith("copilot-cred models --all\n")
    assert server.calls("models.list") == [{}, {"fresh": True}]
    assert "did you mean" not in enable(server, "--yes", "zzz").stderr
    assert server.calls("models.enable") == []


def test_an_organization_that_says_no_is_no_success(server):
    server.answers["models.enable"] = {
        "account": "default",
        "model": "claude-x",
        "state": "disabled",
    }
    done = enable(server, "--yes", "claude-x")
    assert (done.returncode, done.stdout) == (5, "")
    assert "policy of claude-x is now: disabled" in done.stderr
    assert done.stderr.endswith("copilot-cred models --fresh\n")


def test_a_refusal_is_told_in_the_brokers_words(server):
    error = ErrorInfo(ErrorClass.DENIED, "policy_refused", "acme says no", "ask: acme")
    server.answers["models.enable"] = error
    done = enable(server, "--yes", "claude-x")
    assert done.returncode == 5
    assert done.stderr.endswith("copilot-cred: acme says no\n  hint: ask: acme\n")
