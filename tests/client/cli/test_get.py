"""`copilot-cred get` against a real socket: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from client.cli.running import COMMAND, PATIENCE, Terminal, run
from copilot_broker.cli import get as get_file
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import HANG_UP, SILENCE, WireServer


TOKEN = "tid=canary;exp=1800000000;sku=x:mac"
TYPED = pytest.mark.shows_secrets("a person types a token as an argument")
LEASE = {
    "token": TOKEN,
    "token_type": "bearer",
    "expires_at": 1_800_000_000,
    "expires_in": 1499.5,
    "api_base": "https://api.individual.githubcopilot.com",
    "headers": {"Copilot-Integration-Id": "vscode-chat"},
    "account": "default",
    "token_id": "1a2b3c4d",
    "clamped": False,
    "completions_base": "https://proxy.individual.githubcopilot.com",
    "cooldown_until": None,
}


@pytest.fixture
def server():
    with WireServer({"token.get": dict(LEASE)}) as server:
        yield server


def test_the_token_alone_is_on_stdout(server):
    done = run("get", env=server.env)
    assert (done.stdout, done.stderr, done.returncode) == (f"{TOKEN}\n", "", 0)
    assert server.calls("token.get") == [{"min_valid": 60.0}]


def test_what_was_asked_for_reaches_the_broker(server):
    done = run(
        "get", "--min-valid=90.5", "--account", "work", "--reject", "1a2b3c4d", env=server.env
    )
    assert done.returncode == 0, done.stderr
    assert server.calls("token.get") == [
        {"min_valid": 90.5, "account": "work", "reject": "1a2b3c4d"}
    ]


def test_json_is_one_line_with_the_promised_keys(server):
    done = run("get", "--format", "json", env=server.env)
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == {"version": 1, **LEASE}


def test_header_can_be_handed_to_curl(server):
    done = run("get", "--format=header", env=server.env)
    assert done.stdout == f"Authorization: Bearer {TOKEN}\n"


def test_env_survives_a_shell_whatever_it_holds(server):
    nasty = "a'b\"c$(id);`id`\\;exp=1"
    server.answers["token.get"] = {**LEASE, "token": nasty}
    done = run("get", "--format", "env", env=server.env)
    script = f'{done.stdout}printf "%s|%s|%s" "$COPILOT_TOKEN" "$COPILOT_API_BASE" "$COPILOT_TOKEN_EXPIRES_AT"'
    seen = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert seen == f"{nasty}|{LEASE['api_base']}|1800000000"


def test_a_clamped_token_is_printed_with_a_note(server):
    server.answers["token.get"] = {**LEASE, "clamped": True}
    done = run("get", "--min-valid", "7200", env=server.env)
    assert (done.stdout, done.returncode) == (f"{TOKEN}\n", 0)
    assert done.stderr == (
        "copilot-cred: note: the token lives 1500 s; more than 7200 s was asked for\n"
    )


def test_strictly_a_clamped_token_is_not_enough(server):
    server.answers["token.get"] = {**LEASE, "clamped": True}
    done = run("get", "--min-valid", "7200", "--min-valid-strict", env=server.env)
    assert (done.stdout, done.returncode) == ("", 8)
    assert done.stderr.endswith("copilot-cred get --min-valid 750\n")
    server.answers["token.get"] = dict(LEASE)
    assert run("get", "--min-valid-strict", env=server.env).returncode == 0


@pytest.mark.parametrize("error_class", list(ErrorClass), ids=lambda c: c.name)
def test_exit_code_is_the_class_of_the_error(server, error_class):
    server.answers["token.get"] = ErrorInfo(error_class, "some_code", "it is so", "run: mend it")
    done = run("get", env=server.env)
    assert (done.returncode, done.stdout) == (int(error_class), "")
    assert done.stderr == "copilot-cred: it is so\n  hint: run: mend it\n"


def test_an_error_as_json_has_the_shape_of_the_wire(server):
    error = ErrorInfo(
        ErrorClass.TEMPORARY, "rate_limited", "slow down", "wait", "https://docs.github.com", 12.5
    )
    server.answers["token.get"] = error
    for arguments in (["get", "--error-format", "json"], ["--error-format=json", "get"]):
        done = run(*arguments, env=server.env)
        assert (done.returncode, done.stdout) == (7, "")
        assert json.loads(done.stderr) == error.to_map()
    assert "again in: 13 s" in run("get", env=server.env).stderr


def test_no_broker_names_the_command_that_starts_it(tmp_path):
    env = {"PATH": os.environ["PATH"], "COPILOT_BROKER_SOCKET": str(tmp_path / "none.sock")}
    done = run("get", env=env)
    assert done.returncode == 3
    assert done.stderr.endswith("systemctl --user start copilot-broker.socket\n")
    assert "none.sock" in done.stderr


def test_signed_out_is_said_at_once(server):
    server.answers["token.get"] = ErrorInfo(
        ErrorClass.LOGIN_REQUIRED, "signed_out", "nobody is signed in", "Run: copilot-cred login"
    )
    done = run("get", env=server.env)
    assert done.returncode == 4
    assert done.stderr.endswith("copilot-cred login\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "yaml"],
        ["--format"],
        ["--min-valid", "soon"],
        ["--min-valid", "-1"],
        ["--min-valid", "nan"],
        ["--min-valid", "inf"],
        ["--min-valid="],
        ["--account="],
        ["--account", "\udcff"],
        pytest.param(["--reject", TOKEN], marks=TYPED),
        ["--reject", "1A2B3C4D"],
        ["--min-valid-strict=1"],
        ["--form", "raw"],
        ["--error-format", "xml"],
        ["extra"],
        pytest.param([TOKEN], marks=TYPED),
        [""],
    ],
    ids=str,
)
def test_usage_errors_ask_nobody_and_repeat_no_token(server, arguments):
    done = run("get", *arguments, env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("copilot-cred get --help\n")
    assert TOKEN not in done.stderr
    assert server.requests == []


@pytest.mark.parametrize("before", [["--error-format", "xml"], ["--error-format=xml"]])
def test_what_stands_before_the_verb_is_read_too(server, before):
    done = run(*before, "get", env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert "human or json" in done.stderr
    assert server.requests == []


def test_help_is_worth_reading(server):
    done = run("get", "--help", env=server.env)
    assert done.returncode == 0
    for word in (*get_file.VALUED, *get_file.FLAGS, *get_file.FORMATS, *get_file.JSON_KEYS):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_numbers_of_the_fast_path_are_those_of_the_wire():
    for name in ("INTERNAL", "USAGE", "UNREACHABLE", "TEMPORARY", "MIN_VALID"):
        assert getattr(get_file, name) == ErrorClass[name]


def test_get_imports_next_to_nothing(server):
    probe = (
        "import sys; before = set(sys.modules); from copilot_broker.cli import main;"
        "code = main(['get']); print(*sorted(set(sys.modules) - before)); sys.exit(code)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = [{_client_folder()!r}]; {probe}",
        ],
        env=server.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    token, modules = done.stdout.splitlines()
    assert token == TOKEN
    heavy = {
        "argparse", "asyncio", "dataclasses", "enum", "httpx", "json", "msgpack", "re", "rich",
        "socket", "typing",
    }  # fmt: skip
    assert heavy.isdisjoint(modules.split())
    assert "copilot_broker.wire.mini" in modules.split()


def _client_folder():
    return str(Path(get_file.__file__).parents[2])


def test_get_prints_on_a_terminal_too(server):
    with Terminal("get", env=server.env) as terminal:
        assert terminal.ends() == 0
        assert terminal.shown == f"{TOKEN}\r\n"


@pytest.mark.parametrize(("seconds", "said"), [(600, True), (-5, False)], ids=["now", "over"])
def test_a_person_is_told_that_copilot_wants_a_pause(server, seconds, said):
    server.answers["token.get"] = {**LEASE, "cooldown_until": int(time.time()) + seconds}
    with Terminal("get", env=server.env) as terminal:
        assert terminal.ends() == 0
    assert terminal.shown.endswith(f"{TOKEN}\r\n")
    assert ("Copilot asked this account to pause until" in terminal.shown) == said
    assert ("copilot-cred status" in terminal.shown) == said
    done = run("get", env=server.env)
    assert (done.stdout, done.stderr, done.returncode) == (f"{TOKEN}\n", "", 0)


def test_an_account_in_direct_mode_has_no_token(server):
    hint = "Completions work: copilot-cred chat"
    server.answers["token.get"] = ErrorInfo(ErrorClass.DENIED, "direct_mode", "it is used", hint)
    done = run("get", env=server.env)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.endswith("copilot-cred chat\n")


def test_a_dropped_connection_is_asked_again(server):
    leaving = ErrorInfo(ErrorClass.TEMPORARY, "shutting_down", "the broker is shutting down")
    answers = iter([HANG_UP, leaving, LEASE])
    server.answers["token.get"] = lambda _params: next(answers)
    assert run("get", env=server.env).stdout == f"{TOKEN}\n"
    server.answers["token.get"] = HANG_UP
    done = run("get", env=server.env)
    assert done.returncode == 3
    assert "hung up" in done.stderr
    assert len(server.calls("token.get")) == 6


def test_a_broker_that_is_stuck_is_given_up_in_time(server):
    server.answers["token.get"] = SILENCE
    started = time.monotonic()
    done = run("get", env=server.env)
    assert done.returncode == 7
    assert 4.5 < time.monotonic() - started < 10.0


def test_something_else_behind_the_socket_is_said_so(tmp_path):
    tmp_path.chmod(0o700)
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        process = subprocess.Popen(
            [*COMMAND, "get"],
            env={"PATH": os.environ["PATH"], "COPILOT_BROKER_SOCKET": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            listener.settimeout(PATIENCE)
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, b"")
    assert b"does not speak as copilot-broker does" in err


@pytest.mark.parametrize("token", ["a\nb", "", 7, "a\x1b[2Jb", "é"], ids=repr)
def test_a_token_that_is_more_than_one_word_is_never_printed(server, token):
    server.answers["token.get"] = {**LEASE, "token": token}
    done = run("get", "--format", "header", env=server.env)
    assert (done.returncode, done.stdout) == (1, "")


def test_control_characters_of_an_error_do_not_reach_the_terminal(server):
    server.answers["token.get"] = ErrorInfo(ErrorClass.DENIED, "no", "\x1b[2Jno", "\rcome back")
    assert run("get", env=server.env).stderr == "copilot-cred: ?[2Jno\n  hint: ?come back\n"


def test_interrupted_is_130_and_quiet(server):
    asked = threading.Event()
    server.answers["token.get"] = lambda _params: asked.set() or SILENCE
    with subprocess.Popen(
        [*COMMAND, "get"], env=server.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_went_away_is_no_drama(server):
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [*COMMAND, "get"], env=server.env, stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (141, b"")


def test_a_full_disk_is_an_error(server):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "get"],
            env=server.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("copilot-cred: no space left on device\n")
    assert "Traceback" not in done.stderr


def test_closed_stdout_and_stderr_are_no_traceback(server):
    for redirect, expected in ((">&-", 2), (">&- 2>&-", 2), ("2>&-", 0)):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirect}', "sh", *COMMAND, "get"],
            env=server.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == expected
        assert "Traceback" not in done.stderr
