"""The daemon as somebody starts it in a terminal: confined, and everything it needs within reach."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from brokerd.host.confinement import landlock
from brokerd.simulator import Simulator
from copilot_broker import AsyncClient


PATIENCE = 20
MAIN = "import sys\nfrom brokerd import cli\n{}\nsys.exit(cli.main())"
LANDLOCK = {"landlock", "landlock-ports", "landlock-scope"}


class Home:
    """A home folder; short, because sun_path is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / ".config/copilot-broker/config.toml"
        self.runtime = folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }

    def configure(self, url: str, more: str = "") -> str:
        urls = "".join(f'{name} = "{url}"\n' for name in ("login", "api", "copilot"))
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text := f'[urls]\n{urls}[store]\nkind = "file"\n{more}')
        return text

    @contextlib.asynccontextmanager
    async def daemon(self, *arguments: str, before: str = "", **environ: str):
        """Run it until ready; `before` is Python that runs before its main."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-c",
            MAIN.format(before),
            *arguments,
            env={**self.environ, **environ},
            cwd=self.folder,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            process.said = ""
            await self.says(process, " ready ")
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.communicate(), PATIENCE)

    async def says(self, process, words):
        async with asyncio.timeout(PATIENCE):
            while words not in process.said:
                line = (await process.stderr.readline()).decode()
                assert line, process.said
                process.said += line

    def client(self) -> AsyncClient:
        return AsyncClient(self.runtime / "copilot-broker/broker.sock")

    async def status(self):
        async with self.client() as client:
            return await client.status()

    async def sign_in(self):
        async with self.client() as client:
            return [chunk async for chunk in client.login()][-1]["account"]

    async def reload(self, process, words):
        process.send_signal(signal.SIGHUP)
        await self.says(process, words)


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        yield Home(Path(folder))


@pytest.fixture
async def github():
    async with Simulator(auto_approve=True, device_interval=0.1) as simulator:
        yield simulator


def of_this_machine() -> set[str]:
    """The layers that can be had here: a container's filter may refuse them all."""
    try:
        version = landlock.abi()
    except OSError:
        return set()
    rights = landlock.handled(version)
    return {name for name, there in zip(landlock.LAYERS, rights, strict=True) if there}


HERE = of_this_machine()


async def test_a_login_lasts_over_restarts_with_every_layer_on(home, github):
    home.configure(github.url)
    async with home.daemon() as process:
        assert LANDLOCK & set((await home.status())["confinement"]) == HERE
        assert ("less confined" in process.said) is (HERE != LANDLOCK)
        assert (await home.sign_in())["login"] == "octocat"
    async with home.daemon(), home.client() as client:
        assert (await client.token()).token.startswith("tid=")


async def test_a_configuration_written_later_is_within_reach(home, github):
    """Its folder is made at the start: only what is there can be permitted."""
    async with home.daemon("--simulate") as process:
        home.configure(github.url, '[log]\nlevel = "debug"\n')
        await home.reload(process, "configuration reloaded")


async def test_a_simulator_of_its_own(home):
    async with home.daemon("--simulate"):
        assert (await home.sign_in())["login"] == "octocat"
        assert LANDLOCK & set((await home.status())["confinement"]) == HERE


async def test_it_starts_no_program(home):
    """Which it may not: no rule permits to execute anything. So nothing may depend on it."""
    before = (
        "import os\nstarts = ('subprocess.Popen', 'os.exec', 'os.posix_spawn', 'os.system',"
        " 'os.fork', 'os.forkpty')\n"
        "sys.addaudithook(lambda event, _: event in starts and os._exit(9))"
    )
    async with home.daemon("--simulate", before=before) as process:
        await home.sign_in()
        async with home.client() as client:
            assert (await client.token()).token.startswith("tid=")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


@pytest.mark.parametrize("number", ["ENOSYS", "EOPNOTSUPP", "EPERM"])
async def test_a_kernel_without_landlock_is_one_warning_and_all_works(home, github, number):
    home.configure(github.url)
    before = (
        "import errno\nfrom brokerd.host.confinement import landlock\n"
        f"def abi(): raise OSError(errno.{number}, '')\nlandlock.abi = abi"
    )
    async with home.daemon(before=before) as process:
        assert (await home.sign_in())["login"] == "octocat"
        assert not LANDLOCK & set((await home.status())["confinement"])
        (line,) = [line for line in process.said.splitlines() if "less confined" in line]
        assert " warning " in line
        assert "layer=landlock " in line


