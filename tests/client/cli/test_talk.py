"""`copilot-cred chat` as a conversation on a real pseudo-terminal, with a door that says what it is told."""

from __future__ import annotations

import json
import re
import stat
import sys
import threading
import time

import pytest

from client.cli.running import COMMAND, PATIENCE, Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import HANG_UP, Stream, WireServer


EVENTS = {"content-type": "text/event-stream"}
PNG = b"\x89PNG\r\n\x1a\npng"
ENTER, ALT_ENTER, CTRL_C, CTRL_D, CTRL_Z, UP = "\r", "\x1b\r", "\x03", "\x04", "\x1a", "\x1b[A"

_NO_EDITOR = "import sys; sys.modules['prompt_toolkit'] = None"
_MAIN = "from copilot_broker.cli import main; sys.exit(main())"
WITHOUT_EDITOR = [sys.executable, "-P", "-c", f"{_NO_EDITOR}; {_MAIN}"]
"""The same where the `[cli]` extra is not installed."""
EDITORS = {"edited": COMMAND, "plain": WITHOUT_EDITOR}


def entry(name, endpoint="/chat/completions", **more):
    limits = {"max_prompt_tokens": more.pop("room", 100_000)}
    capabilities = {"type": "chat", "limits": limits, "supports": {"vision": more.pop("sees", 0)}}
    return {"id": name, "capabilities": capabilities, "supported_endpoints": [endpoint], **more}


MODELS = [
    entry("talker", sees=True, is_chat_default=True, billing={"multiplier": 1}),
    entry("codex", "/responses"),
    entry("small", room=60),
    entry("premium", policy={"state": "unconfigured", "terms": "be good"}),
    {"id": "embedder", "capabilities": {"type": "embeddings"}},
]


def said(*texts, usage=None):
    told = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    if usage is not None:
        told[-1]["usage"] = usage
    events = [f"data: {json.dumps(event)}\n\n".encode() for event in told]
    return Stream([*events, b"data: [DONE]\n\n"], None, 200, EVENTS, more={"account": "default"})


class Door(WireServer):
    """Answers are taken from `script`, as long as there are any; then it is `answer N`."""

    def __init__(self):
        super().__init__(
            {
                "models.list": {"account": "default", "models": list(MODELS)},
                "completion.create": self._answer,
            }
        )
        self.script = []

    def _answer(self, params):
        if self.script:
            return self.script.pop(0)
        count = len(self.calls("completion.create"))
        if params["path"] == "/responses":
            told = {"type": "response.output_text.delta", "delta": f"answer {count}"}
            return Stream([f"data: {json.dumps(told)}\n\n".encode()], None, 200, EVENTS)
        return said(f"answer {count}")

    @property
    def asked(self):
        return [json.loads(params["body"]) for params in self.calls("completion.create")]

    @property
    def texts(self):
        """What was sent with each question."""
        return [
            [message["content"] for message in body.get("messages") or body["input"]]
            for body in self.asked
        ]


@pytest.fixture
def door():
    with Door() as door:
        yield door


class Talk(Terminal):
    """A conversation that has begun."""

    def __init__(self, door, *args, command=COMMAND, **env):
        env = {**door.env, "PROMPT_TOOLKIT_NO_CPR": "1", **env}
        super().__init__("chat", *args, env=env, command=command)

    def __enter__(self):
        try:
            self.wait_for(r"Ctrl-D\s+leaves")
            self.wait_for(">")
        except BaseException:
            self.__exit__()
            raise
        return self

    def say(self, line, until=""):
        """Say a line; wait for what comes of it, and for the next prompt."""
        self.shown = ""
        self.press(f"{line}{ENTER}")
        self.wait_for(f"(?s)(?:{until}).*\n>")

    def interrupt(self, until):
        """Press Ctrl-C until that is shown: a signal just before a read begins is not heard."""
        self.shown = ""
        deadline = time.monotonic() + PATIENCE
        while not re.search(until, self.shown):
            assert time.monotonic() < deadline, self.shown
            self.press(CTRL_C)
            soon = time.monotonic() + 3
            while not re.search(until, self.shown) and self._read(soon):
                pass

    def exit(self, line):
        self.press(f"{line}{ENTER}")
        return self.ends()

    def leave(self):
        self.press(CTRL_D)
        return self.ends()


