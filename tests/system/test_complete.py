"""`copilot-cred complete` and a conversation as a user has them: installed, under a real user manager."""

from __future__ import annotations

import base64
import json
import shlex
import signal
import time
from typing import TYPE_CHECKING

import pytest

from brokerd.simulator.refusals import named
from client.cli.running import Terminal
from system.session import eventually


if TYPE_CHECKING:
    import subprocess

    from brokerd.simulator.records import RecordedRequest
    from system.github import GitHub
    from system.session import Session

PATHS = {
    "sim-chat": "/chat/completions",
    "sim-responses": "/responses",
    "sim-claude": "/v1/messages",
}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PROMPT = "canary-of-the-question 1147"


def asked(github: GitHub) -> list[RecordedRequest]:
    """Return the completions that reached Copilot."""
    paths = PATHS.values()
    return [request for request in list(github.world.requests) if request.path in paths]


def bodies(github: GitHub) -> list[dict[str, object]]:
    return [json.loads(request.kept.request_body) for request in asked(github) if request.kept]


def complete(session: Session, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return session.cred("complete", *words, stdin=stdin)


def command(session: Session) -> str:
    return f"{session.home}/.local/bin/copilot-cred"


def on_a_terminal(session: Session, *words: str) -> Terminal:
    """Run it on a terminal of its own, in the session: Ctrl-C is for nothing else (script(1))."""
    line = shlex.join(["env", "PROMPT_TOOLKIT_NO_CPR=1", command(session), *words])
    argv = session.argv("script", "--quiet", "--return", "--flush", "--command", line, "/dev/null")
    return Terminal(env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}, command=argv)


@pytest.fixture
def talking(signed_in: Session, github: GitHub) -> Session:
    """The simulator keeps what it is asked."""
    github.world.settings.change({"keep_bodies": True})
    return signed_in


def test_text_alone_is_on_stdout_and_the_cost_on_stderr(talking: Session, github: GitHub) -> None:
    done = complete(talking, "-v", "--system", "be brief", "What is", "this?", stdin="a diff\n")
    assert (done.returncode, done.stdout) == (
        0,
        "This is sim-chat, simulated. You said: What is this? a diff\n",
    )
    assert done.stderr.startswith("copilot-cred: sim-chat: ")
    assert " out, " in done.stderr
    assert done.stderr.endswith(" s, account default, premium 0\n")
    (body,) = bodies(github)
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "What is this?\n\na diff\n"},
    ]
    assert asked(github)[0].headers["x-initiator"] == "user"


@pytest.mark.parametrize(("model", "path"), PATHS.items())
def test_each_model_is_asked_on_an_endpoint_of_its_own(
    talking: Session, github: GitHub, model: str, path: str
) -> None:
    if model == "sim-claude":  # have the list say that it speaks nothing else
        entry = {"id": model, "supported_endpoints": [path], "capabilities": {"type": "chat"}}
        github.world.queue_faults("/models", [listed(entry)])
        talking.cred("models", "--fresh")
    for how in ([], ["--no-stream"]):
        done = complete(talking, "--model", model, *how, PROMPT)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout == f"This is {model}, simulated. You said: {PROMPT}\n"
    assert [request.path for request in asked(github)] == [path, path]


def listed(*entries: dict[str, object]) -> object:
    from brokerd.simulator.faults import Fault

    return Fault(replace_body={"object": "list", "data": list(entries)})


def test_json_mode_and_a_schema(talking: Session, github: GitHub) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    talking.write("schema.json", json.dumps(schema))
    assert complete(talking, "--json-mode", "three primes as JSON").returncode == 0
    assert complete(talking, "--schema", f"{talking.home}/schema.json", "primes").returncode == 0
    whole = complete(talking, "--json", "--no-stream", "primes")
    assert json.loads(whole.stdout)["model"] == "sim-chat"
    plain, strict, _ = (body.get("response_format") for body in bodies(github))
    assert plain == {"type": "json_object"}
    assert isinstance(strict, dict)
    assert strict["json_schema"]["schema"] == schema


def test_a_picture_goes_to_a_model_that_sees(talking: Session, github: GitHub) -> None:
    picture = f"{talking.home}/dot.png"
    talking.script(
        "import base64, sys; open(sys.argv[1], 'wb').write(base64.b64decode(sys.argv[2]))",
        picture,
        base64.b64encode(PNG).decode(),
    )
    done = complete(talking, "--attach", picture, "What is this?")
    assert (done.returncode, done.stderr) == (0, "")
    (request,) = asked(github)
    assert request.headers["copilot-vision-request"] == "true"
    assert base64.b64encode(PNG).decode() in json.dumps(bodies(github))
    blind = complete(talking, "--model", "sim-small", "--attach", picture, "What is this?")
    assert (blind.returncode, blind.stdout) == (2, "")
    assert "takes no pictures" in blind.stderr
    assert len(asked(github)) == 1


