"""`copilot-cred key`: the key alone on stdout, once, and never anywhere else."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from client.cli.running import COMMAND, PATIENCE, WITHOUT_RICH, Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


TEXT = "cpb_canary-canary-canary-canary-canary-canary_k"
PLAIN = {
    "name": "plain",
    "created_at": 1_790_000_000,
    "expires_at": None,
    "models": None,
    "account": None,
    "requests_per_minute": None,
    "budget": None,
    "spent_today": 0,
}
LIMITED = {
    **PLAIN,
    "name": "ci",
    "expires_at": 4_102_444_800,
    "models": ["gpt-4.1*", "o4-*"],
    "account": "work",
    "requests_per_minute": 30,
    "budget": 500_000,
    "spent_today": 4_711,
}
OVER = {**PLAIN, "name": "old", "expires_at": 1_790_000_001}
MONTH = 2_629_800.0


@pytest.fixture
def server():
    answers = {
        "key.create": lambda params: {**PLAIN, "name": params["name"], "key": TEXT},
        "key.list": {"keys": [PLAIN, LIMITED, OVER]},
        "key.revoke": {"name": "ci", "connections": 0},
    }
    with WireServer(answers) as server:
        server.env["TZ"] = "UTC"
        yield server


# -- create ------------------------------------------------------------------------------------


def test_the_key_alone_is_on_stdout_and_how_to_use_it_on_stderr(server):
    done = run("key", "create", "ci", env=server.env)
    assert (done.returncode, done.stdout) == (0, f"{TEXT}\n")
    assert TEXT not in done.stderr
    for told in ("only time", "Authorization: Bearer KEY", "x-api-key: KEY"):
        assert told in done.stderr
    assert done.stderr.endswith("copilot-cred key revoke ci\n")
    assert server.calls("key.create") == [{"name": "ci"}]


BUSY = {
    "class": 2,
    "code": "tcp_port_busy",
    "message": "HTTP is not served on 127.0.0.1:4242: port 4242 is taken by another program",
    "hint": "See by which: ss -ltnp 'sport = :4242'; then run: mend",
}


@pytest.mark.parametrize(
    ("http", "told", "untold"),
    [
        (
            {"socket": True, "tcp": "127.0.0.1:4242", "error": None},
            ["http://127.0.0.1:4242/v1\n", "http://127.0.0.1:4242\n", "/http.sock\n"],
            ["[http] tcp", "4141"],
        ),
        (
            {"socket": True, "tcp": None, "error": None},
            ['[http] tcp = "127.0.0.1:4141"', "http://localhost/v1", "/http.sock\n"],
            ["Base URL"],
        ),
        (
            {"socket": False, "tcp": "127.0.0.1:4242", "error": BUSY},
            ["taken by another program", "then run: mend"],
            ["Base URL", "http.sock"],
        ),
        (None, ['[http] tcp = "127.0.0.1:4141"'], ["http.sock"]),
    ],
    ids=["tcp", "no tcp", "a port that is taken", "an older broker"],
)
def test_the_addresses_are_those_of_the_broker_that_runs(server, http, told, untold):
    server.answers["broker.status"] = {"version": "1", **({"http": http} if http else {})}
    said = run("key", "create", "ci", env=server.env).stderr
    in_line = " ".join(said.split()) + "\n"  # however it is broken into lines
    assert [words for words in told if words not in said and words not in in_line] == []
    assert [words for words in untold if words in in_line] == []
    long = [line for line in said.splitlines() if len(line) > 80]
    assert all(line.endswith("/http.sock") for line in long)


def test_a_broker_that_then_says_nothing_costs_no_key(server):
    server.answers["broker.status"] = ErrorInfo(ErrorClass.INTERNAL, "broken", "broken", "")
    done = run("key", "create", "ci", env=server.env)
    assert (done.returncode, done.stdout) == (0, f"{TEXT}\n")
    assert done.stderr.endswith("copilot-cred key revoke ci\n")


@pytest.mark.parametrize(
    ("argv", "params"),
    [
        (["--models", "gpt-*", "o3"], {"models": ["gpt-*", "o3"]}),
        (["--models", "a", "--models", "b", "--rpm", "7"], {"models": ["a", "b"]}),
        (["--models", "gpt-*,o3", "o4,"], {"models": ["gpt-*", "o3", "o4"]}),
        (["--account", "work"], {"account": "work"}),
        (["--rpm", "30"], {"requests_per_minute": 30}),
        (["--budget", "200000"], {"budget": 200_000}),
        (["--budget", "500k"], {"budget": 500_000}),
        (["--budget", "2M"], {"budget": 2_000_000}),
        (["--expires", "90"], {"expires_in": 90.0}),
        (["--expires", "30d"], {"expires_in": 30 * 86_400.0}),
        (["--expires", "1d 12h"], {"expires_in": 36 * 3_600.0}),
        (["--expires", "6M"], {"expires_in": 6 * MONTH}),
    ],
)
def test_limits_are_handed_on(server, argv, params):
    assert run("key", "create", "ci", *argv, env=server.env).returncode == 0
    (asked,) = server.calls("key.create")
    assert asked.items() >= ({"name": "ci"} | {key: params[key] for key in params}).items()


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["ci", "--models"],
        ["ci", "--rpm", "0"],
        ["ci", "--rpm", "-1"],
        ["ci", "--rpm", "1.5"],
        ["ci", "--rpm", "9" * 30],
        ["ci", "--budget", "0"],
        ["ci", "--budget", "0k"],
        ["ci", "--budget", "2m"],
        ["ci", "--budget", "x"],
        ["ci", "--expires", "0"],
        ["ci", "--expires", ""],
        ["ci", "--expires", "soon"],
        ["ci", "--expires", "5 fortnights"],
        ["ci", "--expires", "-1d"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_a_usage_error_before_anybody_is_asked(server, argv):
    done = run("key", "create", *argv, env=server.env)
    assert (done.returncode, done.stdout, server.requests) == (2, "", [])
    assert done.stderr.endswith(": copilot-cred key create --help\n")


def test_a_key_as_a_name_is_not_repeated(server):
    done = run("key", "create", "ci", TEXT, env=server.env)
    assert done.returncode == 2
    assert TEXT not in done.stderr


def test_a_refusal_leaves_stdout_empty(server):
    taken = ErrorInfo(ErrorClass.USAGE, "key_exists", "there is a key named ci", "mend: mend")
    server.answers["key.create"] = taken
    done = run("key", "create", "ci", env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "copilot-cred: there is a key named ci\n  hint: mend: mend\n"


def test_a_key_goes_into_a_variable_of_the_shell(server):
    script = 'KEY=$("$@" 2>/dev/null) && printf %s "[$KEY]"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "key", "create", "ci"],
        env=server.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == f"[{TEXT}]"


# -- list and revoke ---------------------------------------------------------------------------


def test_the_table_tells_limits_and_what_was_spent(server):
    done = run("key", "list", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    made = time.strftime("%Y-%m-%d", time.gmtime(1_790_000_000))
    limits = "models gpt-4.1* o4-*, account work, 30 a minute, 500000 tokens a day"
    space = " " * (len(limits) - 1)
    assert done.stdout.splitlines() == [
        f"name   created     expires           limits{space[5:]}  spent today",
        f"plain  {made}  never             -{space}  0 tokens",
        f"ci     {made}  2100-01-01 00:00  {limits}  4711 tokens",
        f"old    {made}  expired           -{space}  0 tokens",
    ]


def test_json_is_one_line_with_all_of_it(server):
    done = run("key", "list", "--json", env=server.env)
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == {"keys": [PLAIN, LIMITED, OVER]}


def test_no_keys_are_no_table(server):
    server.answers["key.list"] = {"keys": []}
    done = run("key", "list", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "There are no keys. To make one: copilot-cred key create NAME\n"
    assert run("key", "list", "--json", env=server.env).stdout == '{"keys": []}\n'


@pytest.mark.parametrize("created", [None, "x", 1e300, [1]])
def test_nonsense_of_a_broker_is_no_traceback(server, created):
    server.answers["key.list"] = {"keys": [{**PLAIN, "created_at": created}, {}]}
    done = run("key", "list", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[:2] == ["plain", "-"]


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_a_terminal_shows_the_same(server, command):
    with Terminal(
        "key", "list", env={**server.env, "COLUMNS": "160"}, command=command
    ) as terminal:
        assert terminal.ends() == 0
    assert "4711 tokens" in terminal.shown
    with Terminal("key", "create", "ci", env=server.env, command=command) as terminal:
        assert terminal.ends() == 0
    assert terminal.shown.startswith(TEXT)


@pytest.mark.parametrize(
    ("count", "more"), [(0, ""), (2, " Connections that were closed: 2."), (None, "")]
)
def test_revoking_says_what_was_closed(server, count, more):
    server.answers["key.revoke"] = {"name": "ci", "connections": count}
    done = run("key", "revoke", "ci", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Revoked: ci.{more}\n"
    assert server.calls("key.revoke") == [{"name": "ci"}]