@pytest.fixture(params=EDITORS)
def command(request):
    return EDITORS[request.param]


# -- a conversation -------------------------------------------------------------------------------


def test_a_conversation_grows(door, command):
    with Talk(door, "--system", "be brief", command=command) as talk:
        talk.say("one", "answer 1")
        talk.say("  ")
        talk.say("two", "answer 2")
        talk.say("/new", "new conversation")
        talk.say("three", "answer 3")
        assert talk.leave() == 0
    assert door.texts == [
        ["be brief", "one"],
        ["be brief", "one", "answer 1", "two"],
        ["be brief", "three"],
    ]
    assert [body["model"] for body in door.asked] == ["talker"] * 3
    for params in door.calls("completion.create"):
        assert params["headers"]["x-initiator"] == "user", "each is a person's turn"


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(door, command):
    go_on = threading.Event()

    def endless():
        yield said("half").chunks[0]
        go_on.wait(PATIENCE)
        while True:
            yield said(" more").chunks[0]

    door.script = [Stream(endless(), None, 200, EVENTS)]
    with Talk(door, command=command) as talk:
        talk.press(f"one{ENTER}")
        talk.wait_for("half")
        talk.press(CTRL_C)
        talk.wait_for("(?s)stopped.*\n>")
        assert door.left.wait(PATIENCE), "the broker is told, and cuts it at Copilot"
        go_on.set()
        talk.say("two", "answer 2")
        talk.say("/retry", "answer 3")
        assert talk.leave() == 0
    assert door.texts[1:] == [["one", "half", "two"]] * 2


def test_ctrl_c_before_an_answer_begins(door, command):
    waiting, never = threading.Event(), threading.Event()

    def silent(_params):
        waiting.set()
        never.wait(PATIENCE)
        return HANG_UP

    answer, door.answers["completion.create"] = door.answers["completion.create"], silent
    with Talk(door, command=command) as talk:
        talk.press(f"one{ENTER}")
        assert waiting.wait(PATIENCE)
        talk.press(CTRL_C)
        talk.wait_for("(?s)stopped.*\n>")
        never.set()
        door.answers["completion.create"] = answer
        talk.say("two", "answer 2")
        assert talk.leave() == 0
        assert "^Ccopilot" not in talk.shown
    assert door.texts[-1] == ["two"]


def test_ctrl_c_clears_the_line(door, command):
    with Talk(door, command=command) as talk:
        talk.press("wrong")
        talk.wait_for("wrong")
        talk.interrupt("\n>")
        talk.say("right", "answer 1")
        assert talk.exit("/exit") == 0
    assert door.texts == [["right"]]


def test_a_line_that_the_terminal_cut_is_not_asked(door):
    with Talk(door, command=WITHOUT_EDITOR) as talk:
        for _ in range(10):
            talk.press("x" * 500)
        talk.press(ENTER)
        talk.wait_for("(?s)fewer than 4095 bytes.*\n?> ")
        talk.say("short", "answer 1")
        assert talk.leave() == 0
    assert door.texts == [["short"]]


def test_ctrl_z_stops_the_process_at_the_prompt_too(door):
    shell = ["bash", "--norc", "-i", "-c", '"$@"; echo "code $?"; fg', "-", *COMMAND]
    with Talk(door, command=shell) as talk:
        talk.press("half")
        talk.wait_for("half")
        talk.press(CTRL_Z)
        talk.wait_for("(?s)code 148.*half")  # 128 + SIGTSTP; drawn anew
        talk.say(" a question", "answer 1")
        assert talk.leave() == 0
    assert door.texts == [["half a question"]]


def test_a_question_of_several_lines(door, command):
    with Talk(door, command=command) as talk:
        talk.press(f'"""{ENTER}one{ENTER}')
        talk.say('two"""', "answer 1")
        assert talk.leave() == 0
    assert door.texts == [["one\ntwo"]]


def test_the_editor_takes_lines_by_alt_enter_and_pasted_ones(door):
    with Talk(door) as talk:
        talk.press(f"one{ALT_ENTER}")
        talk.say("two", "answer 1")
        talk.press("\x1b[200~three\nfour\x1b[201~")
        talk.say("", "answer 2")
        assert talk.leave() == 0
    assert [texts[-1] for texts in door.texts] == ["one\ntwo", "three\nfour"]


