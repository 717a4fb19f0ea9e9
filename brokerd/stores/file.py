"""Logins as 0600 files in the state folder, one per account, for machines without a keyring.

A personal access token has a file of its own beside its login's. They are protected by the file's
mode alone, so this store is used only when asked for. All disk work happens in a thread: an fsync
never holds up another caller.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, TypeVar

from brokerd.core import login_record
from brokerd.core.tokens import AccountKey
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.stores import private_files


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brokerd.core.login_record import RecordKind
    from brokerd.core.tokens import Login, Pat


__all__ = ["FileStore"]

T = TypeVar("T")

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")
_NAME = re.compile(rf"([0-9]{{1,20}})@({_HOST.pattern})\.json")
_SUFFIXES = {login_record.LOGIN.name: ".json", login_record.PAT.name: ".pat"}
"""Not `.pat.json`: that is the login's at a host called `HOST.pat`."""


class FileStore:
    """`--store file`: `FOLDER/USER_ID@HOST.json`, `….pat`. Errors are those of `private_files`."""

    kind = "file"

    def __init__(self, folder: Path) -> None:
        """`folder` is ours alone, e.g. `state_dir(os.environ) / "logins"`."""
        self._folder = folder

    async def check(self) -> None:
        """Raise when a login could not be written now."""
        await asyncio.to_thread(self._check)

    async def save(self, login: Login) -> None:
        """Write it to the disk, fsynced with its folder on return."""
        path = self._path(login.key, login_record.LOGIN)
        await asyncio.to_thread(private_files.replace, path, login_record.encode(login))

    async def load(self, key: AccountKey) -> Login | None:
        """Return it, None when there is no such file.

        PermanentError when the file is unsafe, from a newer broker (`store_newer`), or not a login
        (`store_broken`: it was set aside and is not lost).
        """
        return await asyncio.to_thread(self._load, key, login_record.LOGIN)

    async def delete(self, key: AccountKey) -> None:
        """Remove the file."""
        path = self._path(key, login_record.LOGIN)
        await asyncio.to_thread(private_files.remove, path)

    async def keys(self) -> Sequence[AccountKey]:
        """Whose logins are there, by their names alone."""
        return await asyncio.to_thread(self._keys)

    async def save_pat(self, key: AccountKey, pat: Pat) -> None:
        """Write it to the disk, fsynced with its folder on return."""
        path = self._path(key, login_record.PAT)
        await asyncio.to_thread(private_files.replace, path, login_record.encode_pat(key, pat))

    async def load_pat(self, key: AccountKey) -> Pat | None:
        """Return it, None when there is no such file; errors as `load`, with `pat_broken`."""
        return await asyncio.to_thread(self._load, key, login_record.PAT)

    async def delete_pat(self, key: AccountKey) -> None:
        """Remove the file."""
        path = self._path(key, login_record.PAT)
        await asyncio.to_thread(private_files.remove, path)

    def _check(self) -> None:
        probe = self._folder / "writable"
        private_files.replace(probe, b"")
        private_files.remove(probe)

    def _load(self, key: AccountKey, kind: RecordKind[T]) -> T | None:
        path = self._path(key, kind)
        if not os.path.lexists(self._folder):
            return None
        private_files.make_folder(self._folder)  # refuses one that others can reach
        data = private_files.read(path)
        if data is None:
            return None
        try:
            return kind.read_for(key, data)
        except login_record.NewerRecordError as error:
            raise PermanentError(kind.unusable(error, path)) from error
        except ValueError as error:
            aside = private_files.set_aside(path)
            raise PermanentError(kind.unusable(error, aside)) from error

    def _keys(self) -> list[AccountKey]:
        if not os.path.lexists(self._folder):
            return []
        private_files.make_folder(self._folder)
        names = sorted(path.name for path in self._folder.iterdir())
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        return [AccountKey(match[2], int(match[1])) for match in matches]

    def _path(self, key: AccountKey, kind: RecordKind[T]) -> Path:
        if not _HOST.fullmatch(key.host) or key.user_id < 0:
            text = f"{key.host!r} is not a host name in lower case"
            hint = "Name it as in the configuration: copilot-cred login --help"
            raise PermanentError(Failure(ErrorClass.USAGE, "bad_host", text, hint))
        return self._folder / f"{key.user_id}@{key.host}{_SUFFIXES[kind.name]}"
