"""Where in a TOML text a key stands: tomllib tells of syntax errors only.

The parser itself is the judge: a key stands on the statement that ends the shortest parseable
prefix of the text that holds it. So no second TOML grammar is needed, and dotted keys, inline
tables and multi-line strings come out right.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["line_of_key", "line_of_syntax_error", "lines_of_tables"]


def line_of_key(text: str, path: Sequence[str | int]) -> int:
    """Return the 1-based line of the statement that brings `path` into `text`; 1 if none does.

    A number in `path` counts the tables of an array (`[[name]]`) from 0.
    """
    lines = [f"{line}\n" for line in text.split("\n")]  # str.splitlines knows too many ends
    low, high = 0, len(lines)
    if not _holds(_parse_prefix(lines, high)[0], path):
        return 1
    while high - low > 1:  # holding is monotone in the length of the prefix
        middle = (low + high) // 2
        if _holds(_parse_prefix(lines, middle)[0], path):
            high = middle
        else:
            low = middle
    # `high` is the last line of the statement; whole statements end one line before its first.
    return _parse_prefix(lines, high - 1)[1] + 1


def lines_of_tables(text: str, name: str) -> list[int]:
    """Return the 1-based line of each table of the array `name`, in their order, in valid TOML.

    One pass over the statements, each parsed by itself: `line_of_key` for every table would parse
    all of the text again and again.
    """
    found: list[int] = []
    lines = text.split("\n")
    first, is_top = 0, True
    for end in range(1, len(lines) + 1):
        statement = "\n".join(lines[first:end])
        try:
            tables = tomllib.loads(statement).get(name)
        except tomllib.TOMLDecodeError:  # ends inside a value
            continue
        is_header = statement.lstrip().startswith("[")
        is_top = is_top and not is_header
        if isinstance(tables, list) and (is_header or is_top):
            found += [first + 1] * len(tables)
        first = end
    return found


def line_of_syntax_error(text: str, error: tomllib.TOMLDecodeError) -> int:
    """Return the 1-based line that tomllib complains of."""
    found = re.search(r"\(at line (\d+), column \d+\)", str(error))
    return (
        int(found[1]) if found else max(1, len(text.rstrip("\n").split("\n")))
    )  # "(at end of document)"


def _parse_prefix(lines: Sequence[str], count: int) -> tuple[dict[str, Any], int]:
    """Parse the first `count` lines, or as many fewer as end between statements; and how many."""
    while count > 0:
        try:
            return tomllib.loads("".join(lines[:count])), count
        except tomllib.TOMLDecodeError:  # ends inside a value
            count -= 1
    return {}, 0


def _holds(document: Any, path: Sequence[str | int]) -> bool:
    for key in path:
        if isinstance(key, int):
            if not isinstance(document, list) or key >= len(document):
                return False
        elif not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True
