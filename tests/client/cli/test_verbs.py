"""What all verbs have in common, and the small ones: what they ask, how they end."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from client.cli.running import COMMAND, PATIENCE, run
from copilot_broker.cli.parser import FAMILIES, build
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import Stream, WireServer


OCTOCAT = {
    "name": "default",
    "host": "github.com",
    "user_id": 583231,
    "login": "octocat",
    "client_id": "vscode",
    "mode": "exchange",
    "scopes": "read:user",
    "source": "login",
    "store": "secret-service",
    "default": True,
    "state": "ready",
    "unsaved": False,
    "token_id": "1a2b3c4d",
    "expires_in": 1475.0,
    "refresh_in": 1319.0,
    "error": None,
}
STATUS = {
    "version": "0.1.0",
    "pid": 4711,
    "uptime": 7300.0,
    "simulated": False,
    "store": {"kind": "secret-service"},
    "accounts": [OCTOCAT],
    "summary": "signed in as octocat (github.com), token valid 24 min",
}
HUBOT = {**OCTOCAT, "name": "work", "login": "hubot", "host": "acme.ghe.com", "default": False}
HUBOT |= {"mode": "direct", "scopes": ""}
ACCOUNTS = {"accounts": [OCTOCAT, HUBOT], "default": "default"}
LEASE = {"account": "default", "token_id": "1a2b3c4d", "expires_in": 1499.0, "clamped": False}
TOKEN_CHANGE = {"event": "token", "token": "tid=canary", **LEASE}
COOLDOWN = {
    "event": "cooldown",
    "account": "default",
    "error": {
        "class": 7,
        "code": "rate_limited",
        "message": "slow down",
        "hint": "wait",
        "retry_after": 90.0,
    },
}


@pytest.fixture
def server():
    answers = {
        "broker.status": STATUS,
        "broker.refresh": LEASE,
        "account.list": ACCOUNTS,
        "account.use": {"default": "work"},
        "account.logout": {"revoked": False},
    }
    with WireServer(answers) as server:
        yield server


def test_names_beyond_ascii_do_not_break_a_c_locale(server):
    server.answers["broker.status"] = {**STATUS, "summary": "signed in as öctocat"}
    done = run("status", env={**server.env, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "signed in as \\xf6ctocat" in done.stdout


def test_accounts_are_listed_and_chosen(server):
    assert run("account", "list", env=server.env).stdout.splitlines() == [
        "name     user     host          mode      scopes     store           default",
        "default  octocat  github.com    exchange  read:user  secret-service  yes",
        "work     hubot    acme.ghe.com  direct    -          secret-service  -",
    ]
    assert json.loads(run("account", "list", "--json", env=server.env).stdout) == ACCOUNTS
    done = run("account", "use", "work", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "default account is now work" in done.stderr
    assert server.calls("account.use") == [{"account": "work"}]


def test_refresh_shows_the_id_and_no_token(server):
    done = run("refresh", "--account", "work", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "1a2b3c4d" in done.stderr
    assert "24 min" in done.stderr
    assert server.calls("broker.refresh") == [{"account": "work"}]


def test_no_accounts_names_the_next_step(server):
    server.answers["account.list"] = {"accounts": [], "default": None}
    done = run("account", "list", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("copilot-cred login\n")


def test_logout(server):
    done = run("logout", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "GitHub still lists the approval" in done.stderr
    assert server.calls("account.logout") == [{}]
    run("logout", "--account", "work", env=server.env)
    assert server.calls("account.logout")[-1] == {"account": "work"}


def test_logout_revokes_where_asked(server):
    server.answers["account.logout"] = {"revoked": True}
    done = run("logout", "--revoke", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Revoked at GitHub and forgotten here.\n"
    assert server.calls("account.logout") == [{"revoke": True}]


def test_what_was_not_revoked_is_no_success(server):
    done = run("logout", "--revoke", env=server.env)
    assert (done.returncode, done.stdout) == (5, "")
    assert "did not revoke" in done.stderr
    assert done.stderr.endswith("copilot-cred account list\n")


def test_logout_says_what_revoking_does():
    shown = " ".join(run("logout", "--help", env={}).stdout.split())
    for words in (
        "irreversible",
        "GitHub mails the owner",
        "every tool that holds the same token",
    ):
        assert words in shown


@pytest.mark.parametrize("as_json", [False, True])
def test_watch_prints_each_change_when_it_happens(server, as_json):
    go_on = threading.Event()

    def changes():
        yield TOKEN_CHANGE
        assert go_on.wait(PATIENCE)
        yield COOLDOWN
        assert go_on.wait(PATIENCE)

    server.answers["token.watch"] = Stream(changes())
    arguments = ["watch", "--account", "default", *(["--json"] if as_json else [])]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=server.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        go_on.set()
        second = process.stdout.readline()
        rest, err = process.communicate(timeout=PATIENCE)
    if as_json:
        assert [json.loads(first), json.loads(second)] == [TOKEN_CHANGE, COOLDOWN]
    else:
        assert first.endswith("  default  token 1a2b3c4d, valid 24 min\n")
        assert second.endswith("  default  cooldown: slow down. again in 90 s. wait\n")
        assert "canary" not in first + second
    assert (rest, process.returncode) == ("", 3)
    assert err.endswith("systemctl --user start copilot-broker.socket\n")


def test_watch_ends_quietly_when_interrupted_or_unread(server):
    never = threading.Event()

    def forever():
        yield TOKEN_CHANGE
        never.wait(PATIENCE)

    try:
        server.answers["token.watch"] = lambda _params: Stream(forever())
        with subprocess.Popen(
            [*COMMAND, "watch"],
            env=server.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (130, b"")

        read, write = os.pipe()
        os.close(read)
        with subprocess.Popen(
            [*COMMAND, "watch"], env=server.env, stdout=write, stderr=subprocess.PIPE
        ) as process:
            os.close(write)
            _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (141, b"")
    finally:
        never.set()


VERBS = [
    ["get"],
    ["login", "--no-input"],
    ["logout"],
    ["status"],
    ["watch"],
    ["refresh"],
    ["account", "list"],
    ["account", "use", "work"],
    ["models"],
    ["models", "enable", "m"],
    ["key", "create", "ci"],
    ["key", "list"],
    ["key", "revoke", "ci"],
    ["chat", "what?"],
    ["complete", "what?"],
    ["api", "/embeddings", "--body", "{}"],
]
METHODS = ("token.get", "account.login", "account.logout", "broker.status", "token.watch")
METHODS += ("broker.refresh", "account.list", "account.use", "models.list", "completion.create")
METHODS += ("key.create", "key.list", "key.revoke")


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_exits_with_the_class_of_the_error(server, verb):
    for error_class in ErrorClass:
        error = ErrorInfo(error_class, "some_code", "it is so", "mend it with: mend")
        server.answers |= dict.fromkeys(METHODS, error)
        done = run(*verb, env=server.env)
        assert (done.returncode, done.stdout) == (int(error_class), "")
        assert done.stderr == "copilot-cred: it is so\n  hint: mend it with: mend\n"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_without_a_broker_exits_3_and_names_the_command(verb, tmp_path):
    env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    done = run(*verb, env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith("systemctl --user start copilot-broker.socket\n")
    done = run(*verb, "--error-format", "json", env=env)
    shown = json.loads(done.stderr)
    assert (shown["class"], shown["code"]) == (3, "not_running")


def test_a_question_of_a_script_waits_for_no_other_verb():
    script = (
        "import sys; from copilot_broker.cli.parser import build; build('complete');"
        "import copilot_broker.cli.asking.once; print(*sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(shown.stdout.split())
    assert "copilot_broker.cli.asking.choosing" in loaded
    assert not loaded & {
        "asyncio",
        "copilot_broker.cli.models",
        "copilot_broker.cli.prompt",
        "prompt_toolkit",
        "rich",
        "subprocess",
    }


HELPS = [[], ["get"], *([verb] for verb in FAMILIES), ["account", "list"], ["account", "use"]]
HELPS += [["models", "enable"], ["key", "create"], ["key", "list"], ["key", "revoke"]]


@pytest.mark.parametrize("verb", HELPS, ids=" ".join)
def test_every_verb_explains_itself(verb):
    done = run(*verb, "--help", env={})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: copilot-cred")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fetch"],
        ["status", "--jso"],
        ["login", "--store", "cloud"],
        ["login", "--with-token", "--from-env"],
        ["account"],
        ["account", "use"],
        ["models", "enable"],
        ["models", "disable", "m"],
        ["api"],
        ["--error-format", "xml", "status"],
        ["status", "--error-format"],
    ],
    ids=str,
)
def test_usage_errors_are_2_and_name_the_help(arguments):
    done = run(*arguments, env={})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("copilot-cred: ")
    assert done.stderr.endswith(" --help\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["usage", "--account", b"\xff"],
        ["key", "create", b"\xff"],
        ["exec", "--model", "a", "--model", b"\xff", "--", "true"],
        ["get", "--model", b"\xff"],
        ["get", "--model", "a", "--label", b"\xff"],
        ["get", "--account", b"\xff"],
    ],
    ids=str,
)
def test_words_that_are_no_text_are_usage_errors_and_reach_nobody(arguments):
    done = run(*arguments, env={})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(" --help\n")


@pytest.mark.parametrize(
    "verb",
    [
        ["status"],
        ["status", "--json"],
        ["account", "list"],
        ["models"],
        ["quota"],
        ["grants"],
        ["doctor"],
        ["audit"],
        ["key", "create", "ci"],
        ["key", "list"],
        ["get", "--help"],
    ],
    ids=" ".join,
)
def test_a_closed_stdout_is_an_error_before_anybody_is_asked(server, verb):
    done = with_closed_stdout(server, *verb)
    assert (done.returncode, server.requests) == (2, [])
    assert done.stderr.startswith("copilot-cred: stdout is closed")


def test_what_prints_nothing_needs_no_stdout(server):
    for verb in (["refresh"], ["account", "use", "work"], ["logout"]):
        assert with_closed_stdout(server, *verb).returncode == 0


def with_closed_stdout(server, *arguments):
    return subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *COMMAND, *arguments],
        env=server.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "verb", [["status"], ["grants"], ["account", "use", "work"]], ids=" ".join
)
def test_an_unknown_option_names_the_help_of_its_verb(verb):
    done = run(*verb, "--nope", env={})
    assert done.returncode == 2
    assert "unrecognized arguments: --nope" in done.stderr
    assert done.stderr.endswith(f": copilot-cred {' '.join(verb[:2])} --help\n")


def test_a_usage_error_is_told_as_json_too():
    done = run("fetch", "--error-format=json", env={})
    assert json.loads(done.stderr)["class"] == 2


def test_version(tmp_path):
    done = run("--version", env={})
    version = importlib.metadata.version("copilot-broker")
    assert (done.returncode, done.stdout) == (0, f"copilot-cred {version}\n")


def test_the_installed_command_is_the_same():
    command = os.path.join(os.path.dirname(sys.executable), "copilot-cred")  # noqa: PTH118, PTH120
    if not os.access(command, os.X_OK):
        pytest.skip("not installed beside this interpreter")
    done = subprocess.run(
        [command, "fetch"], env={}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2


def test_nobody_reads_a_token_from_a_crash(server):
    server.answers["broker.status"] = {**STATUS, "accounts": ["tid=canary"]}
    done = run("status", env=server.env)
    assert done.returncode == 1
    assert "a defect in copilot-cred: AttributeError" in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        (["refresh"], 0),
        (["account", "use", "work"], 0),
        (["get", "--min-valid", "7200"], 0),
        (["nosuchverb"], 2),
        (["get", "--nosuch"], 2),
    ],
    ids=["refresh", "use", "get", "no verb", "no option"],
)
@pytest.mark.parametrize("gone", ["a full disk", "no reader"])
def test_what_nobody_can_be_told_changes_no_exit_code(server, verb, code, gone):
    server.answers["token.get"] = {**LEASE, "token": "tid=canary", "clamped": True}
    if gone == "a full disk":
        stderr = os.open("/dev/full", os.O_WRONLY)
    else:
        read, stderr = os.pipe()
        os.close(read)
    try:
        done = subprocess.run(
            [*COMMAND, *verb],
            env=server.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(stderr)
    assert done.returncode == code
    assert done.stdout == (b"tid=canary\n" if verb[0] == "get" and code == 0 else b"")


def choices(parser):
    """Return the verbs that a parser knows."""
    (verbs,) = (each for each in parser._actions if each.dest == "verb")
    return verbs.choices


def test_each_verb_is_found_in_its_own_file():
    everything = choices(build())
    assert list(everything) == ["get", *FAMILIES]
    for verb in FAMILIES:
        alone = choices(build(verb))
        assert alone[verb].format_help() == everything[verb].format_help()
        assert set(alone) - {"get"} == {
            each for each in FAMILIES if FAMILIES[each] == FAMILIES[verb]
        }
