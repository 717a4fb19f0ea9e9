"""Logins that the service is given: by its environment, and by systemd's credentials."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from canary.plugin import run_of
from system.github import EXCHANGE, IDENTITY
from system.scripted import CONFIG, account, good, refused, with_more
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.github import GitHub
    from system.session import Session


VSCODE = "01ab8ac9400c4e429b23"
CHAT = json.dumps({"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}]})
DROP_IN = f".config/systemd/user/{SERVICE}.d/source.conf"
# Where the scan of a session's files knows that logins belong.
GIVEN = ".config/copilot-broker/logins"
CLASSIC = "ghp_classicclassicclassicclassicclassic0"


@pytest.fixture
def stopped(session: Session) -> Iterator[Session]:
    """All stopped; afterwards too, for what the service was given lies open while it runs."""
    yield session
    session.systemctl("stop", SERVICE, "copilot-broker.socket", "copilot-broker-http.socket")
    session.good("rm", "-rf", GIVEN)


def sources(session: Session, source: str, *names: str) -> None:
    with_more(
        session,
        "".join(f'[accounts.{name}]\nsource = "{source}"\n' for name in names or ("default",)),
    )


def give(session: Session, *lines: str, **files: str) -> None:
    """Have the unit say `lines`, which may name these files (`_` stands for a dash)."""
    session.good("sh", "-c", 'mkdir -p "$1" && chmod 700 "$1"', "_", GIVEN)
    for name, text in files.items():
        session.write(f"{GIVEN}/{name.replace('_', '-')}", text)
        session.good("chmod", "600", f"{GIVEN}/{name.replace('_', '-')}")
    session.write(DROP_IN, "[Service]\n" + "".join(f"{line}\n" for line in lines))
    session.systemctl("daemon-reload")


def start(session: Session) -> None:
    session.systemctl("start", "copilot-broker.socket")
    session.systemctl("start", SERVICE)


def token_for(github: GitHub, login: str | None = None) -> str:
    return github.world.mint("gho_", login, VSCODE)


@pytest.fixture
def visible(github: GitHub, request: pytest.FixtureRequest) -> tuple[str, str]:
    """Tokens of `seen` and `unseen`, which the scan of the session passes over.

    Root sees the environment of every process. Nobody else has these names: tokens of one person
    begin alike, and the scan knows secrets by their beginnings too.
    """
    tokens = token_for(github, "seen"), token_for(github, "unseen")
    for token in tokens:
        del run_of(request.config).secrets[token]
    return tokens


def whole_journal(session: Session) -> str:
    return json.dumps(session.journal())


def state_files(session: Session) -> str:
    return session.good("sh", "-c", "find .local/state -type f -exec cat {} +")


def test_the_environment_signs_in_and_nothing_is_written(
    stopped: Session, visible: tuple[str, str]
) -> None:
    token, other = visible
    sources(stopped, "environment")
    text = f"GITHUB_TOKEN={other}\nGH_TOKEN={token}\n"
    give(stopped, f"EnvironmentFile=%h/{GIVEN}/environment", environment=text)
    start(stopped)
    assert good(stopped, "get").startswith("tid=")
    shown = account(stopped)
    assert (shown["login"], shown["store"], shown["source"]) == (
        "seen", "environment", "environment",
    )  # fmt: skip
    assert "hello" in good(stopped, "api", "/chat/completions", "--body", CHAT)
    for secret in (token, other):
        assert secret not in state_files(stopped)
        assert secret not in whole_journal(stopped)
        assert secret not in good(stopped, "status", "--json") + good(stopped, "doctor")
    assert not stopped.good("sh", "-c", "ls .local/state/copilot-broker/logins 2>/dev/null || :")


def test_only_root_sees_what_the_process_was_started_with(
    stopped: Session, visible: tuple[str, str]
) -> None:
    token, _ = visible
    sources(stopped, "environment")
    give(stopped, f"EnvironmentFile=%h/{GIVEN}/environment", environment=f"GH_TOKEN={token}\n")
    start(stopped)
    good(stopped, "get")
    assert token in stopped.proc("environ")  # as root
    done = stopped.run("cat", f"/proc/{stopped.main_pid()}/environ")
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    assert token not in stopped.systemctl("show", SERVICE)


def test_the_first_variable_wins_and_an_unusable_one_is_not_skipped(
    stopped: Session, github: GitHub, visible: tuple[str, str]
) -> None:
    token, _ = visible
    sources(stopped, "environment")
    give(stopped, f"Environment=COPILOT_GITHUB_TOKEN={CLASSIC} GH_TOKEN={token}")
    start(stopped)
    error = refused(stopped, "get")
    assert (error["class"], error["code"]) == (4, "environment_unusable")
    assert "COPILOT_GITHUB_TOKEN is set" in error["message"]
    assert error["hint"].endswith("systemctl --user restart copilot-broker")
    assert "EnvironmentFile=" in error["hint"]
    assert github.asked(IDENTITY) == github.asked(EXCHANGE) == 0
    told = stopped.cred("doctor")
    assert told.returncode != 0
    assert "COPILOT_GITHUB_TOKEN" in told.stdout + told.stderr
    places = [each["PLACE"] for each in stopped.journal() if "PLACE" in each]
    assert places[-1] == "COPILOT_GITHUB_TOKEN"
    assert CLASSIC not in whole_journal(stopped) + told.stdout + told.stderr
    give(stopped, f"Environment=GH_TOKEN={token}")
    stopped.systemctl("restart", SERVICE)
    assert good(stopped, "get").startswith("tid=")


def test_nothing_set_says_where_it_was_looked(stopped: Session) -> None:
    sources(stopped, "environment")
    start(stopped)
    error = refused(stopped, "get")
    assert (error["class"], error["code"]) == (4, "environment_unset")
    for name in ("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"):
        assert name in error["message"]
    assert "systemctl --user edit copilot-broker" in error["hint"]


def test_credentials_sign_in_two_accounts(stopped: Session, github: GitHub) -> None:
    mine, work = token_for(github), token_for(github, "hubot")
    sources(stopped, "credential", "default", "work")
    give(
        stopped,
        f"LoadCredential=github-token:%h/{GIVEN}/mine",
        f"LoadCredential=github-token-work:%h/{GIVEN}/work",
        mine=f"{mine}\n",
        work=work,
    )
    start(stopped)
    assert good(stopped, "get").startswith("tid=")
    good(stopped, "get", "--account", "work")
    assert [account(stopped, name)["login"] for name in ("default", "work")] == [
        "octocat", "hubot",
    ]  # fmt: skip
    assert account(stopped, "work")["store"] == "credential"
    for secret in (mine, work):
        assert secret not in state_files(stopped)
        assert secret not in whole_journal(stopped)


def test_rotation_and_another_person_after_a_restart(stopped: Session, github: GitHub) -> None:
    sources(stopped, "credential")
    load = f"LoadCredential=github-token:%h/{GIVEN}/mine"
    give(stopped, load, mine=token_for(github))
    start(stopped)
    good(stopped, "get")
    give(stopped, load, mine=token_for(github, "hubot"))
    stopped.systemctl("restart", SERVICE)
    good(stopped, "get")
    assert account(stopped)["login"] == "hubot"
    assert "octocat" not in stopped.good("cat", ".local/state/copilot-broker/accounts.json")


def test_bad_credentials_are_shown_once_until_there_are_others(
    stopped: Session, github: GitHub
) -> None:
    sources(stopped, "credential")
    load = f"LoadCredential=github-token:%h/{GIVEN}/mine"
    dead, living = token_for(github), token_for(github)
    give(stopped, load, mine=dead)
    start(stopped)
    good(stopped, "get")
    github.world.revoke(dead)
    stopped.cred("refresh")
    asked = github.asked(EXCHANGE) + github.asked(IDENTITY)
    for _ in range(2):
        error = refused(stopped, "get")
        assert (error["class"], error["code"]) == (4, "bad_credentials")
        assert "LoadCredential=github-token:" in error["hint"]
        stopped.systemctl("restart", SERVICE)
    assert github.asked(EXCHANGE) + github.asked(IDENTITY) == asked
    give(stopped, load, mine=living)
    stopped.systemctl("restart", SERVICE)
    good(stopped, "get")


def test_nobody_signs_in_or_out_of_it(stopped: Session, github: GitHub) -> None:
    sources(stopped, "credential")
    give(stopped, f"LoadCredential=github-token:%h/{GIVEN}/mine", mine=token_for(github))
    start(stopped)
    good(stopped, "get")
    for arguments in (("login",), ("logout",), ("logout", "--revoke")):
        error = refused(stopped, *arguments)
        assert (error["class"], error["code"]) == (2, "login_is_given")
        assert "credential" in error["message"]
    good(stopped, "get")


def test_a_reload_takes_up_a_source_and_gives_it_up(stopped: Session, github: GitHub) -> None:
    give(stopped, f"LoadCredential=github-token:%h/{GIVEN}/mine", mine=token_for(github))
    start(stopped)
    assert refused(stopped, "get")["code"] == "login_required"
    before = stopped.good("cat", CONFIG)
    sources(stopped, "credential")
    stopped.systemctl("reload", SERVICE)
    eventually(lambda: stopped.cred("get").returncode == 0)
    stopped.write(CONFIG, before)
    stopped.systemctl("reload", SERVICE)
    eventually(lambda: stopped.cred("get").returncode == 4)
    assert refused(stopped, "get")["code"] == "login_required"
