"""`copilot-cred doctor`: a line for each thing, what mends it, and an exit code for scripts."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from client.cli.other_tools import SHAPES, plant
from client.cli.running import COMMAND, WITHOUT_RICH, Terminal, run
from copilot_broker.cli.doctor.session import environment, linger
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


STATUS = {
    "version": version("copilot-broker"),
    "pid": 2**22 + 1,  # beyond the largest that Linux gives (proc(5), pid_max)
    "uptime": 7300.0,
}
CHECKS = [
    {"name": "landlock", "verdict": "ok", "told": "in force, ABI 6", "mend": ""},
    {"name": "seccomp", "verdict": "ok", "told": "in force", "mend": ""},
]
FULL = [
    ("broker", "ok"),
    ("version", "ok"),
    ("memory", "warning" if os.getuid() == 0 else "ok"),
    ("landlock", "ok"),
    ("seccomp", "ok"),
    ("sockets", "ok"),
    ("environment", "ok"),
    ("other-logins", "ok"),
]
"""What a machine without systemd shows; as root nobody can say whether memory is closed."""


@pytest.fixture
def server():
    with WireServer({"broker.status": STATUS, "broker.doctor": {"checks": CHECKS}}) as server:
        Path(server.path).chmod(0o600)
        yield server


def asked(env, exit_code=0):
    """Return the findings by name, `linger` left out: it is the machine's own."""
    done = run("doctor", "--json", env=env)
    assert (done.returncode, done.stderr) == (exit_code, "")
    (line,) = done.stdout.splitlines()
    checks = json.loads(line)["checks"]
    assert all(set(check) == {"name", "verdict", "told", "mend"} for check in checks)
    return {check["name"]: check for check in checks if check["name"] != "linger"}


def verdicts(found):
    return [(name, check["verdict"]) for name, check in found.items()]


def test_where_all_is_well_each_thing_has_its_line(server):
    found = asked(server.env)
    assert verdicts(found) == FULL
    assert found["broker"]["told"] == (
        f"copilot-broker {STATUS['version']} answers, pid {STATUS['pid']}, up 2 h"
    )
    assert found["sockets"]["told"].startswith("broker.sock in ")
    assert found["landlock"] == CHECKS[0]


def test_a_pipe_gets_plain_lines_with_what_mends_it_below(server):
    server.answers["broker.doctor"] = {
        "checks": [
            {"name": "swap", "verdict": "error", "told": "is on", "mend": "Run: swapoff -a"},
            {"name": "core", "verdict": "warning", "told": "may be written", "mend": ""},
        ]
    }
    done = run("doctor", env=server.env)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    swap = lines.index("error    swap          is on")
    assert lines[swap + 1 : swap + 3] == [
        f"{'':25}Run: swapoff -a",
        "warning  core          may be written",
    ]
    assert done.stderr.startswith("1 error, ")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_a_terminal_shows_the_same(server, command):
    environ = {**server.env, "COLUMNS": "100", "GH_TOKEN": "canary"}
    with Terminal("doctor", env=environ, command=command) as terminal:
        assert terminal.ends() == 0
    for words in ("landlock", "pid 4194305", "warning", "unset GH_TOKEN"):
        assert words in terminal.shown


def test_without_a_broker_the_rest_is_still_looked_at(tmp_path):
    env = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "XDG_RUNTIME_DIR": str(tmp_path)}
    found = asked(env, exit_code=1)
    assert verdicts(found) == [("broker", "error"), *FULL[-2:]]
    assert found["broker"]["mend"].endswith("systemctl --user start copilot-broker.socket")


@pytest.mark.parametrize("error_class", ErrorClass)
def test_a_broker_that_refuses_is_an_error_and_no_end(server, error_class):
    server.answers["broker.status"] = ErrorInfo(error_class, "c", "no", "see: copilot-cred grants")
    found = asked(server.env, exit_code=1)
    assert verdicts(found) == [("broker", "error"), *FULL[-3:]]
    assert (found["broker"]["told"], found["broker"]["mend"]) == ("no", "see: copilot-cred grants")


