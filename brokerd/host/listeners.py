"""Bind our own Unix socket where no service manager did: private from its first instant.

A lock file decides between two starters; whoever has it may replace a socket that nobody answers
on, never one that somebody does. The socket is bound and listens under a name nobody knows, then
takes its own name in one rename(2): there is no moment of a wrong mode, of a refused connection or
of a missing file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
from pathlib import Path
from typing import NoReturn

from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.host.peers.descriptors import refuse_descriptors


__all__ = ["BACKLOG", "ListenError", "OwnSocket", "bind_own"]

BACKLOG = 256
"""As in the socket units; the kernel caps it at net.core.somaxconn."""

SUN_PATH_MAX = 107
"""Bytes of a Unix socket's path: `sun_path` is 108 with the closing NUL (unix(7))."""

PROBE_TIMEOUT = 1.0
"""Seconds to wait for a connect(2), which blocks only while the other's backlog is full."""


class ListenError(PermanentError):
    """The socket cannot be bound; says who or what is in the way."""


class OwnSocket(socket.socket):
    """A listening socket that takes its file along and frees its lock when it is closed."""

    _path: str = ""
    _inode: tuple[int, int] | None = None
    _lock_fd: int = -1

    def close(self) -> None:
        """Remove the file if it is still ours, close, then free the lock; twice is no error."""
        inode, self._inode = self._inode, None
        lock_fd, self._lock_fd = self._lock_fd, -1
        with contextlib.suppress(OSError):
            status = os.lstat(self._path) if inode else None
            if status and (status.st_dev, status.st_ino) == inode:
                Path(self._path).unlink()
        super().close()
        if lock_fd >= 0:
            os.close(lock_fd)


def bind_own(path: str | os.PathLike[str]) -> OwnSocket:
    """Return a non-blocking socket that listens at `path`, mode 0600 in a 0700 folder of ours.

    The folder is made if its parent exists. Raises ListenError: the path is too long, the folder
    is a symbolic link, not ours or open to others, or a live process owns the socket.
    """
    target = Path(path).absolute()
    fresh = target.with_name(f".{target.name}.new")
    if len(os.fsencode(fresh)) > SUN_PATH_MAX:
        _fail(
            "socket_path_too_long",
            f"{target} is too long for a Unix socket: over {SUN_PATH_MAX} bytes while being made",
            "Set XDG_RUNTIME_DIR to a shorter path",
        )
    with contextlib.ExitStack() as undo:
        folder_fd = _open_folder(target.parent)
        undo.callback(os.close, folder_fd)
        sock = OwnSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        undo.callback(sock.close)
        sock._lock_fd = _lock(target, folder_fd)  # noqa: SLF001 (our own class)
        _refuse_if_alive(target, folder_fd)
        try:
            _bind(sock, fresh, folder_fd)
            os.rename(fresh.name, target.name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            status = os.stat(target.name, dir_fd=folder_fd, follow_symlinks=False)
        except OSError as error:
            reason = f"{target} cannot be bound ({error.strerror or error})"
            _fail("socket_folder_unusable", reason, f"Run: ls -ld {target.parent}")
        sock._path, sock._inode = str(target), (status.st_dev, status.st_ino)  # noqa: SLF001
        undo.pop_all()
        os.close(folder_fd)
        return sock


def _open_folder(folder: Path) -> int:
    """Make the folder if need be, hold it, and be sure that it is ours alone."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if folder.is_symlink():
            _fail("socket_folder_unsafe", f"{folder} is a symbolic link", f"Run: rm {folder}")
        reason = f"{folder} cannot be used ({error.strerror})"
        _fail("socket_folder_unusable", reason, f"Run: mkdir -p -m 700 {folder}")
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        os.close(fd)
        _fail(
            "socket_folder_unsafe",
            f"{folder} belongs to uid {status.st_uid}, not to you",
            "Set XDG_RUNTIME_DIR to a folder of your own",
        )
    if status.st_mode & 0o077:
        os.close(fd)
        mode = stat.S_IMODE(status.st_mode)
        reason = f"{folder} is open to others (mode {mode:04o}, must be 0700)"
        _fail("socket_folder_unsafe", reason, f"Run: chmod 700 {folder}")
    return fd


def _lock(target: Path, folder_fd: int) -> int:
    """Take the lock beside the socket, or say who has it. Its file stays: unlinking would race."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(f"{target.name}.lock", flags, 0o600, dir_fd=folder_fd)
    except OSError as error:
        reason = f"{target}.lock cannot be opened ({error.strerror})"
        _fail("socket_folder_unusable", reason, f"Run: rm {target}.lock")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _lock_holder(os.fstat(fd).st_ino)
        os.close(fd)
        _busy(target, pid)
    return fd


def _lock_holder(inode: int) -> int | None:
    """Look the holder up in the kernel's list, which has no moment without a pid (proc(5))."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.split()
            if kind == "FLOCK" and int(place.rsplit(":", 1)[1]) == inode:
                return int(pid) or None
    return None


def _refuse_if_alive(target: Path, folder_fd: int) -> None:
    """Return if nothing is at `target`, or a socket that its owner left behind."""
    try:
        status = os.stat(target.name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        reason = f"{target} exists and is not a socket"
        _fail("socket_path_taken", reason, f"Move it away: mv {target} {target}.old")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(str(target))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except (TimeoutError, BlockingIOError):  # alive, its backlog full
            _busy(target, None)
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:  # another kind of socket, and alive
                _busy(target, None)
            reason = f"{target} cannot be probed ({error.strerror})"
            _fail("socket_path_taken", reason, f"Run: ls -l {target}")
        # SO_PEERCRED of a connecting socket is whoever called listen(2): a daemon, or systemd.
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _busy(target, struct.unpack("3i", raw)[0] or None)


def _bind(sock: socket.socket, fresh: Path, folder_fd: int) -> None:
    """Bind and listen at the temporary name, and be sure that it came to be in our folder."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh.name, dir_fd=folder_fd)  # a starter that was killed here; we have the lock
    before = os.umask(0o177)
    try:
        sock.bind(str(fresh))
    finally:
        os.umask(before)
    refuse_descriptors(sock)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    try:
        status = os.stat(fresh.name, dir_fd=folder_fd, follow_symlinks=False)
        good = stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
    except FileNotFoundError:
        good = False
    if not good:
        reason = f"{fresh.parent} was exchanged under our hands"
        _fail(
            "socket_folder_unsafe", reason, f"Look who may write to it: ls -ld {fresh.parent}/.."
        )


def _busy(target: Path, pid: int | None) -> NoReturn:
    who = "another process"
    if pid is not None:
        who = f"pid {pid}"
        with contextlib.suppress(OSError):
            who += f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    hint = (
        "Use that one, or stop it: systemctl --user stop"
        " copilot-broker.socket copilot-broker-http.socket copilot-broker.service"
    )
    if pid is not None and pid != os.getpid():
        hint += f", or kill {pid} if it was started by hand"
    _fail("socket_busy", f"{target} is served by {who} already", hint)


def _fail(code: str, message: str, hint: str) -> NoReturn:
    raise ListenError(Failure(ErrorClass.USAGE, code, message, hint))
