"""Where the broker's socket is, and whether what is there may be trusted.

A client hands its account name and a request for secrets to whoever answers, so it looks first:
the socket must be a socket of ours, in a folder that only we may enter and that is no symbolic
link, and the kernel must say that the listener is ours (SO_PEERCRED, unix(7)). All that happens
before a byte is sent. `copilot-cred get` pays for every import: so `_socket`, `_stat` and `posix`,
which the interpreter brings along, and not the modules in front of them.
"""

from __future__ import annotations

import _socket
import _stat
import posix
import sys
import time


TYPE_CHECKING = False  # importing `typing` costs more than the rest of `copilot-cred get`
if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "BUSY_PAUSE",
    "START_HINT",
    "NoBroker",
    "check_path",
    "check_peer",
    "connect",
    "connect_once",
    "http_socket_path",
    "socket_path",
]

START_HINT = "Run: systemctl --user start copilot-broker.socket"
_DECOY_HINT = "Remove it, then run: systemctl --user restart copilot-broker.socket"
_CREDENTIALS_SIZE = 12
"""`struct ucred`: pid, uid, gid, 32 bits each (unix(7))."""
BUSY_PAUSE = 0.01
"""Seconds between two tries while the listener's queue is full; the broker accepts in less."""


class NoBroker(Exception):  # noqa: N818  (a finding about the address; errors.py has the errors)
    """Nobody to be trusted listens there; `code`, `message` and `hint` say why and what to do."""

    def __init__(self, code: str, message: str, hint: str = START_HINT) -> None:
        super().__init__(f"{code}: {message}. {hint}")
        self.code = code
        self.message = message
        self.hint = hint


def socket_path(environ: Mapping[str, str] | None = None) -> str:
    """Return `$COPILOT_BROKER_SOCKET`, else the path in the runtime directory.

    The runtime directory is `$XDG_RUNTIME_DIR`, else /run/user/UID where that is ours.
    Raises NoBroker `no_runtime_dir`.
    """
    env = _environ() if environ is None else environ
    if chosen := env.get("COPILOT_BROKER_SOCKET"):
        return chosen
    folder = env.get("XDG_RUNTIME_DIR")
    if not folder:
        folder = f"/run/user/{posix.getuid()}"
        try:
            ours = posix.lstat(folder).st_uid == posix.getuid()
        except OSError:
            ours = False
        if not ours:
            message = f"XDG_RUNTIME_DIR is not set and {folder} is not there"
            raise NoBroker("no_runtime_dir", message)
    return f"{folder}/copilot-broker/broker.sock"


def http_socket_path(environ: Mapping[str, str] | None = None) -> str:
    """Return the path of the HTTP door's socket: beside the broker's own. Raises as that does."""
    folder, slash, _ = socket_path(environ).rpartition("/")
    return f"{folder}{slash}http.sock"


def _environ() -> Mapping[str, str]:
    """Return the environment: a program may have changed `os.environ`, or not have loaded `os`."""
    if "os" in sys.modules:
        return sys.modules["os"].environ  # type: ignore[no-any-return]
    encoding = sys.getfilesystemencoding()
    return {
        name.decode(encoding, "surrogateescape"): value.decode(encoding, "surrogateescape")
        for name, value in posix.environ.items()
    }


def check_path(path: str, uid: int | None = None) -> None:
    """Raise NoBroker `not_running` or `untrusted_socket` unless `path` is a socket of ours."""
    uid = posix.getuid() if uid is None else uid
    folder = path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
    try:
        around, found = posix.lstat(folder), posix.lstat(path)
    except OSError as error:
        raise NoBroker("not_running", f"no socket at {path} ({error.strerror})") from None
    if not _stat.S_ISDIR(around.st_mode):
        _refuse(f"{folder} is not a folder but a link or file")
    if around.st_uid != uid:
        _refuse(f"{folder} belongs to uid {around.st_uid}")
    if around.st_mode & 0o077:
        _refuse(f"{folder} is open to others (mode {_stat.S_IMODE(around.st_mode):04o})")
    if not _stat.S_ISSOCK(found.st_mode):
        _refuse(f"{path} is not a socket")
    if found.st_uid != uid:
        _refuse(f"{path} belongs to uid {found.st_uid}")


def check_peer(sock: _socket.socket, uid: int | None = None) -> None:
    """Raise NoBroker `untrusted_socket` unless the process that listens has our uid."""
    uid = posix.getuid() if uid is None else uid
    ucred = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS_SIZE)
    theirs = int.from_bytes(ucred[4:8], sys.byteorder)
    if theirs != uid:
        _refuse(f"the listener belongs to uid {theirs}")


def _refuse(message: str) -> None:
    raise NoBroker("untrusted_socket", message, _DECOY_HINT)


def connect_once(path: str, uid: int | None = None) -> _socket.socket:
    """Connect without waiting; the socket is non-blocking and its listener was checked.

    Raises NoBroker, and BlockingIOError while the listener's queue is full (connect(2), EAGAIN).
    """
    check_path(path, uid)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.connect(path)
        check_peer(sock, uid)
    except BlockingIOError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise NoBroker("not_running", f"nobody answers at {path} ({reason})") from None
    except NoBroker:
        sock.close()
        raise
    return sock


def connect(path: str, timeout: float, uid: int | None = None) -> _socket.socket:
    """Connect within `timeout` seconds; a full queue is waited for.

    Raises NoBroker, and BlockingIOError when the queue was still full in the end.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect_once(path, uid)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(BUSY_PAUSE)
