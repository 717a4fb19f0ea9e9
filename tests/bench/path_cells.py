"""The stream path: which HTTP client carries completions upstream, which server the HTTP door gets.

Only on request (`--only path`), since the choice is made: STREAM_PATH.md says how and why. Clients
stand behind the same bare server, servers before the same client; see candidates/README.md. They
get an environment of their own in `build/bench/`, with the newest release of each library.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness import Part
from bench.install import SYSTEM_PYTHON, InstallError
from bench.proxy_cells import forwarder
from bench.traffic import RAW, Traffic, busiest, note_added


if TYPE_CHECKING:
    from bench.harness import Progress, Results
    from bench.stage import Stage
    from bench.traffic import Row


__all__ = ["candidates_python", "prepare"]

ROOT = Path(__file__).resolve().parents[2]
CLIENT, SERVER = "path-client", "path-server"
LIBRARIES = ("aiohttp", "httptools", "httpx", "msgpack", "starlette", "uvicorn")
CLIENTS = {
    "client_ours": "brokerd.upstream (httptools)",
    "client_httptools": "httptools",
    "client_aiohttp": "aiohttp",
    "client_httpx": "httpx",
}
SERVERS = {
    "client_httptools": "no parser",
    "server_httptools": "httptools",
    "server_asgi": "uvicorn, bare ASGI",
    "server_aiohttp": "aiohttp.web",
    "server_starlette": "uvicorn, starlette",
}


def prepare(stage: Stage) -> Part:
    """Start all candidates."""
    python = candidates_python(stage)
    traffic = Traffic(stage)
    floor = [traffic.direct, forwarder(stage, "raw", RAW, python, CLIENT)]
    kinds = [
        traffic.json(1),
        traffic.json(16),
        traffic.json(64),
        traffic.big(),
        traffic.burst(),
        traffic.first(),
        traffic.paced(),
    ]
    groups = []
    started = floor[1:]
    for part, names in ((CLIENT, CLIENTS), (SERVER, SERVERS)):
        rows = [forwarder(stage, module, name, python, part) for module, name in names.items()]
        groups += [traffic.group(part, kind, [*floor, *rows]) for kind in kinds]
        started += rows
    at_rest = {row: _pss(row) for row in started}

    def afterwards(results: Results, _: Progress) -> None:
        memory = (f"{row.name} {at_rest[row]:.1f}, {_pss(row):.1f}" for row in started)
        stage.notes.append(f"PSS in MB at rest and after it all: {'; '.join(memory)}")
        for part in (CLIENT, SERVER):
            note_added(results, part)
        stage.notes.extend(busiest(results, CLIENT))

    return Part(tuple(groups), (), afterwards)


def _pss(row: Row) -> float:
    """Return the memory of a row's process in MB, shared pages by their share (proc(5))."""
    rollup = Path(f"/proc/{row.server.pid}/smaps_rollup").read_text()
    (line,) = (line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def candidates_python(stage: Stage) -> Path:
    """Return the interpreter that has every library, made as the daemon's is.

    A smoke run installs nothing: then it is the one that runs.
    """
    if stage.is_smoke:
        return stage.python
    name = hashlib.sha256(" ".join(LIBRARIES).encode()).hexdigest()[:12]
    venv = ROOT / "build/bench" / f"candidates-{name}"
    python, stamp = venv / "bin/python", venv / "installed"
    if not stamp.exists():
        stage.say("installing the candidates' libraries (kept in build/bench)")
        interpreter = os.environ.get("PYTHON", SYSTEM_PYTHON)
        _run(interpreter, "-m", "venv", "--clear", str(venv))
        _run(str(python), "-m", "pip", "--quiet", "--no-input", "install", *LIBRARIES)
        stamp.touch()
    done = _run(str(python), "-m", "pip", "--disable-pip-version-check", "freeze")
    said = f"candidates: {' '.join(done.split())}"
    if said not in stage.notes:
        stage.notes.append(said)
    return python


def _run(*words: str) -> str:
    """Run a command, return what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
