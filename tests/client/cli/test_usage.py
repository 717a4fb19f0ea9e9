"""`copilot-cred usage`: a table and bars, JSON, CSV, and the days that are meant."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest

from client.cli.running import COMMAND, WITHOUT_RICH, Terminal, run
from copilot_broker.cli.usage_view import short
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


DAY = 86_400


def a_row(client="editor", kind="key", **more):
    return {
        "kind": kind,
        "client": client,
        "label": "",
        "requests": 12,
        "user_turns": 4,
        "agent_turns": 8,
        "errors": 1,
        "untold": 2,
        "prompt_tokens": 123_456,
        "completion_tokens": 7_890,
        "cached_tokens": 100_000,
        "estimated_premium": 1.33,
        "unpriced_turns": 0,
        **more,
    }


ROWS = [
    a_row(),
    a_row(
        "app-\x1b[31mcode.scope",
        "unit",
        label="snap.code",
        prompt_tokens=1_000,
        completion_tokens=0,
        cached_tokens=0,
        unpriced_turns=1,
    ),
    a_row("others", "others", requests=1, errors=0, prompt_tokens=0, completion_tokens=0),
]
ANSWER = {
    "since": "2026-01-01",
    "until": "2026-01-07",
    "by": ["client"],
    "rows": ROWS,
    "more": False,
}


@pytest.fixture
def server():
    with WireServer({"usage.report": ANSWER}) as server:
        yield server


def asked(server) -> dict:
    return next(params for method, params in server.requests if method == "usage.report")


def test_a_table_and_bars_say_what_is_estimated(server):
    done = run("usage", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    said = (
        "Usage from 2026-01-01 to 2026-01-07 (UTC): 25 requests (2 failed), 124k prompt and 7.9k "
    )
    said += "completion tokens, an estimated 3.99+ premium requests"
    assert " ".join(done.stdout.partition("\n\n")[0].split()) == said
    head = next(line for line in lines if line.startswith("client"))
    assert head.split("  ")[-1] == "premium (estimated)"
    cells = ["key", "editor", "12", "4+8", "1", "2", "123k", "100k", "7.9k", "1.33"]
    assert cells in [line.split() for line in lines]
    assert "code.scope (snap.code)" in done.stdout
    assert "1.33+" in done.stdout, "some multipliers were not known"
    assert "\x1b" not in done.stdout
    bars = lines[lines.index("tokens") + 1 :]
    assert [line.count("#") for line in bars] == [20, 0, 0]
    assert bars[0].endswith("99 %")
    assert asked(server) == {"by": ["client"]}


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_a_terminal_with_rich_and_without_it_shows_the_same(server, command):
    with Terminal("usage", env={**server.env, "COLUMNS": "140"}, command=command) as terminal:
        assert terminal.ends() == 0
    for words in ("key editor", "premium (estimated)", "1.33", "99 %"):
        assert words in terminal.shown


def test_json_is_what_the_broker_told(server):
    done = run(
        "usage", "--json", "--by", "day", "--by", "model", "--account", "work", env=server.env
    )
    assert json.loads(done.stdout) == ANSWER
    assert asked(server) == {"by": ["day", "model"], "account": "work"}


def test_csv_has_every_number_and_no_formula(server):
    server.answers["usage.report"] = {**ANSWER, "rows": [a_row("=HYPERLINK(1)"), a_row('a,"b"')]}
    done = run("usage", "--csv", env=server.env)
    first, second = csv.DictReader(io.StringIO(done.stdout))
    assert first["client"] == "'=HYPERLINK(1)"
    assert second["client"] == 'a,"b"'
    assert (second["prompt_tokens"], second["estimated_premium"]) == ("123456", "1.33")


@pytest.mark.parametrize(
    ("options", "since", "until"),
    [
        (["--since", "1d"], 0, None),
        (["--since", "7d"], -6, None),
        (["--since", "2w", "--until", "1d"], -13, -1),
        (["--since", "2026-01-01"], 1_767_225_600, None),
        (["--since", "2026-01-01", "--until", "2026-01-31"], 1_767_225_600, 1_769_817_600),
    ],
)
def test_days_are_said_as_people_say_them(server, options, since, until):
    before = time.time()
    run("usage", *options, env=server.env)
    params = asked(server)
    for name, expected in (("since", since), ("until", until)):
        if expected is None:
            assert name not in params
        elif expected > 0:
            assert params[name] == expected
        else:
            assert before <= params[name] - expected * DAY <= time.time()


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("words", ["", "soon", "7", "-1d", "2026-13-01"])
def test_other_words_are_refused(server, option, words):
    done = run("usage", f"{option}={words}", env=server.env)
    assert done.returncode == 2
    assert "takes a day (2026-01-31), or how long ago" in done.stderr.replace("\n", " ")
    assert server.requests == []


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "2026-02-01", "--until", "2026-01-31"],
        ["--since", "2d", "--until", "2d"],
        ["--since", "9999-12-31"],
    ],
    ids=" ".join,
)
def test_a_last_day_before_the_first_is_a_usage_error(server, options):
    done = run("usage", *options, env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--since is after" in done.stderr
    assert done.stderr.endswith("copilot-cred usage --help\n")
    assert server.requests == []


def test_one_day_may_be_the_first_and_the_last(server):
    done = run("usage", "--since", "2026-01-31T12:00", "--until", "2026-01-31", env=server.env)
    assert done.returncode == 0
    assert asked(server)["since"] > asked(server)["until"]


def test_nothing_and_too_much_are_told(server):
    server.answers["usage.report"] = {**ANSWER, "rows": [], "more": True}
    done = run("usage", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing was counted from 2026-01-01 to 2026-01-07." in done.stderr
    assert "There is more than is told here" in done.stderr


def test_a_ledger_that_cannot_be_read_says_what_mends_it(server):
    server.answers["usage.report"] = ErrorInfo(
        ErrorClass.STORE_UNAVAILABLE, "usage_broken", "it is broken", "Move it away: mv a b"
    )
    done = run("usage", env=server.env)
    assert done.returncode == 9
    assert "it is broken" in done.stderr
    assert "mv a b" in done.stderr
    server.answers["broker.status"] = {
        "version": "1", "accounts": [],
        "usage": {
            "keep": 400,
            "error": {"class": 9, "code": "usage_broken", "message": "it is broken", "hint": "mv a b"},
        },
    }  # fmt: skip
    done = run("status", env=server.env)
    assert "usage is not kept: it is broken" in done.stdout
    assert "hint: mv a b" in done.stdout


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"),
        (812, "812"),
        (999, "999"),
        (1000, "1.0k"),
        (12_345, "12.3k"),
        (99_949, "99.9k"),
        (99_950, "100k"),
        (999_499, "999k"),
        (999_950, "1.0M"),
        (4_560_000, "4.6M"),
        (999_950_000, "1.0G"),
        (10**12, "1000G"),
    ],
)
def test_a_number_of_tokens_is_short(number, said):
    assert short(number) == said
