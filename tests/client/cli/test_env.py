"""`copilot-cred env`: settings that can be pasted, whatever the broker says or does not say.

That the tools understand them is tried by `system/test_tools.py`.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib

import pytest

from client.cli.running import run
from copilot_broker.cli.catalogue import read_models
from copilot_broker.cli.recipes.parts import HEADINGS, written
from copilot_broker.cli.recipes.place import EXAMPLES, Place, is_plain, models_for
from copilot_broker.cli.recipes.tools import ALSO, RECIPES, find
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


CHAT, MESSAGES, RESPONSES = "/chat/completions", "/v1/messages", "/responses"
ADDRESS = "127.0.0.1:4242"


def entry(model, *endpoints, vendor="OpenAI", **more):
    return {
        "id": model,
        "vendor": vendor,
        "capabilities": {"type": "chat", "limits": {"max_prompt_tokens": 90_000}},
        "supported_endpoints": list(endpoints) or [CHAT],
        **more,
    }


BASE = entry("gpt-base", is_chat_default=True)
CODEX = entry("gpt-codex", RESPONSES)
LATER = entry("gpt-later", RESPONSES)
OPUS, SONNET, HAIKU = (
    entry(f"claude-{name}", CHAT, MESSAGES, vendor="Anthropic")
    for name in ("opus", "sonnet", "haiku")
)
OFF = entry("gpt-off", policy={"state": "unconfigured"})
HIDDEN = entry("gpt-hidden", model_picker_enabled=False)
EMBEDDING = entry("embedding", "/embeddings", capabilities={"type": "embeddings"})
HOSTILE = entry("x'; touch /tmp/x #")
ALL = [LATER, OPUS, SONNET, HAIKU, BASE, CODEX, OFF, HIDDEN, EMBEDDING, HOSTILE]
MODELS = {"models": ALL, "account": "default", "age": 1.0}

SERVED = {"http": {"socket": True, "tcp": ADDRESS, "error": None}}
BUSY = {
    "class": 2,
    "code": "tcp_port_busy",
    "message": f"HTTP is not served on {ADDRESS}: port 4242 is taken by another program",
    "hint": "See by which: ss -ltnp 'sport = :4242'; then run: mend",
}


@pytest.fixture
def server():
    with WireServer({"broker.status": SERVED, "models.list": MODELS}) as server:
        yield server


def chosen(place: Place):
    return [each.id for each in (place.chat, place.claude, place.small, place.responses)]


# -- which models are named ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (ALL, ["gpt-base", "claude-sonnet", "claude-haiku", "gpt-codex"]),
        ([OPUS, BASE, LATER], ["gpt-base", "claude-opus", "claude-opus", "gpt-later"]),
        ([BASE], ["gpt-base"] * 4),
        ([LATER], ["gpt-later"] * 4),
        ([entry("gpt-both", CHAT, RESPONSES)], ["gpt-both"] * 4),
    ],
    ids=lambda value: str(len(value)),
)
def test_each_kind_of_tool_is_given_a_model_that_fits(listed, names):
    place = models_for(read_models(listed), ADDRESS)
    assert place is not None
    assert chosen(place) == names


def test_only_what_chats_and_may_be_used_is_listed():
    place = models_for(read_models(ALL), ADDRESS)
    assert place is not None
    assert {each.id for each in place.models} == {each["id"] for each in ALL[:6]}


@pytest.mark.parametrize("listed", [[], [OFF, HIDDEN, EMBEDDING, HOSTILE]], ids=["none", "unfit"])
def test_without_a_model_there_is_no_choice(listed):
    assert models_for(read_models(listed), ADDRESS) is None


@pytest.mark.parametrize("wanted", ["claude-opus", "gpt-hidden", "of-tomorrow"])
def test_a_model_that_is_wanted_is_named_everywhere(wanted):
    place = models_for(read_models(ALL), ADDRESS, None, wanted)
    assert place is not None
    assert chosen(place) == [wanted] * 4
    assert [each.id for each in place.models].count(wanted) == 1


@pytest.mark.parametrize(
    "name", ["gpt-4.1", "claude-opus-4-8[1m]", "a b", "$(x)", "", "-x", "a\n"]
)
def test_a_name_is_plain_if_no_sort_of_file_takes_it_for_more(name):
    assert is_plain(name) is (name == "gpt-4.1")


# -- what is written -----------------------------------------------------------------------------


def _files(text):
    blocks = re.split(r"\n\n(?=# |## )", text)
    heading = re.escape(HEADINGS["file"]).replace(re.escape("{path}"), r"(\S+)")
    found = (re.match(rf"## {heading}\n(.*)", block, re.DOTALL) for block in blocks)
    return {match[1]: match[2] for match in found if match}


WAYS = pytest.mark.parametrize("under_exec", [False, True], ids=["by hand", "under exec"])
EACH = pytest.mark.parametrize("recipe", RECIPES, ids=lambda each: each.name)


@EACH
@WAYS
def test_every_recipe_has_its_address_models_and_an_example(recipe, under_exec):
    place = models_for(read_models(ALL), ADDRESS, "work")
    assert place is not None
    text = written(recipe, place, under_exec)
    assert f"## {HEADINGS['run']}\n" in text
    assert (ADDRESS in text) is not under_exec
    assert ("copilot-cred exec --account work -- " in text) is under_exec
    models = {each.id for each in place.models}
    assert recipe.name == "curl" or models & set(re.findall(r"[\w.-]+", text))
    if not under_exec:
        takes_a_key = "key create" in text or re.search(r"\bget\b.+--model", text)
        assert takes_a_key
        assert re.search(r"""--account"?,? "?work""", text)
    else:
        assert "key create" not in text
        assert "copilot-cred get" not in text


@EACH
@WAYS
def test_every_file_is_of_its_kind(recipe, under_exec):
    place = models_for(read_models(ALL), ADDRESS)
    assert place is not None
    for path, text in _files(written(recipe, place, under_exec)).items():
        match path.rpartition(".")[2]:
            case "json":
                assert json.loads(text)
            case "toml":
                assert tomllib.loads(text)
            case "py":
                assert ast.parse(text)
            case "crushrc":
                subprocess.run(["bash", "-n"], input=text, text=True, check=True)
            case _:  # YAML, Lua, Lisp: quotes and brackets at least are in pairs
                for pair in ("()", "[]", "{}"):
                    assert text.count(pair[0]) == text.count(pair[1]), path
                assert text.count('"') % 2 == 0


@EACH
@WAYS
def test_every_command_is_one(recipe, under_exec):
    place = models_for(EXAMPLES, ADDRESS)
    assert place is not None
    text = written(recipe, place, under_exec)
    for kind in ("once", "shell", "run"):
        commands = re.search(
            rf"^## {HEADINGS[kind]}\n(.*?)(?=\n\n#|\Z)", text, re.DOTALL | re.MULTILINE
        )
        if commands:
            subprocess.run(["bash", "-n"], input=commands[1], text=True, check=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda each: each.name)
def test_a_key_is_not_lost_when_the_lines_are_run_again(recipe, tmp_path):
    """There is one of that name already, so none is made."""
    place = models_for(EXAMPLES, ADDRESS)
    assert place is not None
    once = re.search(
        rf"^## {HEADINGS['once']}\n(.*?)\n\n", written(recipe, place), re.DOTALL | re.MULTILINE
    )
    if once is None:
        return
    cred = tmp_path / "copilot-cred"
    cred.write_text('#!/bin/sh\nmkdir "$HOME/made" && echo "cpb_of-$3"\n')
    cred.chmod(0o755)
    env = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    for code in (0, 1):
        done = subprocess.run(["sh", "-c", once[1]], env=env, capture_output=True, check=False)
        assert done.returncode == code
        (kept,) = (each for each in tmp_path.rglob("*") if b"cpb_of" in _bytes(each, cred))
        assert kept.read_text().endswith(f"cpb_of-{recipe.name}\n")
        assert kept.stat().st_mode & 0o777 == 0o600


def _bytes(path, but):
    return path.read_bytes() if path.is_file() and path != but else b""


def test_a_star_that_a_shell_would_see_is_quoted():
    """It is a pattern of models, not of files."""
    place = models_for(EXAMPLES, ADDRESS)
    assert place is not None
    for recipe in RECIPES:
        text = written(recipe, place)
        assert "--model *" not in text, recipe.name


def test_limits_are_told_where_a_tool_takes_them():
    place = models_for(read_models(ALL), ADDRESS)
    assert place is not None
    for name in ("aider", "claude-code", "codex"):
        recipe = find(name)
        assert recipe is not None
        assert "90000" in written(recipe, place)


def test_names_are_found_as_people_write_them():
    assert len({each.name for each in RECIPES}) == len(RECIPES)
    for also, name in ALSO.items():
        assert find(also) is find(name) is not None
    assert find("Claude_Code") is find("claude-code")
    assert find("avante.nvim") is find("avante")
    assert find("cat") is None


# -- the verb ------------------------------------------------------------------------------------


def test_the_address_and_the_models_are_the_brokers_own(server):
    done = run("env", "--for", "llm", env=server.env)
    assert (done.returncode, server.calls("models.list")) == (0, [{}])
    assert f"export OPENAI_BASE_URL=http://{ADDRESS}/v1\n" in done.stdout
    assert "llm -m copilot/gpt-base 'Say hello'" in done.stdout
    assert "by TCP" not in done.stderr


def test_an_account_is_asked_and_named(server):
    done = run("env", "--for", "aider", "--account", "work", env=server.env)
    assert server.calls("models.list") == [{"account": "work"}]
    assert "$(copilot-cred key create aider --account work)" in done.stdout


@pytest.mark.parametrize(
    ("http", "address", "told"),
    [
        ({"socket": True, "tcp": None, "error": None}, "127.0.0.1:4141", "[http] tcp"),
        ({"socket": True, "tcp": ADDRESS, "error": BUSY}, ADDRESS, "port 4242 is taken"),
        (None, "127.0.0.1:4141", "systemctl --user restart copilot-broker"),
    ],
    ids=["off", "busy", "an older broker"],
)
def test_without_a_port_it_says_how_to_have_one_and_prints_all_the_same(
    server, http, address, told
):
    server.answers["broker.status"] = {"http": http}
    done = run("env", "--for", "codex", env=server.env)
    assert done.returncode == 0
    assert told in done.stderr
    assert f'base_url = "http://{address}/v1"' in done.stdout


def test_under_exec_no_port_is_missed(server):
    server.answers["broker.status"] = {"http": {"socket": True, "tcp": None, "error": None}}
    done = run("env", "--for", "codex", "--under-exec", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'env_key = "OPENAI_API_KEY"' in done.stdout


@pytest.mark.parametrize(
    "error",
    [
        ErrorInfo(ErrorClass.LOGIN_REQUIRED, "login_required", "nobody", "copilot-cred login"),
        ErrorInfo(ErrorClass.TEMPORARY, "unreachable", "GitHub is gone", "wait: wait"),
    ],
    ids=lambda error: error.code,
)
def test_without_models_it_names_examples_and_says_so(server, error):
    server.answers["models.list"] = error
    done = run("env", "--for", "claude-code", env=server.env)
    assert done.returncode == 0
    assert error.message in done.stderr
    assert "examples" in done.stderr
    assert f"http://{ADDRESS}" in done.stdout
    assert "claude-sonnet-4.5" in done.stdout


def test_without_a_broker_it_prints_what_would_be(tmp_path):
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = run("env", "--for", "opencode", env=env)
    assert done.returncode == 0
    assert "systemctl --user start copilot-broker.socket" in done.stderr
    assert "http://127.0.0.1:4141/v1" in done.stdout


def test_an_account_that_is_none_is_refused(server):
    hint = "see them: copilot-cred account list"
    server.answers["models.list"] = ErrorInfo(ErrorClass.USAGE, "unknown_account", "no such", hint)
    done = run("env", "--for", "aider", "--account", "nobody", env=server.env)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--for", "cat"], "copilot-cred env --help\n"),
        (["--for", "llm", "--model", "a b"], "copilot-cred models\n"),
        (["--for", "llm", "--account", "$(id)"], "copilot-cred account list\n"),
        ([], "copilot-cred env --help\n"),
        (["--list", "--for", "llm"], "copilot-cred env --help\n"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_with_the_command_that_helps(server, arguments, told):
    done = run("env", *arguments, env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(told)
    assert server.requests == []
    assert ("'codecompanion'" in done.stderr) is ("cat" in arguments)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"http_proxy": "http://proxy:1"}, "  export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1\n"),
        ({"ALL_PROXY": "x", "NO_PROXY": "a,b"}, "  export no_proxy=a,b,127.0.0.1 NO_PROXY="),
        ({"ALL_PROXY": "x", "no_proxy": "127.0.0.1"}, None),
        ({"https_proxy": "x"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_proxy_is_kept_away_from_keys(server, variables, told):
    done = run("env", "--for", "llm", env=server.env | variables)
    assert told in done.stderr if told else "no_proxy" not in done.stderr
    assert "no_proxy" not in run("env", "--list", env=server.env | variables).stderr


def test_the_list_needs_no_broker():
    done = run("env", "--list", env={})
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        each.name for each in RECIPES
    ]


def test_it_explains_itself():
    done = run("env", "--help", env={})
    assert done.stdout.startswith("usage: copilot-cred env")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_examples_are_models_that_can_be_chosen():
    place = models_for(EXAMPLES, ADDRESS)
    assert place is not None
    assert place.models == EXAMPLES
