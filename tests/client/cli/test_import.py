"""`copilot-cred import`: the list, taking one, and that no file of another tool is touched."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from client.cli.other_tools import (
    APPS,
    GH,
    HOSTS_YML,
    OPENCODE,
    PLUGIN,
    SHAPES,
    Shape,
    database,
    gho,
    ghu,
    js,
    plant,
)
from client.cli.running import COMMAND, WITHOUT_RICH, Terminal, run
from copilot_broker.cli.imports.look import look
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import Stream, WireServer


ACCOUNT = {
    "name": "default",
    "host": "github.com",
    "login": "octocat",
    "mode": "exchange",
    "store": "file",
    "error": None,
}
NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to make files of others")


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def server(home):
    with WireServer({"account.login": Stream([{"event": "done", "account": ACCOUNT}])}) as server:
        server.environ = {**server.env, "HOME": str(home), "PATH": "/nowhere"}
        yield server


def listed(server, **environ):
    done = run("import", "--json", env={**server.environ, **environ})
    assert (done.returncode, done.stderr) == (0, "")
    assert "CANARY" not in done.stdout
    return json.loads(done.stdout)["found"]


def refusal(server, *args, **environ):
    """Return code and hint of the error that `import ARGS` ends in."""
    done = run("--error-format", "json", "import", *args, env={**server.environ, **environ})
    error = json.loads(done.stderr.splitlines()[-1])
    assert done.returncode == error["class"]
    assert "CANARY" not in done.stderr + done.stdout
    return error


# -- the list --------------------------------------------------------------------------------------


def test_the_list_is_a_table_with_reasons(server, home):
    plant(home, SHAPES["copilot-api"], mode=0o644)
    plant(home, SHAPES["opencode"])
    plant(home, SHAPES["litellm's token"])
    done = run("import", env=server.environ)
    assert done.returncode == 0
    assert done.stderr == "To take one: copilot-cred import NUMBER\n"
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "no tool host user kind age mode take"
    assert lines[1].startswith("1 copilot-api github.com - ghu_ ")
    assert lines[1].endswith(" s 0644 yes")
    assert lines[2].startswith("2 litellm github.com - copilot ")
    assert lines[2].endswith(" s 0600 no")
    assert lines[3].startswith("3 opencode github.com - gho_ ")
    assert lines[4:] == [
        "1 others may read it, so they may know it",
        "2 cannot be taken: a short-lived token only, nothing to take",
        "in ~/.local/share/copilot-api/github_token: 1",
        "in ~/.config/litellm/github_copilot/api-key.json: 2",
        "in ~/.local/share/opencode/auth.json: 3",
    ]
    assert "CANARY" not in done.stdout
    assert server.connections == 0, "listing asks nobody"


def test_json_has_all_but_the_token(server, home):
    plant(home, SHAPES["apps.json"])
    found = listed(server)
    assert [each["number"] for each in found] == [1, 2, 3, 4, 5]
    assert found[0] | {"age": 0.0} == {
        "number": 1,
        "tool": "editors",
        "place": str(home / ".config/github-copilot/apps.json"),
        "host": "github.com",
        "user": "octocat",
        "kind": "ghu_",
        "client_id": PLUGIN,
        "age": 0.0,
        "mode": "0600",
        "can_take": True,
        "runs": [],
        "problem": "",
        "warning": "",
    }
    assert [each["can_take"] for each in found] == [True, True, True, False, False]


def test_nothing_there(server):
    done = run("import", env=server.environ)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("To sign in: copilot-cred login\n")
    assert listed(server) == []


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_on_a_terminal_nothing_that_a_file_says_drives_it(server, home, command):
    nasty = {"github.com:\x1b[2Jid": {"user": "\x1b]0;x\x07\x9b", "oauth_token": gho()}}
    plant(home, Shape(".config/github-copilot/apps.json", js(nasty)))
    environ = {**server.environ, "PATH": os.environ["PATH"], "COLUMNS": "100"}
    with Terminal("import", env=environ, command=command) as terminal:
        assert terminal.ends() == 0
    for wrong in ("\x9b", "\x07", "\x1b", "CANARY"):
        assert wrong not in terminal.shown
    with Terminal("import", "1", env=environ, command=command) as terminal:
        terminal.wait_for("Take this login")
        terminal.press("n\n")
        assert terminal.ends() == ErrorClass.DENIED
    for wrong in ("\x9b", "\x07", "\x1b", "CANARY"):
        assert wrong not in terminal.shown


# -- taking one ------------------------------------------------------------------------------------


def test_taking_one_sends_token_host_and_app(server, home):
    plant(home, SHAPES["apps.json"])
    done = run("import", "3", "--yes", "--account", "work", "--store", "file", env=server.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "CANARY" not in done.stderr
    assert "whose  mona on acme.ghe.com, as it says" in done.stderr
    assert "kind   ghu_, of the app GitHub Copilot Plugin" in done.stderr
    assert "One login is one person" in done.stderr
    assert "Signed in as octocat on github.com (account default)." in done.stderr
    assert server.calls("account.login") == [
        {
            "account": "work",
            "token": ghu("t"),
            "host": "acme.ghe.com",
            "client_id": PLUGIN,
            "store": "file",
        }
    ]


def test_a_tool_by_name_and_an_app_that_nobody_knows(server, home):
    plant(home, SHAPES["opencode"])
    plant(home, SHAPES["token file"])
    assert run("import", "opencode", "--yes", env=server.environ).returncode == 0
    assert run("import", "token-file", "--yes", env=server.environ).returncode == 0
    assert server.calls("account.login") == [
        {"token": gho(), "host": "github.com", "client_id": OPENCODE},
        {"token": gho(), "host": "github.com"},
    ]


def test_a_terminal_asks_and_no_is_no(server, home):
    plant(home, SHAPES["copilot-api"])
    with Terminal("import", "copilot-api", env=server.environ) as terminal:
        terminal.wait_for(r"whoever signs it out there")
        terminal.wait_for(r"Take this login\? \[y/N\]")
        terminal.press("\n")
        assert terminal.ends() == ErrorClass.DENIED
    assert server.connections == 0
    with Terminal("import", "1", env=server.environ) as terminal:
        terminal.wait_for(r"\[y/N\]")
        terminal.press("y\n")
        terminal.wait_for("Signed in as octocat")
        assert terminal.ends() == 0
    assert "CANARY" not in terminal.shown


def test_without_a_terminal_yes_has_to_be_said(server, home):
    plant(home, SHAPES["copilot-api"])
    error = refusal(server, "1")
    assert error["code"] == "not_confirmed"
    assert error["hint"].endswith("copilot-cred import 1 --yes")
    assert server.connections == 0


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("0", "no_such_number"),
        ("9", "no_such_number"),
        ("9" * 5000, "no_such_number"),
        ("²", "nothing_found"),
        ("emacs", "nothing_found"),
        ("editors", "which_one"),
        ("4", "cannot_be_taken"),
        ("litellm", "cannot_be_taken"),
    ],
)
def test_what_cannot_be_picked(server, home, wanted, code):
    plant(home, SHAPES["apps.json"])
    plant(home, SHAPES["litellm's token"])
    error = refusal(server, wanted, "--yes")
    assert (error["class"], error["code"]) == (ErrorClass.USAGE, code)
    assert "copilot-cred" in error["hint"]
    assert server.connections == 0


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("ghp_CANARY", "classic personal access token"),
        ("tid=CANARY;exp=1", "short-lived token only"),
    ],
)
def test_refused_kinds_say_why(server, home, token, why):
    plant(home, Shape(".copilot_github_token", token.encode()))
    assert why in refusal(server, "token-file", "--yes")["message"]
    assert why in listed(server)[0]["problem"]


def test_a_broker_that_refuses(server, home):
    plant(home, SHAPES["copilot-api"])
    refused = ErrorInfo(ErrorClass.LOGIN_REQUIRED, "bad_credentials", "dead", "copilot-cred login")
    server.answers["account.login"] = refused
    assert refusal(server, "1", "--yes")["code"] == "bad_credentials"
    error = {
        "class": 5,
        "code": "no_plan",
        "message": "no plan",
        "hint": "see: copilot-cred status",
    }
    done = {"event": "done", "account": {**ACCOUNT, "error": error}}
    server.answers["account.login"] = Stream([done])
    assert refusal(server, "1", "--yes")["code"] == "no_plan"


def test_the_list_alone_has_json(server, home):
    plant(home, SHAPES["copilot-api"])
    assert refusal(server, "1", "--json", "--yes")["code"] == "usage"


# -- gh, the one program that is run ---------------------------------------------------------------

ASKED = """#!/bin/sh
echo "$*" "${GH_TOKEN-unset}" >> "$HOME/asked"
%s
"""


@pytest.fixture
def gh(server, tmp_path, home):
    """Return what installs a gh that ends in the given lines of shell."""
    path = tmp_path / "bin/gh"
    path.parent.mkdir()
    server.environ["PATH"] = f"{path.parent}:{os.environ['PATH']}"
    plant(home, Shape(".config/gh/hosts.yml", HOSTS_YML.encode()))

    def install(script):
        path.write_text(ASKED % script)
        path.chmod(0o755)

    return install


def test_gh_is_run_for_the_login_that_was_picked_and_only_then(server, home, gh):
    gh(f"echo {gho('hubot')}")
    found = listed(server, GH_TOKEN="")
    assert found[1]["runs"] == [
        "gh",
        "auth",
        "token",
        "--hostname",
        "github.com",
        "--user",
        "hubot",
    ]
    refusal(server, "2")
    assert not (home / "asked").exists()
    done = run("import", "2", "--yes", env={**server.environ, "GH_TOKEN": "another"})
    assert done.returncode == 0, done.stderr
    assert "runs   gh auth token --hostname github.com --user hubot" in done.stderr
    assert (home / "asked").read_text() == "auth token --hostname github.com --user hubot unset\n"
    assert server.calls("account.login") == [
        {"token": gho("hubot"), "host": "github.com", "client_id": GH}
    ]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 4", "gh has no such token (it exits 4)"),
        ("echo ghp_CANARY", "classic personal access token"),
        ("echo no token", "not a GitHub token"),
        ("true", "no login in it"),
    ],
)
def test_gh_that_gives_none(server, gh, script, why):
    gh(script)
    error = refusal(server, "3", "--yes")
    assert why in error["message"]
    assert server.connections == 0


# -- with care -------------------------------------------------------------------------------------


def problem_of(home, mode=0o600):
    (found,) = look({})
    assert found.tool == "copilot-api"
    return found.problem


def test_a_link_of_a_dotfile_manager_is_followed(home):
    true = plant(home, Shape("dotfiles/token", ghu().encode()))
    link = home / ".local/share/copilot-api/github_token"
    link.parent.mkdir(parents=True)
    link.symlink_to(true)
    assert problem_of(home) == ""
    link.unlink()
    link.parent.rmdir()
    (home / "folder").mkdir()
    true.rename(home / "folder/github_token")
    link.parent.symlink_to(home / "folder")
    assert problem_of(home) == ""


def test_links_that_lead_nowhere(home):
    link = home / ".local/share/copilot-api/github_token"
    link.parent.mkdir(parents=True)
    link.symlink_to("nothing")
    assert problem_of(home).startswith("a link that leads nowhere")
    link.unlink()
    link.symlink_to(link)
    assert "link" in problem_of(home)
    link.unlink()
    link.symlink_to("/dev/zero")
    assert problem_of(home)


@pytest.mark.parametrize("mode", [0o777, 0o1777 | 0o6000])
def test_a_folder_that_others_may_write(home, mode):
    path = plant(home, SHAPES["copilot-api"])
    path.parent.chmod(mode)
    is_sticky = mode & stat.S_ISVTX
    assert bool(problem_of(home)) is not bool(is_sticky)
    path.parent.chmod(0o700)
    (home / ".local").chmod(0o777)
    assert problem_of(home).startswith("in a folder that others may write: ")
    (home / ".local").chmod(0o700)
    true = home / "open/token"
    true.parent.mkdir()
    path.rename(true)
    path.symlink_to(true)
    assert problem_of(home) == ""
    true.parent.chmod(0o777)
    assert problem_of(home) == f"in a folder that others may write: {true.parent}"


def test_a_file_that_others_may_change(home):
    path = plant(home, SHAPES["copilot-api"], mode=0o666)
    assert problem_of(home) == "others may change it, so it may be theirs"
    path.chmod(0o644)
    assert look({})[0].warning
    assert problem_of(home) == ""
    path.chmod(0o400)
    assert (look({})[0].warning, problem_of(home)) == ("", "")


def test_what_is_no_file(home):
    path = home / ".local/share/copilot-api/github_token"
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert problem_of(home) == "no regular file"
    path.unlink()
    path.mkdir()
    assert problem_of(home) == "no regular file"
    path.rmdir()
    with socket.socket(socket.AF_UNIX) as sock:
        folder = os.open(path.parent, os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
    assert problem_of(home) == "no regular file"
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()
    assert look({}) == []


@needs_root
def test_files_links_and_folders_of_others(home):
    path = plant(home, SHAPES["copilot-api"])
    os.chown(path, NOBODY, NOBODY)
    assert problem_of(home) == f"it belongs to uid {NOBODY}"
    os.chown(path, 0, 0)
    os.chown(path.parent, NOBODY, NOBODY)
    assert problem_of(home) == f"in a folder of uid {NOBODY}: {path.parent}"
    os.chown(path.parent, 0, 0)
    true = path.rename(home / "token")
    path.symlink_to(true)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    assert problem_of(home) == f"a link that uid {NOBODY} has made"


@needs_root
def test_a_file_that_one_may_not_open(home):
    """As another user, whom modes hold back."""
    path = plant(home, SHAPES["copilot-api"], mode=0o000)
    for each in (path, *path.parents[: len(path.relative_to(home).parts)]):
        os.chown(each, NOBODY, NOBODY)
    source = (
        "import os; os.setresuid(65534, 65534, 65534)\n"
        "from copilot_broker.cli.imports.look import look\n"
        "print([each.problem for each in look({})])"
    )
    for folder in home.parents:
        if folder.stat().st_uid == 0 and folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(0o711)
    import sys

    command = [sys.executable, "-P", "-c", source]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == "['permission denied']\n"


# -- and leaves no trace ---------------------------------------------------------------------------


def everything(home):
    """Return of each file and folder: bytes, and all that stat tells (times in nanoseconds)."""
    seen = {}
    for path in [home, *sorted(home.rglob("*"))]:
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read()
        else:
            data = None
        about = path.lstat()
        seen[str(path)] = (
            data, about.st_mode, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns,
            about.st_atime_ns if path.is_file() else None,
        )  # fmt: skip
    return seen


def strict_atime(folder):
    """Mount a file system that notes each reading; False where we may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    strict = 1 << 24  # MS_STRICTATIME (mount(2))
    return libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", strict, b"size=16m,mode=700") == 0


