"""`docs/neovim.md`: each piece of Lua on it does what the page says, in Neovim as it comes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import termios

import pytest

from contracts.clients.installing import ROOT, missing
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import SILENCE, Stream, WireServer


PATIENCE = 60
PAGE = ROOT / "docs" / "neovim.md"
LIBRARY = ROOT / "client" / "neovim"
ON_THE_PATH = ("--clean", "--cmd", f"set runtimepath+={LIBRARY}")
SSE = {"content-type": "text/event-stream"}
TOKEN = {
    "token": "tid=canary",
    "expires_at": 1,
    "expires_in": 1440.5,
    "token_id": "0123abcd",
    "api_base": "https://x",
    "account": "default",
}
WAIT = "vim.wait(30000, function() return {} end, 5)\n"
SHOW = "io.stdout:write(table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), '|'))\n"


def examples() -> list[str]:
    return re.findall(r"```lua\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def server():
    with WireServer({"token.get": TOKEN}) as server:
        yield server


def neovim(tmp_path, *options: str) -> list[str]:
    """Return the command that runs `program.lua` there."""
    if shutil.which("nvim") is None:
        missing("Neovim", "sudo apt-get install neovim")
    return ["nvim", *options, "-c", f"luafile {tmp_path / 'program.lua'}"]


def run(server, tmp_path, script: str, options=("--headless", *ON_THE_PATH)) -> str:
    """Run Lua in Neovim; return what it wrote on either stream."""
    (tmp_path / "program.lua").write_text(script)
    done = subprocess.run(
        [*neovim(tmp_path, *options), "-c", "qall!"],
        env=server.env | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout + done.stderr


def say(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n".encode()


def test_there_are_three_pieces():
    assert len(examples()) == 3


def test_a_token_is_lent(server, tmp_path):
    said = run(server, tmp_path, examples()[0])
    assert "1440.5" in said
    assert "canary" not in said


def test_the_folder_is_found_in_a_persons_own_lua_folder(server, tmp_path):
    own = tmp_path / ".config/nvim/lua/copilot_broker"
    shutil.copytree(LIBRARY / "lua/copilot_broker", own)
    where = "io.stdout:write(debug.getinfo(require('copilot_broker').Client.new).source)"
    said = run(server, tmp_path, examples()[0] + where, options=["--headless"])
    assert "1440.5" in said
    assert f"@{own}/client.lua" in said


def test_an_error_is_one_line_that_ends_in_what_mends_it(server, tmp_path):
    server.answers["token.get"] = ErrorInfo(
        ErrorClass.LOGIN_REQUIRED, "signed_out", "nobody is signed in", "Run: copilot-cred login"
    )
    said = run(server, tmp_path, examples()[0])
    assert said.strip() == "signed_out: nobody is signed in. Run: copilot-cred login"


def test_an_answer_grows_in_the_buffer(server, tmp_path):
    chunks = [say("Why"), say(" not?\nIndeed"), b"data: [DONE]\n\n"]
    server.answers["completion.create"] = Stream(chunks, status=200, headers=SSE)
    until = "vim.api.nvim_buf_get_lines(0, 0, -1, true)[2] == 'Indeed'"
    assert run(server, tmp_path, examples()[1] + WAIT.format(until) + SHOW) == "Why not?|Indeed"


def test_what_breaks_off_is_shown_after_what_came(server, tmp_path):
    cut = ErrorInfo(ErrorClass.TEMPORARY, "upstream_cut", "it broke off", "Ask again")
    server.answers["completion.create"] = Stream([say("Why")], cut, 200, SSE)
    hear = "local told\nvim.notify = function(text) told = text end\n"
    script = hear + examples()[1] + WAIT.format("told") + SHOW + "io.stdout:write(told)"
    assert run(server, tmp_path, script) == f"Why{cut}"


def test_by_hand(server, tmp_path):
    folder = tmp_path / "copilot-broker"
    folder.mkdir()
    (folder / "broker.sock").symlink_to(server.path)
    script = f"vim.env.XDG_RUNTIME_DIR = '{tmp_path}'\n" + examples()[2]
    assert "1440.5" in run(server, tmp_path, script)


def test_the_tables_names_are_there():
    """What the page says a stream can do is there."""
    library = (LIBRARY / "lua/copilot_broker/stream.lua").read_text()
    for name in ("chunks", "events", "text", "read", "each", "close", "raise_for_status"):
        assert re.search(rf"function Stream:{name}\(", library), name


def test_what_waits_can_be_interrupted(server, tmp_path):
    """Ctrl-C, as a person types it on a terminal, ends the wait long before the deadline."""
    script = """
    vim.defer_fn(function()
      local broker = require('copilot_broker').Client.new({ timeout = 1000 })
      local token, err = broker:token()
      vim.fn.writefile({ tostring(token) .. ' ' .. err.code }, vim.env.HOME .. '/told')
      vim.cmd('qall!')
    end, 1)
    """
    (tmp_path / "program.lua").write_text(script)
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def press(_):
        os.write(person, b"\x03")
        return SILENCE

    server.answers["token.get"] = press
    env = server.env | {"HOME": str(tmp_path), "TERM": "xterm"}
    command = neovim(tmp_path, *ON_THE_PATH)
    with subprocess.Popen(
        command, env=env, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    ) as child:
        os.close(terminal)
        with contextlib.suppress(OSError):  # EIO: it has ended
            while os.read(person, 65536):
                pass
        child.wait(PATIENCE)
    os.close(person)
    assert (tmp_path / "told").read_text() == "nil interrupted\n"
