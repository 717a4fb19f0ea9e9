"""Neovim as it comes: `sockconnect(…, {'rpc': v:true})` and `rpcrequest`, no plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from client.small_broker import Refuse, SmallBroker
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo


NVIM = shutil.which("nvim")
SIGNED_OUT = ErrorInfo(
    ErrorClass.LOGIN_REQUIRED, "signed_out", "nobody is signed in", "Run: copilot-cred login"
)
SCRIPT = """
local found = { told = {} }
function _G.told(method, params) table.insert(found.told, { method, params }) end
local broker = vim.fn.sockconnect('pipe', os.getenv('COPILOT_BROKER_SOCKET'), { rpc = true })
found.token = vim.fn.rpcrequest(broker, 'token.get', { min_valid = 60 })
found.empty = vim.fn.rpcrequest(broker, 'broker.status', {})
found.none = vim.fn.rpcrequest(broker, 'broker.status')
found.hello = vim.fn.rpcrequest(broker, 'broker.hello', {
  protocol = 1, client = 'neovim', errors = 'text', notify = { 'nvim_exec_lua', { 'told(...)' } },
})
local ok, why = pcall(vim.fn.rpcrequest, broker, 'account.use', { account = 'x' })
found.ok, found.why = ok, why
found.stream = vim.fn.rpcrequest(broker, 'token.watch', {})
vim.wait(15000, function() return #found.told >= 2 end, 10)
io.stdout:write(vim.json.encode(found))
"""


def test_nvim_is_installed():
    if NVIM is None and os.environ.get("CI") != "true":
        pytest.skip("nvim is not installed: apt-get install neovim")
    assert NVIM is not None


@pytest.fixture
def found(tmp_path):
    if NVIM is None:
        pytest.skip("nvim is not installed: apt-get install neovim")

    def refuse(_):
        raise Refuse(SIGNED_OUT)

    def watch(_):
        yield {"event": "token", "token_id": "0123abcd"}

    handlers = {
        "token.get": lambda params: {"token": "tid=1", "asked": params},
        "broker.status": lambda params: {"keys": len(params)},
        "account.use": refuse,
        "token.watch": watch,
    }
    script = tmp_path / "ask.lua"
    script.write_text(SCRIPT)
    with SmallBroker(tmp_path / "run", handlers) as broker:
        run = subprocess.run(
            [NVIM, "--headless", "--clean", "-c", f"luafile {script}", "-c", "qall!"],
            env={**os.environ, "COPILOT_BROKER_SOCKET": broker.path, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert run.stdout, run.stderr
    return json.loads(run.stdout)


def test_neovim_sees_results_readable_errors_and_streams(found):
    assert found["token"] == {"token": "tid=1", "asked": {"min_valid": 60}}
    assert found["empty"] == found["none"] == {"keys": 0}
    assert found["hello"]["protocol"] == 1
    assert found["ok"] is False
    assert str(SIGNED_OUT) in found["why"]
    stream = found["stream"]["stream"]
    chunk = {"event": "token", "token_id": "0123abcd"}
    assert found["told"] == [
        ["stream.data", {"stream": stream, "seq": 0, "chunk": chunk}],
        ["stream.end", {"stream": stream}],
    ]
