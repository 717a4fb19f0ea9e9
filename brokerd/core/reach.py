"""What the daemon needs of the machine, so that all else can be taken from it (landlock(7)).

A value computed from configuration, environment and what the caller knows of the interpreter;
`host.landlock` turns it into rules. The home folder is never part of it, only what is listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from brokerd.core.loopback import host_and_port


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from brokerd.core.settings import Config


__all__ = ["Reach", "Surroundings", "needs_restart", "reach_of"]

HTTPS_PORT: Final = 443
ANY_PORT: Final = 0
"""To bind a run's: whichever the kernel chooses, of its range for those (Landlock's own words)."""

DNS_PORT: Final = 53
"""By TCP: what an answer takes that is too long for UDP (RFC 7766)."""

SYSTEM_FOLDERS: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
    "/etc",
    "/nix/store", "/gnu/store",
    "/var/lib/ca-certificates",  # where openSUSE's /etc/ssl/certs leads
    "/var/lib/dbus",  # the machine id
    "/var/lib/sss", "/run/systemd/userdb", "/run/userdb",  # names of users
    "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/connman",
    "/proc",  # who the peers are
    "/sys/fs/cgroup",  # what the manager put in force
)  # fmt: skip
"""Readable: programs' and libraries' files, settings for all users; nothing of a person's."""

DEVICES: Final = ("/dev/random", "/dev/urandom", "/dev/zero")

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_DBUS_ADDRESSES: Final = ("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS")

_PATHS_OF_ENVIRONMENT: Final = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF",
    "CREDENTIALS_DIRECTORY",
    "LD_LIBRARY_PATH", "GI_TYPELIB_PATH", "GIO_EXTRA_MODULES", "GIO_MODULE_DIR",
)  # fmt: skip
"""Variables whose files are read after the rules are in force; each may be a list with colons."""

_MIN_DEPTH: Final = 2
"""`/run/resolved` and deeper is a folder about one thing; `/run` itself is about all."""


@dataclass(frozen=True)
class Reach:
    """Files below these folders (or these very files), and these TCP ports; nothing else."""

    readable: frozenset[str] = frozenset()
    writable: frozenset[str] = frozenset()
    """Readable too."""
    connect_ports: frozenset[int] = frozenset()
    bind_ports: frozenset[int] = frozenset()
    abstract_sockets: bool = False
    """Whether it must connect to abstract Unix sockets, as of an older session bus (unix(7))."""

    def covers(self, other: Reach) -> bool:
        """Whether whoever has this reach needs no more for `other`."""
        return not self.lacks(other)

    def lacks(self, other: Reach) -> str:
        """Say what `other` has and this one has not, for a person; "" where nothing is missing."""
        missing = [
            *(f"reading {path}" for path in _outside(other.readable, self._all_readable())),
            *(f"writing {path}" for path in _outside(other.writable, self.writable)),
            *(f"port {port}" for port in sorted(other.connect_ports - self.connect_ports)),
            *(f"listening on {port}" for port in sorted(other.bind_ports - self.bind_ports)),
        ]
        if other.abstract_sockets and not self.abstract_sockets:
            missing.append("abstract sockets")
        return ", ".join(missing)

    def _all_readable(self) -> frozenset[str]:
        return self.readable | self.writable


def _outside(wanted: frozenset[str], given: frozenset[str]) -> Iterator[str]:
    for path in sorted(wanted):
        if not any(_is_within(path, folder) for folder in given):
            yield path


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


@dataclass(frozen=True)
class Surroundings:
    """What the caller knows of this process and this machine; paths are absolute and real."""

    home: str
    state_dir: str
    config_file: str
    """Its folder is readable, so that an editor may put a new file in its place."""
    config_target: str | None = None
    """Where `config_file` leads when it is a link."""
    socket_dir: str | None = None
    """Where we bind ourselves; None: the service manager did."""
    code: tuple[str, ...] = ()
    """Where modules and their libraries are looked for."""
    authorities: tuple[str, ...] = ()
    """Where OpenSSL looks for certificates (ssl.get_default_verify_paths)."""
    run_ports: tuple[int, ...] = ()
    """Of the runs that the daemon before this one has left (`core.passing`)."""
    names: tuple[str, ...] = ()
    """Where resolv.conf and its like really are; they are exchanged whole, with their folder."""


def reach_of(config: Config, environ: Mapping[str, str], around: Surroundings) -> Reach:
    """Return all that a daemon with this configuration needs, and no more than that."""
    readable = {*SYSTEM_FOLDERS, *DEVICES}
    readable.update(path for path in around.code if not _holds(path, around.home))
    readable.update(around.authorities)
    readable.update(_paths(environ))
    readable.update(_folder_or_file(path, around.home) for path in around.names)
    readable.add(_folder_or_file(around.config_file, around.home))
    if around.config_target is not None:
        readable.add(_folder_or_file(around.config_target, around.home))
    if config.network.ca_file is not None:
        readable.add(str(config.network.ca_file))
    writable = {around.state_dir, "/dev/null"}
    if around.socket_dir is not None:
        writable.add(around.socket_dir)
    return Reach(
        readable=frozenset(path for path in readable if path.startswith("/")),
        writable=frozenset(writable),
        connect_ports=frozenset(_ports(config, environ)),
        bind_ports=frozenset((ANY_PORT, *around.run_ports, *_own_ports(config))),
        abstract_sockets=_needs_abstract(environ),
    )


def needs_restart(old: Config, new: Config) -> str:
    """Say what of `new` a running daemon with `old` cannot take up, for a person; "" for nothing.

    Whatever its confinement: listeners are opened at the start, and stay where they are.
    """
    if new.http.tcp == old.http.tcp:
        return ""
    return f"listening on {new.http.tcp}" if new.http.tcp else f"closing {old.http.tcp}"


def _holds(folder: str, home: str) -> bool:
    """Whether `folder` is the home folder or above it: it would open all that is in there."""
    return _is_within(home, folder)


def _folder_or_file(file: str, home: str) -> str:
    folder = file.rpartition("/")[0]
    is_wide = _holds(folder, home) or folder.count("/") < _MIN_DEPTH
    return file if is_wide else folder


def _paths(environ: Mapping[str, str]) -> Iterator[str]:
    for name in _PATHS_OF_ENVIRONMENT:
        for path in environ.get(name, "").split(":"):
            if path.startswith("/") and path != "/":
                yield path


def _ports(config: Config, environ: Mapping[str, str]) -> Iterator[int]:
    yield HTTPS_PORT
    yield DNS_PORT
    urls = config.urls
    for url in (urls.login, urls.api, urls.copilot, urls.completions, config.network.proxy):
        yield from _port(url)
    for name, value in environ.items():
        if name.lower() in ("https_proxy", "all_proxy", "http_proxy"):
            yield from _port(value if "://" in value else f"http://{value}")
        if name in _DBUS_ADDRESSES and "tcp:" in value:
            yield from (int(port) for port in re.findall(r"\bport=(\d{1,5})\b", value))


def _own_ports(config: Config) -> Iterator[int]:
    if config.http.tcp:
        yield host_and_port(config.http.tcp)[1]


def _port(url: str | None) -> Iterator[int]:
    """Yield the port of a URL; whoever uses a wrong one says what is wrong with it."""
    try:
        parts = urlsplit(url or "")
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return
    if port is not None and parts.hostname:
        yield port


def _needs_abstract(environ: Mapping[str, str]) -> bool:
    if environ.get("NOTIFY_SOCKET", "").startswith("@"):
        return True
    return any("abstract=" in environ.get(name, "") for name in _DBUS_ADDRESSES)
