"""Fields of a JSON object, each of the type that the API gives it, or missing.

`null` is the same as missing. What has another type raises UntranslatableError with the field's
name, never with what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from brokerd.core.dialects.meaning import UntranslatableError


__all__ = [
    "Json",
    "count_of",
    "entries_of",
    "entry",
    "flag_of",
    "kind_of",
    "map_of",
    "number_of",
    "shown",
    "text_of",
]

Json: TypeAlias = Mapping[str, Any]

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")


def entry(value: object, what: str) -> Json:
    """Take one entry of a list, which has to be an object."""
    if not isinstance(value, Mapping):
        raise UntranslatableError(f"{what} has to be an object")
    return value


def map_of(body: Json, name: str) -> Json | None:
    """Take an object."""
    value = body.get(name)
    return None if value is None else entry(value, name)


def entries_of(body: Json, name: str) -> list[Any]:
    """Take a list; empty where it is missing."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UntranslatableError(f"{name} has to be a list")
    return value


def text_of(body: Json, name: str) -> str:
    """Take a string; "" where it is missing."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UntranslatableError(f"{name} has to be a string")
    return value


def number_of(body: Json, name: str) -> float | None:
    """Take a number."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UntranslatableError(f"{name} has to be a number")
    return value


def count_of(body: Json, name: str) -> int | None:
    """Take a whole number that is not negative."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UntranslatableError(f"{name} has to be a whole number")
    return value


def flag_of(body: Json, name: str) -> bool | None:
    """Take true or false."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise UntranslatableError(f"{name} has to be true or false")
    return value


def kind_of(body: Json) -> str:
    """Take the `type`."""
    return text_of(body, "type")


def shown(kind: str) -> str:
    """Name a kind of thing in an error: only words as the API itself has are repeated."""
    return repr(kind) if _WORD.match(kind) else "of an unknown kind"
