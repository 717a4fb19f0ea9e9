"""What rests in a store: one JSON object with a version, the same bytes in every store.

A login is one record, the personal access token beside it another: one item per (host, id, kind).
It stands in the core because stores on disk and stores on the bus, which never import each other,
must agree on it. What was learned of a login (`is_direct`) is no secret and stands in the account
index. Reading is strict; an error never quotes what was read, for that may be a secret.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from brokerd.core.tokens import AccountKey, GitHubToken, Login, Pat, User
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = [
    "LOGIN",
    "PAT",
    "VERSION",
    "NewerRecordError",
    "RecordKind",
    "decode",
    "decode_pat",
    "encode",
    "encode_pat",
]

VERSION = 1
"""Raised when an older broker could no longer read what we write."""

T = TypeVar("T")


class NewerRecordError(ValueError):
    """A later version of the broker wrote it: keep it as it is."""


@dataclass(frozen=True)
class RecordKind(Generic[T]):
    """What a record holds, how it is read, and what to tell when that fails."""

    name: str
    """As it stands in the record and among an item's attributes."""
    noun: str
    read: Callable[[bytes], tuple[AccountKey, T]]
    """Return what it holds and whose; ValueError when it is no such record."""
    broken: tuple[ErrorClass, str]
    """Class and code of the failure for one that cannot be read."""
    mend: str

    def read_for(self, key: AccountKey, data: bytes) -> T:
        """Read the record of that account; ValueError as `read`, and when it is another's."""
        owner, value = self.read(data)
        if owner != key:
            raise ValueError("it belongs to another account")
        return value

    def unusable(self, error: ValueError, where: object) -> Failure:
        """Explain why what is kept `where` cannot be used, and how to mend it."""
        text = f"the {self.noun} in {where} cannot be used: {error}"
        if isinstance(error, NewerRecordError):
            hint = f"Install the newer copilot-broker again, or {self.mend}"
            return Failure(ErrorClass.STORE_UNAVAILABLE, "store_newer", text, hint)
        return Failure(*self.broken, text, self.mend[0].upper() + self.mend[1:])


def encode(login: Login) -> bytes:
    """Turn a login into the bytes that a store keeps. They hold the GitHub token."""
    record = {
        "version": VERSION,
        "kind": LOGIN.name,
        "host": login.host,
        "user_id": login.user.id,
        "user_login": login.user.login,
        "client_id": login.client_id,
        "source": login.source,
        "token": login.token.value,
        "refresh_token": login.token.refresh_token,
        "expires_in": login.token.expires_in,
        "expires_at": login.token.expires_at,
        "scope": login.token.scope,
    }
    return json.dumps(record, ensure_ascii=False, indent=1).encode() + b"\n"


def decode(data: bytes) -> Login:
    """Read them back. Unknown keys are ignored; ValueError when it is no login of ours.

    NewerRecordError (a ValueError) when a later version wrote it.
    """
    record = _parse(data, LOGIN)
    refresh_token = record.get("refresh_token")
    token = GitHubToken(
        value=_field(record, "token", str),
        refresh_token=None if refresh_token is None else _field(record, "refresh_token", str),
        expires_in=_number(record, "expires_in"),
        expires_at=_number(record, "expires_at"),  # records of earlier versions lack it
        scope=_field(record, "scope", str, ""),
    )
    if not token.value:
        raise ValueError("its token is empty")
    return Login(
        host=_field(record, "host", str),
        user=User(_field(record, "user_id", int), _field(record, "user_login", str)),
        token=token,
        client_id=_field(record, "client_id", str),
        source=_field(record, "source", str, "login"),
    )


def encode_pat(key: AccountKey, pat: Pat) -> bytes:
    """Turn a personal access token into the bytes that a store keeps. They hold it."""
    record = {
        "version": VERSION,
        "kind": PAT.name,
        "host": key.host,
        "user_id": key.user_id,
        "value": pat.value,
    }
    return json.dumps(record, ensure_ascii=False, indent=1).encode() + b"\n"


def decode_pat(data: bytes) -> tuple[AccountKey, Pat]:
    """Read it back with the account that it belongs to; errors as those of `decode`."""
    record = _parse(data, PAT)
    pat = Pat(_field(record, "value", str))
    if not pat.value:
        raise ValueError("its token is empty")
    return AccountKey(_field(record, "host", str), _field(record, "user_id", int)), pat


def _decode_with_key(data: bytes) -> tuple[AccountKey, Login]:
    login = decode(data)
    return login.key, login


LOGIN: Final = RecordKind(
    "login",
    "login",
    _decode_with_key,
    (ErrorClass.LOGIN_REQUIRED, "store_broken"),
    "sign in again: copilot-cred login",
)
PAT: Final = RecordKind(
    "pat",
    "personal access token",
    decode_pat,
    # The account works without it.
    (ErrorClass.STORE_UNAVAILABLE, "pat_broken"),
    "give the token again: copilot-cred quota set-pat",
)
"""`refresh` is kept for later."""


def _parse(data: bytes, kind: RecordKind[T]) -> dict[str, object]:
    record: object = None
    with contextlib.suppress(ValueError, RecursionError):  # theirs holds the text: let go of it
        record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - one kind of error for garbage
    version = _field(record, "version", int)
    if version > VERSION:
        raise NewerRecordError(f"it has version {version}; this broker reads up to {VERSION}")
    if version < 1 or _field(record, "kind", str) != kind.name:
        raise ValueError(f"it is not a {kind.name} record")
    return record


def _number(record: dict[str, object], name: str) -> float | None:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise ValueError(f"{name} is not a number")  # noqa: TRY004 - one kind of error for garbage
    return value


def _field(record: dict[str, object], name: str, kind: type[T], default: T | None = None) -> T:
    value = record.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} is missing or of the wrong type")
    return value
