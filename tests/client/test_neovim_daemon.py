"""The Neovim example against the whole daemon: an answer of the simulated Copilot grows in a buffer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from brokerd.simulator import Simulator
from brokerd.simulator.faults import Fault
from copilot_broker import AsyncClient


NVIM = shutil.which("nvim")
EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "stream.lua"
DAEMON = [sys.executable, "-P", "-c", "import sys; from brokerd.cli import main; sys.exit(main())"]
PATIENCE = 60
CHAT = "/chat/completions"

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
def folder():
    if NVIM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("neovim is missing")
        pytest.skip("nvim is not installed: apt-get install neovim")
    with tempfile.TemporaryDirectory(prefix="cb-") as name:  # short: sun_path holds 107 bytes
        folder = Path(name)
        (folder / "run").mkdir(mode=0o700)
        (folder / "driver.lua").write_text(DRIVER)
        yield folder


@pytest.fixture
async def copilot():
    async with Simulator(auto_approve=True, device_interval=0.1) as simulator:
        yield simulator


@pytest.fixture
async def daemon(folder, copilot):
    urls = "".join(f'{name} = "{copilot.url}"\n' for name in ("login", "api", "copilot"))
    (folder / "config.toml").write_text(f'[urls]\n{urls}[store]\nkind = "file"\n')
    process = await asyncio.create_subprocess_exec(
        *DAEMON, env=environment(folder), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while b" ready " not in (line := await process.stderr.readline()):
                assert line, "the daemon ended"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.communicate(), PATIENCE)


@pytest.fixture
async def signed_in(folder, daemon):
    async with AsyncClient(folder / "run/copilot-broker/broker.sock") as client:
        assert [chunk async for chunk in client.login()][-1]["event"] == "done"


def environment(folder, **more):
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "COPILOT_BROKER_CONFIG": str(folder / "config.toml"),
        "EXAMPLE": str(EXAMPLE),
        **more,
    }


async def ask(folder, **env):
    """Run Neovim with the example; return what its buffer showed, step by step."""
    nvim = await asyncio.create_subprocess_exec(
        *[NVIM, "--headless", "--clean", "-c", f"luafile {folder}/driver.lua", "-c", "qall!"],
        env=environment(folder, **env),
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


def completions(copilot):
    return [request for request in copilot.world.requests if request.path == CHAT]


async def test_an_answer_grows_in_the_buffer(folder, copilot, signed_in):
    copilot.world.settings.change({"chat_interval": 0.05})
    found = await ask(folder)
    assert found["ok"], found
    steps = found["steps"]
    assert steps[-1].endswith("why is the sky blue")
    assert len(set(steps)) > 3
    assert all(after.startswith(before) for before, after in itertools.pairwise(steps))
    [request] = completions(copilot)
    assert request.finished
    assert request.headers["x-initiator"] == "user"


async def test_credit_is_granted_so_that_a_long_answer_ends(folder, copilot, signed_in):
    copilot.world.settings.change({"chat_chunks": 100, "chat_chunk_bytes": 5000})
    found = await ask(folder)
    assert len(found["steps"][-1]) == 100 * 5000  # the window is about half of it
    [request] = completions(copilot)
    assert request.finished


async def test_an_error_is_readable_and_names_what_mends_it(folder, daemon):
    found = await ask(folder)
    assert not found["ok"]
    assert "copilot-cred login" in found["why"]


async def test_a_refusal_of_copilot_is_shown(folder, copilot, signed_in):
    copilot.world.queue_faults(CHAT, [Fault(status=429, body="slow down")])
    assert (await ask(folder))["steps"] == ["slow down"]


async def test_copilot_dying_midway_is_told_after_what_came(folder, copilot, signed_in):
    copilot.world.queue_faults(CHAT, [Fault(cut_after_writes=4)])
    last = (await ask(folder))["steps"][-1]
    assert last.startswith("This is")
    assert "upstream_cut: " in last


async def test_ctrl_c_cuts_the_answer_at_copilot(folder, copilot, signed_in):
    copilot.world.settings.change({"chat_interval": 0.2, "chat_chunks": 300})
    found = await ask(folder, STOP="1")
    assert len(found["steps"]) < 5
    [request] = completions(copilot)
    async with asyncio.timeout(PATIENCE):
        while not request.cancelled:
            await asyncio.sleep(0.01)
    assert not request.finished
