"""Logins, models and refusals through the whole daemon: what a person sees is what happened."""

from __future__ import annotations

import asyncio
import json

import pytest

from brokerd.simulator.faults import Fault
from client.cli.running import COMMAND
from client.whole_daemon import CHAT, PATIENCE, whole_daemon


LIMITED = Fault(
    status=429,
    headers={"retry-after": "300"},
    body={"error": {"code": "user_global_rate_limited", "message": "slow down"}},
)
QUESTION = json.dumps({"model": "sim-chat", "messages": [{"role": "user", "content": "x"}]})


@pytest.fixture
async def daemon():
    async with whole_daemon() as daemon:
        yield daemon


async def run(daemon, *args, stdin=""):
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *args,
        env=daemon.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE)
    return process.returncode, out.decode(), err.decode()


async def account(daemon):
    _, out, _ = await run(daemon, "status", "--json")
    return json.loads(out)["accounts"][0]


async def test_a_refusal_has_the_same_words_wherever_it_is_told(daemon):
    await daemon.sign_in()
    daemon.copilot.world.queue_faults(CHAT, [LIMITED])
    code, out, err = await run(daemon, "api", CHAT, "--body", QUESTION, "--error-format", "json")
    assert (code, json.loads(out)) == (7, LIMITED.body)
    told = json.loads(err)
    assert told["retry_after"] == pytest.approx(300.0, abs=5.0)
    shown = (await account(daemon))["refusal"]
    assert {key: shown[key] for key in ("class", "code", "message", "hint")} == {
        key: told[key] for key in ("class", "code", "message", "hint")
    }
    _, text, _ = await run(daemon, "status")
    hint = told["hint"].removesuffix("; meanwhile: copilot-cred status")  # here it is
    assert hint != told["hint"]
    assert f"ago: {told['message']}\n    hint: {hint}\n" in text
    assert "asks again in " in text


async def test_while_copilot_wants_a_pause_nothing_is_sent(daemon):
    await daemon.sign_in()
    daemon.copilot.world.queue_faults(CHAT, [LIMITED])
    await run(daemon, "chat", "--model", "sim-chat", "x")
    sent = len(daemon.completions)
    for verb in (["chat", "--model", "sim-chat", "x"], ["api", CHAT, "--body", QUESTION]):
        code, out, err = await run(daemon, *verb)
        assert (code, out) == (7, "")
        assert "again in: " in err
    assert len(daemon.completions) == sent
    _, out, _ = await run(daemon, "get", "--format", "json")
    assert json.loads(out)["cooldown_until"] is not None


async def test_the_quota_that_an_answer_told_is_shown(daemon):
    await daemon.sign_in()
    assert (await run(daemon, "chat", "--model", "sim-chat", "x"))[0] == 0
    _, text, _ = await run(daemon, "status")
    assert "  premium_interactions  [#" in text


async def test_terms_are_accepted_once_and_for_all(daemon):
    await daemon.sign_in()
    code, _, err = await run(daemon, "models", "enable", "sim-premium")
    assert (code, "--yes" in err) == (2, True)
    code, _, err = await run(daemon, "models", "enable", "--yes", "sim-premium")
    assert (code, err.splitlines()[-1]) == (0, "Accepted: sim-premium can be used now.")
    code, _, err = await run(daemon, "models", "enable", "sim-premium")
    assert (code, err) == (0, "sim-premium can be used already; nothing was changed.\n")


async def test_a_revoked_login_is_gone_on_both_sides(daemon):
    await daemon.sign_in()
    code, _, err = await run(daemon, "logout", "--revoke")
    assert (code, err) == (0, "Revoked at GitHub and forgotten here.\n")
    assert [r.path for r in daemon.copilot.world.requests].count("/credentials/revoke") == 1
    assert (await run(daemon, "get"))[0] == 4


async def test_a_login_that_is_used_directly_says_what_works(daemon):
    token = daemon.copilot.world.mint("github_pat_")
    code, out, err = await run(daemon, "login", "--with-token", stdin=token)
    assert (code, out) == (0, ""), err
    assert "used directly: tokens of this kind are not for Copilot's exchange." in " ".join(
        err.split()
    )
    assert (await account(daemon))["mode"] == "direct"
    code, out, err = await run(daemon, "get")
    assert (code, out) == (5, "")
    assert "never leaves the broker" in err
    code, out, _ = await run(daemon, "chat", "--model", "sim-chat", "x")
    assert (code, out[-2:]) == (0, "x\n")


async def test_two_accounts_are_told_apart(daemon):
    for name in ("default", "work"):
        token = daemon.copilot.world.mint("gho_", name)
        code, _, err = await run(daemon, "login", "--account", name, "--with-token", stdin=token)
        assert code == 0, err
    assert (await run(daemon, "account", "use", "work"))[0] == 0
    _, out, _ = await run(daemon, "account", "list")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["default", "default"],
        ["work", "work"],
    ]
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["-", "yes"]
    for more, name in (([], "work"), (["--account", "default"], "default")):
        _, out, _ = await run(daemon, "api", CHAT, "-i", "--body", QUESTION, *more)
        assert f"x-copilot-broker-account: {name}\n" in out.replace("\r", "")
