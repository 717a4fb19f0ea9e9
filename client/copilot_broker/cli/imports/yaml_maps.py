"""The part of YAML that gh writes: maps in maps, one key a line, the values short texts.

Anything else (lists, anchors, texts of several lines) is refused rather than guessed.
"""

from __future__ import annotations

import json
import re
from typing import TypeAlias

from copilot_broker.cli.imports.reading import Unreadable


__all__ = ["YamlMap", "read_yaml_maps"]

YamlMap: TypeAlias = "dict[str, YamlMap | str]"

DEEPEST = 8
"""Maps in maps; gh writes three."""

LONGEST = 4096
"""Characters of a line: to take one apart costs their square at worst."""

_LINE = re.compile(r"""( *)("[^"]*"|'[^']*'|[^\s#"'&*!|>%@`\[\]{},-][^#]*?) *:(?: +(.*))?""")
_QUOTED = re.compile(r"""(?:("(?:[^"\\]|\\.)*")|'((?:[^']|'')*)')(?: +#.*)?""")
_PLAIN = re.compile(r"""[^\s"'&*!|>%@`\[\]{},#-][^#]*|-?[\w.]+""")


def read_yaml_maps(data: bytes) -> YamlMap:
    """Read a document. Raises Unreadable for what is not of this form."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("no text") from None
    top: YamlMap = {}
    open_maps: list[tuple[int, YamlMap]] = [(0, top)]
    waiting: YamlMap | None = top  # a map that has no line yet
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#") or line in {"---", "..."}:
            continue
        match = _LINE.fullmatch(line.rstrip()) if len(line) <= LONGEST else None
        if match is None:
            raise Unreadable("not as gh writes it")
        indent, key, rest = len(match[1]), _scalar(match[2]), (match[3] or "").strip()
        if waiting is not None and waiting is not top and indent > open_maps[-1][0]:
            open_maps.append((indent, waiting))
        while len(open_maps) > 1 and indent < open_maps[-1][0]:
            open_maps.pop()
        if indent != open_maps[-1][0] or len(open_maps) > DEEPEST:
            raise Unreadable("not as gh writes it")
        waiting = None
        if rest and not rest.startswith("#"):
            open_maps[-1][1][key] = _value(rest)
        else:
            waiting = open_maps[-1][1][key] = {}
    return top


def _value(text: str) -> YamlMap | str:
    return {} if text == "{}" else _scalar(text)


def _scalar(text: str) -> str:
    """Return a text without quotes, and without what a `#` after it says."""
    quoted = _QUOTED.fullmatch(text)
    try:
        if quoted:
            return str(json.loads(quoted[1])) if quoted[1] else quoted[2].replace("''", "'")
    except ValueError:
        raise Unreadable("not as gh writes it") from None
    plain = text.partition(" #")[0].rstrip()
    if not _PLAIN.fullmatch(plain):
        raise Unreadable("not as gh writes it")
    return plain
