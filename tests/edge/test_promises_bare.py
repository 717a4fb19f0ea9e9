"""Where something is missing that a desktop has, it works, or says in one line why it does not.

Real processes of the daemon and of `copilot-cred`: no service manager, no terminal, no session bus,
and in each case one thing less.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import pytest

from brokerd.simulator import Simulator


DAEMON = [sys.executable, "-P", "-c", "import sys; from brokerd.cli import main; sys.exit(main())"]
CRED = [sys.executable, "-P", "-m", "copilot_broker.cli"]
PATIENCE = 30
CLOSED = "http://127.0.0.1:9"
"""The discard port: nobody listens."""
NO_BUS = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
WITHOUT_MODULES = """
import sys
sys.modules |= dict.fromkeys({names}, None)
from brokerd.cli import main
sys.exit(main())
"""


class Bare:
    """A home, a runtime directory and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run").mkdir(mode=0o700)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "COPILOT_BROKER_CONFIG": str(folder / "config.toml"),
        }

    def configure(self, url: str, store: str = "file") -> None:
        urls = "".join(f'{name} = "{url}"\n' for name in ("login", "api", "copilot"))
        (self.folder / "config.toml").write_text(f'[urls]\n{urls}[store]\nkind = "{store}"\n')

    async def cred(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        process = await self._start([*CRED, *arguments], **env)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        return process.returncode, out.decode(), err.decode()

    @contextlib.asynccontextmanager
    async def daemon(self, command=DAEMON, **env: str):
        process = await self._start(command, **env)
        said = ""
        try:
            async with asyncio.timeout(PATIENCE):
                while " ready " not in said:
                    line = (await process.stderr.readline()).decode()
                    assert line, f"the daemon ended: {said}"
                    said += line
            yield said
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.communicate(), PATIENCE)

    async def _start(self, command, **env: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            env={**self.env, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # no terminal
        )


@pytest.fixture
def bare():
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        yield Bare(Path(folder))


@pytest.fixture
async def github():
    async with Simulator(auto_approve=True, device_interval=0.1) as simulator:
        yield simulator


def in_one_line(err: str) -> str:
    """The sentence of an error; below it stand when it is tried again, and a hint at last."""
    sentence, *rest = err.strip().splitlines()
    assert sentence.startswith("copilot-cred: "), err
    below = [line.strip().partition(":")[0] for line in rest]
    assert below in (["hint"], ["again in", "hint"]), err
    return sentence


WORKING = {
    "no systemd, no bus, no terminal": (DAEMON, {}),
    "a bus that is not there": (DAEMON, NO_BUS),
    "no python modules of systemd and D-Bus": (
        [
            *DAEMON[:3],
            WITHOUT_MODULES.format(names=["systemd.journal", "systemd.daemon", "pydbus", "gi"]),
        ],
        {},
    ),
}


@pytest.mark.parametrize(("command", "env"), WORKING.values(), ids=WORKING)
async def test_all_of_it_works(bare, github, command, env):
    bare.configure(github.url)
    async with bare.daemon(command, **env):
        code, out, err = await bare.cred("login")
        assert (code, out) == (0, ""), err
        assert "https://" in err or "http://" in err, "the way to approve it is shown"
        code, out, err = await bare.cred("get")
        assert (code, err) == (0, "")
        assert out.startswith("tid=")
        code, _, err = await bare.cred("status")
        assert (code, err) == (0, "")


@pytest.mark.parametrize("env", [{}, NO_BUS], ids=["no bus", "a bus that is not there"])
async def test_without_a_keyring_a_login_names_the_choices(bare, github, env):
    bare.configure(github.url, store="auto")
    async with bare.daemon(**env):
        code, out, err = await bare.cred("login")
        assert (code, out) == (9, "")
        in_one_line(err)
        assert "--store file" in err
        assert (await bare.cred("login", "--store", "file"))[0] == 0
        assert (await bare.cred("get"))[0] == 0


async def test_without_a_network_a_login_says_who_cannot_be_reached(bare):
    bare.configure(CLOSED)
    async with bare.daemon():
        code, out, err = await bare.cred("login")
        assert (code, out) == (7, "")
        assert "127.0.0.1:9" in in_one_line(err)


async def test_without_a_network_a_kept_login_is_not_asked_for_again(bare, github):
    bare.configure(github.url)
    async with bare.daemon():
        assert (await bare.cred("login"))[0] == 0
    bare.configure(CLOSED)
    async with bare.daemon():
        code, out, err = await bare.cred("get")
        assert (code, out) == (7, "")
        assert "127.0.0.1:9" in in_one_line(err)


async def test_without_a_broker_or_a_runtime_directory_get_says_so(bare):
    code, out, err = await bare.cred("get")
    assert (code, out) == (3, "")
    in_one_line(err)
    assert "systemctl --user start" in err
    del bare.env["XDG_RUNTIME_DIR"]
    code, out, err = await bare.cred("get")
    assert (code, out) == (3, "")
    in_one_line(err)
