"""Keys through the whole daemon: made by a command, there after a restart, gone when revoked."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import tempfile
from pathlib import Path

import pytest

from brokerd.simulator import Simulator
from client.cli.running import COMMAND
from client.whole_daemon import PATIENCE, WholeDaemon


@pytest.fixture
async def stopped():
    """A daemon to be started as often as one likes: `async with daemon.running()`."""
    with tempfile.TemporaryDirectory(prefix="cb-") as name:  # short: sun_path holds 107 bytes
        (Path(name) / "run").mkdir(mode=0o700)
        async with Simulator(auto_approve=True, device_interval=0.1) as copilot:
            yield WholeDaemon(Path(name), copilot)


async def run(daemon, *args):
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *args,
        env=daemon.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, out.decode(), err.decode()


async def test_a_key_outlives_a_restart_and_is_written_nowhere(stopped):
    daemon = stopped
    async with daemon.running():
        code, out, err = await run(
            daemon, "key", "create", "ci", "--models", "gpt-*", "--budget", "2k"
        )
        assert code == 0, err
        assert re.fullmatch(r"cpb_[A-Za-z0-9_-]{43}\n", out)
        text = out.strip()
        code, out, err = await run(daemon, "key", "create", "ci")
        assert (code, out) == (2, "")
        assert err.endswith(": copilot-cred key revoke ci\n")
    daemon.said, said = "", daemon.said
    state = daemon.folder / ".local/state/copilot-broker"
    assert stat.S_IMODE((state / "keys.json").stat().st_mode) == 0o600
    async with daemon.running():
        _, out, _ = await run(daemon, "key", "list", "--json")
        (key,) = json.loads(out)["keys"]
        assert (key["name"], key["models"], key["budget"]) == ("ci", ["gpt-*"], 2_000)
        _, out, _ = await run(daemon, "grants", "--key", "ci", "--listener", "http")
        assert "the listener http may have completions made (complete), of the models gpt-*" in (
            " ".join(out.split())
        )
        code, out, err = await run(daemon, "key", "revoke", "ci")
        assert (code, out, err) == (0, "", "Revoked: ci.\n")
        _, out, _ = await run(daemon, "key", "list", "--json")
        assert json.loads(out) == {"keys": []}
        _, out, _ = await run(daemon, "audit", "--json")
        told = [json.loads(line) for line in out.splitlines()]
        made = [(each["event"], each["key"]) for each in told if each["event"].startswith("key-")]
        assert made == [("key-created", "ci"), ("key-revoked", "ci")]
    written = said + daemon.said
    for path in daemon.folder.rglob("*"):
        written += path.read_text(errors="replace") if path.is_file() else ""
    assert text not in written


async def test_a_broken_file_of_keys_stops_nothing_else_and_stays(stopped):
    daemon = stopped
    path = daemon.folder / ".local/state/copilot-broker/keys.json"
    path.parent.mkdir(mode=0o700, parents=True)
    path.touch(mode=0o600)
    path.write_text("{")
    async with daemon.running():
        code, out, err = await run(daemon, "key", "create", "ci")
        assert (code, out) == (9, "")
        assert err.endswith(f": mv {path} {path}.old\n")
        assert (await run(daemon, "status"))[0] == 0
        assert path.read_text() == "{"
