"""Neovim as Debian ships it, through its own MessagePack-RPC client."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from system.session import Session


SCRIPT = """
local out = {}
local channel = vim.fn.sockconnect('pipe', vim.env.BROKER, {rpc = true})
local function ask(method, params)
  local ok, answer = pcall(vim.rpcrequest, channel, method, params)
  table.insert(out, {ok = ok, answer = answer})
end
ask('broker.hello', {protocol = 1, client = 'neovim', errors = 'text'})
ask('token.get', {min_valid = 60})
ask('no.such', {a = 1})
io.stdout:write(vim.fn.json_encode(out))
vim.cmd('qa!')
"""


def ask_through_neovim(session: Session) -> list[dict[str, object]]:
    if shutil.which("nvim") is None:
        if os.environ.get("CI"):
            pytest.fail("neovim is missing")
        pytest.skip("neovim is missing: sudo apt-get install neovim")
    session.write("ask.lua", SCRIPT)
    out = session.good(
        "env", f"BROKER={session.rpc}", "nvim", "--headless", "-u", "NONE", "-c", "luafile ask.lua"
    )
    return list(json.loads(out))


def test_neovim_gets_a_token(signed_in: Session) -> None:
    hello, token, unknown = ask_through_neovim(signed_in)
    assert hello["ok"], hello
    assert hello["answer"]["name"] == "copilot-broker"
    assert token["answer"]["token"].startswith("tid=")
    assert not unknown["ok"]
    assert "no.such" in unknown["answer"]


def test_neovim_reads_an_error_that_names_the_mending_command(session: Session) -> None:
    session.systemctl("start", "copilot-broker.socket")
    _, token, _ = ask_through_neovim(session)
    assert not token["ok"]
    assert "copilot-cred login" in token["answer"]
