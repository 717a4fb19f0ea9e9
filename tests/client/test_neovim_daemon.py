"""The Neovim example against the whole daemon: an answer of the simulated Copilot grows in a buffer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
from pathlib import Path

import pytest

from brokerd.simulator.faults import Fault
from client.whole_daemon import CHAT, PATIENCE, whole_daemon


NVIM = shutil.which("nvim")
EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "stream.lua"

DRIVER = """
vim.g.copilot_model = 'sim-chat'
vim.cmd('luafile ' .. vim.env.EXAMPLE)
local found, told = { steps = {} }, _G.copilot_told
function _G.copilot_told(method, it)
  told(method, it)
  local shown = table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), '|')
  if shown ~= found.steps[#found.steps] then table.insert(found.steps, shown) end
  found.ended = method == 'stream.end'
  if vim.env.STOP then vim.cmd([[execute "normal \\<C-c>"]]) end
end
found.ok, found.why = pcall(vim.cmd, 'Ask why is the sky blue')
vim.wait(30000, function() return not found.ok or found.ended end, 5)
io.stdout:write(vim.json.encode(found))
"""


@pytest.fixture
async def daemon():
    if NVIM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("neovim is missing")
        pytest.skip("nvim is not installed: apt-get install neovim")
    async with whole_daemon() as daemon:
        yield daemon


async def ask(daemon, **env):
    """Run Neovim with the example; return what its buffer showed, step by step."""
    driver = daemon.folder / "driver.lua"
    driver.write_text(DRIVER)
    nvim = await asyncio.create_subprocess_exec(
        *[NVIM, "--headless", "--clean", "-c", f"luafile {driver}", "-c", "qall!"],
        env={**daemon.env, "EXAMPLE": str(EXAMPLE), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(nvim.communicate(), PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            nvim.kill()
    assert out, err
    return json.loads(out)


async def test_an_answer_grows_in_the_buffer(daemon):
    await daemon.sign_in()
    daemon.copilot.world.settings.change({"chat_interval": 0.05})
    found = await ask(daemon)
    assert found["ok"], found
    steps = found["steps"]
    assert steps[-1].endswith("why is the sky blue")
    assert len(set(steps)) > 3
    assert all(after.startswith(before) for before, after in itertools.pairwise(steps))
    [request] = daemon.completions
    assert request.finished
    assert request.headers["x-initiator"] == "user"


async def test_credit_is_granted_so_that_a_long_answer_ends(daemon):
    await daemon.sign_in()
    daemon.copilot.world.settings.change({"chat_chunks": 100, "chat_chunk_bytes": 5000})
    found = await ask(daemon)
    assert len(found["steps"][-1]) == 100 * 5000  # the window is about half of it
    [request] = daemon.completions
    assert request.finished


async def test_an_error_is_readable_and_names_what_mends_it(daemon):
    found = await ask(daemon)
    assert not found["ok"]
    assert "copilot-cred login" in found["why"]


async def test_a_refusal_of_copilot_is_shown(daemon):
    await daemon.sign_in()
    daemon.copilot.world.queue_faults(CHAT, [Fault(status=429, body="slow down")])
    [step] = (await ask(daemon))["steps"]
    assert step.startswith("upstream_429: GitHub Copilot answered 429: slow down. ")
    assert "copilot-cred" in step


async def test_copilot_dying_midway_is_told_after_what_came(daemon):
    await daemon.sign_in()
    daemon.copilot.world.queue_faults(CHAT, [Fault(cut_after_writes=4)])
    last = (await ask(daemon))["steps"][-1]
    assert last.startswith("This is")
    assert "upstream_cut: " in last


async def test_ctrl_c_cuts_the_answer_at_copilot(daemon):
    await daemon.sign_in()
    daemon.copilot.world.settings.change({"chat_interval": 0.2, "chat_chunks": 300})
    found = await ask(daemon, STOP="1")
    assert len(found["steps"]) < 5
    [request] = daemon.completions
    await daemon.until(lambda: request.cancelled)
    assert not request.finished
