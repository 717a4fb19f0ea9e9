"""Models and the other paths of the Copilot API, through `copilot-cred models` and `api`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from system.scripted import CHAT, JSON_ERRORS, asked_anew, error_of, fault, good, refused


if TYPE_CHECKING:
    import subprocess

    from system.github import GitHub
    from system.session import Session


MODELS = "/models"
POLICY = "/models/sim-premium/policy"


def row(table: str, model: str) -> list[str]:
    (found,) = [line.split() for line in table.splitlines() if line.split()[0] == model]
    return found


def statuses(github: GitHub, path: str) -> list[int]:
    return [each.status for each in list(github.world.requests) if each.path == path]


def test_the_list_says_what_each_model_takes_costs_and_waits_for(
    signed_in: Session, github: GitHub
) -> None:
    done = signed_in.cred("models")
    assert done.returncode == 0, done.stderr
    table = done.stdout
    assert row(table, "sim-chat")[1] == "(default)"
    premium = row(table, "sim-enabled")
    assert "144k/128k/16k" in premium
    assert premium[premium.index("144k/128k/16k") + 1 :][:2] == ["10", "enabled"]
    assert "unconfigured" in row(table, "sim-premium")
    assert "0.33" in row(table, "sim-disabled")
    assert row(table, "sim-claude")[-4:-2] == ["messages", "vision"]
    assert "ws:responses" in row(table, "sim-responses")
    assert "sim-embedding" not in table
    assert "sim-embedding" in good(signed_in, "models", "--all")
    entries = json.loads(good(signed_in, "models", "--json"))
    assert {"sim-chat", "sim-embedding"} <= {each.get("id") for each in entries}
    assert statuses(github, MODELS) == [200], "one question for all of that"
    asked_anew(signed_in, github, "models")
    assert statuses(github, MODELS) == [200, 200]


def test_terms_are_accepted_by_a_person_only_and_then_the_model_answers(
    signed_in: Session, github: GitHub
) -> None:
    asking = ("chat", "--model", "sim-premium", "hello")
    good(signed_in, "models")
    error = refused(signed_in, *asking)
    assert (error["class"], error["code"]) == (2, "model_not_supported")
    assert error["hint"].endswith("copilot-cred models enable sim-premium")
    error = refused(signed_in, "models", "enable", "sim-premium")
    assert (error["class"], error["code"]) == (2, "not_confirmed")
    assert statuses(github, POLICY) == []
    done = signed_in.cred("models", "enable", "sim-premium", "--yes")
    assert (done.returncode, "Simulated terms" in done.stderr) == (0, True), done.stderr
    assert statuses(github, POLICY) == [200]
    assert "hello" in good(signed_in, *asking)
    assert "enabled" in row(good(signed_in, "models"), "sim-premium")
    good(signed_in, "models", "enable", "sim-premium", "--yes")
    assert statuses(github, POLICY) == [200], "what is enabled is not enabled again"


def test_a_model_that_is_not_there(signed_in: Session, github: GitHub) -> None:
    error = refused(signed_in, "models", "enable", "sim-premum", "--yes")
    assert (error["class"], error["code"]) == (2, "no_such_model")
    assert "did you mean sim-premium" in error["message"]
    error = refused(signed_in, "chat", "--model", "no-such-model", "hello")
    assert (error["class"], error["code"]) == (2, "model_not_supported")
    assert statuses(github, CHAT) == [400]


def test_an_organizations_no_is_told(signed_in: Session, github: GitHub) -> None:
    fault(github, POLICY, "403_denied")
    error = refused(signed_in, "models", "enable", "sim-premium", "--yes")
    assert error["class"] == 5
    assert "access denied" in error["message"]


def test_a_list_that_cannot_be_had_anew_is_shown_old(signed_in: Session, github: GitHub) -> None:
    fresh = good(signed_in, "models", "--json")
    for name in ("500", "reset_before_head", "429_rate_limited"):
        asked = github.asked(MODELS)
        fault(github, MODELS, name)
        done = asked_anew(signed_in, github, "models", "--json")
        assert (done.returncode, done.stdout) == (0, fresh), name
        assert "GitHub was asked anew, in vain" in done.stderr
        assert "hint:" in done.stderr
        assert ("again in: 60 s" in done.stderr) is (name == "429_rate_limited"), done.stderr
        assert github.asked(MODELS) == asked + 1
    asked = github.asked(MODELS)
    signed_in.cred("models", "--fresh")
    assert github.asked(MODELS) == asked, "not before it said"
    error = refused(signed_in, "chat", "--model", "sim-chat", "hello")
    assert (error["code"], github.asked(CHAT)) == ("cooling_down", 0), "a limit of the account's"


def test_without_any_list_the_refusal_is_the_answer(signed_in: Session, github: GitHub) -> None:
    fault(github, MODELS, "429_rate_limited")
    error = refused(signed_in, "models")
    assert (error["class"], error["code"]) == (7, "rate_limited")
    assert 55 < error["retry_after"] <= 60


# `copilot-cred api`: the other paths.


def ask(session: Session, path: str, body: Any, *more: str) -> subprocess.CompletedProcess[str]:
    return session.cred(*JSON_ERRORS, "api", path, *more, stdin=json.dumps(body))


SAID = {"role": "user", "content": "hello there"}
ANSWERED = {
    "/responses": {"model": "sim-responses", "input": "hello there"},
    "/v1/messages": {"model": "sim-claude", "max_tokens": 99, "messages": [SAID]},
    "/embeddings": {"model": "sim-embedding", "input": ["one", "two"]},
    "/models/session": {"auto_mode": {"model_hints": ["auto"]}},
}


def test_each_path_answers_and_passes_untouched(signed_in: Session, github: GitHub) -> None:
    answers = {}
    for path, body in ANSWERED.items():
        done = ask(signed_in, path, body, "--header", "anthropic-version: 2023-06-01")
        assert (done.returncode, done.stderr) == (0, ""), path
        answers[path] = json.loads(done.stdout)
        (request,) = [each for each in github.world.requests if each.path == path]
        assert len(done.stdout.encode()) == request.sent
        assert request.headers["anthropic-version"] == "2023-06-01"
    text = answers["/responses"]["output"][0]["content"][0]["text"]
    assert text == "This is sim-responses, simulated. You said: hello there"
    assert "hello there" in answers["/v1/messages"]["content"][0]["text"]
    assert len(answers["/embeddings"]["data"]) == 2
    session_token = answers["/models/session"]["session_token"]
    done = ask(
        signed_in,
        CHAT,
        {"model": "sim-chat", "messages": [SAID]},
        "--header",
        f"copilot-session-token: {session_token}",
    )
    assert done.returncode == 0, done.stderr


def test_streams_of_other_paths_come_as_they_are(signed_in: Session) -> None:
    for path, last in (("/responses", "response.completed"), ("/v1/messages", "message_stop")):
        done = ask(signed_in, path, ANSWERED[path] | {"stream": True}, "--stream")
        assert done.returncode == 0, done.stderr
        assert last in done.stdout


NOT_HERE = "unsupported_api_for_model"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("/responses", {"model": "sim-chat", "input": "x"}, NOT_HERE),
    ("/v1/messages", {"model": "sim-chat", "max_tokens": 9, "messages": [SAID]}, NOT_HERE),
    (CHAT, {"model": "sim-responses", "messages": [SAID]}, NOT_HERE),
    (
        "/responses",
        {"model": "sim-responses", "input": "x", "store": True},
        "store_not_supported",
    ),
    (
        "/responses",
        {"model": "sim-responses", "input": "x", "previous_response_id": "r"},
        "previous_response_not_found",
    ),
]


def test_what_a_path_refuses_is_told_beside_its_body(signed_in: Session) -> None:
    for path, body, code in REFUSED:
        done = ask(signed_in, path, body, "-i")
        assert done.stdout.startswith("HTTP/1.1 400 Bad Request\n")
        assert json.loads(done.stdout.partition("\n\n")[2])["error"]["code"] == code
        error = error_of(done)
        assert (error["class"], error["code"]) == (2, code)


def test_no_other_path_can_be_asked(signed_in: Session, github: GitHub) -> None:
    before = len(github.world.requests)
    for path in ("/agents", "/user", "/models/sim-premium/policy", "/chat/../user"):
        done = ask(signed_in, path, {})
        assert (done.returncode, done.stdout) == (2, "")
        assert error_of(done)["code"] == "path_not_allowed"
    assert len(github.world.requests) == before
