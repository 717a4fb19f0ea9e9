"""Signing in, renewing a login and ending it, through the installed commands."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from brokerd.simulator.world import Fault
from system.github import EXCHANGE, IDENTITY, POLL
from system.scripted import (
    GITHUB_TOKEN,
    JSON_ERRORS,
    LOGINS,
    account,
    error_of,
    fault,
    good,
    refused,
    stored,
)
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    import subprocess

    from system.github import GitHub
    from system.session import Session


DEVICE_CODE = "/login/device/code"
REVOKE = "/credentials/revoke"
VSCODE = "01ab8ac9400c4e429b23"
EIGHT_HOURS = 28_800.0
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.fixture
def daemon(session: Session) -> Session:
    """It can be asked, nobody is signed in."""
    session.systemctl("start", "copilot-broker.socket")
    return session


def begin_login(session: Session, *more: str) -> subprocess.Popen[str]:
    return session.spawn(f"{session.home}/.local/bin/copilot-cred", "login", *more)


def statuses_of(github: GitHub, path: str) -> list[int]:
    return [each.status for each in list(github.world.requests) if each.path == path]


# Who is approved, and for what.

APPS = {
    "by default": ((), VSCODE, "user:email", "Visual Studio Code (client id vscode)"),
    "vscode": (("--client-id", "vscode"), VSCODE, "user:email", "Visual Studio Code"),
    "copilot": (
        ("--client-id", "copilot"),
        "Iv1.b507a08c87ecfe98",
        "",
        "GitHub Copilot Plugin (client id copilot)",
    ),
    "a known one": (
        ("--client-id", "Ov23li8tweQw6odWQebz"),
        "Ov23li8tweQw6odWQebz",
        "read:user",
        "opencode (client id Ov23li8tweQw6odWQebz)",
    ),
    "one's own": (
        ("--client-id", "Ov23liOwnOwnOwnOwnOw"),
        "Ov23liOwnOwnOwnOwnOw",
        "read:user",
        "the app with client id Ov23liOwnOwnOwnOwnOw",
    ),
    "with scopes": (
        ("--scope", "read:user user:email"),
        VSCODE,
        "read:user user:email",
        "Visual Studio Code",
    ),
}


def test_the_login_says_what_is_approved_and_asks_for_that(
    daemon: Session, github: GitHub
) -> None:
    for options, client_id, scope, words in APPS.values():
        github.forget()
        done = daemon.cred("login", *options)
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stderr.split())
        assert f"You approve the app: {words}" in said
        assert "Approving means: - GitHub's page will name" in said
        (grant,) = github.world.grants.values()
        assert (grant.client_id, grant.scope) == (client_id, scope)
        assert grant.user_code in said
        for each in scope.split():
            assert f"{each} (read your" in said, "each scope is explained"
        granted = "" if client_id.startswith("Iv") else scope
        assert account(daemon)["scopes"].replace(",", " ").split() == granted.split()


def test_a_login_waits_for_the_person_and_no_longer(daemon: Session, github: GitHub) -> None:
    github.forget(auto_approve=False)
    waiting = begin_login(daemon)
    eventually(lambda: github.asked(POLL) > 1)
    assert waiting.poll() is None
    assert github.world.decide(None, approve=True, login="hubot")
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, said
    assert "Signed in as hubot on github.com" in said
    waiting = begin_login(daemon, "--account", "second")
    eventually(lambda: github.world.decide(None, approve=False))
    _, said = waiting.communicate(timeout=30)
    assert (waiting.returncode, "cancelled on GitHub's page" in said) == (5, True), said
    assert [each["name"] for each in daemon.status()["accounts"]] == ["default"]


# What the device flow may answer instead of a token: exit code, code, words.

POLL_ERRORS = {
    "expired_token": (4, "expired_token", "not approved in time"),
    "token_expired": (4, "expired_token", "not approved in time"),
    "access_denied": (5, "access_denied", "cancelled"),
    "incorrect_device_code": (4, "incorrect_device_code", "does not know the device code"),
    "incorrect_client_credentials": (2, "incorrect_client_credentials", "client_id"),
    "unsupported_grant_type": (1, "unsupported_grant_type", "device authorization grant"),
    "device_flow_disabled": (2, "device_flow_disabled", "turned off"),
    "an_error_of_tomorrow": (4, "device_grant_refused", "an_error_of_tomorrow"),
    "404_client": (2, "client_id_unknown", "does not know this client id"),
    "466": (5, "client_not_supported", "no longer supports"),
}
START_ERRORS = {
    "404_client": (2, "client_id_unknown", "does not know this client id"),
    "400_device_flow_disabled": (2, "device_flow_disabled", "may not sign in devices"),
    "400_unauthorized_client": (2, "device_flow_disabled", "may not sign in devices"),
    "429": (7, "rate_limited", "limits the rate"),
    "500": (7, "upstream_error", "answers 500"),
    "200_html": (7, "bad_answer", "is not JSON"),
    "404_proxy": (7, "intercepted", "proxy or firewall"),
}


@pytest.mark.parametrize(
    ("path", "errors"), [(POLL, POLL_ERRORS), (DEVICE_CODE, START_ERRORS)], ids=["poll", "start"]
)
def test_each_error_of_the_device_flow_ends_it_in_its_own_words(
    daemon: Session, github: GitHub, path: str, errors: dict[str, tuple[int, str, str]]
) -> None:
    for name, (exit_code, code, words) in errors.items():
        github.forget()
        fault(github, path, name)
        error = refused(daemon, "login")
        assert (error["class"], error["code"]) == (exit_code, code), name
        assert words in error["message"], name
        assert github.asked(path) == 1, f"{name} was asked for again"
    assert daemon.status()["accounts"] == []


def test_the_simulators_own_refusals_of_a_client(daemon: Session, github: GitHub) -> None:
    github.forget(known_clients=["Iv1.b507a08c87ecfe98"])
    assert refused(daemon, "login")["code"] == "client_id_unknown"
    github.forget(device_flow_disabled=True)
    assert refused(daemon, "login")["code"] == "device_flow_disabled"


def test_what_ails_a_poll_for_a_moment_is_asked_again(daemon: Session, github: GitHub) -> None:
    fault(github, POLL, "authorization_pending", "502_html")
    good(daemon, "login")
    assert github.asked(POLL) == 3


def test_answers_may_be_forms(daemon: Session, github: GitHub) -> None:
    world = github.world
    grant = world.start_grant(VSCODE, "user:email")
    started = {
        "device_code": grant.device_code,
        "user_code": grant.user_code,
        "verification_uri": f"{github.url}/login/device",
        "expires_in": 900,
        "interval": 0.2,
    }
    token, _ = world.issue_github_token(world.person(), VSCODE, scope="user:email")
    polls = [
        {"error": "authorization_pending", "error_description": "not yet"},
        {"access_token": token, "token_type": "bearer", "scope": "user:email"},
    ]
    world.queue_faults(DEVICE_CODE, [Fault(200, dict(FORM), urlencode(started))])
    world.queue_faults(POLL, [Fault(200, dict(FORM), urlencode(each)) for each in polls])
    good(daemon, "login")
    assert github.asked(POLL) == 2
    assert stored(daemon)["token"] == token


def test_slow_down_is_honoured_and_the_second_one_questions_the_clock(
    daemon: Session, github: GitHub
) -> None:
    github.forget(auto_approve=False, device_interval=0.2)
    slower = {"error": "slow_down", "interval": 0.4}
    github.world.queue_faults(POLL, [Fault(200, {}, slower), Fault(200, {}, slower)])
    with begin_login(daemon) as waiting:
        assert waiting.stderr is not None
        said = ""
        while "clock" not in said:
            line = waiting.stderr.readline()
            assert line, said
            said += line
        waiting.terminate()
    start, first, second = (
        each.monotonic for each in github.world.requests if each.path in (DEVICE_CODE, POLL)
    )
    assert 0.2 * 1.2 <= first - start < 2
    assert second - first >= (0.2 + 5) * 1.4, "5 s more, and a margin for a clock that runs fast"
    assert "asking us to slow down" in " ".join(said.split())


# Logins that expire.


def test_a_refused_login_is_renewed_by_itself_and_kept_before_it_is_used(
    daemon: Session, github: GitHub
) -> None:
    github.forget(github_token_expires_in=EIGHT_HOURS, token_lifetime=2, refresh_in=1)
    good(daemon, "login", "--client-id", "copilot")
    old = stored(daemon)
    assert old["refresh_token"].startswith("ghr_")
    assert EIGHT_HOURS - 60 < account(daemon)["login_expires_in"] <= EIGHT_HOURS
    before = github.asked(EXCHANGE)
    github.world.queue_faults(EXCHANGE, [Fault(), Fault(delay=0.7)])
    github.world.revoke(old["token"])
    # nobody asks for anything: it is the Copilot token's own refresh that finds out
    eventually(lambda: github.asked(EXCHANGE) == before + 2)
    new = stored(daemon)
    assert (new["token"], new["refresh_token"]) != (old["token"], old["refresh_token"])
    assert github.world.github_grant(new["token"]) is not None
    assert github.world.github_grant(old["refresh_token"], refresh=True) is None, "it was used"
    eventually(lambda: statuses_of(github, EXCHANGE)[before:] == [401, 200])
    assert good(daemon, "get").startswith("tid=")


def test_a_login_that_expired_while_the_daemon_was_away_is_renewed_first(
    daemon: Session, github: GitHub
) -> None:
    github.forget(github_token_expires_in=1)
    good(daemon, "login", "--client-id", "copilot")
    old = stored(daemon)
    daemon.systemctl("stop", SERVICE)
    eventually(lambda: github.world.github_grant(old["token"]) is None)
    github.forget(github_token_expires_in=EIGHT_HOURS)
    assert good(daemon, "get").startswith("tid=")
    asked = [(each.path, each.status) for each in github.world.requests]
    assert asked == [(POLL, 200), (EXCHANGE, 200)], "a token known to be dead is never sent"
    assert stored(daemon)["refresh_token"] != old["refresh_token"]


def test_a_dead_pair_asks_for_a_login_and_deletes_nothing(daemon: Session, github: GitHub) -> None:
    github.forget(github_token_expires_in=EIGHT_HOURS)
    good(daemon, "login", "--client-id", "copilot")
    kept = daemon.good("sh", "-c", f"cat {LOGINS}/*.json")
    github.world.revoke_all()
    assert refused(daemon, "refresh")["code"] == "bad_refresh_token"
    asked = [(each.path, each.status) for each in github.world.requests][-2:]
    assert asked == [(EXCHANGE, 401), (POLL, 200)]
    for verb in ("get", "chat"):
        error = refused(daemon, verb, *(["hello"] if verb == "chat" else []))
        assert (error["class"], error["code"]) == (4, "bad_refresh_token")
        assert "refresh token" in error["message"]
        assert "expired or was used" in error["message"]
    assert "refresh token: it has expired or was used" in " ".join(good(daemon, "status").split())
    assert daemon.good("sh", "-c", f"cat {LOGINS}/*.json") == kept
    assert [(each.path, each.status) for each in github.world.requests][-2:] == asked
    good(daemon, "login", "--client-id", "copilot")
    assert good(daemon, "get").startswith("tid=")


# The end of a login.


def test_logout_revoke_ends_the_token_everywhere(signed_in: Session, github: GitHub) -> None:
    token = stored(signed_in)["token"]
    done = signed_in.cred("logout", "--revoke")
    assert (done.returncode, "Revoked at GitHub" in done.stderr) == (0, True), done.stderr
    (request,) = [each for each in github.world.requests if each.path == REVOKE]
    assert (request.status, "authorization" in request.headers) == (202, False)
    assert github.world.github_grant(token) is None
    assert signed_in.run("ls", LOGINS).stdout == ""
    assert refused(signed_in, "get")["class"] == 4


def test_a_revocation_that_fails_keeps_the_login(signed_in: Session, github: GitHub) -> None:
    refusals = [
        (Fault(500, {}, "no"), (7, "upstream_error")),
        (Fault(422, {}, {"message": "Validation Failed"}), (5, "revocation_refused")),
        (Fault(429, {"retry-after": "60"}, {"message": "slow"}), (7, "rate_limited")),
    ]
    for answer, expected in refusals:
        github.world.queue_faults(REVOKE, [answer])
        error = refused(signed_in, "logout", "--revoke")
        assert (error["class"], error["code"]) == expected
        assert "not revoked, and is kept" in error["message"]
        assert good(signed_in, "get").startswith("tid=")
    assert github.world.github_grant(stored(signed_in)["token"]) is not None


# Tokens that somebody brings along.


def test_tokens_that_cannot_serve_are_refused_unasked(daemon: Session, github: GitHub) -> None:
    for kind, words in (("ghp_", "classic personal access token"), ("ghr_", "refresh token")):
        token = github.world.mint(kind, "hubot")
        error = refused(daemon, "login", "--with-token", stdin=token)
        assert (error["class"], words in error["message"]) == (2, True), error
        assert not GITHUB_TOKEN.search(str(error))
    assert list(github.world.requests) == []
    assert daemon.status()["accounts"] == []


KINDS = {
    "github_pat_": ("hubot", "direct"),
    "ghs_": ("installation", "direct"),
    "gho_": ("hubot", "exchange"),
    "ghu_": ("hubot", "exchange"),
}


def test_tokens_of_each_other_kind_sign_in(daemon: Session, github: GitHub) -> None:
    for kind, (login, mode) in KINDS.items():
        github.forget()
        scope = "read:user" if kind == "gho_" else ""
        token = github.world.mint(kind, "hubot", scope=scope)
        done = daemon.cred("login", "--with-token", stdin=f"{token}\n")
        assert done.returncode == 0, done.stderr
        assert f"Signed in as {login} on github.com" in done.stderr
        shown = account(daemon)
        assert (shown["login"], shown["mode"], shown["scopes"]) == (login, mode, scope)
        assert "hello" in good(daemon, "chat", "--model", "sim-chat", "hello")
        assert (github.asked(EXCHANGE) > 0) is (mode == "exchange")
        done = daemon.cred(*JSON_ERRORS, "get")
        if mode == "direct":
            assert (done.returncode, error_of(done)["code"]) == (5, "direct_mode")
        else:
            assert done.stdout.startswith("tid=")


def test_a_dead_token_that_somebody_brings_is_tried_once(daemon: Session, github: GitHub) -> None:
    token = github.world.mint("gho_", "hubot")
    github.world.revoke(token)
    error = refused(daemon, "login", "--with-token", stdin=token)
    assert (error["class"], error["code"]) == (4, "bad_credentials")
    assert (github.asked(IDENTITY), github.asked(EXCHANGE)) == (1, 0)
