"""docs/shell.md, example by example, as its reader would run it: installed commands, real shells."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from system.github import EXCHANGE
from system.http_door import WAYS, address_of, ask, free_port, with_tcp
from system.scripted import JSON_ERRORS, error_of
from system.session import ROOT, SERVICE


if TYPE_CHECKING:
    import subprocess

    from system.github import GitHub
    from system.session import Session


PAGE = (ROOT / "docs/shell.md").read_text(encoding="utf-8")
API = "https://api.githubcopilot.com"
DOOR = "127.0.0.1:4141"
STRICT = {
    "dash": ("dash", "-eu", "-c"),
    "bash": ("bash", "-eu", "-o", "pipefail", "-c"),
    "zsh": ("zsh", "-f", "-eu", "-o", "pipefail", "-c"),
    "fish": ("fish", "--no-config", "-c"),
}
SHELLS = {"sh": ("dash", "bash", "zsh"), "fish": ("fish",)}
MODEL = "sim-chat"

# In an empty folder that is the home, so that no example leaves anything where another finds it.
IN_A_NEW_HOME = """
bin=$HOME/.local/bin
HOME=$(mktemp -d) || exit
trap 'rm -r "$HOME"' EXIT
cd && export HOME PATH="$bin:$PATH" && "$@"
"""


class Example(NamedTuple):
    language: str
    text: str
    told: list[str]
    """What its output has, in the comments with an arrow: patterns."""

    def __str__(self) -> str:
        return f"{self.language}: {self.text.splitlines()[0]}"


def examples() -> list[Example]:
    """Return every fenced block of the page."""
    found = []
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        told = [line[4:] for line in text.splitlines() if line.startswith("# → ")]
        found.append(Example(language, text, told))
    return found


@pytest.fixture(scope="module")
def _shells() -> None:
    wanted = {shell for shells in SHELLS.values() for shell in shells} | {"jq", "git", "curl"}
    missing = sorted(name for name in wanted if shutil.which(name) is None)
    if missing:
        reason = f"missing: {', '.join(missing)}; install them: packaging/test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def door(signed_in: Session) -> str:
    """Return where the HTTP door listens by TCP."""
    port = free_port()
    with_tcp(signed_in, port)
    return f"127.0.0.1:{port}"


def here(text: str, github: GitHub, door: str) -> str:
    """Put the simulator's addresses and model where the page has the real ones."""
    host = github.url.removeprefix("http://")
    text = text.replace(API, github.url).replace(DOOR, door).replace("gpt-5-mini", MODEL)
    return text.replace(
        r"protocol=https\nhost=api.githubcopilot.com", rf"protocol=http\nhost={host}"
    )


def run(session: Session, shell: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a shell, in a home of its own."""
    return session.run("sh", "-c", IN_A_NEW_HOME, "_", *STRICT[shell], text)


@pytest.mark.usefixtures("_shells")
@pytest.mark.parametrize("shell", STRICT)
def test_each_example_does_what_the_page_says(
    signed_in: Session, github: GitHub, door: str, shell: str
) -> None:
    mine = [each for each in examples() if shell in SHELLS.get(each.language, ())]
    assert len(mine) >= (2 if shell == "fish" else 12)
    for example in mine:
        done = run(signed_in, shell, here(example.text, github, door))
        assert (done.returncode, done.stderr) == (0, ""), (example, done)
        for pattern in example.told:
            assert re.search(here(pattern, github, door), done.stdout), (example, done.stdout)
        assert example.told or done.stdout == "", (example, done.stdout)


def test_every_block_is_run_or_read() -> None:
    assert {each.language for each in examples()} <= {*SHELLS, "yaml", "json"}


def test_no_document_puts_a_secret_into_an_argument() -> None:
    """curl(1), -H: an argument is world-readable in /proc, a file or stdin is not."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("client/**/*.md")]
    sources = [*ROOT.glob("client/copilot_broker/cli/**/*.py"), ROOT / "SECURITY.md"]
    bad = re.compile(
        r"""(?:-H|--header|-u|--user|--oauth2-bearer)[= ]*["'][^"'\n]*\$(?:\(|\{?\w*(?:TOKEN|KEY))"""
    )
    assert bad.search('curl -H "$(copilot-cred get --format header)" x')
    assert bad.search('curl --header "Authorization: Bearer $TOKEN" x')
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (*pages, *sources)
        if "node_modules" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
        if bad.search(line) and "Never hand" not in line
    ]
    assert found == []


# -- what the page says in words ---------------------------------------------------------------


def test_header_alone_lacks_what_copilot_wants_to_see(signed_in: Session, github: GitHub) -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})
    ask = f"curl -sS --fail-with-body --json '{body}' %s {github.url}/chat/completions"
    bare = f"copilot-cred get --format header | {ask % '-H @-'}"
    done = run(signed_in, "bash", bare)
    assert done.returncode == 22
    assert "missing Editor-Version" in done.stdout
    whole = f"copilot-cred get --format curl-config | {ask % '-K -'}"
    assert run(signed_in, "bash", whole).returncode == 0


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
@pytest.mark.usefixtures("_shells")
def test_the_code_of_get_ends_the_script(session: Session, shell: str) -> None:
    session.systemctl("start", "copilot-broker.socket")
    done = run(session, shell, "TOKEN=$(copilot-cred get) || exit; echo never")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.endswith("copilot-cred login\n")
    session.systemctl("stop", "copilot-broker.socket", "copilot-broker.service")
    done = run(session, shell, "TOKEN=$(copilot-cred get); echo never")
    assert (done.returncode, done.stdout) == (3, "")
    piped = "copilot-cred get --format curl-config | cat; echo never"
    done = run(session, shell, piped)
    assert done.returncode == (0 if shell == "dash" else 3)