def test_a_terminal_gets_nothing_that_drives_it(door, command):
    door.script = [said("a\x1b]0;owned\x07\tb\r\x9b31mc", "\x1b[2J", "d\x00")]
    with Talk(door, command=command) as talk:
        talk.say("one", r"a\]0;owned\tb31mc\[2Jd")
        assert "\x1b]" not in talk.shown
        assert "\x9b" not in talk.shown
        talk.say("two", "answer 2")
        assert talk.leave() == 0
    assert door.texts[1][1] == "a\x1b]0;owned\x07\tb\r\x9b31mc\x1b[2Jd\x00"


# -- what goes wrong ------------------------------------------------------------------------------

LIMITED = ErrorInfo(ErrorClass.TEMPORARY, "rate_limited", "slow down", "wait", None, 30.0)
SIGNED_OUT = ErrorInfo(
    ErrorClass.LOGIN_REQUIRED, "out", "nobody is signed in", "copilot-cred login"
)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Stream([b"no"], None, 429, {}, {"refusal": LIMITED.to_map()}),
            "slow down\\s+again in: 30 s\\s+hint: wait",
        ),
        (SIGNED_OUT, "nobody is signed in\\s+hint: copilot-cred login"),
        (HANG_UP, "hung up.*\\s+hint: .*start copilot-broker"),
        (Stream(said("half").chunks[:1], LIMITED, 200, EVENTS), "half\\s+.*\\s*.*slow down"),
    ],
    ids=["refused", "signed out", "broker gone", "broken off"],
)
def test_an_error_ends_no_conversation_and_the_question_can_be_retried(door, answer, words):
    with Talk(door) as talk:
        talk.say("one", "answer 1")
        door.script = [answer]
        talk.say("two", words)
        talk.say("/retry", "answer 3")
        talk.say("three", "answer 4")
        assert talk.leave() == 0
    assert door.texts[2:] == [
        ["one", "answer 1", "two"],
        ["one", "answer 1", "two", "answer 3", "three"],
    ]


def test_what_is_wrong_before_it_begins_ends_it(door):
    door.answers["models.list"] = SIGNED_OUT
    with Terminal("chat", env=door.env) as terminal:
        assert terminal.ends() == 4
        assert "nobody is signed in" in terminal.shown
    with Terminal("chat", "--attach", "/nowhere", env=door.env) as terminal:
        assert terminal.ends() == 2


@pytest.mark.parametrize("env", [{"CI": "1"}, {"COPILOT_CRED_INTERACTIVE": "0"}], ids=str)
def test_nobody_is_talked_to_where_nobody_sits(door, env):
    with Terminal("chat", env={**door.env, **env}) as terminal:
        assert terminal.ends() == 2
        assert "there is no question" in terminal.shown
    assert run("chat", env=door.env).returncode == 2


# -- commands -------------------------------------------------------------------------------------


def test_another_model_goes_on_with_the_conversation(door):
    with Talk(door) as talk:
        talk.say("one", "answer 1")
        talk.say("/model codex", "codex answers")
        talk.say("two", "answer 2")
        talk.say("/model", "Others: talker, codex, small")
        talk.say("/model nothing", "no model nothing")
        talk.say("/model embedder", "does not chat")
        talk.say("/model premium", "hint: .*copilot-cred models enable premium")
        door.answers["models.list"]["models"][3] = entry("premium")  # in another window
        talk.say("/model premium", "premium answers")
        talk.say("three", "answer 3")
        assert talk.leave() == 0
    paths = [params["path"] for params in door.calls("completion.create")]
    assert paths == ["/chat/completions", "/responses", "/chat/completions"]
    assert door.texts[1] == ["one", "answer 1", "two"]
    assert [body["model"] for body in door.asked] == ["talker", "codex", "premium"]


def test_commands_and_models_are_completed(door):
    with Talk(door) as talk:
        talk.press("/mod")
        talk.wait_for("ask that model")
        talk.press("\t cod")
        talk.wait_for("codex")
        talk.press("\t")
        talk.say("", "codex answers")
        assert talk.leave() == 0


