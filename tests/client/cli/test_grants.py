"""`copilot-cred grants`: who may do what in a sentence, and the rules behind it."""

from __future__ import annotations

import json

import pytest

from client.cli.running import COMMAND, WITHOUT_RICH, Terminal, run
from copilot_broker.cli.grant_words import summary
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


PEER = {
    "pid": 812,
    "uid": 1000,
    "gid": 1000,
    "unit": "app-code-1.scope",
    "label": "",
    "sandbox": "none",
    "comm": "code",
    "exe": "/usr/bin/code",
    "weak": False,
}
NOBODY = {**PEER, "pid": 0, "unit": "", "sandbox": "", "comm": "", "exe": "", "weak": True}
LIMITED = {
    "peer": PEER,
    "listener": "rpc",
    "admitted": True,
    "scope": "complete",
    "models": ["gpt-4.1*"],
    "accounts": ["work"],
    "requests_per_minute": 60,
    "steps": [
        {"where": "listener rpc", "effect": "gives admin"},
        {"where": "config.toml:12", "effect": "leaves at most complete"},
    ],
}
FREE = {
    **LIMITED,
    "scope": "admin",
    "models": None,
    "accounts": None,
    "requests_per_minute": None,
    "steps": [{"where": "listener rpc", "effect": "gives admin"}],
}
REFUSED = {
    **LIMITED,
    "peer": {**NOBODY, "uid": 1001},
    "admitted": False,
    "scope": None,
    "models": None,
    "accounts": None,
    "requests_per_minute": None,
    "steps": [{"where": "user id 1001", "effect": "is not the broker's own 1000"}],
    "error": {
        "class": 5,
        "code": "uid_not_allowed",
        "message": "user 1001 is not the broker's own",
        "hint": "name it in a rule, then run: systemctl --user reload copilot-broker",
    },
}
RULES = {
    "rules": [
        {
            "where": "config.toml:12",
            "who": {"unit": "app-code-*", "uid": 1000},
            "what": {"scope": "complete", "models": ["gpt-4.1*", "o3"], "requests_per_minute": 60},
        },
        {"where": "config.toml:20", "who": {}, "what": {"accounts": ["work"]}},
    ],
    "listeners": ["agents", "http", "rpc"],
    "connections": 3,
}


@pytest.fixture
def server():
    with WireServer({"grant.explain": LIMITED, "grant.list": RULES}) as server:
        yield server


def test_sentence_first_then_verbs_then_rules(server):
    done = run("grants", "--pid", "812", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "A program (code, pid 812) in app-code-1.scope of uid 1000 that comes through",
        "the listener rpc may have completions made (complete), of the models gpt-4.1*,",
        "as account work, 60 requests a minute.",
        "",
        "may:      status, models, quota, usage, doctor, chat, api",
        "may not:  get, watch, login, logout, account, refresh, lock, unlock, models",
        "          enable, quota set-pat, quota forget-pat, grants --list, key",
        "",
        "because         effect",
        "listener rpc    gives admin",
        "config.toml:12  leaves at most complete",
    ]


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
@pytest.mark.parametrize("argv", [("grants",), ("grants", "--list")])
def test_a_terminal_shows_the_same(server, command, argv):
    with Terminal(*argv, env={**server.env, "COLUMNS": "100"}, command=command) as terminal:
        assert terminal.ends() == 0
    assert "config.toml:12" in terminal.shown
    assert "complete" in terminal.shown


def test_without_options_it_is_about_this_program(server):
    server.answers["grant.explain"] = FREE
    done = run("grants", env=server.env)
    assert done.stdout.splitlines()[:2] == [
        "This program (code, pid 812) in app-code-1.scope that comes through the",
        "listener rpc may do everything, sign in and out included (admin).",
    ]
    assert "may not:  -" in done.stdout
    assert server.calls("grant.explain") == [{}]


@pytest.mark.parametrize(
    ("argv", "params"),
    [
        (["--pid", "7", "--listener", "http"], {"pid": 7, "listener": "http"}),
        (["--unit", "app-code-*"], {"unit": "app-code-*"}),
        (
            ["--uid", "0", "--gid", "0", "--label", "l", "--sandbox", "none"],
            {"uid": 0, "gid": 0, "label": "l", "sandbox": "none"},
        ),
        (["--key", "ci", "--listener", "http-tcp"], {"key": "ci", "listener": "http-tcp"}),
    ],
)
def test_options_are_handed_on(server, argv, params):
    assert run("grants", *argv, env=server.env).returncode == 0
    assert server.calls("grant.explain") == [params]


