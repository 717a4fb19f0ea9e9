"""`client/examples/stream.lua`, the example of PROTOCOL.md: an answer grows in a Neovim buffer."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    RequestReceived,
    Role,
    StreamCancel,
    StreamCredit,
)
from copilot_broker.wire.messages import ErrorInfo


NVIM = shutil.which("nvim")
EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "stream.lua"
PATIENCE = 60
SIGNED_OUT = ErrorInfo(
    ErrorClass.LOGIN_REQUIRED, "signed_out", "nobody is signed in", "Run: copilot-cred login"
)
CUT = ErrorInfo(ErrorClass.TEMPORARY, "upstream_cut", "Copilot broke off", "Ask again")

DRIVER = """
vim.g.copilot_model = 'gpt-4.1'
vim.cmd('luafile ' .. vim.env.EXAMPLE)
local found, told = { steps = {} }, _G.copilot_told
function _G.copilot_told(method, it)
  told(method, it)
  found.shown = vim.api.nvim_buf_get_lines(0, 0, -1, true)
  table.insert(found.steps, table.concat(found.shown, '|'))
  found.ended = method == 'stream.end'
  if vim.env.STOP then vim.cmd([[execute "normal \\<C-c>"]]) end
end
local ok, why = pcall(vim.cmd, 'Ask ' .. vim.env.QUESTION)
found.ok, found.why = ok, why
vim.wait(30000, function() return not ok or found.ended end, 5)
io.stdout:write(vim.json.encode(found))
"""


def event(text):
    return (
        f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()
    )


class Door:
    """Answers one Neovim; the next chunk goes out when the last one has been given credit for."""

    def __init__(self, path, answer):
        self.asked = []
        self.granted = []
        self.cancelled = False
        self._answer = answer
        self._wire = Connection(Role.SERVER)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()

    def _run(self):
        with contextlib.suppress(OSError):
            sock, _ = self._listener.accept()
            with sock:
                while self._turn(sock):
                    pass

    def _turn(self, sock):
        self._wire.receive_data(sock.recv(65536), time.monotonic())
        while (found := self._wire.next_event()) is not None:
            match found:
                case ConnectionEnded():
                    return False
                case RequestReceived(msgid, "broker.hello", params):
                    self._wire.apply_hello(params)
                    self._wire.send_result(msgid, {"protocol": 1})
                case RequestReceived(msgid, method, params):
                    self.asked.append((method, params))
                    self._begin(msgid)
                case StreamCredit(_, number):
                    self.granted.append(number)
                    self._go_on()
                case StreamCancel():
                    self.cancelled = True
        sock.sendall(self._wire.data_to_send())
        return True

    def _begin(self, msgid):
        if isinstance(self._answer, ErrorInfo):
            self._wire.send_error(msgid, self._answer)
            return
        status, self._rest, self._error, *refusal = self._answer
        headers = {"content-type": "text/event-stream"}
        [self._refusal] = refusal or [None]
        self._status = status
        in_head = None if status == 200 else self._refusal
        self._stream = self._wire.open_stream(msgid, status, headers, in_head)
        self._go_on()

    def _go_on(self):
        if self._rest:
            self._wire.send_stream_data(self._stream, self._rest.pop(0))
        elif self._error is not NEVER:
            at_end = self._refusal if self._status == 200 else None
            self._wire.end_stream(self._stream, self._error, at_end)


NEVER = object()


def test_nvim_is_installed():
    if NVIM is None and os.environ.get("CI") != "true":
        pytest.skip("nvim is not installed: apt-get install neovim")
    assert NVIM is not None


def ask(answer, **env):
    if NVIM is None:
        pytest.skip("nvim is not installed: apt-get install neovim")
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        place = Path(folder, "copilot-broker")
        place.mkdir(mode=0o700)
        driver = Path(folder, "driver.lua")
        driver.write_text(DRIVER)
        with Door(str(place / "broker.sock"), answer) as door:
            run = subprocess.run(
                [NVIM, "--headless", "--clean", "-c", f"luafile {driver}", "-c", "qall!"],
                env={
                    **os.environ,
                    "XDG_RUNTIME_DIR": folder,
                    "HOME": folder,
                    "EXAMPLE": str(EXAMPLE),
                    "QUESTION": 'why "so"?',
                    **env,
                },
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
    assert run.stdout, run.stderr
    return json.loads(run.stdout), door


def test_text_grows_in_the_buffer_as_it_comes():
    body = (
        event("Because\nit ")
        + event("is ")
        + b": a comment\n\n"
        + event("só.")
        + b"data: [DONE]\n\n"
    )
    cuts = [0, 30, len(event("Because\nit ")) + 2, body.index(b"\\u00f3") + 3, len(body)]
    chunks = [body[a:b] for a, b in itertools.pairwise(cuts)]
    found, door = ask((200, list(chunks), None))
    assert found["ok"], found
    assert found["steps"] == [
        "",
        "Because|it ",
        "Because|it is ",
        "Because|it is só.",
        "Because|it is só.",
    ]
    assert door.granted[: len(chunks)] == [len(chunk) for chunk in chunks]
    [(method, params)] = door.asked
    assert method == "completion.create"
    assert params["stream"] is True
    assert json.loads(params["body"]) == {
        "model": "gpt-4.1",
        "stream": True,
        "messages": [{"role": "user", "content": 'why "so"?'}],
    }


def test_an_error_is_one_readable_line():
    found, _ = ask(SIGNED_OUT)
    assert not found["ok"]
    assert str(SIGNED_OUT) in found["why"]


def test_what_came_stays_where_copilot_broke_off():
    found, _ = ask((200, [event("Becau")], CUT))
    assert found["steps"][-1] == f"Becau{CUT}"


BUSY = ErrorInfo(ErrorClass.TEMPORARY, "model_overloaded", "it is busy", "Ask again later")


def test_a_refusal_is_shown_as_the_broker_explains_it():
    found, _ = ask((429, [b"slow ", b"down\n"], None, BUSY))
    assert set(found["steps"]) == {str(BUSY)}


def test_a_refusal_that_nobody_explains_is_shown_as_it_is():
    found, _ = ask((429, [b"slow ", b"down\n"], None))
    assert found["steps"][-1] == "slow down|"


def test_an_error_in_mid_stream_is_explained_after_what_came():
    error = b'data: {"error":{"message":"overloaded"}}\n\n'
    found, _ = ask((200, [event("Becau"), error], None, BUSY))
    assert found["steps"][0] == "Becau"
    assert found["steps"][-1] == f"Becau{BUSY}"


def test_what_is_odd_in_an_event_does_no_harm():
    odd = [
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: {"choices":null}\n\ndata: {"choices":[{"delta":{"content":null}}]}\r\n\r\n',
        event("so"),
    ]
    found, _ = ask((200, odd, None))
    assert found["shown"] == ["so"]


def test_ctrl_c_in_the_window_cancels():
    found, door = ask((200, [event("Because")], NEVER), STOP="1")
    assert door.cancelled
    assert found["steps"] == ["Because", "Because"]
