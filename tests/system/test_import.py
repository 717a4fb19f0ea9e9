"""Logins that other tools keep, as a person finds and takes them; those tools notice nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from client.cli.other_tools import database
from system.scripted import GITHUB_TOKEN, JSON_ERRORS, account, error_of, good, refused


if TYPE_CHECKING:
    from system.github import GitHub
    from system.session import Session


PLUGIN = "Iv1.b507a08c87ecfe98"
OPENCODE = "Ov23li8tweQw6odWQebz"
OTHERS = (
    ".config/github-copilot",
    ".config/gh",
    ".config/litellm",
    ".local/share/opencode",
    ".copilot",
    ".copilot_github_token",
)

LOOK = """
import hashlib, os, sys
for root in sys.argv[1:]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in [".", *sorted(files)]:
            path = os.path.join(folder, name)
            about = os.stat(path)
            data = b"" if name == "." else open(path, "rb", opener=lambda p, f: os.open(p, f | os.O_NOATIME)).read()
            print(path, oct(about.st_mode), about.st_ino, about.st_mtime_ns, about.st_ctime_ns,
                  hashlib.sha256(data).hexdigest(), about.st_atime_ns if data else "")
"""
"""Prints all that reading a file must not change."""

WRITE_DATABASE = "import sys; open(sys.argv[1], 'wb').write(bytes.fromhex(sys.stdin.read()))"


def listed(session: Session) -> dict[str, dict[str, Any]]:
    """Return what `import --json` finds, by tool (and the file's name for the editors)."""
    told = good(session, "import", "--json")
    assert not GITHUB_TOKEN.search(told)
    found = json.loads(told)["found"]
    assert [each["number"] for each in found] == list(range(1, len(found) + 1))
    return {
        f"editors {each['place'].rpartition('/')[2]}"
        if each["tool"] == "editors"
        else each["tool"]: each
        for each in found
    }


@pytest.fixture
def tools(session: Session, github: GitHub) -> Session:
    """A broker without a login, and a home folder of somebody who has tried many tools."""
    mint = github.world.mint
    plugin, opencode, classic = (
        mint("ghu_", "octocat", PLUGIN),
        mint("gho_", "hubot", OPENCODE),
        "ghp_" + "0" * 36,
    )
    apps = {
        f"github.com:{PLUGIN}": {"user": "octocat", "oauth_token": plugin, "githubAppId": PLUGIN}
    }
    auth = {
        "github-copilot": {"type": "oauth", "refresh": opencode, "access": opencode, "expires": 0}
    }
    copilot, _ = github.world.issue_copilot_token()
    cli = f'// comment\n{{"copilotTokens": {{"https://github.com:mona": "{mint("gho_", "mona")}"}}}}\n'
    try:
        session.write(".config/github-copilot/apps.json", json.dumps(apps))
        session.write(".local/share/opencode/auth.json", json.dumps(auth))
        session.write(".copilot_github_token", f"{classic}\n")
        session.write(
            ".config/litellm/github_copilot/api-key.json", json.dumps({"token": copilot})
        )
        session.write(".copilot/config.json", cli)
        session.write(
            ".config/gh/hosts.yml", "github.com:\n    user: octocat\n    git_protocol: ssh\n"
        )
        data = database(("github.com", mint("gho_", "octocat", PLUGIN)), wal=True)
        path = ".config/github-copilot/auth.db"
        session.good("/usr/bin/python3", "-c", WRITE_DATABASE, path, stdin=data.hex())
        session.good("sh", "-c", 'find "$@" -exec touch -a -d 2020-01-01 {} +', "_", *OTHERS)
        session.systemctl("start", "copilot-broker.socket")
        yield session
    finally:
        session.good("rm", "-rf", *OTHERS)


def test_found_taken_and_left_as_it_was(tools: Session) -> None:
    before = tools.script(LOOK, *OTHERS)
    found = listed(tools)
    can = {name for name, each in found.items() if each["can_take"] and not each["runs"]}
    assert can == {"editors apps.json", "editors auth.db", "opencode", "copilot-cli"}
    assert set(found) - can == {"token-file", "litellm", "gh"}
    table = good(tools, "import")
    assert not GITHUB_TOKEN.search(table)

    number = str(found["editors apps.json"]["number"])
    asked = refused(tools, "import", number)
    assert asked["code"] == "not_confirmed"
    done = tools.cred("import", number, "--yes")
    assert done.returncode == 0, done.stderr
    assert "Signed in as octocat on github.com (account default)." in done.stderr
    assert "GitHub Copilot Plugin" in done.stderr
    assert not GITHUB_TOKEN.search(done.stderr)
    assert account(tools)["client_id"] == PLUGIN
    assert good(tools, "get").startswith("tid=")

    good(tools, "import", "opencode", "--account", "second", "--yes")
    second = account(tools, "second")
    assert (second["login"], second["client_id"]) == ("hubot", OPENCODE)
    assert second["mode"] == "direct", "GitHub exchanges no login of that app"
    assert good(tools, "chat", "--account", "second", "--model", "sim-chat", "hello")

    doctor = json.loads(tools.cred("doctor", "--json").stdout)["checks"]
    warned = {each["name"] for each in doctor if each["name"].startswith("login-of-")}
    assert warned == {"login-of-editors", "login-of-opencode", "login-of-copilot-cli"}
    assert tools.script(LOOK, *OTHERS) == before


def test_refused_kinds_say_why(tools: Session, github: GitHub) -> None:
    asked = len(list(github.world.requests))
    error = refused(tools, "import", "token-file", "--yes")
    assert (error["class"], error["code"]) == (2, "cannot_be_taken")
    assert "classic personal access token" in error["message"]
    assert "short-lived" in refused(tools, "import", "litellm", "--yes")["message"]
    assert len(list(github.world.requests)) == asked
    assert tools.status()["accounts"] == []


def test_a_login_that_github_no_longer_takes_is_not_kept(tools: Session, github: GitHub) -> None:
    github.world.revoke_all()
    done = tools.cred(*JSON_ERRORS, "import", "opencode", "--yes")
    assert done.returncode == 4, done.stderr
    assert error_of(done)["class"] == 4
    assert tools.status()["accounts"] == []


def test_what_the_broker_says_of_each_account(signed_in: Session) -> None:
    checks = json.loads(signed_in.cred("doctor", "--json").stdout)["checks"]
    found = {each["name"]: each for each in checks}
    assert found["other-logins"]["verdict"] == "ok"
    for name, words in {
        "login-kind-default": "Visual Studio Code",
        "entitlement-default": "plan ",
        "quota-source-default": "the account's Copilot seat tells what is left",
    }.items():
        assert found[name]["verdict"] == "ok", found[name]
        assert words in found[name]["told"]
