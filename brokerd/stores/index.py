"""Which accounts there are: the non-secret index in the state folder.

Names are aliases for (host, user id). The index says in which store each login rests, so that the
daemon opens no store it has no need of, and which account is the default. Each change is on the
disk before the call returns (a few milliseconds; the file is tiny). A file that cannot be
understood is set aside, never overwritten, and the logins themselves are not touched.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from brokerd.core.tokens import IndexEntry, KeptCooldown
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.stores import private_files


if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["VERSION", "AccountIndex"]

log = logging.getLogger(__name__)

VERSION = 1
"""Raised when an older broker could no longer read the file."""

LATEST = 1 << 53
"""Unix seconds that a float still counts one by one."""


class AccountIndex:
    """The accounts by name. Errors are those of `private_files`; memory and disk never differ."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, IndexEntry] = {}
        self._default: str | None = None
        self._is_unread = True
        self.set_aside: Path | None = None
        """Where `load` put a file that it could not understand."""

    def load(self) -> None:
        """Read the file; no file is an empty index, a broken one is set aside.

        Raises PermanentError when a newer broker wrote it, or when it is unsafe to read.
        """
        self._is_unread = True
        data = private_files.read(self._path)
        if data is None:
            self._entries, self._default, self._is_unread = {}, None, False
            return
        parsed = _parse(data)
        if isinstance(parsed, str):
            self.set_aside = private_files.set_aside(self._path)
            self._entries, self._default, self._is_unread = {}, None, False
            log.warning(
                "account index is broken, set aside; sign in again with copilot-cred login",
                extra={"INDEX_FILE": str(self.set_aside), "REASON": parsed},
            )
            return
        self._entries, self._default = parsed
        self._is_unread = False

    def entries(self) -> dict[str, IndexEntry]:
        """Return a copy: name → entry, in the order they were added."""
        return dict(self._entries)

    def put(self, name: str, entry: IndexEntry) -> None:
        """Add or replace one; none becomes the default by itself."""
        self._read_before_writing()
        self._write({**self._entries, name: entry}, self._default)

    def remove(self, name: str) -> None:
        """Forget one; a name that is not there is no error. No other inherits the default."""
        self._read_before_writing()
        if name not in self._entries:
            return
        left = {other: entry for other, entry in self._entries.items() if other != name}
        self._write(left, self._default if self._default != name else None)

    @property
    def default(self) -> str | None:
        """The account meant when none is named; None: nobody chose one."""
        return self._default

    @default.setter
    def default(self, name: str | None) -> None:
        self._read_before_writing()
        if name is not None and name not in self._entries:
            text = f"there is no account named {name!r}"
            hint = "See the names: copilot-cred account list"
            raise PermanentError(Failure(ErrorClass.USAGE, "unknown_account", text, hint))
        self._write(self._entries, name)

    def _read_before_writing(self) -> None:
        """Never replace a file that could not be read: read it now, or raise why not."""
        if self._is_unread:
            self.load()

    def _write(self, entries: dict[str, IndexEntry], default: str | None) -> None:
        record = {
            "version": VERSION,
            "default": default,
            "accounts": {name: _record(entry) for name, entry in entries.items()},
        }
        text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        private_files.replace(self._path, text.encode())
        self._entries, self._default = dict(entries), default


def _record(entry: IndexEntry) -> dict[str, object]:
    record = asdict(entry)
    if entry.cooldown is None:
        del record["cooldown"]
    if not entry.refused:
        del record["refused"]
    return record


def _parse(data: bytes) -> tuple[dict[str, IndexEntry], str | None] | str:
    """Return entries and default, or what is wrong with them."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(record, dict) or not isinstance(record.get("accounts"), dict):
        return "it is not an account index"
    version = record.get("version")
    if isinstance(version, int) and version > VERSION:
        text = f"the account index has version {version}; this broker reads up to {VERSION}"
        hint = "Install the newer copilot-broker again, or move its state folder away"
        failure = Failure(ErrorClass.STORE_UNAVAILABLE, "store_newer", text, hint)
        raise PermanentError(failure)
    if version != VERSION:
        return "it has no version"
    entries: dict[str, IndexEntry] = {}
    for name, raw in record["accounts"].items():
        entry = _parse_entry(raw)
        if entry is None:
            return f"the account {name!r} is incomplete"
        entries[name] = entry
    default = record.get("default")
    return entries, default if default in entries else None


def _parse_entry(raw: object) -> IndexEntry | None:
    if not isinstance(raw, dict):
        return None
    values = {field.name: raw[field.name] for field in fields(IndexEntry) if field.name in raw}
    user_id = values.pop("user_id", None)
    if not isinstance(user_id, int) or isinstance(user_id, bool):
        return None
    is_direct = values.pop("is_direct", False) is True  # anything else is learned again
    cooldown = _parse_cooldown(values.pop("cooldown", None))
    refused = values.pop("refused", "")
    if not isinstance(refused, str):
        refused = ""  # tried once more
    if not all(isinstance(value, str) for value in values.values()):
        return None
    try:
        return IndexEntry(
            user_id=user_id, is_direct=is_direct, cooldown=cooldown, refused=refused, **values
        )
    except TypeError:  # a field is missing
        return None


def _parse_cooldown(raw: object) -> KeptCooldown | None:
    """Return it; None for what is none: upstream says it again."""
    if not isinstance(raw, dict):
        return None
    until, code, message, url = (raw.get(key) for key in ("until", "code", "message", "url"))
    if not isinstance(until, int) or isinstance(until, bool) or not 0 <= until < LATEST:
        return None
    if not isinstance(code, str) or not isinstance(message, str):
        return None
    return KeptCooldown(until, code, message, url if isinstance(url, str) else None)
