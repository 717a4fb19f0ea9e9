"""Answers of GitHub's and Copilot's that are nobody else's business in this folder.

Together with sign-in, refusals, modes, models and quota: all that the simulator can answer has
been met by an installed command.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from brokerd.simulator.world import Fault
from system.github import EXCHANGE, IDENTITY
from system.scripted import asked_anew, fault, good, refused


if TYPE_CHECKING:
    from system.github import GitHub
    from system.session import Session


OWN = "Ov23liOwnOwnOwnOwnOw"  # an app that GitHub lets use no exchange
SEAT, GRAPHQL, MODELS = "/copilot_internal/user", "/graphql", "/models"

# Starts N commands at once; prints [exit code, stdout] of each.
AT_ONCE = """
import json, subprocess, sys
cred, count = sys.argv[1], int(sys.argv[2])
running = [subprocess.Popen([cred, "get"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True) for _ in range(count)]
print(json.dumps([[each.communicate()[0], each.returncode] for each in running]))
"""


@pytest.fixture
def daemon(session: Session) -> Session:
    """It can be asked, nobody is signed in."""
    session.systemctl("start", "copilot-broker.socket")
    return session


def statuses(github: GitHub, path: str) -> list[int]:
    return [each.status for each in list(github.world.requests) if each.path == path]


def test_a_device_code_lives_no_longer_than_it_said(daemon: Session, github: GitHub) -> None:
    github.forget(auto_approve=False, device_expires_in=1)
    error = refused(daemon, "login")
    assert (error["class"], error["code"]) == (4, "expired_token")
    assert "not approved in time" in error["message"]
    assert daemon.status()["accounts"] == []


def test_a_person_who_is_locked_out_is_told_and_not_asked_about_again(
    daemon: Session, github: GitHub
) -> None:
    fault(github, IDENTITY, "403_lockout")
    error = refused(daemon, "login", "--with-token", stdin=github.world.mint("gho_"))
    assert (error["class"], error["code"]) == (7, "login_locked_out")
    assert daemon.status()["accounts"] == []

    # what a person has approved on GitHub's page is worth waiting for
    fault(github, IDENTITY, "403_lockout")
    cred = f"{daemon.home}/.local/bin/copilot-cred"
    with daemon.spawn(cred, "login", "--account", "approved") as waiting:
        try:
            assert waiting.stderr is not None
            said = ""
            while "locks out" not in said:
                line = waiting.stderr.readline()
                assert line, said
                said += line
            assert "the login is approved, but" in said
            assert waiting.poll() is None
        finally:
            waiting.terminate()
    assert statuses(github, IDENTITY) == [403, 403]


def test_a_slow_exchange_is_asked_for_once_whoever_waits(
    signed_in: Session, github: GitHub
) -> None:
    signed_in.systemctl("stop", "copilot-broker.service")
    before = github.asked(EXCHANGE)
    github.world.queue_faults(EXCHANGE, [Fault(delay=1.0)])
    cred = f"{signed_in.home}/.local/bin/copilot-cred"
    told = json.loads(signed_in.script(AT_ONCE, cred, "20", timeout=60))
    assert [code for _, code in told] == [0] * 20
    assert len({token for token, _ in told}) == 1
    assert github.asked(EXCHANGE) == before + 1
    exchanges = [each for each in github.world.requests if each.path == EXCHANGE]
    assert {each.method for each in exchanges} == {"GET"}, "any other is a 404"


def test_graphql_may_refuse_who_has_just_been_let_in(daemon: Session, github: GitHub) -> None:
    github.forget(refused_clients=[OWN])
    fault(github, SEAT, "404")
    fault(github, GRAPHQL, "401")
    error = refused(daemon, "login", "--client-id", OWN)
    assert (error["class"], error["code"]) == (4, "bad_credentials")
    assert statuses(github, GRAPHQL) == [401]
    asked = len(github.world.requests)
    assert refused(daemon, "chat", "hello")["code"] == "bad_credentials"
    assert len(github.world.requests) == asked, "it is not shown again"
    good(daemon, "login", "--client-id", OWN)
    assert "hello" in good(daemon, "chat", "hello")


def test_a_list_of_models_outlives_its_token(signed_in: Session, github: GitHub) -> None:
    whole = good(signed_in, "models", "--json", "--all")
    for name, status in (("401_token_expired", 401), ("421", 421)):
        before = github.asked(EXCHANGE), len(statuses(github, MODELS))
        fault(github, MODELS, name)
        done = asked_anew(signed_in, github, "models", "--json", "--all")
        assert (done.returncode, done.stdout, done.stderr) == (0, whole, ""), name
        assert statuses(github, MODELS)[before[1] :] == [status, 200]
        assert github.asked(EXCHANGE) == before[0] + 1


def test_a_list_of_models_may_hold_anything(signed_in: Session, github: GitHub) -> None:
    entries: list[Any] = json.loads(good(signed_in, "models", "--json", "--all"))
    ids = [each.get("id") for each in entries]
    assert ids.count("sim-chat") == 1, "of duplicates one"
    assert {"sim-embedding", "sim-completion"} <= set(ids)
    broken = [None, 7, "a string", {}, {"id": 5}, {"id": "sim-odd", "capabilities": []}]
    body = {"object": "list", "data": [*broken, *entries]}
    github.world.queue_faults(MODELS, [Fault(200, {}, body)])
    table = asked_anew(signed_in, github, "models").stdout
    assert "sim-chat" in table
    assert "sim-claude" in table


def test_an_answer_may_have_the_shape_of_another_vendors(signed_in: Session) -> None:
    for form in ((), ("--no-stream",)):
        done = signed_in.cred("chat", *form, "--model", "sim-quirk-anthropic", "hello")
        assert (done.returncode, done.stderr) == (0, ""), form
        assert done.stdout.endswith("You said: hello\n"), done.stdout
