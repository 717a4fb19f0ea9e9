"""`copilot-cred exec`: the environment it makes, and the command it becomes, or why it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from client.cli.running import COMMAND, PATIENCE, Terminal, run
from copilot_broker.cli import exec as execution
from copilot_broker.cli.recipes.variables import SCRUBBED, is_scrubbed, no_proxy, variables
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


KEY = "cpb_canary-canary-canary-canary-canary-canary_k"
RUN = {"name": "run:x", "key": KEY, "address": "127.0.0.1:40001", "kind": "run"}
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"
HEX = "0123456789abcdef" * 4


@pytest.fixture
def server():
    with WireServer({"key.lease": RUN, "key.list": {"keys": []}}) as server:
        yield server


def ran(server, *words, **env):
    """Run `exec -- WORDS`."""
    return run("exec", "--", *words, env={**server.env, **env})


def seen(server, **env):
    """Return the environment that the command sees."""
    done = ran(server, sys.executable, "-c", SHOW, **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- the environment -----------------------------------------------------------------------------


def test_it_leads_to_the_broker_and_leaves_all_else(server):
    plain = {"HOME": "/h", "KEPT": "a=b c\n", "EMPTY": "", "OPENAI_BASE_URL": "https://elsewhere"}
    child = seen(server, **plain)
    assert child["OPENAI_BASE_URL"] == "http://127.0.0.1:40001/v1"
    assert child["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:40001"
    assert child["OPENAI_API_KEY"] == child["ANTHROPIC_AUTH_TOKEN"] == KEY
    assert child["COPILOT_BROKER_EXEC"] == "run:x"
    assert {name: child[name] for name in ("HOME", "KEPT", "EMPTY")} == {
        name: plain[name] for name in ("HOME", "KEPT", "EMPTY")
    }


@pytest.mark.parametrize(
    "name",
    [
        "GH_TOKEN",
        "GITHUB_TOKEN",
        "GITHUB_COPILOT_OTHER_TOKEN",
        "COPILOT_TOKEN",
        "ANTHROPIC_API_KEY",
    ],
)
def test_what_is_a_login_by_its_name_is_taken_away(server, name):
    assert name not in seen(server, **{name: "x"})


@pytest.mark.parametrize(
    "value",
    [
        "ghp_" + "A" * 36,
        "gho_" + "A" * 36,
        "ghu_" + "A" * 36,
        "ghs_" + "A" * 36,
        "ghr_" + "A" * 36,
        "github_pat_" + "A" * 82,
        "https://x:ghp_" + "A" * 36 + "@github.com/a/b",
        "https://x%3Aghp_" + "A" * 36 + "%40github.com/a/b",
        "Authorization: token gho_" + "A" * 36,
        f"tid={HEX};exp=1790000000;sku=x;8kp=1:{HEX}",
        f"Bearer tid={HEX};exp=1790000000:{HEX}",
    ],
)
def test_what_is_a_token_by_its_look_is_taken_away(value):
    assert is_scrubbed("ANY", value)
    assert "ANY" not in execution.environment({"ANY": value, "KEPT": "x"}, RUN)


@pytest.mark.parametrize(
    ("value", "goes"),
    [
        ("Authorization: Bearer sk-canary", True),
        ("X-Team: a\nx-api-key : canary", True),
        ("X-Team: a\nX-Cookie-Law: authorization: none", False),
    ],
)
def test_headers_that_would_replace_the_runs_key_are_taken_out(value, goes):
    for name in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        assert is_scrubbed(name, value) is goes
    assert not is_scrubbed("NOTES", value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "github_path",
        "ghx",
        "high_ghp",
        "a" * 40,
        HEX,
        "atid=1;b",
        "tid=5",
        "sk-" + "a" * 40,
    ],
)
def test_what_only_looks_a_little_like_one_stays(value):
    assert not is_scrubbed("ANY", value)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "corp"}, "corp,127.0.0.1"),
        ({"no_proxy": " a , b "}, "a,b,127.0.0.1"),
        ({"NO_PROXY": "", "no_proxy": "b"}, "b,127.0.0.1"),
        ({"NO_PROXY": "a, b", "no_proxy": "b,c"}, "a,b,c,127.0.0.1"),
        ({"NO_PROXY": "*"}, "*"),
        ({"NO_PROXY": "a", "no_proxy": "*"}, "*"),
        ({"NO_PROXY": "127.0.0.1,x"}, "127.0.0.1,x"),
    ],
    ids=str,
)
def test_no_proxy_sees_the_key(given, wanted):
    child = execution.environment(given, RUN)
    assert (child["NO_PROXY"], child["no_proxy"]) == (wanted, wanted)
    assert no_proxy(wanted) == wanted


def test_a_variable_without_a_name_keeps_nothing_from_starting():
    child = execution.environment({"": "C:=C:\\", "KEPT": "x"}, RUN)
    assert child["KEPT"] == "x"
    assert "" not in child


def test_what_it_sets_is_nothing_that_it_takes_away():
    for name, value in variables("http://127.0.0.1:1", KEY).items():
        assert not is_scrubbed(name, value)
        assert name not in SCRUBBED


def test_what_python_makes_of_the_c_locale_is_not_for_the_command(server):
    clean = {name: value for name, value in server.env.items() if name[:3] not in {"LC_", "LAN"}}
    done = run("exec", "--", "/usr/bin/env", env=clean)
    assert "OPENAI_API_KEY" in done.stdout
    assert "LC_CTYPE" not in done.stdout
    done = run("exec", "--", "/usr/bin/env", env={**clean, "LC_CTYPE": "C.UTF-8"})
    assert "LC_CTYPE=C.UTF-8" in done.stdout


# -- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), {}),
        (("--label", "mine"), {"label": "mine"}),
        (("--model", "gpt-*", "--model", "a,b"), {"models": ["gpt-*", "a", "b"]}),
        (("--account", "work"), {"account": "work"}),
        (("--rpm", "3"), {"requests_per_minute": 3}),
        (("--budget", "2k"), {"budget": 2000}),
    ],
    ids=str,
)
def test_limits_are_asked_for(server, options, asked):
    assert run("exec", *options, "--", "true", env=server.env).returncode == 0
    assert server.calls("key.lease") == [{"label": "true"} | asked]


@pytest.mark.parametrize(
    ("command", "label"),
    [
        ("/usr/bin/env", "env"),
        ("./a b", "a-b"),
        ("./[", "command"),
        ("./-x.py", "x.py"),
        ("./" + "é" * 3 + "n" * 100, ("-" * 3 + "n" * 100).lstrip("-")[:64]),
    ],
)
def test_a_run_is_called_by_its_command(command, label):
    assert execution._label(command) == label


@pytest.mark.parametrize(
    "words", [(), ("--",), ("--", ""), ("--rpm", "0", "--", "true"), ("--x",)]
)
def test_what_is_no_command_line_asks_nobody(server, words):
    done = run("exec", *words, env=server.env)
    assert done.returncode in (2, 127)
    assert done.stdout == ""
    assert server.calls("key.lease") == []


# -- what it becomes -----------------------------------------------------------------------------


def test_words_stdin_and_status_are_the_commands(server):
    show = "import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(9)"
    words = ["--", "-x", "--error-format", "json", "", "a b", "--help"]
    done = run("exec", "--", sys.executable, "-c", show, *words, env=server.env, stdin="in")
    assert (done.returncode, done.stdout, done.stderr) == (9, f"{words} in\n", "")
    assert run("exec", "true", "--rpm", env=server.env).returncode == 0


def test_signals_are_as_any_shell_leaves_them(server):
    done = ran(server, "/bin/cat", "/proc/self/status")
    ignored = int(next(line for line in done.stdout.splitlines() if "SigIgn" in line)[7:], 16)
    for name in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        assert not ignored >> (name - 1) & 1


@pytest.mark.parametrize(
    ("name", "content", "mode", "status"),
    [
        ("./none", None, 0, 127),
        ("none-such-command", None, 0, 127),
        ("./folder/", "", 0, 127),
        ("./plain", "echo by $0 $1\n", 0o755, 0),
        ("./locked", "echo\n", 0o644, 126),
        ("locked", "echo\n", 0o644, 126),
        ("./strange", "#!/none/such\n", 0o755, 127),
    ],
)
def test_what_cannot_be_executed_has_the_status_of_shells(
    server, tmp_path, *, name, content, mode, status
):
    if content:
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(mode)
    env = {**server.env, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run("exec", "--", name, "word", env=env, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    if not status:
        assert done.stdout == "by ./plain word\n"
    else:
        assert done.stderr.startswith("copilot-cred: ")
    if status == 127 and name != "./strange":
        assert server.calls("key.lease") == [], "nothing was leased for it"


def test_a_closed_stdout_is_the_commands(server):
    script = '"$@" exec -- sh -c "echo x 2>/dev/null || echo closed >&2" >&-'
    done = subprocess.run(
        ["sh", "-c", script, "_", *COMMAND],
        env=server.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "closed" in done.stderr


def test_the_terminal_is_the_commands(server):
    script = "stty size; test -t 0 && test -t 1 && echo terminal; ps -o stat= -p $$; exit 5"
    with Terminal("exec", "--", "sh", "-c", script, env={**os.environ, **server.env}) as terminal:
        assert terminal.ends() == 5
        assert "terminal" in terminal.shown
        assert "+" in terminal.shown.splitlines()[-1], "it is in the foreground"


# -- why it does not start -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (
            ErrorInfo(
                ErrorClass.LOGIN_REQUIRED, "login_required", "nobody", "Run: copilot-cred login"
            ),
            4,
        ),
        (ErrorInfo(ErrorClass.DENIED, "process_unknown", "who", "do"), 5),
        (ErrorInfo(ErrorClass.LOCKED, "locked", "is locked", "copilot-cred unlock"), 6),
        (ErrorInfo(ErrorClass.TEMPORARY, "too_many_runs", "too many", "copilot-cred key list"), 7),
    ],
    ids=lambda value: str(value)[-20:],
)
def test_without_a_lease_nothing_is_started(tmp_path, error, status):
    with WireServer({"key.lease": error}) as server:
        done = run("exec", "--", "touch", str(tmp_path / "started"), env=server.env)
    assert done.returncode == status
    assert error.message in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("answer", [{}, {**RUN, "key": 7}, {**RUN, "address": None}])
def test_an_answer_that_is_no_run_starts_nothing(tmp_path, answer):
    with WireServer({"key.lease": answer}) as server:
        done = run("exec", "--", "touch", str(tmp_path / "started"), env=server.env)
    assert done.returncode == 1
    assert "no run" in done.stderr
    assert not (tmp_path / "started").exists()


def test_without_a_broker_nothing_is_started(tmp_path):
    env = {**os.environ, "COPILOT_BROKER_SOCKET": str(tmp_path / "none")}
    done = run("exec", "--", "touch", str(tmp_path / "started"), "--error-format=json", env=env)
    assert done.returncode == 3
    assert done.stderr.startswith("copilot-cred: "), "the command's words are not ours"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("mark", "url", "status"),
    [
        ("run:x", "http://127.0.0.1:40001/v1", 2),
        ("run:x", "http://127.0.0.1:40002/v1", 0),
        ("run:x", "http://127.0.0.1:4000/v1", 0),
        ("run:y", "http://127.0.0.1:40001/v1", 0),
        ("", "http://127.0.0.1:40001/v1", 0),
    ],
)
def test_in_a_run_that_lasts_no_other_begins(mark, url, status):
    listed = {"keys": [{**RUN, "key": None}]}
    with WireServer({"key.lease": RUN, "key.list": listed}) as server:
        env = {**server.env, "COPILOT_BROKER_EXEC": mark, "OPENAI_BASE_URL": url}
        done = run("exec", "--", "echo", "started", env=env)
    assert (done.returncode, done.stdout) == (status, "" if status else "started\n")
    if status:
        assert "run:x" in done.stderr
        assert "copilot-cred exec" in done.stderr