def test_a_broker_that_cannot_examine_itself_is_told_of(server):
    del server.answers["broker.doctor"]
    found = asked(server.env)
    told = found["self-examination"]
    assert told["verdict"] == "warning"
    assert told["mend"].endswith("systemctl --user restart copilot-broker")
    server.answers["broker.doctor"] = ErrorInfo(ErrorClass.DENIED, "c", "no", "copilot-cred x")
    assert asked(server.env)["self-examination"]["mend"] == "copilot-cred x"


def test_what_the_broker_says_of_a_thing_counts_more_than_what_we_see(server):
    theirs = {"name": "environment", "verdict": "error", "told": "t", "mend": "m"}
    server.answers["broker.doctor"] = {"checks": [theirs]}
    assert asked(server.env, exit_code=1)["environment"] == theirs


def test_checks_of_a_later_broker_are_no_defect(server):
    odd = [3, {}, {"name": 7}, {"name": "new", "verdict": "grave", "told": 4, "mend": None}]
    server.answers["broker.doctor"] = {"checks": odd}
    new = asked(server.env)["new"]
    assert new == {"name": "new", "verdict": "warning", "told": "4", "mend": ""}
    server.answers["broker.doctor"] = {"checks": "many"}
    assert "landlock" not in asked(server.env)


def test_a_broker_of_another_version_is_told_of(server):
    server.answers["broker.status"] = {**STATUS, "version": "0.0.1"}
    found = asked(server.env)["version"]
    assert found["verdict"] == "warning"
    assert "0.0.1" in found["told"]
    assert found["mend"].endswith("systemctl --user restart copilot-broker")


# -- the sockets -------------------------------------------------------------------------------


def test_a_folder_that_others_may_enter_is_an_error(server):
    Path(server.path).parent.chmod(0o755)
    found = asked(server.env, exit_code=1)
    assert found["sockets"]["verdict"] == "error"
    assert "mode 0755" in found["sockets"]["told"]


def test_a_socket_that_is_open_to_others_is_a_warning(server):
    Path(server.path).chmod(0o666)
    found = asked(server.env)
    assert found["socket broker.sock"]["mend"] == f"chmod 600 {server.path}"
    assert "mode 0666" in found["socket broker.sock"]["told"]
    assert "sockets" not in found


