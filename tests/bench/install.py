"""The product as a user installs it, in `build/bench/` of the checkout; nothing outside it changes.

The wheel is built from the checkout and installed twice: with the daemon's extras into a virtual
environment like the one `packaging/set-up` makes, and alone into a plain one; for both set-up itself
then writes the commands into a private home. All of it is kept: the environments as long as
pyproject.toml is the same, the wheel as long as the sources are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import IO


__all__ = ["InstallError", "Installed", "compiled", "from_checkout", "running"]

SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's own, which sees Debian's D-Bus and journal bindings, as in packaging/set-up."""
SHIPPED = (
    "brokerd",
    "client/copilot_broker",
    "systemd",
    "packaging",
    "pyproject.toml",
    "README.md",
)
COMPILE = ("-O2", "-Wall", "-Wextra", "-Werror")
HOME = "home"
"""Folder in an environment for which set-up writes its commands."""
STAMP = "installed"
"""File in it that names what is installed."""


class InstallError(Exception):
    """Something that the benchmark needs could not be built."""


@dataclass(frozen=True)
class Installed:
    """Where the parts of one installation are."""

    python: Path
    """Of the environment that packaging/set-up makes, which sees the system's packages."""
    daemon: tuple[str, ...]
    """The command line of `copilot-brokerd` there."""
    client_python: Path
    """Of a plain environment with the wheel and msgpack: nothing of the machine's slows it."""
    cred: Path
    """`copilot-cred` of the plain environment, as pip wrote it."""
    launcher: Path | None
    """The same as packaging/set-up puts it into ~/.local/bin."""
    lock: IO[str] | None = None
    """Kept open: whoever installs here waits for it."""


def running() -> Installed:
    """Return the environment that runs now."""
    python = Path(sys.executable)
    code = "import sys; from brokerd.cli import main; sys.exit(main())"
    return Installed(
        python,
        daemon=(str(python), "-P", "-c", code),
        client_python=python,
        cred=python.parent / "copilot-cred",
        launcher=None,
    )


def from_checkout(root: Path, say: Callable[[str], None]) -> Installed:
    """Build and install what is in the checkout, or find it built already. Raises InstallError.

    Nobody installs anything else there as long as the answer lives.
    """
    build = root / "build/bench"
    build.mkdir(parents=True, exist_ok=True)
    venv = build / f"venv-{_digest([root / 'pyproject.toml'])}"
    client = venv / "client"
    lock = (build / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_SH)
    if not _is_built(root, venv):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another benchmark that runs in this checkout")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_built(root, venv):
            _build(root, venv, client, say)
        fcntl.flock(lock, fcntl.LOCK_SH)
    return Installed(
        venv / "bin/python",
        daemon=(str(venv / HOME / ".local/bin/copilot-brokerd"),),
        client_python=client / "bin/python",
        cred=client / "bin/copilot-cred",
        launcher=client / HOME / ".local/bin/copilot-cred",
        lock=lock,
    )


def _is_built(root: Path, venv: Path) -> bool:
    stamp = venv / STAMP
    return stamp.exists() and stamp.read_text() == _digest(root / name for name in SHIPPED)


def _build(root: Path, venv: Path, client: Path, say: Callable[[str], None]) -> None:
    since = time.monotonic()
    say("building the wheel and its environments (kept in build/bench)")
    python, stamp = venv / "bin/python", venv / STAMP
    digest = _digest(root / name for name in SHIPPED)
    wheel = _wheel(root, root / "build/bench/wheel")
    if stamp.exists():
        stamp.write_text("changing")
    else:
        interpreter = os.environ.get("PYTHON", SYSTEM_PYTHON)
        _run(interpreter, "-m", "venv", "--clear", "--system-site-packages", venv)
        _run(interpreter, "-m", "venv", "--clear", "--without-pip", client)
        _pip(python, "install", f"{wheel}[daemon,cli]")
        _pip(python, "--python", client, "install", wheel)
    for which in ((), ("--python", client)):
        _pip(python, *which, "install", "--no-deps", "--force-reinstall", wheel)
    for installed in (venv, client):
        home = installed / HOME
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700)
        _run(root / "packaging/set-up", "--from", installed, env=_environ(home))
    stamp.write_text(digest)
    say(f"built in {time.monotonic() - since:.0f} s")


def compiled(root: Path, source: Path, say: Callable[[str], None]) -> Path:
    """Compile one C file, or find it compiled already. Raises InstallError."""
    build = root / "build/bench"
    build.mkdir(parents=True, exist_ok=True)
    program = build / f"{source.stem}-{_digest([source])}"
    if not program.exists():
        compiler = shutil.which("cc")
        if compiler is None:
            raise InstallError("a C compiler is missing: apt-get install gcc libc6-dev")
        say(f"compiling {source.name}")
        new = program.with_suffix(f".{os.getpid()}")
        _run(compiler, *COMPILE, "-o", new, source, "-lm")
        new.replace(program)
    return program


def _wheel(root: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    _pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", folder, root)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _pip(python: Path, *arguments: str | Path) -> None:
    _run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def _run(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        check=False,
    )
    if done.returncode:
        raise InstallError(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}")


def _environ(home: Path) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


def _digest(paths: Iterable[Path]) -> str:
    """Return a name for the contents of files and folders."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
