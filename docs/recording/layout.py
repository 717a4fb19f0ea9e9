"""JSON for a person: as much on a line as fits, in the order as sent; long lists are cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["WIDTH", "Bare", "laid_out", "shortened"]

WIDTH = 116


class Bare(str):
    """Stands in JSON without quotation marks: what is no JSON, like the mark of a cut."""

    __slots__ = ()


def shortened(value: Any, kept: Mapping[str, int]) -> Any:
    """Cut what is under the keys of `kept` after so many entries, and say so."""
    if isinstance(value, dict):
        return {
            key: _cut(inner, kept[key]) if key in kept else shortened(inner, kept)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [shortened(each, kept) for each in value]
    return value


def _cut(entries: Any, count: int) -> Any:
    left = len(entries) - count
    if left <= 0:
        return entries
    mark = Bare(f"… and {left} more")
    if isinstance(entries, dict):
        return dict(list(entries.items())[:count]) | {mark: None}
    return [*entries[:count], mark]


def laid_out(value: Any, indent: int = 0, used: int = 0) -> str:
    """Write it; `used` columns of its first line are taken."""
    line = _on_a_line(value)
    if not isinstance(value, (dict, list)) or not value or used + len(line) <= WIDTH:
        return line
    if isinstance(value, list) and len(value) == 1:
        return f"[{laid_out(value[0], indent, used + 1)}]"
    if isinstance(value, dict) and len(value) == 1:
        ((key, each),) = value.items()
        lead = f"{{{json.dumps(key)}: "
        return f"{lead}{laid_out(each, indent, used + len(lead))}}}"
    inner = indent + 2
    if isinstance(value, dict):
        pieces = []
        for key, each in value.items():
            lead = f"{' ' * inner}{_on_a_line(key)}"
            if not isinstance(key, Bare):
                lead += f": {laid_out(each, inner, len(lead) + 3)}"
            pieces.append(lead)
        opening, closing = "{", "}"
    else:
        pieces = [f"{' ' * inner}{laid_out(each, inner, inner + 1)}" for each in value]
        opening, closing = "[", "]"
    return "\n".join([opening, *_packed(pieces, inner), " " * indent + closing])


def _packed(pieces: list[str], indent: int) -> list[str]:
    """Put as many short pieces on a line as fit."""
    lines: list[str] = []
    can_grow = False
    for number, piece in enumerate(pieces):
        shown = piece if number == len(pieces) - 1 else f"{piece},"
        is_short = "\n" not in shown
        if can_grow and is_short and len(lines[-1]) + 1 + len(shown) - indent <= WIDTH:
            lines[-1] += " " + shown.lstrip(" ")
        else:
            lines.append(shown)
        can_grow = is_short
    return lines


def _on_a_line(value: Any) -> str:
    if isinstance(value, Bare):
        return str(value)
    if isinstance(value, dict):
        fields = [
            key if isinstance(key, Bare) else f"{json.dumps(key)}: {_on_a_line(each)}"
            for key, each in value.items()
        ]
        return f"{{{', '.join(fields)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_on_a_line, value))}]"
    return json.dumps(value, ensure_ascii=False)