def test_the_other_commands(door, tmp_path):
    usage = {"prompt_tokens": 1000, "completion_tokens": 7}
    door.script = [said("why", usage=usage)]
    with Talk(door, "-v") as talk:
        talk.say("/retry", "no question yet")
        talk.say("/save x", "nothing to be saved")
        talk.say("/system", "No system message")
        talk.say("/system be brief", "System message: be brief")
        talk.say("one", "talker: 1,000 tokens in, 7 out, .* account default, premium 1\r\n")
        talk.say("/usage", "1 question, 1,000 tokens in, 7 out, premium requests 1")
        talk.say(f"/save {tmp_path}/talk", "Saved in")
        talk.say(f"/save {tmp_path}/talk", "File exists")
        talk.say("/save", "takes a file's name")
        talk.say("/system -", "No system message")
        talk.say("/help", "/retry +ask the last question anew")
        talk.say("/nonsense", "there is no /nonsense\\s+hint: .*/help")
        talk.say(" /help", "answer 2")
        assert talk.exit("/quit") == 0
    assert door.texts == [["be brief", "one"], ["one", "why", "/help"]]
    assert (
        (tmp_path / "talk").read_text()
    ) == "## System\n\nbe brief\n\n## You\n\none\n\n## talker\n\nwhy\n"
    assert stat.S_IMODE((tmp_path / "talk").stat().st_mode) == 0o600


def test_files_go_with_the_next_question(door, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.txt").write_text("text\n")
    with Talk(door, "--attach", str(tmp_path / "a.png")) as talk:
        talk.say("what?", "answer 1")
        talk.say("/attach /nowhere", "No such file")
        talk.say(f"/attach {tmp_path}/a.png", "goes with")
        talk.say("/attach -", "Nothing goes with")
        talk.say(f"/attach {tmp_path}/b.txt", "goes with")
        talk.say("and?", "answer 2")
        talk.say("/model codex", "codex answers")  # which sees nothing
        talk.say(f"/attach {tmp_path}/a.png", "takes no pictures")
        talk.say("so?", "answer 3")
        assert talk.leave() == 0
    first, second, third = door.texts
    assert [part["type"] for part in first[0]] == ["text", "image_url"]
    assert second[0] == first[0]
    assert second[2] == f"and?\n\n{tmp_path}/b.txt:\n```\ntext\n```"
    assert third[0] == "what?"


def test_what_does_not_fit_stays_behind_and_that_is_told(door):
    with Talk(door, "--model", "small") as talk:
        talk.say("one " * 20, "answer 1")
        talk.say("two " * 20, "the first question and what was answered stay\\s+behind: small")
        talk.wait_for("answer 2")
        talk.say("three", "answer 3")
        assert "stay" not in talk.shown, "it is told once"
        assert talk.leave() == 0
    assert [len(texts) for texts in door.texts] == [1, 1, 3]


# -- what is kept ---------------------------------------------------------------------------------


def test_nothing_is_kept_unless_that_is_asked_for(door, tmp_path):
    with Talk(door, XDG_STATE_HOME=str(tmp_path)) as talk:
        talk.say("one", "answer 1")
        talk.press(UP)
        talk.say("", "answer 2")  # in memory it is
        assert talk.leave() == 0
    assert [texts[-1] for texts in door.texts] == ["one", "one"]
    assert list(tmp_path.iterdir()) == []


def test_questions_are_kept_for_later_where_that_is_asked_for(door, tmp_path):
    for line, answer in (("one", "answer 1"), (f"{UP} more", "answer 2")):
        with Talk(door, "--history", XDG_STATE_HOME=str(tmp_path)) as talk:
            talk.say(line, answer)
            assert talk.leave() == 0
    assert [texts[-1] for texts in door.texts] == ["one", "one more"]
    file = tmp_path / "copilot-broker/chat-history"
    assert file.read_text() == '"one"\n"one more"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_where_nothing_can_be_kept_that_is_told(door, tmp_path):
    (tmp_path / "copilot-broker").mkdir()
    (tmp_path / "copilot-broker/chat-history").symlink_to(tmp_path / "elsewhere")
    options = {"XDG_STATE_HOME": str(tmp_path)}
    for command in EDITORS.values():
        with Talk(door, "--history", command=command, **options) as talk:
            assert "nothing is kept" in talk.shown
            talk.say("one", "answer")
            assert talk.leave() == 0
    assert not (tmp_path / "elsewhere").exists()