async def test_a_reload_beyond_reach_keeps_the_old_configuration(home, github):
    home.configure(github.url)
    home.config.with_name("ca.pem").write_text("")
    (home.folder / "ca.pem").write_text("")
    async with home.daemon() as process:
        await home.sign_in()
        home.configure("http://127.0.0.1:1", f'[network]\nca_file = "{home.folder}/ca.pem"\n')
        await home.reload(process, "configuration not reloaded")
        status = await home.status()
        assert status["config_problem"] == (
            "restart required: systemctl --user restart copilot-broker"
            f" (reading {home.folder}/ca.pem, port 1)"
        )
        async with home.client() as client:
            checks = {each["name"]: each for each in (await client.doctor())["checks"]}
            assert checks["configuration"]["mend"].endswith(
                "systemctl --user restart copilot-broker"
            )
            await client.refresh()
        home.configure(github.url, '[log]\nlevel = "debug"\n')
        await home.reload(process, "configuration reloaded")
        assert (await home.status())["config_problem"] is None


async def test_a_configuration_in_the_home_folder_itself(home, github):
    """That file is within reach, its folder is not."""
    config = home.folder / "broker.toml"
    config.write_text(home.configure(github.url))
    (home.folder / "secret").write_text("")
    opened = f"open({str(home.folder / 'secret')!r}).close()"
    spy = (
        "from brokerd import app\nrun = app.run\n"
        f"def spying(setup):\n try: {opened}\n except PermissionError: return run(setup)\n"
        f" return {7 if HERE else 'run(setup)'}\napp.run = spying"
    )
    async with home.daemon("--config", str(config), before=spy) as process:
        config.write_text(config.read_text() + '[log]\nlevel = "debug"\n')
        await home.reload(process, "configuration reloaded")


async def test_a_configuration_that_is_a_link(home, github):
    """As managers of dotfiles make them: the place it leads to can be written anew."""
    place = home.folder / "dotfiles/broker"
    place.mkdir(parents=True)
    text = home.configure(github.url)
    home.config.rename(place / "config.toml")
    home.config.symlink_to(place / "config.toml")
    async with home.daemon() as process:
        fresh = place / "new"
        fresh.write_text(text + '[log]\nlevel = "debug"\n')
        fresh.rename(place / "config.toml")
        await home.reload(process, "configuration reloaded")


LATER = """
import errno, json, os, pwd, socket, ssl, sys, zoneinfo
from importlib import import_module
from pathlib import Path
from brokerd.core.reach import reach_of
from brokerd.core.settings import Config
from brokerd.host.confinement import landlock
from brokerd.host.confinement.surroundings import surroundings

home = Path(os.environ["HOME"])
around = surroundings(os.environ, config_file=home / "c/c.toml", state_dir=home / "s",
                      socket_dir=None)
found = landlock.apply(reach_of(Config(), os.environ, around))
problems = []

def attempt(name, work):
    try:
        work()
    except (ModuleNotFoundError, FileNotFoundError):
        pass  # not on this machine at all
    except Exception as error:
        problems.append(f"{name}: {error!r}")

for module in json.loads(sys.argv[1]):
    attempt(module, lambda: import_module(module))
attempt("certificates", lambda: len(ssl.create_default_context().get_ca_certs()))
attempt("certifi", lambda: Path(import_module("certifi").where()).read_bytes())
attempt("zone", lambda: zoneinfo.ZoneInfo("Europe/Berlin"))
attempt("user", lambda: pwd.getpwuid(os.getuid()))
attempt("names", lambda: socket.getaddrinfo("localhost", 443))
for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime",
             "/proc/self/status", "/proc/1/cgroup", "/proc/1/comm", "/proc/locks"):
    attempt(path, Path(path).read_bytes)
try:
    os.listdir(home)
except PermissionError:
    pass
else:
    problems.append("home is open")
print(json.dumps(problems))
"""
LAZY = [
    "pydbus",
    "gi.repository.Gio",
    "systemd.journal",
    "systemd.daemon",
    "httpx",
    "aiohttp.web",
    "cryptography.hazmat.primitives.ciphers.algorithms",
    "brokerd.app",
    "brokerd.dbus.secret_service",
    "brokerd.simulator",
    "copilot_broker.aio",
]


def test_what_is_loaded_later_is_within_reach(home):
    """Modules outside of `sys.path` (an editable installation), certificates, names, zones."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", LATER, json.dumps(LAZY)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=home.folder,
        env=home.environ,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ([] if HERE else ["home is open"])