def test_without_a_token_nothing_is_sent_in_its_place(session: Session, github: GitHub) -> None:
    session.systemctl("start", "copilot-broker.socket")
    ask = f"copilot-cred get --format curl-config | curl -sS -K - {github.url}/models"
    run(session, "dash", ask)
    (seen,) = [request for request in github.world.requests if request.path == "/models"]
    assert "authorization" not in {name.lower() for name in seen.headers}


def test_a_token_that_was_refused_is_replaced_once(signed_in: Session, github: GitHub) -> None:
    before = github.asked(EXCHANGE)
    lease = json.loads(run(signed_in, "dash", "copilot-cred get --format json").stdout)
    again = f"copilot-cred get --reject {lease['token_id']} --format json"
    first, second = (json.loads(run(signed_in, "dash", again).stdout) for _ in range(2))
    assert lease["token_id"] != first["token_id"] == second["token_id"]
    assert github.asked(EXCHANGE) == before + 1


def test_git_is_answered_for_the_simulated_host_alone(signed_in: Session, github: GitHub) -> None:
    host = github.url.removeprefix("http://")
    ask = "printf 'capability[]=authtype\\nprotocol=%s\\nhost=%s\\n\\n' %s %s | copilot-cred git-credential get"
    whole = run(signed_in, "dash", ask % ("%s", "%s", "http", host)).stdout
    credential = dict(line.split("=", 1) for line in whole.splitlines())
    token = signed_in.cred("get").stdout.strip()
    assert credential["credential"] == token
    for protocol, name in (("https", host), ("https", "github.com"), ("http", "127.0.0.1:9")):
        done = run(signed_in, "dash", ask % ("%s", "%s", protocol, name))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_kubeconfig_names_a_command_that_answers_as_it_is_asked(signed_in: Session) -> None:
    (text,) = (each.text for each in examples() if each.language == "yaml")
    said = dict(re.findall(r"^ +(\w+): (.+)$", text, re.MULTILINE))
    words = [said["command"], *said["args"].strip("[]").split(", ")]
    told = {
        "apiVersion": said["apiVersion"],
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    script = f"KUBERNETES_EXEC_INFO={shlex.quote(json.dumps(told))} {shlex.join(words)}"
    answer = json.loads(run(signed_in, "dash", script).stdout)
    assert (answer["apiVersion"], answer["kind"]) == (said["apiVersion"], "ExecCredential")
    assert answer["status"]["token"] == signed_in.cred("get", "-n").stdout


# -- a key from a command ------------------------------------------------------------------------


def helper(door: str) -> tuple[str, str]:
    """Return the command and the address of the page's `apiKeyHelper`."""
    (text,) = (each.text for each in examples() if each.language == "json")
    settings = json.loads(text.replace(DOOR, door).replace("claude-*", "sim-claude*"))
    return settings["apiKeyHelper"], settings["env"]["ANTHROPIC_BASE_URL"]


def test_the_helper_of_the_settings_has_a_key_that_is_replaced_on_401(
    signed_in: Session, door: str
) -> None:
    command, base = helper(door)
    where = address_of(int(base.rpartition(":")[2]))

    def asked(way: str, key: str) -> int:
        return ask(signed_in, WAYS[way].asked(x_api_key=key), where).status

    key, again = (run(signed_in, "dash", command).stdout.strip() for _ in range(2))
    assert key == again
    assert key.startswith("cpb_")
    assert asked("messages", key) == 200
    assert asked("chat", key) == 403  # another model
    signed_in.systemctl("restart", SERVICE)
    assert asked("messages", key) == 401
    fresh = run(signed_in, "dash", command).stdout.strip()
    assert fresh != key
    assert asked("messages", fresh) == 200
    assert asked("messages", key) == 401


# -- the command line as scripts meet it ---------------------------------------------------------

VERBS: list[tuple[str, ...]] = [
    ("get",), ("status",), ("status", "--json"), ("watch",), ("watch", "--json"), ("refresh",),
    ("account", "list"), ("account", "use", "nobody"), ("models",), ("models", "--json"),
    ("quota",), ("quota", "--json"), ("grants",), ("key", "list"), ("key", "create", "x"),
    ("key", "revoke", "x"), ("doctor", "--json"), ("chat", "x"), ("api", "/embeddings"),
    ("complete", "x"), ("exec", "--", "true"), ("get", "--model", "x"), ("logout",), ("lock",), ("unlock",), ("login",), ("git-credential", "get"),
]  # fmt: skip
ASKS_NOBODY = {("doctor", "--json")}


def stdin_of(verb: tuple[str, ...]) -> str:
    if verb[0] == "git-credential":
        return "capability[]=authtype\nprotocol=https\nhost=api.githubcopilot.com\n"
    return "{}" if verb[0] == "api" else ""


def test_without_a_broker_each_verb_says_so_as_json(session: Session) -> None:
    for verb in VERBS:
        done = session.cred(*JSON_ERRORS, *verb, stdin=stdin_of(verb))
        if verb in ASKS_NOBODY:
            assert json.loads(done.stdout)
        else:
            assert done.stdout == "", verb
            assert error_of(done)["class"] == 3, verb
