"""A login at rest: one JSON object with a version, the same bytes in every store.

It stands in the core because stores on disk and stores on the bus, which never import each other,
must agree on it. What was learned of a login (`is_direct`) is no secret and stands in the account
index. Reading is strict; an error never quotes what was read, for that may be a secret.
"""

from __future__ import annotations

import contextlib
import json
from typing import TypeVar

from brokerd.core.tokens import GitHubToken, Login, User


__all__ = ["KIND", "VERSION", "NewerRecordError", "decode", "encode"]

KIND = "login"
"""What a record holds; `pat` and `refresh` are kept for later: one item per (host, id, kind)."""
VERSION = 1
"""Raised when an older broker could no longer read what we write."""

T = TypeVar("T")


class NewerRecordError(ValueError):
    """A later version of the broker wrote it: keep it as it is."""


def encode(login: Login) -> bytes:
    """Turn a login into the bytes that a store keeps. They hold the GitHub token."""
    record = {
        "version": VERSION,
        "kind": KIND,
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
    record: object = None
    with contextlib.suppress(ValueError, RecursionError):  # theirs holds the text: let go of it
        record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - one kind of error for garbage
    version = _field(record, "version", int)
    if version > VERSION:
        raise NewerRecordError(f"it has version {version}; this broker reads up to {VERSION}")
    if version < 1 or _field(record, "kind", str) != KIND:
        raise ValueError("it is not a login record")
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
