"""`copilot-cred models` and `chat` through the whole daemon, with the simulated Copilot behind it."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from brokerd.simulator.faults import Fault
from client.cli.running import COMMAND
from client.whole_daemon import CHAT, PATIENCE, whole_daemon


PROMPT = "the-canary-question"


@pytest.fixture
async def daemon():
    async with whole_daemon() as daemon:
        yield daemon


async def started(daemon, *args):
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *args,
        env=daemon.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(daemon, *args):
    process = await started(daemon, *args)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, out.decode(), err.decode()


async def test_a_question_is_answered_and_stays_between_the_two(daemon):
    code, out, err = await run(daemon, "chat", PROMPT)
    assert (code, out) == (4, "")
    assert err.endswith("copilot-cred login\n")
    await daemon.sign_in()
    for more in ([], ["--no-stream"]):
        code, out, err = await run(daemon, "chat", *more, PROMPT)
        assert (code, err) == (0, "")
        assert out.endswith(f"{PROMPT}\n")
    assert [request.headers["x-initiator"] for request in daemon.completions] == ["user", "user"]
    assert "completion" in daemon.said
    assert PROMPT not in daemon.said


async def test_models_are_listed_and_the_default_answers(daemon):
    await daemon.sign_in()
    _, table, _ = await run(daemon, "models")
    [default] = [line.split()[0] for line in table.splitlines() if "(default)" in line]
    _, out, _ = await run(daemon, "chat", "--json", "--no-stream", "x")
    assert json.loads(out)["model"] == default
    code, _, err = await run(daemon, "chat", "--model", "no-such-model", "x")
    assert code == 2
    assert err.endswith("copilot-cred models\n")


async def test_an_expired_token_is_not_noticed(daemon):
    await daemon.sign_in()
    daemon.copilot.world.queue_faults(
        CHAT, [Fault(status=401, body="unauthorized: token expired\n")]
    )
    code, out, _ = await run(daemon, "chat", "--model", "sim-chat", "x")
    assert (code, out[-2:]) == (0, "x\n")
    assert len(daemon.completions) == 2


async def test_copilot_dying_midway_leaves_what_came(daemon):
    await daemon.sign_in()
    daemon.copilot.world.queue_faults(CHAT, [Fault(cut_after_writes=4)])
    code, out, err = await run(daemon, "chat", "--model", "sim-chat", "x")
    assert code == 7
    assert out.startswith("This is")
    assert out.endswith("\n")
    assert "broke off" in err
    assert len(daemon.completions) == 1


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "whole"])
async def test_ctrl_c_cuts_the_answer_at_copilot(daemon, more):
    await daemon.sign_in()
    daemon.copilot.world.settings.change(
        {"chat_chunks": 1000, "chat_interval": 0.05, "chat_head_delay": 60 if more else 0}
    )
    process = await started(daemon, "chat", *more, "--model", "sim-chat", "x")
    if more:
        await daemon.until(lambda: daemon.completions)
    else:
        await asyncio.wait_for(process.stdout.readexactly(2), PATIENCE)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, err) == (130, b"")
    [request] = daemon.completions
    await daemon.until(lambda: request.cancelled)
