"""What a program calls itself reaches no terminal as it is: neither by the log nor by the table."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys

import pytest

from brokerd.errors import PermanentError
from brokerd.gate import Gate
from brokerd.host.logs import journal
from brokerd.host.peers.peercred import peer_of
from client.cli.running import Terminal, run


NAME = "\x1b]0;x\x07\nok!"
"""Sets a terminal's title and begins a line; as long as the kernel lets it be (15 bytes)."""

NAMED = """
import ctypes, os, socket, sys
PR_SET_NAME = 15  # prctl(2)
assert ctypes.CDLL(None).prctl(PR_SET_NAME, os.fsencode(sys.argv[2]), 0, 0, 0) == 0
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    sock.recv(1)
"""

DRIVES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")


@pytest.fixture
def peer(tmp_path):
    """A program of that name, connected."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        argv = [sys.executable, "-P", "-c", NAMED, str(tmp_path / "s"), NAME]
        with subprocess.Popen(argv) as process:
            sock, _ = listening.accept()
            with sock:
                peer = peer_of(sock)
                yield peer
                peer.close()
        assert process.returncode == 0


@pytest.fixture
def sinks(tmp_path):
    """The log as lines, and the audit log; as the daemon writes both."""
    root = logging.getLogger()
    before, stream = (root.level, root.handlers[:]), io.StringIO()
    path = tmp_path / "state" / "copilot-broker" / "audit.jsonl"
    journal.configure("info", stream, path)
    yield stream, path
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_a_name_that_drives_a_terminal_does_not(peer, sinks, tmp_path):
    stream, path = sinks
    gate = Gate(own_uid=peer.uid)
    caller = gate.admit(peer, "http")
    with pytest.raises(PermanentError):
        caller.check("token.get")
    with pytest.raises(PermanentError):
        Gate(own_uid=peer.uid + 1).admit(peer, "rpc")
    caller.close()

    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all("peer_comm=?]0;x??ok!" in line for line in lines)
    assert not DRIVES.search(stream.getvalue().replace("\n", ""))
    kept = path.read_text()
    assert not DRIVES.search(kept)
    assert len(kept.splitlines()) == 2

    env = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COPILOT_BROKER_SOCKET": str(tmp_path / "none"),
        "PATH": "",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    done = run("audit", env=env)
    assert not DRIVES.search(done.stdout)
    assert len(done.stdout.splitlines()) == 3
    told = [json.loads(line) for line in run("audit", "--json", env=env).stdout.splitlines()]
    assert [each["peer_comm"] for each in told] == ["?]0;x??ok!"] * 2


def test_nor_does_a_record_that_somebody_else_has_written_so(tmp_path):
    """The file is ours alone, but whoever runs as us can write into it."""
    path = tmp_path / "state" / "copilot-broker" / "audit.jsonl"
    path.parent.mkdir(parents=True)
    fields = dict.fromkeys(("PEER_COMM", "PEER_UNIT", "ACCOUNT", "OPERATION", "REASON"), NAME)
    entry = {"ts": "2026-11-21T10:00:00Z", "event": "operation-denied", "message": NAME}
    lines = [
        {**entry, "fields": {**fields, "PEER_PID": pid, "COUNT": NAME}} for pid in ("7", NAME)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    env = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COPILOT_BROKER_SOCKET": str(tmp_path / "none"),
        "PATH": "",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    done = run("audit", env=env)
    assert done.returncode == 0, done.stderr
    assert not DRIVES.search(done.stdout)
    assert len(done.stdout.splitlines()) == 3
    with Terminal("audit", env=env) as terminal:
        assert terminal.ends() == 0
    assert "?]0;x" in terminal.shown
    assert not DRIVES.search(terminal.shown.replace("\r\n", "\n").replace("\n", ""))
