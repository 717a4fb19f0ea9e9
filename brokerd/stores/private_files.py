"""Files that are ours alone: 0600 in 0700 folders, replaced whole or not at all.

A reader refuses what another user could have read or planted (mode, owner, symlink, device) and
says which command mends it. A writer makes a new file beside the old one, fsyncs it, renames it
and fsyncs the folder: after a crash there is the old content or the new, never half (rename(2),
fsync(2)). What a killed writer left behind is swept by the next writer.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "MAX_BYTES",
    "failed",
    "make_folder",
    "open_file",
    "read",
    "remove",
    "replace",
    "set_aside",
    "state_dir",
]

MAX_BYTES = 256 * 1024
"""A login is under 1 KiB and an index of a hundred accounts under 32; more is not ours."""

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEFTOVER = re.compile(r"\..+\.(\d+)\.[0-9a-f]{16}\.tmp")
_writing = (
    threading.Lock()
)  # one writer in this process, so every temporary file of our pid is a leftover
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EINTR, errno.EMFILE}
_PASSING |= {errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}


def state_dir(environ: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/copilot-broker`, else below `~/.local/state` (XDG Base Directory 0.8).

    A relative `$XDG_STATE_HOME` is ignored, as the specification says.
    """
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        base = str(Path(environ.get("HOME") or Path.home()) / ".local" / "state")
    return Path(base) / "copilot-broker"


def make_folder(folder: Path) -> None:
    """Make it and its parents 0700 where missing; refuse it when it is not ours alone."""
    try:
        for missing in reversed([p for p in (folder, *folder.parents) if not os.path.lexists(p)]):
            missing.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise failed("make", folder, error) from error
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise _unsafe(
            folder, "is not a folder of its own", f"Move it away: mv {folder} {folder}.old"
        )
    _check_owner_and_mode(folder, found, 0o700)


def open_file(path: Path, flags: int) -> int:
    """Return the descriptor of a file that is ours alone, opened with these flags of open(2).

    One that `O_CREAT` makes is 0600. Raises FileNotFoundError, PermanentError when it is unsafe,
    TransientError when the disk fails.
    """
    always = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | always, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unsafe(path, "is a symbolic link", f"Remove it: rm {path}") from error
        verb = "read" if flags & os.O_ACCMODE == os.O_RDONLY else "write"
        raise failed(verb, path, error) from error
    try:
        _check_file(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(path: Path) -> bytes | None:
    """Return its content, None when there is no such file.

    Raises PermanentError when it is unsafe, TransientError when the disk fails.
    """
    try:
        fd = open_file(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise failed("read", path, error) from error
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise _unsafe(path, "is too large to be ours", f"Move it away: mv {path} {path}.old")
    return data


def replace(path: Path, data: bytes) -> None:
    """Put `data` in its place, durable on return; on an error the old content is untouched."""
    make_folder(path.parent)
    temporary = f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp"
    try:
        with _writing, _Folder(path.parent) as folder:
            _sweep(folder)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(temporary, flags, 0o600, dir_fd=folder)
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                _unlink(temporary, folder)
                raise
            os.fsync(folder)
    except OSError as error:
        raise failed("write", path, error) from error


def remove(path: Path) -> None:
    """Remove it, durably; it not being there is no error."""
    try:
        with _writing, _Folder(path.parent) as folder:
            _sweep(folder)
            _unlink(path.name, folder)
            os.fsync(folder)
    except FileNotFoundError:
        return  # no folder, no file
    except OSError as error:
        raise failed("remove", path, error) from error


def set_aside(path: Path) -> Path:
    """Rename what cannot be understood to `NAME.broken-…`; nothing is lost. Return the path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.broken-{stamp}-{secrets.token_hex(3)}")
    try:
        with _Folder(path.parent) as folder:
            os.rename(path.name, aside.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
    except OSError as error:
        raise failed("set aside", path, error) from error
    return aside


class _Folder:
    """An open folder, so that what is renamed and fsynced is in the folder that was checked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = os.open(self._path, _DIR)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _sweep(folder: int) -> None:
    """Remove the temporary files of writers that are gone: they may hold a token."""
    for name in os.listdir(folder):
        if match := _LEFTOVER.fullmatch(name):
            pid = int(match[1])
            if pid == os.getpid() or not Path(f"/proc/{pid}").exists():
                _unlink(name, folder)


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):  # Python itself would open no folder
        raise _unsafe(path, "is not a regular file", f"Move it away: mv {path} {path}.old")
    _check_owner_and_mode(path, found, 0o600)


def _check_owner_and_mode(path: Path, found: os.stat_result, mode: int) -> None:
    if found.st_uid != os.geteuid():
        raise _unsafe(
            path, f"belongs to uid {found.st_uid}", f"Move it away: mv {path} {path}.old"
        )
    if found.st_mode & 0o077:
        text = f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
        raise _unsafe(path, text, f"Close it: chmod {mode:o} {path}")


def _unsafe(path: Path, what: str, hint: str) -> PermanentError:
    return PermanentError(
        Failure(ErrorClass.STORE_UNAVAILABLE, "store_unsafe", f"{path} {what}", hint)
    )


def failed(verb: str, path: Path, error: OSError) -> BrokerError:
    """Return what to raise where the disk does not let us: with the command that mends it."""
    text = f"cannot {verb} {path}: {error.strerror or error}"
    if error.errno in _PASSING:
        hint = f"Make room or repair the disk: df -h {path.parent}"
        return TransientError(Failure(ErrorClass.TEMPORARY, "store_io_failed", text, hint))
    hint = f"Make the folder writable: ls -ld {path.parent}"
    return PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "store_unwritable", text, hint))
