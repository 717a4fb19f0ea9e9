"""Fields of JSON objects, of the type they have to be.

A field that is missing or null was not said. One of another type is refused: nobody could say
what it means. The name of a field is told, its value never.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from brokerd.core.dialects.meaning import UntranslatableError


__all__ = ["compact", "flag", "items", "kind_of", "known", "number", "record", "text", "whole"]

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What a kind may look like to be named in an error; anything else may be the person's."""


def text(body: Mapping[str, Any], key: str) -> str:
    """Return a string; "" where it was not said."""
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UntranslatableError(f"{key} that is no text")
    return value


def whole(body: Mapping[str, Any], key: str) -> int | None:
    """Return an integer."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise UntranslatableError(f"{key} that is no whole number")
    return value


def number(body: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UntranslatableError(f"{key} that is no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise UntranslatableError(f"{key} that is not finite")
    return found


def flag(body: Mapping[str, Any], key: str) -> bool | None:
    """Return a boolean."""
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise UntranslatableError(f"{key} that is neither true nor false")
    return value


def items(body: Mapping[str, Any], key: str) -> list[Any]:
    """Return an array; [] where it was not said."""
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UntranslatableError(f"{key} that is no list")
    return value


def record(value: object, what: str) -> Mapping[str, Any]:
    """Return an object; {} where it was not said."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UntranslatableError(f"{what} that is no object")
    return value


def kind_of(body: Mapping[str, Any], what: str) -> str:
    """Return what `type` says, which has to be there. Only `known` makes it fit to be shown."""
    kind = body.get("type")
    if not isinstance(kind, str) or not kind:
        raise UntranslatableError(f"{what} without a type")
    return kind


def known(kind: str) -> str:
    """Return a kind as an error may name it."""
    return kind if _WORD.fullmatch(kind) else "unknown"


def compact(value: object) -> str:
    """Write JSON with no space in it, every letter as itself. Raises UntranslatableError."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        raise UntranslatableError(
            "numbers that are not finite, or values nested that deep"
        ) from None
