"""`copilot-cred models`: the table, what is left out of it, and which model is the default."""

from __future__ import annotations

import json

import pytest

from client.cli.running import COMMAND, WITHOUT_RICH, Terminal, run
from copilot_broker.cli.catalogue import default_model, read_models
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


def entry(model, **more):
    return {
        "id": model,
        "name": model.upper(),
        "vendor": "OpenAI",
        "model_picker_enabled": True,
        "capabilities": {"type": "chat"},
        **more,
    }


FULL = entry(
    "gpt-4.1",
    name="GPT-4.1",
    vendor="Azure OpenAI",
    is_chat_default=True,
    billing={"is_premium": False, "multiplier": 0},
    policy={"state": "enabled", "terms": "…"},
    capabilities={
        "type": "chat",
        "limits": {
            "max_context_window_tokens": 128000,
            "max_prompt_tokens": 64000,
            "max_output_tokens": 900,
        },
        "supports": {"vision": True, "tool_calls": True},
    },
)
CLAUDE = entry(
    "claude-x",
    name="Claude \x1b[31mX",
    vendor="Anthropic",
    preview=True,
    policy={"state": "unconfigured", "terms": "Enable \x1b[2J" + "access to it. " * 9 + "\nMore."},
    billing={"multiplier": 0.33},
    capabilities={"type": "chat", "limits": {"max_output_tokens": 8192}},
    supported_endpoints=["/chat/completions", "/v1/messages"],
)
CODEX = entry("codex", supported_endpoints=["/responses", "ws:/responses"])
EMBEDDING = entry("embed", capabilities={"type": "embeddings"})
HIDDEN = entry("old", model_picker_enabled=False)
BROKEN = [
    {},
    {"id": 8},
    {"id": ""},
    {"id": "bare"},
    {"id": "odd", "name": 1, "billing": [], "capabilities": {"limits": None, "supports": 3}},
    {"id": "odder", "policy": "no", "supported_endpoints": [None, 4], "capabilities": {"type": 1}},
    {
        "id": "oddest",
        "billing": {"multiplier": True},
        "capabilities": {"limits": {"max_context_window_tokens": "many"}},
    },
]
ENTRIES = [CLAUDE, FULL, CODEX, {**FULL, "name": "a twin"}, EMBEDDING, HIDDEN, *BROKEN]


def listing(entries, age=5.0, **more):
    return {"account": "default", "models": entries, "age": age, **more}


@pytest.fixture
def server():
    with WireServer({"models.list": listing(ENTRIES)}) as server:
        yield server


def test_table_shows_those_to_choose_from(server):
    done = run("models", env=server.env)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "id                 name           vendor        limits        premium  policy        endpoints               can           notes",
        "claude-x           Claude ?[31mX  Anthropic     -/-/8k        0.33     unconfigured  chat messages           -             preview",
        "gpt-4.1 (default)  GPT-4.1        Azure OpenAI  128k/64k/900  0        enabled       chat                    vision tools  -",
        "codex              CODEX          OpenAI        -             -        -             responses ws:responses  -             -",
        *(
            f"{broken:17}  -              -             -             -        -             chat                    -             -"
            for broken in ("bare", "odd", "odder", "oddest")
        ),
    ]
    assert done.stderr == "2 not shown; to see them too: copilot-cred models --all\n"
    assert server.calls("models.list") == [{}]


def test_all_shows_the_others_too_and_says_what_they_are(server):
    shown = run("models", "--all", "--account", "work", env=server.env)
    assert (shown.returncode, shown.stderr) == (0, "")
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert rows["embed"].split()[-3:] == ["-", "-", "embeddings"]
    assert rows["old"].endswith("not for choosing")
    assert server.calls("models.list") == [{"account": "work"}]


def test_json_is_what_github_says(server):
    done = run("models", "--json", env=server.env)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert json.loads(done.stdout) == ENTRIES


def test_a_terminal_shows_the_same(server):
    with Terminal("models", env={**server.env, "COLUMNS": "200"}) as terminal:
        assert terminal.ends() == 0
        for words in ("gpt-4.1 (default)", "128k/64k", "vision tools", "unconfigured", "0.33"):
            assert words in terminal.shown


def test_a_narrow_terminal_leaves_ids_whole(server):
    for command in (COMMAND, WITHOUT_RICH):
        env = {**server.env, "COLUMNS": "60"}
        with Terminal("models", "--all", env=env, command=command) as terminal:
            assert terminal.ends() == 0
        assert "gpt-4.1 (default)" in terminal.shown
        assert "128k/64k/900" in terminal.shown
        assert "Azure" not in terminal.shown
        assert max(map(len, terminal.shown.splitlines()[:-1])) <= 60


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
@pytest.mark.parametrize(("columns", "length"), [(80, 16), (80, 26), (80, 31), (72, 43)])
def test_a_narrow_terminal_leaves_the_policy_whole(server, command, columns, length):
    wanting = {**ENTRIES[0], "id": "m" * length, "policy": {"state": "unconfigured"}}
    server.answers["models.list"] = listing([wanting])
    env = {**server.env, "COLUMNS": str(columns)}
    with Terminal("models", env=env, command=command) as terminal:
        assert terminal.ends() == 0
    assert "m" * length in terminal.shown
    assert "unconfigured" in terminal.shown
    assert max(map(len, terminal.shown.splitlines())) <= columns


def test_an_old_list_says_how_old_it_is(server):
    server.answers["models.list"] = listing(ENTRIES, 200.0)
    done = run("models", "--all", env=server.env)
    assert done.stderr == "As of 3 min ago; to ask anew: copilot-cred models --fresh\n"
    assert run("models", "--json", env=server.env).stderr == ""
    run("models", "--fresh", env=server.env)
    assert server.calls("models.list")[-1] == {"fresh": True}


def test_a_stale_list_says_why(server):
    error = ErrorInfo(ErrorClass.TEMPORARY, "rate_limited", "slow down", "wait", None, 30.0)
    server.answers["models.list"] = listing(ENTRIES, 200.0, error=error.to_map())
    for how in ([], ["--json"]):
        done = run("models", "--all", *how, env=server.env)
        assert done.returncode == 0
        assert "gpt-4.1" in done.stdout
        assert done.stderr == (
            "This list is 3 min old. GitHub was asked anew, in vain:\n"
            "copilot-cred: slow down\n  again in: 30 s\n  hint: wait\n"
        )


def test_no_models_at_all_names_the_next_step(server):
    server.answers["models.list"] = listing([])
    done = run("models", env=server.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("copilot-cred refresh\n")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry("a"), FULL, CODEX], "gpt-4.1"),
        ([entry("a"), entry("b", is_chat_fallback=True)], "b"),
        ([EMBEDDING, HIDDEN, entry("a"), CODEX], "a"),
        ([EMBEDDING, HIDDEN], "old"),
        ([{**FULL, "policy": {"state": "disabled"}}, entry("a")], "a"),
        ([{**FULL, "supported_endpoints": ["/responses"]}, entry("a")], "gpt-4.1"),
        ([{**FULL, "supported_endpoints": ["ws:/responses"]}, entry("a")], "a"),
        ([{"id": "bare"}], "bare"),
        ([EMBEDDING, CODEX, CLAUDE], CODEX["id"]),
        ([EMBEDDING], None),
        ([], None),
    ],
)
def test_default_is_githubs_own_or_the_next_that_can_answer(entries, expected):
    found = default_model(read_models(entries))
    assert (found.id if found else None) == expected
