"""Reading another tool's file: bounded, ours alone, and so that it stays as it was.

Nothing is written, created, locked or (where the kernel lets the owner say so: `O_NOATIME`) marked
as read. A symbolic link is followed where it is ours and leads to a file of ours, as those do that
dotfile managers make; neither link nor file may be in a folder of the home that others can write,
for then they choose what is read.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["MIB", "Contents", "Unreadable", "printable_word", "read_file", "read_json", "text_of"]

MIB = 1024 * 1024

_READ_BY_OTHERS = 0o044
_WRITTEN_BY_GROUP = 0o020
_WRITTEN_BY_OTHERS = 0o002


class Unreadable(Exception):  # noqa: N818 - what is said of a file, no defect
    """Reads as why a file was not taken for what it should be; never quotes it."""

    def __init__(self, reason: str, mode: int | None = None, age: float | None = None) -> None:
        super().__init__(reason)
        self.mode = mode
        self.age = age


@dataclass(frozen=True)
class Contents:
    """A file that was read."""

    data: bytes = field(repr=False)
    mode: int
    age: float
    """Seconds since it was written."""
    warning: str


def read_file(path: Path, home: Path, most: int = MIB) -> Contents | None:
    """Read a file of ours; None where there is none. Raises Unreadable."""
    try:
        link = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(_reason(error)) from None
    _check_link(link)
    try:
        real = path.resolve(strict=True)
        about = real.stat()
    except (OSError, RuntimeError) as error:  # the latter: links in a circle
        is_os = isinstance(error, OSError)
        why = f"a link that leads nowhere: {_reason(error)}" if is_os else "links in a circle"
        raise Unreadable(why) from None
    try:
        for folder in (path.parent.resolve(), real.parent):
            _check_folders(folder, home.resolve())
    except OSError as error:  # moved away meanwhile
        raise Unreadable(_reason(error)) from None
    age = max(0.0, time.time() - about.st_mtime)
    mode = stat.S_IMODE(about.st_mode)
    try:
        _check(about, most)
        return Contents(_read(real, most), mode, age, _warning(mode))
    except OSError as error:
        raise Unreadable(_reason(error), mode, age) from None
    except Unreadable as unreadable:
        raise Unreadable(str(unreadable), mode, age) from None


def read_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises Unreadable."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        raise Unreadable("no JSON") from None
    if not isinstance(said, dict):
        raise Unreadable("no JSON object")
    return said


def text_of(value: object) -> str:
    """Return a text of a file's, without space around it; "" for whatever is none."""
    return value.strip() if isinstance(value, str) else ""


def printable_word(text: str) -> bool:
    """Whether all of it can be seen, and it is one word."""
    return text.isprintable() and " " not in text


def _check_link(about: os.stat_result) -> None:
    if stat.S_ISLNK(about.st_mode) and about.st_uid != os.getuid():
        raise Unreadable(f"a link that uid {about.st_uid} has made")


def _check(about: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise Unreadable("no regular file")
    if about.st_uid != os.getuid():
        raise Unreadable(f"it belongs to uid {about.st_uid}")
    if _is_written_by_others(about):
        raise Unreadable("others may change it, so it may be theirs")
    if about.st_size > most:
        raise Unreadable(f"larger than {most // MIB} MiB")


def _check_folders(folder: Path, home: Path) -> None:
    """Hold the folders from here up to the home (or the root) to what only we can change."""
    for each in (folder, *folder.parents):
        if each == home.parent:
            return
        about = each.stat()
        is_sticky = about.st_mode & stat.S_ISVTX  # there, only owners rename and remove
        if about.st_uid not in {os.getuid(), 0}:
            raise Unreadable(f"in a folder of uid {about.st_uid}: {each}")
        if _is_written_by_others(about) and not is_sticky:
            raise Unreadable(f"in a folder that others may write: {each}")


def _is_written_by_others(about: os.stat_result) -> bool:
    if about.st_mode & _WRITTEN_BY_OTHERS:
        return True
    return bool(about.st_mode & _WRITTEN_BY_GROUP) and not _is_own_group(about.st_gid)


def _is_own_group(gid: int) -> bool:
    """Whether it is the group that has this user's name and nobody else in it."""
    try:
        user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


def _read(path: Path, most: int) -> bytes:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # a file system of others, seen through an id mapping
        descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        _check(os.fstat(descriptor), most)  # anew: it may be another one by now
        data = file.read(most + 1)
    if len(data) > most:
        raise Unreadable(f"larger than {most // MIB} MiB")
    return data


def _warning(mode: int) -> str:
    return "others may read it, so they may know it" if mode & _READ_BY_OTHERS else ""


def _reason(error: OSError | RuntimeError) -> str:
    return str(getattr(error, "strerror", None) or error).lower()
