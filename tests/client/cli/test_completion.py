"""`copilot-cred completion SHELL`, tried in the shells themselves."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest

from client.cli.running import PATIENCE, run
from copilot_broker.cli import get as get_file
from copilot_broker.cli.completion import SCRIPTS, places
from copilot_broker.cli.parser import build


# What is typed, the word under the cursor last; what is offered; what is not.
TYPED = [
    ([""], {"get", "status", "git-credential"}, {"list", "raw"}),
    (["gi"], {"git-credential"}, {"get"}),
    (["get", "--f"], {"--format"}, {"--account"}),
    (["get", "--format", ""], set(get_file.FORMATS), {"--format", "get"}),
    (["get", "--format", "curl"], {"curl-config"}, {"raw"}),
    (["account", ""], {"list", "use"}, {"get"}),
    (["key", "create", "--r"], {"--rpm"}, {"--format"}),
    (["key", "--error-format", ""], {"human", "json"}, {"create"}),
    (["completion", ""], {"bash", "zsh", "fish"}, {"get"}),
    (["exec", "--", "get", ""], set(), {"--model", "--format"}),
    (["status", "--j"], {"--json"}, {"--from-env"}),
]
ASK = {
    "bash": """
source "$1"; shift
COMP_WORDS=(copilot-cred "$@"); COMP_CWORD=$#
_copilot_cred
printf '%s\\n' "${COMPREPLY[@]}"
""",
    # what would be shown depends on a terminal: so what is handed to zsh's own function
    "zsh": """
compdef() { : }
_describe() { print -rl -- ${${(P)3}%%:*} }
_files() { : }
source $1; shift
words=(copilot-cred "$@"); CURRENT=$#words
_copilot_cred
""",
    "fish": """
source $argv[1]
complete -C (string join ' ' -- copilot-cred $argv[2..-1]) | string replace -r '\\t.*' ''
""",
}
BEGUN = {"bash": ("--norc", "-c"), "zsh": ("-f", "-c"), "fish": ("--no-config", "-c")}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SCRIPTS:
        done = run("completion", shell, env={"PATH": os.environ["PATH"]})
        assert (done.returncode, done.stderr) == (0, "")
        (folder / shell).write_text(done.stdout)
    return folder


@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"), TYPED, ids=[shlex.join(row[0]) for row in TYPED]
)
def test_the_shell_offers_what_fits(scripts, shell, typed, offered, not_offered):
    if shutil.which(shell) is None:
        reason = f"{shell} is missing; install it: apt-get install {shell}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    name = [] if shell == "fish" else ["_"]
    done = subprocess.run(
        [shell, *BEGUN[shell], ASK[shell], *name, scripts / shell, *typed],
        env={"PATH": os.environ["PATH"], "HOME": str(scripts), "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    # zsh's own function picks by what is typed; the others have picked already
    found = {word for word in done.stdout.split() if word.startswith(typed[-1])}
    assert shell == "zsh" or found == set(done.stdout.split())
    assert offered <= found
    assert not_offered.isdisjoint(found)


def test_each_verb_and_option_has_its_place():
    found = {place.name: place for place in places(build())}
    assert found[""].verbs.keys() == {name for name in found if name and "/" not in name}
    assert all(told for told in found[""].verbs.values())
    assert {*get_file.VALUED, *get_file.FLAGS} <= found["get"].options.keys()
    assert found["get"].values["--format"] == get_file.FORMATS
    assert found["get"].values["--account"] == ()
    assert "--json" not in found["status"].values


def test_an_unknown_shell_is_a_usage_error():
    assert run("completion", "csh", env={"PATH": os.environ["PATH"]}).returncode == 2
