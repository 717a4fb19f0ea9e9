"""The keys of the HTTP door: `keys.json` in the state folder, with what each has spent.

It holds digests, never a key. Each change is on the disk before the call returns. A file that
this broker does not understand is never replaced: keys are rights, and a broker that silently
begins without them would turn away every program that has one, or forget what was revoked.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

from brokerd.core.access.settings import value_of
from brokerd.core.keys import BUDGET_MAX, KEYS_MAX, KeptKeys, Key, Spent, key_name
from brokerd.core.setting_checks import NotAllowedError, account_name
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.stores import private_files


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


__all__ = ["VERSION", "KeyFile", "checked_key", "checked_spent", "whole_number"]

_K = TypeVar("_K", bound=Key)

VERSION: Final = 1
"""Raised when an older broker could no longer read the file."""

LATEST: Final = 1 << 53
"""Unix seconds, and tokens, that JSON's numbers still count one by one (RFC 8259 §6)."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

_Json = dict[str, Any]


class KeyFile:
    """One file. Errors are those of `private_files`, `keys_broken`, `store_newer`, `keys_full`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_ours = False
        """Whether the file is known to be one that may be replaced."""

    def load(self) -> KeptKeys:
        """Read the file; no file is no keys.

        Raises PermanentError STORE_UNAVAILABLE: `keys_broken`, or `store_newer` where a newer
        broker wrote it.
        """
        self._is_ours = False
        data = private_files.read(self._path)
        try:
            kept = KeptKeys() if data is None else _parse(data)
        except _BrokenError as what:
            raise PermanentError(self._broken(what)) from None
        self._is_ours = True
        return kept

    def save(self, kept: KeptKeys) -> None:
        """Replace the file, unless what is there cannot be read: then raise as `load` does.

        Raises PermanentError USAGE `keys_full` when it would be larger than what is read again.
        """
        if not self._is_ours:
            self.load()
        record = {
            "version": VERSION,
            "keys": [_record(key, kept.spent.get(key.name)) for key in kept.keys],
            "revoked": dict(kept.revoked),
            "rules": {name: asdict(spent) for name, spent in kept.of_rules.items()},
        }
        data = (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode()
        if len(data) > private_files.MAX_BYTES:
            raise PermanentError(_FULL)
        private_files.replace(self._path, data)

    def _broken(self, what: _BrokenError) -> Failure:
        return Failure(
            ErrorClass.STORE_UNAVAILABLE,
            "keys_broken",
            f"{self._path} cannot be understood: {what}",
            "No key works until it is mended. To begin without keys, move it away: "
            f"mv {self._path} {self._path}.old",
        )


_FULL: Final = Failure(
    ErrorClass.USAGE,
    "keys_full",
    "the keys and their patterns for models take more room than there is",
    "Revoke one that nobody uses: copilot-cred key list",
)


class _BrokenError(ValueError):
    """Reads as the end of the sentence "the file cannot be understood: …"; holds no digest."""


def _record(key: Key, spent: Spent | None) -> _Json:
    record = {name: value for name, value in asdict(key).items() if value is not None}
    if spent is not None:
        record["spent"] = asdict(spent)
    return record


def _parse(data: bytes) -> KeptKeys:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        raise _BrokenError("it is not JSON") from None
    version = record.get("version") if isinstance(record, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _BrokenError("it is not a file of keys")
    if version > VERSION:
        text = f"the file of keys has version {version}; this broker reads up to {VERSION}"
        hint = "Install the newer copilot-broker again: pip install --upgrade copilot-broker"
        raise PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "store_newer", text, hint))
    raw, revoked = record.get("keys"), record.get("revoked", {})
    if not isinstance(raw, list) or not isinstance(revoked, dict):
        raise _BrokenError("it has no list of keys")
    if len(raw) > KEYS_MAX:
        raise _BrokenError(f"it has more than {KEYS_MAX} keys")
    keys, spent = [], {}
    for number, each in enumerate(raw, 1):
        try:
            key = checked_key(each, Key, name=key_name)
            if (used := each.get("spent")) is not None:
                spent[key.name] = checked_spent(used)
        except (NotAllowedError, ValueError, TypeError, KeyError, AttributeError):
            raise _BrokenError(f"key number {number} is no key") from None
        keys.append(key)
    if len({key.name for key in keys}) < len(keys) or len({k.digest for k in keys}) < len(keys):
        raise _BrokenError("it has a key twice")
    if not all(_is_digest(digest) and isinstance(name, str) for digest, name in revoked.items()):
        raise _BrokenError("what was revoked is incomplete")
    return KeptKeys(tuple(keys), spent, revoked, _of_rules(record.get("rules")))


def _of_rules(raw: object) -> dict[str, Spent]:
    """Return what was spent of rules' budgets; what is no count is none: no key is at stake."""
    found = {}
    for name, used in raw.items() if isinstance(raw, dict) else ():
        with suppress(ValueError, TypeError, KeyError):
            found[name] = checked_spent(used)
    return found


def checked_key(raw: _Json, kind: type[_K], **checks: Callable[[Any], object]) -> _K:
    """Return a key as it was kept, of fields that are not objects; `checks` are for texts.

    Raises ValueError, TypeError or KeyError: an unclear limit is not left out.
    """
    values: _Json = {each.name: raw.get(each.name) for each in fields(kind)}
    for each in fields(kind):
        if each.default is MISSING and values[each.name] is None:
            raise KeyError(each.name)
    if not _is_digest(values["digest"]):
        raise ValueError
    checks |= {
        "account": account_name,
        "created": whole_number,
        "expires": whole_number,
        "budget": _budget,
        "models": lambda value: value_of("models", value),
        "requests_per_minute": lambda value: value_of("requests_per_minute", value),
    }
    for name, check in checks.items():
        if values[name] is not None:
            values[name] = check(values[name])
    return kind(**values)


def checked_spent(raw: _Json) -> Spent:
    """Return what a key had spent; raises as `checked_key` does."""
    return Spent(whole_number(raw["day"]), whole_number(raw["tokens"]))


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def whole_number(value: object) -> int:
    """Return a number as JSON counts them one by one; TypeError if it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LATEST:
        raise TypeError
    return value


def _budget(value: object) -> int:
    if not 1 <= whole_number(value) <= BUDGET_MAX:
        raise ValueError
    return whole_number(value)
