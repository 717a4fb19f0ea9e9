"""Exchange or direct: how each login comes to be used, and that a GitHub token never leaves."""

from __future__ import annotations

import hashlib
import json
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from brokerd.simulator.refusals import error_text
from brokerd.simulator.world import Fault
from system.github import EXCHANGE
from system.scripted import (
    CHAT,
    GITHUB_TOKEN,
    JSON_ERRORS,
    account,
    error_of,
    fault,
    good,
    refused,
    stored,
    with_more,
)
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from pathlib import Path

    from brokerd.simulator.records import RecordedRequest
    from system.github import GitHub
    from system.session import Session


OWN = "Ov23liOwnOwnOwnOwnOw"  # an app that GitHub lets use no exchange
SEAT = "/copilot_internal/user"
GRAPHQL = "/graphql"
BODY = json.dumps({"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}]})

# Every verb that tells anything, some of them in each of their forms.
TELLING = (
    ("get",), ("get", "--format", "json"), ("get", "--format", "env"), ("get", "--format", "header"),
    ("status",), ("status", "--json"), ("account", "list"), ("account", "list", "--json"),
    ("models", "--json"), ("refresh",), ("chat", "hello"), ("chat", "--json", "hello"),
    ("chat", "--no-stream", "--json", "hello"), ("api", "-i", CHAT, "--body", BODY),
    ("api", "-i", "--stream", CHAT, "--body", BODY), ("account", "use", "default"),
)  # fmt: skip

# Asks by hand for what no verb of the command asks for; prints all that came.
BY_HAND = """
from copilot_broker import Client, CopilotBrokerError
with Client() as client:
    asking = [
        client.token, lambda: client.token(reject="00000000"), client.status, client.accounts,
        client.refresh, client.models, lambda: next(iter(client.watch())),
    ]
    for ask in asking:
        try:
            told = ask()
            print(told, vars(told) if hasattr(told, "__dict__") else "")
        except CopilotBrokerError as error:
            print(error.code, error, vars(error))
"""


@pytest.fixture
def daemon(session: Session, github: GitHub) -> Session:
    """It can be asked; the exchange does not know the tokens of the app OWN."""
    github.forget(refused_clients=[OWN])
    session.systemctl("start", "copilot-broker.socket")
    return session


def asked(github: GitHub, path: str) -> list[RecordedRequest]:
    return [each for each in list(github.world.requests) if each.path == path]


def fingerprint(token: str) -> str:
    return f"Bearer sha256:{hashlib.sha256(token.encode()).hexdigest()[:8]}"


def test_a_hidden_exchange_means_direct_use_and_is_remembered(
    daemon: Session, github: GitHub
) -> None:
    done = daemon.cred("login", "--client-id", OWN)
    assert done.returncode == 0, done.stderr
    assert "The login is used directly: Copilot's exchange does not know" in done.stderr
    assert [each.status for each in asked(github, EXCHANGE)] == [404]
    assert account(daemon)["mode"] == "direct"
    assert "hello" in good(daemon, "chat", "hello")
    (chat,) = asked(github, CHAT)
    assert chat.headers["authorization"] == fingerprint(stored(daemon)["token"])
    assert "copilot-integration-id" not in chat.headers, "no integration that it does not have"

    daemon.systemctl("restart", SERVICE)
    assert "again" in good(daemon, "chat", "again")
    assert account(daemon)["mode"] == "direct"
    assert github.asked(EXCHANGE) == 1, "learned once"

    good(daemon, "login", "--client-id", OWN)
    assert github.asked(EXCHANGE) == 2, "of another login nothing is known"
    good(daemon, "login", "--client-id", "vscode")
    assert good(daemon, "get").startswith("tid=")


def test_a_login_used_directly_leaves_through_no_verb(
    daemon: Session, github: GitHub, installed: Path
) -> None:
    good(daemon, "login", "--client-id", OWN)
    token = stored(daemon)["token"]
    told = []
    for verb in TELLING:
        done = daemon.cred(*verb)
        told.append(done.stdout + done.stderr)
        assert (done.returncode == 0) is (verb[0] != "get"), (verb, done.stderr)
    told.append(daemon.good(str(installed / "bin/python"), "-c", BY_HAND))
    daemon.run("journalctl", "--sync", root=True)
    told.append(daemon.good("journalctl", "--output=export", "--all", "-q", root=True))
    for each in told:
        assert token not in each
        assert not GITHUB_TOKEN.search(each)
    assert told[-2].count("direct_mode") >= 2, told[-2]
    error = refused(daemon, "get")
    assert (error["class"], error["code"]) == (5, "direct_mode")
    assert "never leaves the broker" in error["message"]
    assert "copilot-cred login --client-id vscode" in error["hint"]
    assert github.asked(EXCHANGE) == 1, "nor was it asked for again"


def test_the_configuration_overrides_what_is_learned(daemon: Session, github: GitHub) -> None:
    good(daemon, "login", "--client-id", OWN)
    with_more(daemon, '[accounts.default]\nmode = "exchange"\n')
    daemon.systemctl("restart", SERVICE)
    error = error_of(daemon.cred(*JSON_ERRORS, "chat", "hello"))
    assert (error["class"], error["code"]) == (5, "exchange_not_found")
    assert refused(daemon, "get")["code"] == "exchange_not_found"
    assert [each.status for each in asked(github, EXCHANGE)] == [404, 404]
    assert asked(github, CHAT) == []
    pat = github.world.mint("github_pat_", "hubot")
    error = refused(daemon, "login", "--with-token", stdin=pat)
    assert (error["class"], error["code"]) == (2, "direct_token_refused")


def test_configured_direct_use_asks_no_exchange(daemon: Session, github: GitHub) -> None:
    with_more(daemon, '[accounts.default]\nmode = "direct"\n')
    github.forget(direct_for_all=True)
    good(daemon, "login")
    assert "hello" in good(daemon, "chat", "hello")
    assert refused(daemon, "get")["code"] == "direct_mode"
    assert (account(daemon)["mode"], github.asked(EXCHANGE)) == ("direct", 0)


def test_a_reload_changes_the_mode(daemon: Session, github: GitHub) -> None:
    github.forget(direct_for_all=True)
    good(daemon, "login")
    assert good(daemon, "get").startswith("tid=")
    with_more(daemon, '[accounts.default]\nmode = "direct"\n')
    daemon.systemctl("reload", SERVICE)
    assert eventually(lambda: account(daemon)["mode"] == "direct")
    assert refused(daemon, "get")["code"] == "direct_mode"
    assert account(daemon)["mode"] == "direct"


def test_where_the_seat_is_not_told_graphql_tells_the_host(
    daemon: Session, github: GitHub
) -> None:
    for name in ("404", "403_plain"):
        github.forget(refused_clients=[OWN])
        fault(github, SEAT, name)
        good(daemon, "login", "--client-id", OWN)
        (asking,) = asked(github, GRAPHQL)
        assert (asking.method, asking.status) == ("POST", 200)
        assert account(daemon)["api_base"] == github.url
        assert "hello" in good(daemon, "chat", "hello")


def test_where_nobody_tells_the_host_the_configured_one_serves(
    daemon: Session, github: GitHub
) -> None:
    github.world.settings.change({"endpoints": False})
    good(daemon, "login", "--client-id", OWN)
    assert (len(asked(github, SEAT)), len(asked(github, GRAPHQL))) == (1, 1)
    assert "hello" in good(daemon, "chat", "hello")


def test_a_seat_may_have_any_shape(daemon: Session, github: GitHub) -> None:
    plans = {
        "paid": "monthly_subscriber",
        "free": "free_limited_copilot",
        "no_access": "no_access",
        "nulls": "",
        "odd": "monthly_subscriber",
        "ai_credits": "monthly_subscriber",
    }
    token = github.world.mint("github_pat_", "hubot")  # direct from the first
    for form, plan in plans.items():
        github.forget(user_form=form)
        good(daemon, "login", "--with-token", stdin=token)
        shown = account(daemon)
        assert (shown["mode"], shown["sku"], shown["error"]) == ("direct", plan, None), form
        assert shown["api_base"] == github.url
        assert "hello" in good(daemon, "chat", "--model", "sim-chat", "hello")


def test_an_exchange_may_have_any_shape(daemon: Session, github: GitHub) -> None:
    for form in ("full", "minimal", "odd"):
        github.forget(exchange_form=form)
        good(daemon, "login")
        assert good(daemon, "get").startswith("tid="), form
        assert "hello" in good(daemon, "chat", "hello")
        assert 1700 < account(daemon)["expires_in"] <= 1800


def test_githubs_clock_may_be_a_day_off(daemon: Session, github: GitHub) -> None:
    day = 86_400
    for offset in (-day, day):
        github.forget(clock_offset=offset)
        person = f"person{offset}"
        token = github.world.mint("gho_", person)
        good(daemon, "login", "--account", person, "--with-token", stdin=token)
        lease = json.loads(good(daemon, "get", "--format", "json", "--account", person))
        assert 1700 < lease["expires_in"] <= 1800
        assert abs(lease["expires_at"] - time.time() - lease["expires_in"]) < 30, "by our clock"
        asking = ("chat", "--model", "sim-chat", "--account", person, "hello")
        assert "hello" in good(daemon, *asking)
        until = formatdate(github.world.wall() + 300, usegmt=True)
        limit = Fault(429, {"retry-after": until}, error_text("rate_limited", "Slow down"))
        github.world.queue_faults(CHAT, [limit])
        assert 290 <= refused(daemon, *asking)["retry_after"] <= 301, "by theirs"


def test_a_personal_token_without_permission_is_told_which(
    daemon: Session, github: GitHub
) -> None:
    github.forget(pat_has_permission=False)
    good(daemon, "login", "--with-token", stdin=github.world.mint("github_pat_", "hubot"))
    error = refused(daemon, "chat", "--model", "sim-chat", "hello")
    assert error["class"] == 5
    assert "permission Copilot Requests" in error["hint"]
    answered = asked(github, "/models") + asked(github, CHAT)
    assert len(answered) == 1, "the same token again would be refused again"


def test_a_401_of_a_login_used_directly_asks_github_before_it_asks_the_person(
    daemon: Session, github: GitHub
) -> None:
    good(daemon, "login", "--client-id", OWN)
    good(daemon, "chat", "hello")
    github.world.revoke(stored(daemon)["token"])
    # the 401 itself is passed on: the same token would be refused again
    assert "copilot-cred login" in refused(daemon, "chat", "--model", "sim-chat", "hello")["hint"]
    error = refused(daemon, "chat", "--model", "sim-chat", "hello")
    assert (error["class"], error["code"]) == (4, "bad_credentials")
    assert [each.status for each in asked(github, CHAT)] == [200, 401]
    wrong = [each for each in github.world.requests if each.status == 401 and each.path != CHAT]
    assert len(wrong) == 1, "one wrong credential, not several"
