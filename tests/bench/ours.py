"""copilot-broker itself on the stage: the installed daemon, signed in on a simulator of its own.

The simulator plays GitHub (login and exchange) as a process on the generator's core; completions go
to whatever upstream the caller names, which the simulator's exchange then answers as `endpoints.api`.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.servers import ServerError
from bench.traffic import free_port


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.servers import Server
    from bench.stage import Stage


__all__ = ["NAME", "Broker", "key", "shared", "start"]

NAME = "copilot-broker"
"""Of its row in every table."""


@dataclass(frozen=True)
class Broker:
    """A running daemon that is signed in."""

    server: Server
    socket: Path
    """The RPC door: broker.sock."""
    http: Path
    """The HTTP door: http.sock."""
    tcp: str
    """The same by TCP, address and port; "" where it is not served."""
    home: Path
    environ: dict[str, str]
    """For clients: where they find it."""


def shared(stage: Stage) -> Broker:
    """Return the one daemon that all loaded cells measure; started on first use."""
    if stage.broker is None:
        stage.broker = start(stage, NAME, upstream=stage.upstream, tcp=f"127.0.0.1:{free_port()}")
    return stage.broker


def start(
    stage: Stage,
    name: str,
    *,
    upstream: str | None = None,
    store: str = "memory",
    tcp: str = "",
    more: str = "",
    before: Sequence[str] = (),
    **environ: str,
) -> Broker:
    """Start a simulator and a daemon on it, and sign in. Raises ServerError.

    `upstream` is the origin that completions go to, the simulator's own by default; `tcp` is
    where it serves HTTP by TCP; `more` is appended to config.toml; `before` comes before the daemon's command line; `environ` is given to the daemon (a session bus, say).
    """
    home = stage.private(name)
    github = _simulator(stage, f"{name} github", upstream)
    copilot = upstream or github
    config = home / "config.toml"
    served = f'[http]\ntcp = "{tcp}"\n' if tcp else ""
    config.write_text(
        f'[urls]\nlogin = "{github}"\napi = "{github}"\ncopilot = "{copilot}"\n'
        f'[store]\nkind = "{store}"\n{served}{more}'
    )
    socket = home / "broker.sock"
    env = stage.environ(
        home,
        COPILOT_BROKER_CONFIG=str(config),
        COPILOT_BROKER_SOCKET=str(socket),
        XDG_STATE_HOME=str(home),
        **environ,
    )
    log = stage.folder / f"{name.replace(' ', '-')}.log"
    argv = [*before, *stage.installed.daemon]
    server = stage.start(name, argv, ready=lambda: " ready " in log.read_text(), env=env)
    _cred(stage, env, "login")
    return Broker(server, socket, socket.with_name("http.sock"), tcp, home, env)


def key(stage: Stage, broker: Broker) -> str:
    """Return a new key for the HTTP door. Raises ServerError."""
    return _cred(stage, broker.environ, "key", "create", "bench").strip()


def _simulator(stage: Stage, name: str, upstream: str | None) -> str:
    """Start one and return its origin."""
    log = stage.folder / f"{name.replace(' ', '-')}.log"
    argv = [stage.python, "-P", "-m", "brokerd.simulator"]
    options = ["--auto-approve", "--print-url", "--interval", "0.1"]
    stage.start(
        name, [*argv, *options], ready=lambda: "\n" in log.read_text(), generator_core=True
    )
    url = log.read_text().strip()
    if upstream is not None:
        body = json.dumps({"api_base": upstream}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/_control/settings", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    return url


def _cred(stage: Stage, env: dict[str, str], *words: str) -> str:
    argv = [str(stage.installed.cred), *words]
    done = subprocess.run(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode:
        raise ServerError(f"copilot-cred {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