def test_further_sockets_are_looked_at_too(server):
    further = Path(server.path).with_name("agents.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(further))
    further.chmod(0o600)
    assert asked(server.env)["sockets"]["told"].startswith("agents.sock, broker.sock in ")
    further.unlink()
    further.touch()
    assert (
        asked(server.env, exit_code=1)["socket agents.sock"]["mend"] == f"remove it: rm {further}"
    )


# -- memory ------------------------------------------------------------------------------------


LOOK = """
import ctypes, os, sys
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as before the user changed
from copilot_broker.cli.doctor.broker import memory
pid = os.getpid() if sys.argv[1] == "own" else int(sys.argv[1])
for found in memory(pid):
    print(found.verdict.value, found.told)
"""


@pytest.mark.parametrize(
    ("pid", "words"),
    [
        ("own", "error every program of yours can read"),
        ("1", "ok no other program of yours can read"),
        (str(STATUS["pid"]), "is not to be seen from here"),
        ("0", ""),
    ],
)
def test_memory_is_tried_as_any_program_could(pid, words):
    command = [sys.executable, "-P", "-c", LOOK, pid]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert words in done.stdout
    assert bool(done.stdout.strip()) is bool(words)


# -- the accounts ------------------------------------------------------------------------------


DEFAULT = {
    "name": "default",
    "login": "octocat",
    "host": "github.com",
    "default": True,
    "state": "ready",
    "client_id": "01ab8ac9400c4e429b23",
    "scopes": "user:email",
    "mode": "exchange",
    "mode_reason": "usual",
    "sku": "monthly_subscriber_quota",
    "error": None,
}
PAT = {
    **DEFAULT,
    "name": "work",
    "client_id": "Iv1.mine",
    "scopes": "",
    "mode": "direct",
    "mode_reason": "token_kind",
    "sku": "",
}
SEAT = {
    "source": "seat",
    "tried": [
        {"source": "billing", "outcome": "not_configured", "class": 5, "code": "pat_missing"},
        {"source": "seat", "outcome": "used"},
        {"source": "headers", "outcome": "nothing"},
        {"source": "token", "outcome": "not_needed"},
    ],
}
BILL = {
    "source": "billing",
    "outcome": "failed",
    "class": 5,
    "code": "pat_permission",
    "message": "GitHub's billing pages answered 403",
    "hint": "give it the permission Plan: copilot-cred quota set-pat",
}


def of_accounts(server, *accounts, quota=SEAT, exit_code=0):
    server.answers["broker.status"] = {**STATUS, "accounts": list(accounts)}
    server.answers["quota.get"] = quota
    found = asked(server.env, exit_code)
    names = ("login-kind-", "entitlement-", "quota-source-")
    return {name: check for name, check in found.items() if name.startswith(names)}


def test_the_login_the_plan_and_who_counts(server):
    found = of_accounts(server, DEFAULT, PAT)
    assert server.calls("quota.get") == [{"account": "default"}, {"account": "work"}]
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert {name: check["told"] for name, check in found.items()} == {
        "login-kind-default": "a login with the OAuth app Visual Studio Code, scopes user:email;"
        " exchanged for short-lived tokens",
        "entitlement-default": "Copilot is there to be used, plan monthly_subscriber_quota",
        "quota-source-default": "the account's Copilot seat tells what is left; the others:"
        " billing not configured, headers has told nothing yet, token not needed",
        "login-kind-work": "a personal or installation token, GitHub named no scopes; used"
        " directly: tokens of this kind are not for Copilot's exchange",
        "entitlement-work": "GitHub names no plan",
        "quota-source-work": found["quota-source-default"]["told"],
    }


def test_a_source_that_fails_is_a_warning_with_its_cure(server):
    found = of_accounts(server, DEFAULT, quota={**SEAT, "tried": [BILL, *SEAT["tried"][1:]]})
    source = found["quota-source-default"]
    assert (source["verdict"], source["mend"]) == ("warning", BILL["hint"])
    assert "billing failed (GitHub's billing pages answered 403)" in source["told"]
    nobody = of_accounts(server, DEFAULT, quota={"source": "", "tried": [BILL]})
    assert nobody["quota-source-default"]["mend"] == BILL["hint"]
    nobody = of_accounts(server, DEFAULT, quota={"source": ""})["quota-source-default"]
    assert (nobody["verdict"], nobody["mend"]) == (
        "warning",
        "let GitHub tell: copilot-cred quota set-pat",
    )
    refusal = ErrorInfo(ErrorClass.DENIED, "c", "not for you", "see: copilot-cred grants")
    source = of_accounts(server, DEFAULT, quota=refusal)["quota-source-default"]
    assert (source["verdict"], source["mend"]) == ("warning", "see: copilot-cred grants")


@pytest.mark.parametrize(
    ("error_class", "verdict", "told"),
    [(5, "error", "no Copilot plan"), (7, "warning", "not known: no Copilot plan")],
)
def test_an_account_that_fails(server, error_class, verdict, told):
    error = {
        "class": error_class,
        "code": "x",
        "message": "no Copilot plan",
        "hint": "h: copilot-cred x",
    }
    account = {**DEFAULT, "state": "exchanging", "sku": "", "error": error}
    found = of_accounts(server, account, exit_code=int(verdict == "error"))
    entitlement = found.pop("entitlement-default")
    assert (entitlement["verdict"], entitlement["told"]) == (verdict, told)
    assert entitlement["mend"] == "h: copilot-cred x"
    assert list(found) == ["login-kind-default"]  # nobody is asked what is left


def test_who_is_signed_out_or_locked_is_asked_nothing(server):
    out = {**DEFAULT, "state": "signed_out"}
    error = {
        "class": 6,
        "code": "broker_locked",
        "message": "locked",
        "hint": "copilot-cred unlock",
    }
    locked = {**DEFAULT, "name": "work", "error": error}
    assert list(of_accounts(server, out, locked)) == ["login-kind-work"]
    assert of_accounts(server, 3, quota=3) == {}
    assert server.calls("quota.get") == []


# -- logins of other tools ---------------------------------------------------------------------


def test_a_login_of_another_tool_is_a_warning_without_its_token(server, tmp_path):
    for shape in ("opencode", "apps.json", "gptel's token", "opencode-mystatus"):
        plant(tmp_path, SHAPES[shape])
    plant(tmp_path, SHAPES["copilot-api"], mode=0o644)
    environ = {**server.env, "HOME": str(tmp_path)}
    found = asked(environ)
    logins = {name: check for name, check in found.items() if "login" in name}
    assert list(logins) == ["login-of-editors", "login-of-copilot-api", "login-of-opencode"]
    assert {check["verdict"] for check in logins.values()} == {"warning"}
    editors = logins["login-of-editors"]
    assert "octocat on github.com" in editors["told"]
    assert "mona on acme.ghe.com" in editors["told"]
    assert "ghu_" in editors["told"]
    assert " old, in ~/.config/github-copilot/apps.json" in editors["told"]
    assert editors["mend"].endswith(": copilot-cred import")
    assert logins["login-of-opencode"]["mend"].endswith(": copilot-cred import opencode")
    assert "others may read it" in logins["login-of-copilot-api"]["told"]
    assert "CANARY" not in json.dumps(found)
    done = run("doctor", env=environ)
    assert (done.returncode, "CANARY" in done.stdout + done.stderr) == (0, False)


# -- the session -------------------------------------------------------------------------------


def of(findings):
    return [(finding.verdict.value, finding.mend) for finding in findings]


def test_linger(tmp_path):
    assert list(linger({}, tmp_path / "none", tmp_path)) == []
    assert of(linger({}, tmp_path, tmp_path)) == [
        ("warning", "if it shall run on: loginctl enable-linger")
    ]
    assert of(linger({"DISPLAY": ":0"}, tmp_path, tmp_path)) == [("ok", "")]
    (tmp_path / pwd.getpwuid(os.getuid()).pw_name).touch()
    assert of(linger({}, tmp_path, tmp_path)) == [("ok", "")]


def test_tokens_in_the_environment_are_named_and_never_shown(server):
    assert of(environment({})) == [("ok", "")]
    assert of(environment({"GH_TOKEN": ""})) == [("ok", "")]
    tokens = {"GH_TOKEN": "canary", "GITHUB_TOKEN": "canary", "COPILOT_GITHUB_TOKEN": "canary"}
    done = run("doctor", env={**server.env, **tokens})
    assert done.returncode == 0
    assert "canary" not in done.stdout + done.stderr
    assert "unset COPILOT_GITHUB_TOKEN GH_TOKEN GITHUB_TOKEN" in done.stdout


def test_nothing_that_is_shown_drives_a_terminal(server):
    nasty = "\x1b[2J\x9b"
    check = {"name": nasty, "verdict": "error", "told": nasty, "mend": nasty}
    server.answers["broker.doctor"] = {"checks": [check]}
    server.answers["broker.status"] = {**STATUS, "version": nasty}
    done = run("doctor", env=server.env)
    assert done.returncode == 1
    assert all(line.isprintable() for line in done.stdout.splitlines())
    with Terminal("doctor", env={**server.env, "COLUMNS": "100"}) as terminal:
        assert terminal.ends() == 1
    assert "\x9b" not in terminal.shown
