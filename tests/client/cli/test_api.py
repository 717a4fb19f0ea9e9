"""`copilot-cred api`: what goes up and comes down is what was given, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading

import pytest

from client.cli.running import COMMAND, PATIENCE, Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import Stream, WireServer


RAW = b'{"a": [ 1 ],\r\n "b":"\xff\x00"}'
HEADERS = {"content-type": "application/json", "x-copilot-broker-account": "default"}
REFUSED = ErrorInfo(ErrorClass.DENIED, "quota_exceeded", "used up", "see: copilot-cred status")


def whole(body=RAW, status=200, **more):
    return {"status": status, "headers": HEADERS, "body": body, "account": "default", **more}


@pytest.fixture
def server():
    with WireServer({"completion.create": whole()}) as server:
        yield server


def api(server, *args, stdin=b"{}"):
    """Run it on bytes."""
    return subprocess.run(
        [*COMMAND, "api", *args],
        env=server.env,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_body_goes_up_and_comes_down_untouched(server):
    done = api(server, "/responses", stdin=RAW)
    assert (done.returncode, done.stdout, done.stderr) == (0, RAW, b"")
    assert server.calls("completion.create") == [{"path": "/responses", "body": RAW}]


@pytest.mark.parametrize(
    ("how", "body"),
    [(["--body", '{"é":1}'], '{"é":1}'.encode()), (["--body", "-"], b"in"), ([], b"in")],
)
def test_the_body_is_an_option_or_stdin(server, how, body):
    assert api(server, "/embeddings", *how, stdin=b"in").returncode == 0
    [params] = server.calls("completion.create")
    assert params["body"] == body


def test_headers_and_account_reach_the_broker(server):
    more = ["--header", "Anthropic-Version: 2023-06-01", "--header=x-initiator:agent"]
    api(server, "/v1/messages", *more, "--account", "work")
    [params] = server.calls("completion.create")
    assert params["headers"] == {"anthropic-version": "2023-06-01", "x-initiator": "agent"}
    assert params["account"] == "work"


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_status_and_headers_come_first_where_asked(server, stream):
    if stream:
        server.answers["completion.create"] = Stream([b"da", b"ta"], None, 299, {"x-a": "b\x1b"})
    else:
        server.answers["completion.create"] = {**whole(b"data", 299), "headers": {"x-a": "b\x1b"}}
    done = api(server, "/chat/completions", "-i", *stream)
    assert (done.returncode, done.stdout) == (0, b"HTTP/1.1 299\r\nx-a: b?\r\n\r\ndata")
    server.answers["completion.create"] = whole()
    done = api(server, "/chat/completions", "--include")
    assert done.stdout.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")


def test_a_stream_is_printed_as_it_comes(server):
    go_on = threading.Event()

    def chunks():
        yield b"data: 1\n"
        assert go_on.wait(PATIENCE)
        yield b"\ndata: 2\n\n"

    server.answers["completion.create"] = Stream(chunks(), None, 200, {})
    with subprocess.Popen(
        [*COMMAND, "api", "--stream", "/chat/completions", "--body", "{}"],
        env=server.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"data: 1\n"
        go_on.set()
        rest, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest, err) == (0, b"\ndata: 2\n\n", b"")
    [params] = server.calls("completion.create")
    assert params["stream"] is True


def test_an_error_under_200_is_told_by_its_class(server):
    server.answers["completion.create"] = whole(b'{"error": {}}', refusal=REFUSED.to_map())
    done = api(server, "/chat/completions")
    assert (done.returncode, done.stdout) == (5, b'{"error": {}}')
    assert "used up" in done.stderr.decode()


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("explained", [True, False])
def test_a_refusal_is_told_and_its_body_printed(server, stream, explained):
    more = {"refusal": REFUSED.to_map()} if explained else {}
    if stream:
        server.answers["completion.create"] = Stream([b"no ", b"way"], None, 402, HEADERS, more)
    else:
        server.answers["completion.create"] = whole(b"no way", 402, **more)
    done = api(server, "/chat/completions", *stream)
    assert (done.returncode, done.stdout) == (5, b"no way")
    words = (
        "used up\n  hint: see:" if explained else "GitHub Copilot answered 402\n  hint: Look at:"
    )
    assert done.stderr.decode() == f"copilot-cred: {words} copilot-cred status\n"


def test_an_error_in_the_midst_of_a_stream_is_told(server):
    server.answers["completion.create"] = Stream(
        [b"data: 1\n\n", b'data: {"error":{}}\n\n'], None, 200, {}, refusal=REFUSED
    )
    done = api(server, "--stream", "/chat/completions")
    assert (done.returncode, done.stdout) == (5, b'data: 1\n\ndata: {"error":{}}\n\n')
    assert b"used up" in done.stderr


def test_the_brokers_own_refusal_is_its_error(server):
    server.answers["completion.create"] = ErrorInfo(
        ErrorClass.USAGE, "path_not_allowed", "'/x' is no path", "See: client/PROTOCOL.md"
    )
    done = api(server, "/x", "--error-format", "json")
    assert (done.returncode, done.stdout) == (2, b"")
    assert json.loads(done.stderr)["code"] == "path_not_allowed"


def test_a_terminal_gets_nothing_that_drives_it(server):
    server.answers["completion.create"] = whole("é\x1b[2J".encode() + b"\xff")
    with Terminal("api", "/responses", "--body", "{}", env=server.env) as terminal:
        assert terminal.ends() == 0
    assert terminal.shown == "é[2J�\r\n"


@pytest.mark.parametrize(
    "arguments",
    [["--header", "x-initiator"], ["--header", ": v"], ["--header", "a:1", "--header", "A: 2"]],
    ids=str,
)
def test_a_header_is_a_name_and_a_value_once(server, arguments):
    done = api(server, "/responses", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.endswith(b"copilot-cred api --help\n")
    assert server.requests == []


def test_without_a_body_nothing_is_asked(server):
    with Terminal("api", "/responses", env=server.env) as terminal:
        assert terminal.ends() == 2
    assert "there is no body" in terminal.shown
    for redirect in ("<&-", "</dev/null", "0>/dev/null"):
        command = ["sh", "-c", f'"$@" {redirect}', "sh", *COMMAND, "api", "/responses"]
        done = subprocess.run(
            command, env=server.env, capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 2
        assert b"copilot-cred api --help" in done.stderr
    assert server.requests == []


@pytest.mark.parametrize("path", ["/models", "models", "/v1/models/"])
def test_the_models_have_a_verb_of_their_own(server, path):
    done = api(server, path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.endswith(b"copilot-cred models --json\n")
    assert server.requests == []


def test_closed_stdout_costs_nothing(server):
    command = ["sh", "-c", '"$@" >&-', "sh", *COMMAND, "api", "/responses", "--body", "{}"]
    done = subprocess.run(
        command, env=server.env, capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert server.requests == []


def test_a_reader_that_has_had_enough_is_no_drama(server):
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [*COMMAND, "api", "/responses", "--body", "{}"],
        env=server.env,
        stdout=write,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (141, b"")


def test_ctrl_c_ends_it_quietly_and_the_broker_sees_it(server):
    never = threading.Event()

    def chunks():
        yield b"data: 1\n"
        never.wait(PATIENCE)

    server.answers["completion.create"] = Stream(chunks(), None, 200, {})
    try:
        with subprocess.Popen(
            [*COMMAND, "api", "--stream", "/responses", "--body", "{}"],
            env=server.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (130, b"")
        assert server.left.wait(PATIENCE) or server.cancelled.is_set()
    finally:
        never.set()


def test_help_names_what_may_be_asked():
    shown = run("api", "--help", env={}).stdout
    for word in (
        "/chat/completions",
        "/responses",
        "/v1/messages",
        "/embeddings",
        "anthropic-beta",
    ):
        assert word in shown
