"""What a conversation is made of: what fits into a model, what a line says, what is kept and saved."""

from __future__ import annotations

import os
import stat

import pytest

from copilot_broker.calls.answers import Usage
from copilot_broker.cli.asking.answering import Spent
from copilot_broker.cli.asking.request import Image, Turn
from copilot_broker.cli.catalogue import Model
from copilot_broker.cli.talk.commands import COMMANDS, help_lines, parse
from copilot_broker.cli.talk.conversation import Conversation, Exchange, estimate, room_of
from copilot_broker.cli.talk.kept import MOST, KeptQuestions
from copilot_broker.cli.talk.lines import is_open, unquoted
from copilot_broker.cli.talk.saved import save, transcript
from copilot_broker.cli.talk.spending import Spending


def question(text, *images):
    return Turn("user", text, images)


def exchange(text, answer="answer"):
    return Exchange(question(text), answer, "m")


# -- what fits into a model -----------------------------------------------------------------------


def talked(*texts):
    conversation = Conversation()
    conversation.exchanges = [exchange(text) for text in texts]
    return conversation


def test_all_that_was_said_goes_along():
    fitting = talked("one", "two").fit(question("three"), None, None)
    said = [(turn.role, turn.text) for turn in fitting.turns]
    answer = ("assistant", "answer")
    assert said == [("user", "one"), answer, ("user", "two"), answer, ("user", "three")]
    assert fitting.left_out == 0


def test_the_oldest_stay_behind_with_their_answers():
    conversation = talked("old " * 100, "mid " * 100, "new")
    every = conversation.fit(question("now"), None, None).estimate
    for room, left_out in ((every, 0), (every - 1, 1), (250, 1), (100, 2), (1, 3)):
        fitting = conversation.fit(question("now"), room, None)
        assert fitting.left_out == left_out, room
        assert fitting.turns[0].role == "user"
        assert fitting.turns[-1].text == "now"
        assert len(fitting.turns) == 2 * (3 - left_out) + 1
    assert len(conversation.exchanges) == 3, "the transcript keeps them"


def test_the_system_message_takes_room_too():
    conversation = talked("old")
    room = conversation.fit(question("now"), None, None).estimate
    assert conversation.fit(question("now"), room, None).left_out == 0
    assert conversation.fit(question("now"), room, "be brief").left_out == 1


def test_pictures_take_room():
    assert estimate([question("", Image("a", "image/png", b"x"))]) > 1000


def test_what_copilot_counted_mends_the_estimate():
    conversation = talked("old " * 100)
    fitting = conversation.fit(question("now"), None, None)
    conversation.learn(fitting, fitting.estimate * 2)
    assert conversation.fit(question("now"), fitting.estimate * 2, None).left_out == 0
    assert conversation.fit(question("now"), fitting.estimate * 2 - 1, None).left_out == 1
    conversation.learn(fitting, None)
    conversation.learn(fitting, fitting.estimate * 1000)  # something else was counted, too
    assert conversation.fit(question("now"), fitting.estimate * 2, None).left_out == 0


@pytest.mark.parametrize(
    ("model", "max_tokens", "room"),
    [
        (Model("m", prompt=100, context=200), None, 100),
        (Model("m", context=200, output=50), None, 150),
        (Model("m", context=200, output=50), 20, 180),
        (Model("m", context=200, output=500), None, 1),
        (Model("m"), 20, None),
    ],
)
def test_room_is_what_the_list_says(model, max_tokens, room):
    assert room_of(model, max_tokens) == room


# -- what it has cost -----------------------------------------------------------------------------


