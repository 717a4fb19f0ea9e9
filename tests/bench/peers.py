"""The agents that people already run, each private to this run, with one secret in it.

Every function returns what it started, or None after telling the stage which program is missing
and the Debian package that has it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.servers import ServerError, wait_until


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.servers import Server
    from bench.stage import Stage


__all__ = ["Keyring", "Peer", "gh", "git_cache", "keyring", "ssh_agent"]

SECRET = "tid=" + "0" * 396
"""As long as a Copilot token; worth nothing."""
GIT_CREDENTIAL = "protocol=https\nhost=github.com\n"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>
"""


@dataclass(frozen=True)
class Peer:
    """A running agent, and the command a person would use."""

    server: Server
    socket: Path
    environ: dict[str, str]
    command: tuple[str, ...]
    stdin: bytes = b""
    """What the command reads."""
    request: bytes = field(default=b"", repr=False)
    """What the command sends, where it is measured without it."""


@dataclass(frozen=True)
class Keyring:
    """A D-Bus of its own, a gnome-keyring on it, and `secret-tool` as its command."""

    bus: Server
    server: Server
    environ: dict[str, str]
    command: tuple[str, ...]


def ssh_agent(stage: Stage) -> Peer | None:
    """Start ssh-agent with one Ed25519 key."""
    if not stage.has("ssh-agent", "ssh-agent", "openssh-client"):
        return None
    if "ssh-agent" not in stage.peers:
        home = stage.private("ssh")
        path = home / "agent"
        server = stage.start("ssh-agent", ["ssh-agent", "-D", "-a", path], ready=path.exists)
        environ = stage.environ(home, SSH_AUTH_SOCK=str(path))
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key")], environ)
        _run(["ssh-add", "-q", str(home / "key")], environ)
        stage.peers["ssh-agent"] = Peer(server, path, environ, ("ssh-add", "-l"))
    return stage.peers["ssh-agent"]


def git_cache(stage: Stage) -> Peer | None:
    """Start git's credential-cache daemon with one password.

    The daemon is started directly; `git credential-cache` would put it in the background.
    """
    name = "git credential-cache"
    if not stage.has(name, "git", "git"):
        return None
    if name not in stage.peers:
        home = stage.private("git")
        path = home / "cache/socket"
        path.parent.mkdir(mode=0o700)
        core = _run(["git", "--exec-path"], stage.environ(home)).strip()
        environ = stage.environ(home)
        # --debug: it keeps its stderr; it wants nothing else of a terminal
        argv = [f"{core}/git-credential-cache--daemon", "--debug", path]
        server = stage.start(name, argv, env=environ, ready=path.exists)
        command = ("git", "credential-cache", f"--socket={path}")
        stored = f"{GIT_CREDENTIAL}username=x\npassword={SECRET}\n"
        _run([*command, "--timeout=86400", "store"], environ, stored.encode())
        request = f"action=get\ntimeout=900\n{GIT_CREDENTIAL}\n".encode()
        stage.peers[name] = Peer(
            server, path, environ, (*command, "get"), GIT_CREDENTIAL.encode(), request
        )
    return stage.peers[name]


def gh(stage: Stage) -> tuple[dict[str, str], tuple[str, ...]] | None:
    """Return environment and command of `gh auth token`, signed in by a file of its own."""
    if not stage.has("gh auth token", "gh", "gh"):
        return None
    home = stage.private("gh")
    (home / "hosts.yml").write_text(
        f"github.com:\n    oauth_token: gho_{'0' * 36}\n    user: octocat\n"
    )
    environ = stage.environ(home, GH_CONFIG_DIR=str(home), GH_NO_UPDATE_NOTIFIER="1")
    return environ, ("gh", "auth", "token")


def keyring(stage: Stage) -> Keyring | None:
    """Start a private bus and gnome-keyring with one secret."""
    name = "secret-tool"
    wanted = {
        "dbus-daemon": "dbus",
        "gnome-keyring-daemon": "gnome-keyring",
        "secret-tool": "libsecret-tools",
    }
    if not all(stage.has(name, program, package) for program, package in wanted.items()):
        return None
    if stage.keyring is None:
        home = stage.private("keyring")
        path = home / "bus"
        (home / "bus.conf").write_text(BUS.format(socket=path))
        environ = stage.environ(home, DBUS_SESSION_BUS_ADDRESS=f"unix:path={path}")
        argv = ["dbus-daemon", f"--config-file={home}/bus.conf", "--nofork"]
        bus = stage.start("dbus-daemon", argv, env=environ, ready=path.exists)
        argv = ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"]
        control = home / "keyring/control"
        server = stage.start("gnome-keyring", argv, env=environ, ready=control.exists, stdin=b"\n")
        attributes = ("service", "bench", "account", "octocat")
        wait_until(lambda: _stored(environ, attributes))
        command = ("secret-tool", "lookup", *attributes)
        stage.keyring = Keyring(bus, server, environ, command)
    return stage.keyring


def _stored(environ: dict[str, str], attributes: Sequence[str]) -> bool:
    """Store the secret; false while the keyring does not own its name yet."""
    try:
        _run(["secret-tool", "store", "--label=bench", *attributes], environ, SECRET.encode())
    except ServerError:
        return False
    return True


def _run(argv: Sequence[str], environ: dict[str, str], stdin: bytes = b"") -> str:
    done = subprocess.run(
        argv, env=environ, input=stdin, capture_output=True, timeout=20, check=False
    )
    if done.returncode:
        raise ServerError(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()
