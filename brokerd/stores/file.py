"""Logins as 0600 files in the state folder, one per account, for machines without a keyring.

The token is protected by the file's mode alone, so this store is used only when asked for. All
disk work happens in a thread: an fsync never holds up another caller.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

from brokerd.core import login_record
from brokerd.core.tokens import AccountKey
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.stores import private_files


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brokerd.core.tokens import Login


__all__ = ["FileStore"]

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")
_NAME = re.compile(rf"([0-9]{{1,20}})@({_HOST.pattern})\.json")


class FileStore:
    """`--store file`: `FOLDER/USER_ID@HOST.json`. Errors are those of `private_files`."""

    kind = "file"

    def __init__(self, folder: Path) -> None:
        """`folder` is ours alone, e.g. `state_dir(os.environ) / "logins"`."""
        self._folder = folder

    async def check(self) -> None:
        """Raise when a login could not be written now."""
        await asyncio.to_thread(self._check)

    async def save(self, login: Login) -> None:
        """Write it to the disk, fsynced with its folder on return."""
        path = self._path(login.key)
        await asyncio.to_thread(private_files.replace, path, login_record.encode(login))

    async def load(self, key: AccountKey) -> Login | None:
        """Return it, None when there is no such file.

        PermanentError when the file is unsafe, from a newer broker (`store_newer`), or not a login
        (`store_broken`: it was set aside and is not lost).
        """
        return await asyncio.to_thread(self._load, key)

    async def delete(self, key: AccountKey) -> None:
        """Remove the file."""
        await asyncio.to_thread(private_files.remove, self._path(key))

    async def keys(self) -> Sequence[AccountKey]:
        """Whose logins are there, by their names alone."""
        return await asyncio.to_thread(self._keys)

    def _check(self) -> None:
        probe = self._folder / "writable"
        private_files.replace(probe, b"")
        private_files.remove(probe)

    def _load(self, key: AccountKey) -> Login | None:
        path = self._path(key)
        if not os.path.lexists(self._folder):
            return None
        private_files.make_folder(self._folder)  # refuses one that others can reach
        data = private_files.read(path)
        if data is None:
            return None
        try:
            login = login_record.decode(data)
            if login.key != key:
                raise ValueError("it belongs to another account")  # noqa: TRY301 - one way out
        except login_record.NewerRecordError as error:
            hint = "Install the newer copilot-broker again, or sign in anew: copilot-cred login"
            failure = Failure(
                ErrorClass.STORE_UNAVAILABLE, "store_newer", f"cannot use {path}: {error}", hint
            )
        except ValueError as error:
            aside = private_files.set_aside(path)
            text = f"the stored login was broken and is now {aside}: {error}"
            failure = Failure(
                ErrorClass.LOGIN_REQUIRED,
                "store_broken",
                text,
                "Sign in again: copilot-cred login",
            )
        else:
            return login
        raise PermanentError(failure)

    def _keys(self) -> list[AccountKey]:
        if not os.path.lexists(self._folder):
            return []
        private_files.make_folder(self._folder)
        names = sorted(path.name for path in self._folder.iterdir())
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        return [AccountKey(match[2], int(match[1])) for match in matches]

    def _path(self, key: AccountKey) -> Path:
        if not _HOST.fullmatch(key.host) or key.user_id < 0:
            text = f"{key.host!r} is not a host name in lower case"
            hint = "Name it as in the configuration: copilot-cred login --help"
            raise PermanentError(Failure(ErrorClass.USAGE, "bad_host", text, hint))
        return self._folder / f"{key.user_id}@{key.host}.json"
