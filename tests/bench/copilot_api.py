"""The npm package `copilot-api`, pinned, redirected to the bench's GitHub and Copilot.

It is installed into `build/bench/` without running any script of its packages. A module loaded
before it maps every address it asks for to loopback, so that it runs as published.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from typing import TYPE_CHECKING

from bench.servers import ServerError
from bench.traffic import Row, answers, free_port


if TYPE_CHECKING:
    from pathlib import Path

    from bench.stage import Stage


__all__ = ["NAME", "shared"]

NAME = "copilot-api"
VERSION = "0.7.0"
INSTALL_PATIENCE = 120
CLIENT_ID = "Iv1.b507a08c87ecfe98"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REDIRECT = """\
const github = process.env.BENCH_GITHUB, copilot = process.env.BENCH_COPILOT;
const real = globalThis.fetch;
globalThis.fetch = (input, init) => {
  const url = new URL(input instanceof Request ? input.url : input);
  const origin = url.hostname === "api.githubcopilot.com" ? copilot : github;
  return real(origin + url.pathname + url.search, init);
};
"""


def shared(stage: Stage, root: Path, github: str) -> Row | None:
    """Return the one that all cells measure; None, with the reason noted, where that cannot be."""
    if NAME not in stage.peers:
        stage.peers[NAME] = _start(stage, root, github)
    return stage.peers[NAME]


def _start(stage: Stage, root: Path, github: str) -> Row | None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            stage.skip(NAME, f"{program} is missing: apt-get install nodejs npm")
            return None
    try:
        script = _installed(stage, root / "build/bench" / f"{NAME}-{VERSION}")
    except (OSError, subprocess.SubprocessError) as error:
        stage.skip(NAME, f"npm cannot install it: {error}")
        return None
    home = stage.private(NAME)
    redirect = home / "redirect.cjs"
    redirect.write_text(REDIRECT)
    token = home / ".local/share/copilot-api/github_token"
    token.parent.mkdir(parents=True)
    token.write_text(_github_token(github))
    port = free_port()
    env = stage.environ(home, HOST="127.0.0.1", BENCH_GITHUB=github, BENCH_COPILOT=stage.upstream)
    argv = ["node", "--require", redirect, script, "start", "--port", str(port)]
    try:
        server = stage.start(NAME, argv, ready=lambda: answers(("127.0.0.1", port)), env=env)
    except ServerError as error:
        stage.skip(NAME, str(error))
        return None
    return Row(NAME, server, f"tcp:127.0.0.1:{port}")


def _installed(stage: Stage, folder: Path) -> Path:
    script = folder / "node_modules" / NAME / "dist/main.js"
    if not script.exists():
        stage.say(f"installing {NAME} {VERSION} from npm (kept in build/bench)")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(
            [*words, "--save-exact", f"{NAME}@{VERSION}"],
            cwd=folder,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=INSTALL_PATIENCE,
            check=True,
        )
    return script


def _github_token(github: str) -> str:
    """Sign in on the simulator, which approves by itself (RFC 8628)."""
    code = _post(github, "/login/device/code", client_id=CLIENT_ID)["device_code"]
    asked = {"client_id": CLIENT_ID, "device_code": code, "grant_type": DEVICE_GRANT}
    return _post(github, "/login/oauth/access_token", **asked)["access_token"]


def _post(origin: str, path: str, **fields: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(origin + path, json.dumps(fields).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))
