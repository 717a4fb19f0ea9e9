"""Completions as a user has them: installed commands and library, a real user manager around."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from brokerd.simulator.refusals import named
from system.github import EXCHANGE
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from system.github import GitHub
    from system.session import Session

CHAT = "/chat/completions"
PROMPT = "canary-of-the-prompt 4711"

LEAVES_EARLY = """
import sys
from copilot_broker import Client
body = {"model": "sim-chat", "stream": True, "messages": [{"role": "user", "content": "count"}]}
with Client() as client, client.stream(body) as stream:
    next(iter(stream))
"""

MANY_STREAMS = """
import asyncio, hashlib, resource, sys
from copilot_broker import AsyncClient

count = int(sys.argv[1])
files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
body = {"model": "sim-chat", "stream": True, "messages": [{"role": "user", "content": "count"}]}

async def one(client, gate):
    stream = await client.stream(body, headers={"x-initiator": "user"}, timeout=60)
    async with stream:
        gate.release()
        data = await stream.read()
    return data.count(b"data: "), data.rstrip().endswith(b"data: [DONE]")

async def main():
    async with AsyncClient() as client:
        gate = asyncio.Semaphore(0)
        results = await asyncio.gather(*(one(client, gate) for _ in range(count)))
        print(len(results), len(set(results)), all(whole for _, whole in results))

asyncio.run(main())
"""


def asked(github: GitHub) -> list[object]:
    return [request for request in list(github.world.requests) if request.path == CHAT]


def refuse(github: GitHub, *names: str) -> None:
    """Let the next answers be these faults of `simulator.refusals`."""
    github.world.queue_faults(CHAT, [named(name, time.time()) for name in names])


def chat(session: Session, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return session.cred("chat", *words, stdin=stdin)


def test_chat_streams_an_answer(signed_in: Session, github: GitHub) -> None:
    done = chat(signed_in, PROMPT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4711" in done.stdout
    assert done.stdout.endswith("\n")
    (request,) = asked(github)
    assert request.headers["x-initiator"] == "user"
    whole = chat(signed_in, "--no-stream", PROMPT)
    assert (whole.returncode, whole.stdout) == (0, done.stdout)


def test_models_lists_what_the_account_has(signed_in: Session) -> None:
    entries = json.loads(signed_in.cred("models", "--json").stdout)
    table = signed_in.cred("models").stdout
    assert any(entry.get("is_chat_default") for entry in entries)
    assert "sim-chat" in table


def test_a_token_that_expires_in_mid_run_is_not_noticed(
    signed_in: Session, github: GitHub
) -> None:
    before = github.asked(EXCHANGE)
    refuse(github, "401_token_expired")
    done = chat(signed_in, PROMPT)
    assert (done.returncode, done.stderr) == (0, "")
    assert [request.status for request in asked(github)] == [401, 200]
    ids = {request.headers["x-request-id"] for request in asked(github)}
    assert len(ids) == 1, "a replay keeps its request's id"
    assert github.asked(EXCHANGE) == before + 1


def test_a_refusal_is_explained(signed_in: Session, github: GitHub) -> None:
    refuse(github, "422", "429_rate_limited")
    filtered, limited = chat(signed_in, PROMPT), chat(signed_in, PROMPT)
    assert (filtered.returncode, filtered.stdout) == (5, "")
    assert (limited.returncode, limited.stdout) == (7, "")
    assert len(asked(github)) == 2, "a refusal is never sent twice"


def test_who_leaves_is_noticed_upstream(
    signed_in: Session, github: GitHub, installed: Path
) -> None:
    github.world.settings.change({"chat_chunks": 1000, "chat_interval": 0.05})
    signed_in.good(str(installed / "bin/python"), "-c", LEAVES_EARLY)
    (request,) = asked(github)
    eventually(lambda: request.cancelled)


def test_upstream_dying_is_told_after_what_came(signed_in: Session, github: GitHub) -> None:
    refuse(github, "reset_in_body")
    done = chat(signed_in, PROMPT)
    assert done.returncode == 7
    assert "upstream_cut" in done.stderr or "broke off" in done.stderr
    assert len(asked(github)) == 1, "a broken answer is never asked for again"


def test_a_stop_ends_streams_with_a_reason(signed_in: Session, github: GitHub) -> None:
    github.world.settings.change({"chat_chunks": 10_000, "chat_interval": 0.05})
    running = signed_in.spawn(f"{signed_in.home}/.local/bin/copilot-cred", "chat", PROMPT)
    eventually(lambda: asked(github))
    signed_in.systemctl("restart", SERVICE)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 7, said
    assert "shutting_down" in said or "stopping" in said or "restart" in said, said


def test_five_hundred_streams_at_once(signed_in: Session, github: GitHub, installed: Path) -> None:
    github.world.settings.change({"chat_chunks": 20, "chat_interval": 0.1})
    counted = signed_in.good(str(installed / "bin/python"), "-c", MANY_STREAMS, "500", timeout=120)
    assert counted.split() == ["500", "1", "True"]
    assert len(asked(github)) == 500


def test_no_prompt_and_no_answer_in_the_journal(signed_in: Session, github: GitHub) -> None:
    session = signed_in
    done = chat(session, "--model", "sim-chat", stdin=PROMPT)
    assert "4711" in done.stdout
    records = session.journal()
    # The journal also has what other tests let this user's daemon write down.
    *_, ended = (record for record in records if record["MESSAGE"] == "completion ended")
    assert (ended["STATUS"], ended["DONE"], ended["END"]) == ("200", "1", "whole")
    assert int(ended["TOTAL_TOKENS"]) > 0
    told = json.dumps(records)
    assert told.count("canary-of-the-prompt") == told.count("You said") == 0