@pytest.fixture
def strict_home(home):
    is_strict = os.getuid() == 0 and strict_atime(home)
    os.chdir(home)  # into the mount
    yield home
    if is_strict:
        os.chdir("/")
        assert ctypes.CDLL(None).umount2(os.fsencode(home), 2) == 0


def test_nothing_is_written_touched_or_made(strict_home, server):
    home = strict_home
    for name, shape in SHAPES.items():
        if not shape.environ and name != "auth.db":
            plant(home, shape)
    log = plant(
        home, Shape(".config/github-copilot/auth.db", database(("github.com", gho()), wal=True))
    )
    log.with_name("auth.db-wal").write_bytes(b"a log that was left behind")
    plant(home, Shape(".config/gh/hosts.yml", HOSTS_YML.encode()))
    for path in home.rglob("*"):
        os.utime(path, (1_000_000_000, 1_700_000_000))  # an atime before the mtime: relatime notes
    before = everything(home)
    assert len(look({})) > 20
    assert everything(home) == before
    assert len(listed(server)) > 20
    for number in (1, 3, 6):
        run("import", str(number), "--yes", env=server.environ)
    assert len(server.calls("account.login")) == 3
    run("doctor", env=server.environ)
    assert everything(home) == before
    assert set(APPS) <= set(json.loads((home / ".config/github-copilot/apps.json").read_bytes()))
