"""One pacing gate for all tools: a limit is heard by everybody, and nobody is limited early."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from brokerd.simulator.refusals import error_text
from brokerd.simulator.world import Fault
from system.github import EXCHANGE
from system.scripted import CHAT, account, error_of, good, refused, stored
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from pathlib import Path

    from brokerd.simulator.records import RecordedRequest
    from system.github import GitHub
    from system.session import Session


WAIT = 30
HELLO = ("chat", "--model", "sim-chat", "hello")
OTHER = ("chat", "--model", "sim-claude", "hello")

# Tools that come one after the other within a second, and each again when it is told to. Prints
# for each what became of it: "served", or the code of an error that named no time.
MANY_CLIENTS = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from copilot_broker import Client, CopilotBrokerError

BODY = {"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}]}
count = int(sys.argv[1])

def ask(number):
    time.sleep(number / count)
    with Client(name=f"tool{number}", timeout=60) as client:
        while True:
            try:
                answer = client.complete(BODY)
                answer.raise_for_status()
                return "served" if "hello" in answer.body.decode() else "odd"
            except CopilotBrokerError as error:
                if not error.retry_after:
                    return error.code
                time.sleep(error.retry_after)

with ThreadPoolExecutor(count) as tools:
    print(json.dumps(list(tools.map(ask, range(count)))))
"""

# Starts N commands of each kind at once; prints their exit codes by kind.
AT_ONCE = """
import json, subprocess, sys
cred, count, *kinds = sys.argv[1], int(sys.argv[2]), *map(json.loads, sys.argv[3:])
null = subprocess.DEVNULL
running = [[subprocess.Popen([cred, *kind], stdin=null, stdout=null, stderr=null)
            for kind in kinds] for _ in range(count)]
print(json.dumps([[each.wait() for each in some] for some in running]))
"""


def limit(code: str, seconds: int = WAIT) -> Fault:
    return Fault(429, {"retry-after": str(seconds)}, error_text(code, "Slow down, please"))


def asked(github: GitHub) -> list[RecordedRequest]:
    return [each for each in list(github.world.requests) if each.path == CHAT]


def test_a_limit_told_to_one_tool_binds_the_next_which_sends_nothing(
    signed_in: Session, github: GitHub
) -> None:
    good(signed_in, "models")
    github.world.queue_faults(CHAT, [limit("rate_limited")])
    error = refused(signed_in, *HELLO)
    assert (error["class"], error["code"], error["retry_after"]) == (7, "rate_limited", WAIT)
    limited_at = time.time()

    for verb in (HELLO, OTHER, ("api", CHAT, "--body", '{"model": "sim-chat"}')):
        error = refused(signed_in, *verb)
        assert (error["class"], error["code"]) == (7, "cooling_down")
        assert WAIT - 15 < error["retry_after"] <= WAIT
        assert "Nothing was sent" in error["hint"]
        assert "Slow down, please" in error["message"], "upstream's own reason"
    assert len(asked(github)) == 1

    lease = json.loads(good(signed_in, "get", "--format", "json"))
    assert abs(lease["cooldown_until"] - limited_at - WAIT) < 5
    pacing = account(signed_in)["pacing"]
    assert WAIT - 15 < pacing["cooldown_in"] <= WAIT
    assert pacing["reason"]["code"] == "rate_limited"
    shown = good(signed_in, "status")
    assert "asks again in " in shown
    assert ": GitHub Copilot answered 429: Slow down, please" in shown
    assert "sim-chat" in good(signed_in, "models"), "the list at hand costs no request"


def test_a_limit_of_one_model_leaves_the_others_alone(signed_in: Session, github: GitHub) -> None:
    github.world.queue_faults(CHAT, [limit("model_overloaded")])
    assert refused(signed_in, *HELLO)["code"] == "model_overloaded"
    error = refused(signed_in, *HELLO)
    assert (error["code"], "the model 'sim-chat'" in error["message"]) == ("cooling_down", True)
    assert "hello" in good(signed_in, *OTHER)
    assert [each.model for each in asked(github)] == ["sim-chat", "sim-claude"]
    assert json.loads(good(signed_in, "get", "--format", "json"))["cooldown_until"] is None
    pacing = account(signed_in)["pacing"]
    assert (pacing["cooldown_in"], list(pacing["models"])) == (None, ["sim-chat"])
    assert "asks sim-chat again in " in good(signed_in, "status")


def test_a_limit_is_over_when_it_said(signed_in: Session, github: GitHub) -> None:
    github.world.queue_faults(CHAT, [limit("rate_limited", 2)])
    assert refused(signed_in, *HELLO)["retry_after"] == 2
    assert refused(signed_in, *HELLO)["code"] == "cooling_down"
    eventually(lambda: signed_in.cred(*HELLO).returncode == 0, within=6)
    first, *rest = asked(github)
    assert [each.status for each in rest] == [200]
    assert not any(each.early for each in rest)
    assert rest[0].monotonic - first.monotonic >= 2


def test_one_failure_after_the_other_opens_the_circuit(signed_in: Session, github: GitHub) -> None:
    github.world.queue_faults(CHAT, [Fault(500, {}, "down")] * 20)
    codes = [refused(signed_in, *HELLO)["code"] for _ in range(11)]
    assert codes == ["upstream_500"] * 10 + ["upstream_down"]
    assert len(asked(github)) == 10
    assert account(signed_in)["pacing"]["circuit"] == "open"
    assert "asks nothing for a moment" in good(signed_in, "status")


def test_100_tools_under_a_limit_of_4_are_told_when_and_then_served(
    signed_in: Session, github: GitHub, installed: Path
) -> None:
    github.world.settings.change(
        {"max_concurrent": 4, "chat_head_delay": 0.08, "early_grace": 0.25}
    )
    python = str(installed / "bin/python")
    told = json.loads(signed_in.good(python, "-c", MANY_CLIENTS, "100", timeout=90))
    assert told == ["served"] * 100
    seen = asked(github)
    limited = [each for each in seen if each.status == 429]
    assert limited, "nothing was limited, so nothing is tried here"
    assert len(seen) - len(limited) == 100
    assert not any(each.early for each in seen), "before the moment that somebody was told"
    assert account(signed_in)["pacing"]["limit"] is not None


def test_50_tools_with_a_dead_login_are_one_wrong_credential(
    signed_in: Session, github: GitHub
) -> None:
    good(signed_in, *HELLO)
    github.world.revoke(stored(signed_in)["token"])
    github.world.queue_faults(CHAT, [Fault(401, {}, "unauthorized: token expired\n")] * 60)
    cred = f"{signed_in.home}/.local/bin/copilot-cred"
    before = github.asked(EXCHANGE)
    kinds = [json.dumps(each) for each in (["get"], [*HELLO])]
    codes = json.loads(signed_in.script(AT_ONCE, cred, "50", *kinds, timeout=120))
    wrong = [
        each for each in github.world.requests if each.status in (401, 403) and each.path != CHAT
    ]
    assert [each.path for each in wrong] == [EXCHANGE]
    assert github.asked(EXCHANGE) == before + 1
    assert {get for get, _ in codes} <= {0, 4}, "a token that still lived, or a login is wanted"
    assert {chat for _, chat in codes} == {4}
    assert refused(signed_in, "get")["code"] == "bad_credentials"
    signed_in.systemctl("restart", SERVICE)
    assert error_of(signed_in.cred("get", "--error-format", "json"))["class"] == 4
