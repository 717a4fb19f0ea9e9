"""Fields of JSON objects, each of the type that its API gives it.

A field that is missing or null was not said. One of another type raises UntranslatableError:
nobody could say what it means. The name of a field is told then, its value never.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from brokerd.core.dialects.meaning import UntranslatableError


__all__ = [
    "Json",
    "compact",
    "count",
    "entry",
    "flag",
    "items",
    "kind_of",
    "known",
    "mapping",
    "number",
    "record",
    "sequence",
    "text",
    "type_of",
]

Json: TypeAlias = Mapping[str, Any]

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""What a kind may look like to be named in an error; anything else may be the person's."""


def text(body: Json, key: str) -> str:
    """Return a string; "" where it was not said."""
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UntranslatableError(f"a {key} that is no text")
    return value


def flag(body: Json, key: str) -> bool | None:
    """Return a boolean."""
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise UntranslatableError(f"a {key} that is neither true nor false")
    return value


def count(body: Json, key: str) -> int | None:
    """Return a whole number from 0; `1.0` is one too."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UntranslatableError(f"a {key} that is no whole number from 0")
    return value


def number(body: Json, key: str) -> float | None:
    """Return a finite number."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UntranslatableError(f"a {key} that is no number")
    try:
        is_finite = math.isfinite(value)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise UntranslatableError(f"a {key} that is not finite")
    return value


def entry(value: object, what: str) -> Json:
    """Return an object, which has to be there."""
    if not isinstance(value, Mapping):
        raise UntranslatableError(f"{what} that is no object")
    return value


def record(value: object, what: str) -> Json:
    """Return an object; an empty one where it was not said."""
    return {} if value is None else entry(value, what)


def mapping(body: Json, key: str) -> Json | None:
    """Return an object; None where it was not said."""
    value = body.get(key)
    return None if value is None else entry(value, f"a {key}")


def items(body: Json, key: str) -> list[Any]:
    """Return an array; an empty one where it was not said."""
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UntranslatableError(f"{key} that is no list")
    return value


def sequence(body: Json, key: str) -> Sequence[Json]:
    """Return an array of objects; an empty one where it was not said."""
    found = items(body, key)
    if not all(isinstance(each, dict) for each in found):
        raise UntranslatableError(f"{key} that is no list of objects")
    return found


def kind_of(body: Json, what: str) -> str:
    """Return what `type` says, which has to be there. Only `known` makes it fit to be shown."""
    kind = body.get("type")
    if not isinstance(kind, str) or not kind:
        raise UntranslatableError(f"{what} without a type")
    return kind


def type_of(body: Json) -> str:
    """Return what `type` says; "" where it was not said."""
    return text(body, "type")


def known(kind: object) -> str:
    """Return a kind as an error may name it: no words of a person."""
    return kind if isinstance(kind, str) and _WORD.fullmatch(kind) else "unknown"


def compact(value: object) -> str:
    """Write JSON with no space in it, every letter as itself. Raises UntranslatableError."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        raise UntranslatableError(
            "numbers that are not finite, or values nested that deep"
        ) from None