def test_costs_add_up():
    spending = Spending()
    premium = Model("m", multiplier=0.33)
    spending.add(Spent("m", "default", 1.0, Usage(1000, 5, 10)), premium)
    spending.add(Spent("m", "default", 1.0, Usage(1000, 5, None)), premium)
    assert spending.words() == (
        "2 questions, 2,000 tokens in (10 cached), 10 out, premium requests 0.66 (estimated)"
    )
    spending.add(None, Model("m"))
    assert spending.words().endswith("; 1 of them not counted")
    alone = Spending()
    alone.add(Spent("m", "default", 1.0, Usage(1, 2)), Model("m"))
    assert alone.words() == "1 question, 1 tokens in, 2 out, premium requests 0 (estimated)"


# -- what a line says -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/help", ("help", "")),
        ("/model  gpt-4.1 ", ("model", "gpt-4.1")),
        ("/system one\ntwo", ("system", "one\ntwo")),
        ("/nonsense", ("nonsense", "")),
        ("/etc/passwd says what?", None),
        ("/", None),
        (" /help", None),
        ("what does /help do?", None),
        ("// why?", None),
    ],
)
def test_commands_are_told_from_questions(line, command):
    assert parse(line) == command


def test_help_names_every_command():
    told = "\n".join(help_lines())
    assert all(f"/{name}" in told for name in COMMANDS)
    assert max(map(len, help_lines())) <= 80


@pytest.mark.parametrize(
    ("text", "opened", "question"),
    [
        ("plain", False, "plain"),
        ('"""', True, None),
        ('"""one\ntwo', True, None),
        ('"""one\ntwo"""', False, "one\ntwo"),
        (' """\none\n""" ', False, "one"),
        ('"""one"""', False, "one"),
        ('"""""', True, None),
        ('""""""', False, ""),
        ('what is """?', False, 'what is """?'),
    ],
)
def test_three_quotes_hold_lines_together(text, opened, question):
    assert is_open(text) is opened
    assert unquoted(text) == (text if opened else question)


# -- what is saved --------------------------------------------------------------------------------


def test_a_transcript_is_markdown_that_only_its_owner_reads(tmp_path):
    picture = Image("a\x1b.png", "image/png", b"x")
    told = [Exchange(question("why?", picture), "because\n", "m"), exchange("so?")]
    path = save(str(tmp_path / "talk.md"), told, "be brief")
    assert path.read_text() == (
        "## System\n\nbe brief\n\n## You\n\nwhy?\n\n[a?.png]\n\n## m\n\nbecause\n\n"
        "## You\n\nso?\n\n## m\n\nanswer\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        save(str(path), told, None)
    assert transcript(told[1:], None) == "## You\n\nso?\n\n## m\n\nanswer\n"


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save("~/x", [exchange("a")], None) == tmp_path / "x"


# -- what is kept ---------------------------------------------------------------------------------


def test_questions_are_kept_privately_and_in_order(tmp_path):
    kept = KeptQuestions(tmp_path / "state" / "chat-history")
    kept.prepare()
    for text in ("one", "two\nlines", "dr\u00fc\udcff"):
        kept.add(text)
    again = KeptQuestions(kept.path)
    again.prepare()
    assert again.read() == ["one", "two\nlines", "dr\u00fc\udcff"]
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_made_private(tmp_path):
    path = tmp_path / "chat-history"
    path.write_text('"one"\nnonsense\n[1]\n"two"\n')
    path.chmod(0o644)
    kept = KeptQuestions(path)
    kept.prepare()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept.read() == ["one", "two"]


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "real").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError, match=r"."):
            KeptQuestions(tmp_path / name).prepare()


def test_it_does_not_grow_for_ever(tmp_path):
    kept = KeptQuestions(tmp_path / "chat-history")
    kept.path.write_text("".join(f'"{number}"\n' for number in range(MOST + 1)))
    kept.prepare()
    assert kept.read() == [str(number) for number in range(MOST + 1)][-MOST // 2 :]
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["chat-history"]


def test_a_full_disk_ends_no_conversation(tmp_path):
    kept = KeptQuestions(tmp_path / "gone" / "chat-history")
    kept.add("one")
    assert kept.read() == []