def test_a_listener_alone_is_about_this_program_coming_through_that(server):
    done = run("grants", "--listener", "http", env=server.env)
    assert done.stdout.startswith("This program ")
    (params,) = server.calls("grant.explain")
    assert params.pop("pid") > 0
    assert params == {"listener": "http"}


def test_who_is_not_admitted_is_explained_too(server):
    server.answers["grant.explain"] = REFUSED
    done = run("grants", "--uid", "1001", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:6] == [
        "A program of uid 1001 that comes through the listener rpc is not admitted: user",
        "1001 is not the broker's own.",
        "  hint: name it in a rule, then run: systemctl --user reload copilot-broker",
        "",
        "may:      nothing",
        "may not:  status, models, quota, usage, doctor, chat, api, get, watch, login,",
    ]


@pytest.mark.parametrize("error_class", ErrorClass)
def test_a_refusal_of_the_question_ends_it_by_its_class(server, error_class):
    server.answers["grant.explain"] = ErrorInfo(error_class, "c", "no", "see: copilot-cred grants")
    done = run("grants", "--pid", "1", env=server.env)
    assert (done.returncode, done.stdout) == (int(error_class), "")


def test_rules_in_force(server):
    done = run("grants", "--list", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "listeners: agents, http, rpc; connections: 3",
        "rule            who                        at most",
        "config.toml:12  unit app-code-*, uid 1000  scope complete, models gpt-4.1* o3, requests per minute 60",
        "config.toml:20  everybody                  accounts work",
    ]
    server.answers["grant.list"] = {"rules": [], "listeners": ["rpc"], "connections": 1}
    assert run("grants", "--list", env=server.env).stdout.splitlines() == [
        "listeners: rpc; connections: 1",
        "no rules: rpc gives admin, http and http-tcp complete, any further listener status",
    ]


@pytest.mark.parametrize(
    ("argv", "answer"), [(["--uid", "1001"], REFUSED), (["--list"], RULES), ([], LIMITED)]
)
def test_json_is_the_whole_answer(server, argv, answer):
    server.answers["grant.explain"] = answer
    done = run("grants", *argv, "--json", env=server.env)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert json.loads(done.stdout) == answer


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--list", "--unit", "x"], "--unit asks about one program"),
        (["--pid", "me"], "takes a number"),
        (["--pid", "-1"], "--pid"),
        (["--uid", "9" * 40], "takes a number"),
        (["--sandbox", "jail"], "invalid choice"),
    ],
)
def test_what_makes_no_sense_is_not_asked(server, argv, words):
    done = run("grants", *argv, env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.endswith("--help\n")
    assert server.requests == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scope": "status"}, " may see how the broker is (status), about account work, 60 "),
        ({"scope": "token", "models": None}, " may be lent Copilot tokens (token), as account w"),
        ({"models": ["a", "b", "c"]}, ", of the models a, b or c,"),
        ({"models": []}, ", of the models (none),"),
        ({"accounts": []}, ", as no account at all,"),
        ({"requests_per_minute": 1}, ", 1 request a minute"),
        ({"scope": "later"}, " may do something (later)"),
        ({"peer": NOBODY, "listener": None}, "A program of uid 1000 may "),
        ({"peer": {**PEER, "sandbox": "container"}}, " in a container of uid "),
        ({"peer": {**PEER, "sandbox": "flatpak"}}, " in the flatpak sandbox of uid "),
        ({"peer": {**PEER, "label": "snap.x"}}, " with the label snap.x of uid "),
        ({"admitted": None, "error": 7}, " is not admitted: no rule lets it in"),
        ({"peer": [], "models": 4, "accounts": "x", "requests_per_minute": "y"}, "A program that"),
    ],
)
def test_the_sentence_says_each_limit(changes, words):
    assert words in summary({**LIMITED, **changes}, asked_for_caller=False)


def test_nothing_that_is_shown_drives_a_terminal(server):
    nasty = "\x1b[2J\x9b"
    server.answers["grant.explain"] = {
        **REFUSED,
        "peer": {**PEER, "comm": nasty, "unit": nasty},
        "error": {"class": 5, "code": nasty, "message": nasty, "hint": nasty},
        "steps": [{"where": nasty, "effect": nasty}, 3],
        "listener": nasty,
    }
    server.answers["grant.list"] = {
        "rules": [{"where": nasty, "who": {nasty: nasty}, "what": {nasty: [nasty]}}, None],
        "listeners": [nasty],
    }
    for argv in ((), ("--list",)):
        done = run("grants", *argv, env=server.env)
        assert done.returncode == 0
        assert all(line.isprintable() for line in done.stdout.splitlines())
