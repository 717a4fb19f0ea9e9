"""The agents that people already run, each private to this run, with one secret in it.

Every function returns what it started, or None after telling the stage why it could not: which
program is missing and the Debian package that has it, or what the peer said.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.servers import ServerError, wait_until


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.servers import Server
    from bench.stage import Stage


__all__ = ["Keyring", "Peer", "gh", "git_cache", "keyring", "ssh_agent"]

T = TypeVar("T")

SECRET = "tid=" + "0" * 396
"""As long as a Copilot token; worth nothing."""
GIT_CREDENTIAL = "protocol=https\nhost=github.com\n"
SESSION_BUS = Path("/usr/share/dbus-1/session.conf")
"""The distribution's, whose limits ours gets: dbus-daemon's own are those of a system bus."""
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy>{limits}</busconfig>
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
    socket: Path
    """The bus's."""


def _once(
    name: str, programs: Mapping[str, str]
) -> Callable[[Callable[[Stage, str], T]], Callable[..., T | None]]:
    """Start it at most once in a run, if its programs (→ Debian package) are here and it will.

    With a word, `which`, another one of its kind is started that is not that of the other cells.
    """

    def decorate(start: Callable[[Stage, str], T]) -> Callable[..., T | None]:
        @wraps(start)
        def started(stage: Stage, which: str = "") -> T | None:
            key = name + which
            if key not in stage.peers:
                stage.peers[key] = None
                if all(stage.has(name, *each) for each in programs.items()):
                    try:
                        stage.peers[key] = start(stage, which)
                    except (ServerError, TimeoutError, OSError) as error:
                        stage.skip(key, str(error))
            return stage.peers[key]

        return started

    return decorate


@_once("ssh-agent", {"ssh-agent": "openssh-client"})
def ssh_agent(stage: Stage, which: str) -> Peer:
    """Start ssh-agent with one Ed25519 key."""
    home = stage.private("ssh" + which)
    path = home / "agent"
    server = stage.start("ssh-agent" + which, ["ssh-agent", "-D", "-a", path], ready=path.exists)
    environ = stage.environ(home, SSH_AUTH_SOCK=str(path))
    _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key")], environ)
    _run(["ssh-add", "-q", str(home / "key")], environ)
    return Peer(server, path, environ, ("ssh-add", "-l"))


@_once("git credential-cache", {"git": "git"})
def git_cache(stage: Stage, which: str) -> Peer:
    """Start git's credential-cache daemon with one password.

    It is started directly: `git credential-cache` would put it into the background.
    """
    home = stage.private("git" + which)
    path = home / "cache/socket"
    path.parent.mkdir(mode=0o700)
    environ = stage.environ(home)
    core = _run(["git", "--exec-path"], environ).strip()
    # --debug: it keeps its stderr, no more than that
    argv = [f"{core}/git-credential-cache--daemon", "--debug", path]
    server = stage.start("git credential-cache" + which, argv, env=environ, ready=path.exists)
    command = ("git", "credential-cache", f"--socket={path}")
    stored = f"{GIT_CREDENTIAL}username=x\npassword={SECRET}\n"
    _run([*command, "--timeout=86400", "store"], environ, stored.encode())
    request = f"action=get\ntimeout=900\n{GIT_CREDENTIAL}\n".encode()
    return Peer(server, path, environ, (*command, "get"), GIT_CREDENTIAL.encode(), request)


@_once("gh auth token", {"gh": "gh"})
def gh(stage: Stage, which: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return environment and command of `gh auth token`, signed in by a file of its own."""
    home = stage.private("gh" + which)
    token = f"gho_{'0' * 36}"
    (home / "hosts.yml").write_text(f"github.com:\n    oauth_token: {token}\n    user: octocat\n")
    environ = stage.environ(home, GH_CONFIG_DIR=str(home), GH_NO_UPDATE_NOTIFIER="1")
    return environ, ("gh", "auth", "token")


@_once(
    "secret-tool",
    {
        "dbus-daemon": "dbus",
        "gnome-keyring-daemon": "gnome-keyring",
        "secret-tool": "libsecret-tools",
    },
)
def keyring(stage: Stage, which: str) -> Keyring:
    """Start a private bus and gnome-keyring with one secret."""
    home = stage.private("keyring" + which)
    path = home / "bus"
    limits = re.findall(r"<limit .*?</limit>", _text_of(SESSION_BUS))
    (home / "bus.conf").write_text(BUS.format(socket=path, limits="".join(limits)))
    environ = stage.environ(home, DBUS_SESSION_BUS_ADDRESS=f"unix:path={path}")
    argv = ["dbus-daemon", f"--config-file={home}/bus.conf", "--nofork"]
    bus = stage.start("dbus-daemon" + which, argv, env=environ, ready=path.exists)
    argv = ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"]
    control = home / "keyring/control"
    server = stage.start(
        "gnome-keyring" + which, argv, env=environ, ready=control.exists, stdin=b"\n"
    )
    attributes = ("service", "bench", "account", "octocat")
    wait_until(lambda: _stored(environ, attributes))
    return Keyring(bus, server, environ, ("secret-tool", "lookup", *attributes), path)


def _text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


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
