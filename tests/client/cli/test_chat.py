"""`copilot-cred chat`: what it asks, what it prints and when, and how it ends when something ends it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from client.cli.running import COMMAND, PATIENCE, Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import Stream, WireServer


MODELS = {
    "account": "default",
    "models": [{"id": "other"}, {"id": "base", "is_chat_fallback": True}],
}
EVENTS = {"content-type": "text/event-stream"}
CUT = ErrorInfo(ErrorClass.TEMPORARY, "upstream_cut", "Copilot broke off", "ask again: again")
PROMPT = "the-canary-prompt"


def event(text=None, **more):
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, **more}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def streamed(*chunks, error=None, status=200, headers=None):
    return Stream(chunks, error, status, headers or EVENTS)


def whole(body, status=200, headers=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {"status": status, "headers": headers or {}, "body": data, "account": "default"}


@pytest.fixture
def server():
    answer = streamed(event("Hel"), event("lo"), event(finish_reason="stop"), DONE)
    with WireServer({"models.list": MODELS, "completion.create": answer}) as server:
        yield server


def asked(server):
    [params] = server.calls("completion.create")
    return json.loads(params["body"])


def chat(server, *args, **options):
    return run("chat", *args, env=server.env, **options)


@contextlib.contextmanager
def started(server, *args, **options):
    """A running chat; one that has not ended by itself is killed."""
    process = subprocess.Popen(
        [*COMMAND, "chat", "--model", "m", *args],
        env=server.env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **{"stdin": subprocess.DEVNULL, **options},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


# -- what is asked --------------------------------------------------------------------------------


def test_a_question_and_nothing_else_is_asked(server):
    done = chat(server, "what", "is", "it?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello\n", "")
    [params] = server.calls("completion.create")
    assert json.loads(params.pop("body")) == {
        "model": "base",
        "messages": [{"role": "user", "content": "what is it?"}],
        "stream": True,
    }
    assert params["stream"] is True
    assert params["headers"] == {"x-initiator": "user"}
    assert "account" not in params


def test_options_reach_copilot(server):
    server.answers["completion.create"] = whole({"choices": [{"message": {"content": "Hi"}}]})
    options = ["--model", "gpt-4.1", "--system", "be brief", "--temperature", "0.5"]
    options += ["--max-tokens", "9", "--account", "work", "--no-stream"]
    done = chat(server, *options, "why?")
    assert (done.returncode, done.stdout) == (0, "Hi\n")
    assert asked(server) == {
        "model": "gpt-4.1",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "why?"},
        ],
        "stream": False,
        "temperature": 0.5,
        "max_tokens": 9,
    }
    [params] = server.calls("completion.create")
    assert params["account"] == "work"
    assert not params.get("stream")
    assert params["headers"] == {"x-initiator": "user"}


@pytest.mark.parametrize(
    ("words", "stdin", "prompt"),
    [
        ([], "from stdin\n", "from stdin\n"),
        (["-"], "from stdin\n", "from stdin\n"),
        (["explain:"], "a diff: é\n", "explain:\n\na diff: é\n"),
        (["explain:", "-"], "a diff\n", "explain:\n\na diff\n"),
        (["explain"], " \n", "explain"),
        (["--", "-x"], "", "-x"),
    ],
)
def test_stdin_is_the_question_or_goes_with_it(server, words, stdin, prompt):
    done = chat(server, *words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert asked(server)["messages"] == [{"role": "user", "content": prompt}]


def test_a_terminal_is_read_only_when_asked_to(server):
    with Terminal("chat", "-", env=server.env) as terminal:
        terminal.press("typed\n\x04")
        assert terminal.ends() == 0
    assert asked(server)["messages"][0]["content"] == "typed\n"
    with Terminal("complete", env=server.env) as terminal:
        assert terminal.ends() == 2
        assert "there is no question" in terminal.shown


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ([], b"", "there is no question"),
        ([" "], b"\n", "there is no question"),
        ([], b"\xff\xfe", "not UTF-8"),
        ([b"\xff"], b"", "not UTF-8"),
        ([], b"x" * (8 * 1024 * 1024 + 1), "more than 8 MiB"),
        (["--temperature", "3", "x"], b"", "from 0 to 2"),
        (["--temperature", "nan", "x"], b"", "from 0 to 2"),
        (["--temperature", "warm", "x"], b"", "takes a number from 0 to 2"),
        (["--max-tokens", "0", "x"], b"", "from 1 up"),
        (["--max-tokens", "many", "x"], b"", "from 1 up"),
        (["--system", b"\xff", "x"], b"", "system: not UTF-8"),
        (["--stop", "a", "--stop", b"\xff", "x"], b"", "stop: not UTF-8"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_a_usage_error_that_names_the_help(
    server, arguments, stdin, words
):
    done = subprocess.run(
        [*COMMAND, "chat", *arguments],
        env=server.env,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    shown = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in shown
    assert shown.endswith("copilot-cred chat --help\n")
    assert "Traceback" not in shown
    assert server.calls("completion.create") == []


def test_no_model_to_ask_is_told(server):
    server.answers["models.list"] = {"models": [{"id": "x", "policy": {"state": "disabled"}}]}
    done = chat(server, "x")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.endswith("copilot-cred models --all\n")


# -- what is printed ------------------------------------------------------------------------------


def test_text_is_printed_when_it_comes(server):
    go_on = threading.Event()

    def answer():
        yield event("first ")[:-20]
        yield event("first ")[-20:]
        assert go_on.wait(PATIENCE)
        yield event("second")
        yield DONE

    server.answers["completion.create"] = Stream(answer(), None, 200, EVENTS)
    with started(server, "x") as process:
        assert process.stdout.read(6) == b"first "
        go_on.set()
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, b"second\n", b"")


def test_no_newline_is_added_to_one(server):
    server.answers["completion.create"] = streamed(event("a\n"), event("b\n"), DONE)
    assert chat(server, "x").stdout == "a\nb\n"


def test_what_copilot_puts_between_does_no_harm(server):
    server.answers["completion.create"] = streamed(
        b": comment\n\n",
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: {"choices":null,"copilot_references":[]}\n\n',
        b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n',
        event("ok"),
        b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n',
        DONE,
    )
    done = chat(server, "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


NASTY = "a\x1b]0;owned\x07\tb\r\x9b31mc\x7f\x00"


@pytest.mark.parametrize("how", [["--no-stream"], []])
def test_a_terminal_gets_nothing_that_drives_it(server, how):
    server.answers["completion.create"] = (
        whole({"choices": [{"message": {"content": NASTY}}]})
        if how
        else streamed(event(NASTY), DONE)
    )
    with Terminal("chat", "--model", "m", *how, "x", env=server.env) as terminal:
        assert terminal.ends() == 0
    assert terminal.shown == "a]0;owned\tb31mc\r\n"
    assert chat(server, "--model", "m", *how, "x").stdout == NASTY.replace("\r", "\n") + "\n"


def test_json_of_a_stream_is_one_event_a_line(server):
    server.answers["completion.create"] = streamed(event("é\x1b") + event("b"), DONE)
    done = chat(server, "--json", "x")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["choices"][0]["delta"]["content"] for line in lines] == ["é\x1b", "b"]
    assert done.stdout.isascii()


def test_json_without_a_stream_is_the_answer_as_it_is(server):
    body = b'{"choices": [ ],\n "usage":{"total_tokens":3}}'
    server.answers["completion.create"] = whole(body)
    done = chat(server, "--json", "--no-stream", "x")
    assert (done.returncode, done.stdout) == (0, body.decode() + "\n")


@pytest.mark.parametrize(
    ("reason", "words"), [("length", "--max-tokens"), ("content_filter", "content filter")]
)
def test_an_answer_cut_off_is_told(server, reason, words):
    server.answers["completion.create"] = streamed(event("a"), event(finish_reason=reason), DONE)
    done = chat(server, "x")
    assert (done.returncode, done.stdout) == (0, "a\n")
    assert words in done.stderr


def test_an_answer_without_text_is_told(server):
    server.answers["completion.create"] = streamed(event(finish_reason="tool_calls"), DONE)
    done = chat(server, "x")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("copilot-cred chat --json\n")


# -- how it ends ----------------------------------------------------------------------------------


REFUSED = ErrorInfo(
    ErrorClass.DENIED,
    "sso_required",
    "sign in \x1b[31mto acme",
    "then: mend it",
    "https://a.example",
)
LIMITED = ErrorInfo(ErrorClass.TEMPORARY, "rate_limited", "slow down", "wait", None, 30.0)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("status", "refusal", "shown"),
    [
        (403, REFUSED, "sign in ?[31mto acme\n  see: https://a.example\n  hint: then: mend it\n"),
        (429, LIMITED, "slow down\n  again in: 30 s\n  hint: wait\n"),
        (403, None, "GitHub Copilot answered 403\n  hint: Look at: copilot-cred status\n"),
    ],
    ids=["denied", "limited", "unexplained"],
)
def test_a_refusal_is_shown_in_the_brokers_words(server, stream, status, refusal, shown):
    more = {} if refusal is None else {"refusal": refusal.to_map()}
    if stream:
        server.answers["completion.create"] = Stream([b"no ", b"way"], None, status, {}, more)
    else:
        server.answers["completion.create"] = {**whole(b"no way", status), **more}
    done = chat(server, *([] if stream else ["--no-stream"]), "x")
    code = ErrorClass.DENIED if refusal is None else refusal.error_class
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"copilot-cred: {shown}"
    if refusal is not None:
        done = chat(server, *([] if stream else ["--no-stream"]), "--error-format=json", "x")
        assert json.loads(done.stderr) == refusal.to_map()


BROKEN = b'data: {"error":{"message":"it is overloaded","code":"model_overloaded"}}\n\n'


@pytest.mark.parametrize("how", [[], ["--json"]])
@pytest.mark.parametrize("refusal", [LIMITED, None], ids=["explained", "unexplained"])
def test_an_error_in_the_midst_leaves_what_came(server, how, refusal):
    server.answers["completion.create"] = Stream(
        [event("Hel"), BROKEN], None, 200, EVENTS, refusal=refusal
    )
    done = chat(server, *how, "x")
    assert done.returncode == 7
    assert ("slow down" if refusal else "broke off") in done.stderr
    if how:
        assert [*map(json.loads, done.stdout.splitlines())][1]["error"]
    else:
        assert done.stdout == "Hel\n"


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_an_error_under_200_is_no_answer(server, how):
    answer = whole({"error": {"message": "no"}})
    server.answers["completion.create"] = answer
    done = chat(server, "--no-stream", *how, "x")
    assert (done.returncode, done.stdout) == (7, "")
    assert "broke off" in done.stderr
    server.answers["completion.create"] = {**answer, "refusal": LIMITED.to_map()}
    done = chat(server, "--no-stream", *how, "x")
    assert (done.returncode, done.stdout) == (7, "")
    assert "slow down" in done.stderr


def test_copilot_dying_midway_leaves_what_came(server):
    server.answers["completion.create"] = streamed(event("Hel"), error=CUT)
    done = chat(server, "x")
    assert (done.returncode, done.stdout) == (7, "Hel\n")
    assert done.stderr == "copilot-cred: Copilot broke off\n  hint: ask again: again\n"


def test_the_broker_dying_midway_leaves_what_came(server):
    def answer():
        yield event("Hel")
        server.hang_up()

    server.answers["completion.create"] = Stream(answer(), None, 200, EVENTS)
    done = chat(server, "x")
    assert (done.returncode, done.stdout) == (3, "Hel\n")
    assert done.stderr.endswith("systemctl --user start copilot-broker.socket\n")


@pytest.fixture
def endless(server):
    """A server whose answer begins, and goes on when told to."""
    go_on = threading.Event()

    def answer():
        yield event("Hel")
        go_on.wait(PATIENCE)
        for _ in range(1000):
            yield event("lo")

    server.answers["completion.create"] = lambda _params: Stream(answer(), None, 200, EVENTS)
    server.go_on = go_on
    yield server
    go_on.set()


def test_ctrl_c_stops_at_once_and_leaves_upstream(endless):
    with started(endless, "x") as process:
        assert process.stdout.read(3) == b"Hel"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, b"\n", b"")
    assert endless.left.wait(PATIENCE)


def test_ctrl_c_before_the_answer_begins(server):
    waiting = threading.Event()
    never = threading.Event()

    def answer(_params):
        waiting.set()
        never.wait(PATIENCE)

    server.answers["completion.create"] = answer
    with started(server, "x") as process:
        assert waiting.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    never.set()
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_who_has_had_enough_ends_it_quietly(endless):
    with started(endless, "x") as process:
        assert process.stdout.read(3) == b"Hel"
        process.stdout.close()
        endless.go_on.set()
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == b""
    assert endless.left.wait(PATIENCE)


def test_a_closed_stdout_costs_no_question(server):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "chat", "x"],
        env=server.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert "stdout is closed" in done.stderr
    assert server.requests == []


def test_an_error_of_the_broker_instead_of_an_answer(server):
    error = ErrorInfo(ErrorClass.LOGIN_REQUIRED, "signed_out", "nobody is signed in", "do: it")
    server.answers["completion.create"] = error
    done = chat(server, "x")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "copilot-cred: nobody is signed in\n  hint: do: it\n"


def test_nobody_else_sees_a_question_from_stdin(endless):
    with started(endless, "-", stdin=subprocess.PIPE) as process:
        process.stdin.write(PROMPT.encode())
        process.stdin.close()
        assert process.stdout.read(3) == b"Hel"
        here = Path("/proc", str(process.pid))
        assert PROMPT.encode() not in (here / "cmdline").read_bytes()
        assert (here / "task" / str(process.pid) / "children").read_text() == ""
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    assert asked(endless)["messages"][0]["content"] == PROMPT


def test_a_defect_does_not_tell_the_question(server):
    server.answers["completion.create"] = whole({"choices": "none"})
    done = chat(server, "--no-stream", PROMPT)
    assert PROMPT not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["chat", "complete"])
def test_help_is_worth_reading(verb):
    done = run(verb, "--help", env={})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    words = ["examples:", "git diff", "stdin", "--no-stream"]
    words += ["--history", "Ctrl-C", "/help"] if verb == "chat" else ["130", "[DONE]", "--attach"]
    for each in words:
        assert each in done.stdout


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(
    "said",
    [
        b"<html>welcome to our network</html>",
        b"",
        b": ping\n\n",
        b"data: {bent\n\n",
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
    ],
)
def test_what_is_no_answer_of_copilots_is_no_success(server, said, options):
    for way, answer in ((), streamed(said)), (("--no-stream",), whole(said)):
        server.answers["completion.create"] = answer
        ended = chat(server, "--model", "m", *way, *options, "--error-format", "json", PROMPT)
        assert (ended.returncode, ended.stdout) == (7, "")
        error = json.loads(ended.stderr)
        assert error["code"] == "bad_answer"
        assert error["hint"].endswith(": copilot-cred doctor")
