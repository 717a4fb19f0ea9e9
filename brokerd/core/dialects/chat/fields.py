"""Values out of JSON whose types are to be trusted; `null` is as good as absent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.meaning import UntranslatableError


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["count", "flag", "mapping", "named", "number", "sequence", "text"]

_LONGEST_NAME = 40
"""Characters of a type's name that an error repeats; a longer one is no such name."""


def text(body: Mapping[str, Any], key: str) -> str:
    """Return a string; "" without one. Raises UntranslatableError for anything else."""
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UntranslatableError(f"a {key} that is not a string")
    return value


def flag(body: Mapping[str, Any], key: str) -> bool | None:
    """Return true, false, or None without either. Raises UntranslatableError."""
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise UntranslatableError(f"a {key} that is neither true nor false")
    return value


def count(body: Mapping[str, Any], key: str) -> int | None:
    """Return a whole number from 0; None without one. Raises UntranslatableError."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UntranslatableError(f"a {key} that is no whole number from 0")
    return value


def number(body: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number; None without one. Raises UntranslatableError."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UntranslatableError(f"a {key} that is not a number")
    return value


def mapping(body: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return an object; None without one. Raises UntranslatableError."""
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise UntranslatableError(f"a {key} that is not an object")
    return value


def sequence(body: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """Return an array of objects; an empty one without one. Raises UntranslatableError."""
    value = body.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise UntranslatableError(f"{key} that are not an array of objects")
    return value


def named(kind: object) -> str:
    """Return the name of a type as an error may repeat it: no words of a person."""
    is_name = isinstance(kind, str) and kind.replace("-", "_").isidentifier()
    return f"{kind}" if is_name and len(str(kind)) <= _LONGEST_NAME else "another type"
