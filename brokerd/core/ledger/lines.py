"""The headings of the ledger: which client, by which account, of which model.

A client is called by its key, else by its systemd unit, else by its program. A unit whose name is
made up anew for each start says nothing about the tool in it, and would be a heading of its own
each time: `app-NAME-RANDOM.scope` is `app-NAME.scope` (systemd.io, Desktop Environment
Integration), and a login session or what a terminal has spawned is called by its program. Nor does
the number of a key that passes say anything: `run:aider:2` is `run:aider`.

Whatever a caller may think up is bounded: a day has so many headings, and the rest of it is
counted together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.peer import Peer


__all__ = ["CLIENTS_MAX", "LINES_MAX", "OTHERS", "Line", "Lines", "line_of"]

CLIENTS_MAX: Final = 100
"""Clients of one day; a machine has a dozen tools, but a program can give itself any name."""

LINES_MAX: Final = 500
"""Headings of one day: clients times the few models that each of them uses. A report on a year of
such days sorts them in memory."""

NAME_MAX: Final = 128
"""Characters of each part; ids of models have forty, units at most 255."""

OTHERS: Final = "others"
"""What all beyond the bounds is called: a kind of its own, so that no name can be taken for it."""

KEY, UNIT, PROCESS = "key", "unit", "process"
"""The kinds of clients."""

UNKNOWN: Final = "unknown"
"""A process that the kernel told nothing of."""

_NO_TOOL: Final = re.compile(
    r"(?:session-.*|init|run-.*|(?:vte|tmux)-spawn-.*)\.scope|(?:run-.*|user@.*)\.service"
)
_RANDOM_SCOPE: Final = re.compile(r"(app-.+)-[0-9a-f]+(\.scope)")
_RANDOM_SERVICE: Final = re.compile(r"(app-.+)@[0-9a-f]+(\.service)")


class Line(NamedTuple):
    """One heading of a day."""

    kind: str
    """`key`, `unit`, `process`, or `others`."""
    client: str
    label: str
    """Security label of the process; "" for none."""
    account: str
    model: str
    """GitHub's id, or the caller's word for it; "" where none was named."""


def line_of(peer: Peer, account: str, model: str) -> Line:
    """Return the heading for a completion of that client."""
    if peer.key:
        kind, client = KEY, ":".join(peer.key.split(":")[:2])
    else:
        kind, client = UNIT, _tool_of(peer.unit)
        if not client:
            kind, client = PROCESS, peer.comm or UNKNOWN
    return Line(kind, *(_plain(each) for each in (client, peer.label, account, model)))


def _tool_of(unit: str) -> str:
    """Return what a unit's name says about the tool in it; "" if that is nothing."""
    if not unit or _NO_TOOL.fullmatch(unit):
        return ""
    for pattern in (_RANDOM_SCOPE, _RANDOM_SERVICE):
        if found := pattern.fullmatch(unit):
            return found[1] + found[2]
    return unit


def _plain(word: str) -> str:
    """Return a caller's word as it may stand in a table: short, and nothing but visible."""
    if word.isprintable() and len(word) <= NAME_MAX:
        return word
    return "".join(each if each.isprintable() else "?" for each in word[:NAME_MAX])


class Lines:
    """The headings of one day: so many, and no more."""

    def __init__(self, known: Iterable[Line] = ()) -> None:
        self._known = set(known)
        self._clients = {line[:3] for line in self._known}

    def place(self, line: Line) -> Line:
        """Return the heading to count under: this one, or where it is one too many `others`."""
        if line in self._known:
            return line
        client = line[:3]
        is_new = client not in self._clients
        if len(self._known) >= LINES_MAX or (is_new and len(self._clients) >= CLIENTS_MAX):
            return Line(OTHERS, OTHERS, "", line.account, OTHERS)
        self._known.add(line)
        self._clients.add(client)
        return line