@pytest.mark.parametrize(
    ("refusal", "code", "words"),
    [
        ("422", 5, "copilot-cred"),
        ("429_rate_limited", 7, "again in: "),
        ("402_quota_exceeded", 5, "again in: "),
        ("reset_in_body", 7, "copilot-cred"),
    ],
)
def test_refusals_have_exit_codes_and_are_explained(
    talking: Session, github: GitHub, refusal: str, code: int, words: str
) -> None:
    github.world.queue_faults("/chat/completions", [named(refusal, time.time())])
    done = complete(talking, PROMPT)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "  hint: " in done.stderr
    assert len(asked(github)) == 1, "nothing is sent twice"


def test_what_else_goes_wrong_has_its_exit_code(session: Session, github: GitHub) -> None:
    assert complete(session, "x").returncode == 3
    session.systemctl("start", "copilot-broker.socket")
    assert complete(session, "x").returncode == 4
    session.cred("login")
    assert complete(session).returncode == 2
    assert complete(session, "--model", "no-such-model", "x").returncode == 2
    session.cred("lock")
    assert complete(session, "x").returncode == 6
    session.cred("unlock")
    assert complete(session, "x").returncode == 0


def test_a_reader_who_has_had_enough_ends_it_at_copilot(talking: Session, github: GitHub) -> None:
    github.world.settings.change({"chat_chunks": 10_000, "chat_interval": 0.01})
    line = 'set -o pipefail; "$1" complete "$2" | head -c 4; echo " ${PIPESTATUS[0]}"'
    done = talking.run("bash", "-c", line, "_", command(talking), PROMPT)
    assert (done.stdout, done.stderr) == ("This 141\n", "")
    (request,) = asked(github)
    eventually(lambda: request.cancelled)


def test_ctrl_c_ends_it_at_copilot(talking: Session, github: GitHub) -> None:
    github.world.settings.change({"chat_chunks": 10_000, "chat_interval": 0.01})
    with on_a_terminal(talking, "complete", PROMPT) as terminal:
        terminal.wait_for("This is")
        terminal.press("\x03")
        assert terminal.ends() == 128 + signal.SIGINT
        assert "Traceback" not in terminal.shown
    (request,) = asked(github)
    eventually(lambda: request.cancelled)


def test_a_conversation_survives_ctrl_c_and_a_restart_of_the_broker(
    talking: Session, github: GitHub
) -> None:
    with on_a_terminal(talking, "chat", "-v") as terminal:

        def say(line: str, until: str) -> None:
            terminal.shown = ""
            terminal.press(f"{line}\r")
            terminal.wait_for(until)

        terminal.wait_for(r"(?s)leaves.*\n>")
        say("one", r"(?s)You said: one.* out, .*\n>")
        github.world.settings.change({"chat_chunks": 10_000, "chat_interval": 0.01})
        say("two", "You said: two")
        terminal.press("\x03")
        terminal.wait_for(r"(?s)stopped.*\n>")
        eventually(lambda: asked(github)[1].cancelled)
        github.world.settings.change({"chat_chunks": None, "chat_interval": 0})
        talking.systemctl("restart", "copilot-broker.service")
        talking.cred("lock")
        say("three", r"(?s)hint: .*copilot-cred unlock.*\n>")
        talking.cred("unlock")
        say("/model sim-responses", r"(?s)answers from now on.*\n>")
        say("/retry", r"(?s)You said: three.*\n>")
        terminal.press("\x04")
        assert terminal.ends() == 0
    last = bodies(github)[-1]
    roles = [turn["role"] for turn in last["input"]]  # type: ignore[attr-defined]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert {request.headers["x-initiator"] for request in asked(github)} == {"user"}
    found = talking.good("find", ".local/state/copilot-broker", "-name", "chat*")
    assert found == "", "nothing of a conversation is kept"


def test_no_question_and_no_answer_in_the_journal(talking: Session) -> None:
    assert complete(talking, stdin=PROMPT).returncode == 0
    told = json.dumps(talking.journal())
    assert told.count("canary-of-the-question") == told.count("You said") == 0
