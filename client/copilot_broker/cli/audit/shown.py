"""A record in words: when, what, who, of which account, and what else there is to say."""

from __future__ import annotations

import sys
import time
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from copilot_broker.cli.audit.events import DENIALS
from copilot_broker.cli.display import has_rich, print_table
from copilot_broker.cli.report import printable
from copilot_broker.cli.times import duration


if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_broker.cli.audit.records import Record


__all__ = ["HEADINGS", "aligned", "line", "print_records"]

HEADINGS = ("time", "event", "who", "account", "what")

WHO_MAX = 16
"""Columns: names of units are long, and 80 are all there are; `--json` has all of it."""

NARROW = 72
"""Columns below which a terminal is shown whole lines: rich would drop what matters, the last."""

_WIDTHS = (14, 14, WHO_MAX, 7)
"""Columns of a line that cannot wait for the others. Longer words push the rest along."""


def print_records(records: Sequence[Record]) -> None:
    """Print them on stdout as a table; on a terminal with rich only the last column is folded."""
    if not sys.stdout.isatty() or not has_rich():
        print_table(HEADINGS, [row(record) for record in records])
    elif get_terminal_size().columns < NARROW:
        print("\n".join([aligned(HEADINGS), *map(line, records)]))
    else:
        _print_rich(records)


def _print_rich(records: Sequence[Record]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading != HEADINGS[-1])
    for record in records:
        is_bad = record.event.name in DENIALS or record.vouched is False
        style = "red" if is_bad else ""
        table.add_row(*(Text(printable(cell)) for cell in row(record)), style=style)
    Console(highlight=False).print(table)


def row(record: Record) -> tuple[str, ...]:
    """Return the cells of the table; what the broker did not write is marked and says so."""
    account = record.get("ACCOUNT") or "-"
    event, what = record.event.words, _what(record)
    if record.get("PEER_PID") and record.get("KEY"):
        what += f", key {record.get('KEY')}"
    if record.vouched is False:
        event = f"!{event}"
        what = f"{what}; " if what else ""
        what += f"written by {record.recorded_by or 'nobody known'}, not by the broker"
    return (_time(record.at), event, _who(record), account, what or "-")


def line(record: Record) -> str:
    """Return one line by itself, its columns where those of most others are."""
    return aligned(row(record))


def aligned(cells: Sequence[str]) -> str:
    """Put cells where `line` has them."""
    *first, last = map(printable, cells)
    padded = [cell.ljust(width) for cell, width in zip(first, _WIDTHS, strict=True)]
    return "  ".join([*padded, last])


def _time(at: float) -> str:
    here = time.localtime(at)
    is_old = here.tm_year != time.localtime().tm_year
    return time.strftime("%Y-%m-%d" if is_old else "%m-%d %H:%M:%S", here)


def _who(record: Record) -> str:
    """Return the unit; the program where that says little. A `?` after it: not proven."""
    unit, comm, pid = record.get("PEER_UNIT"), record.get("PEER_COMM"), record.get("PEER_PID")
    if not pid:
        return "-"
    if pid == "0" and record.get("LISTENER") == "http-tcp":
        return "(by TCP)"  # whose process it is nobody knows; the key says who
    says_little = not unit or unit.startswith(("session-", "user@"))
    name = f"{comm or 'pid'} {pid}" if says_little else unit.removesuffix(".service")
    name = name.removesuffix(".scope")
    is_proven = record.get("PEER_WEAK") in {"", "0"}
    room = WHO_MAX - (not is_proven)
    if len(name) > room:
        half = (room - 1) // 2
        name = f"{name[: room - 1 - half]}…{name[-half:]}"
    return name if is_proven else f"{name}?"


def _what(record: Record) -> str:
    get = record.get
    match record.event.name:
        case "peer-denied":
            uid, listener = get("PEER_UID"), get("LISTENER")
            return f"{get('REASON')}, uid {uid}, {listener}{_repeated(record)}"
        case "operation-denied":
            return f"{get('OPERATION')}: {get('REASON')}{_repeated(record)}"
        case "operation-granted":
            return f"{get('OPERATION')}{_repeated(record)}"
        case "completion-granted":
            return get("OPERATION")
        case "token-granted":
            return f"{get('OPERATION')} {get('TOKEN_FP')}"
        case "token-total":
            return f"{get('TOKEN_FP')} {_times(get('COUNT'), 'time')}"
        case "completion-total":
            return _times(get("COUNT"), "request")
        case "grants-changed":
            return _times(get("COUNT"), "rule")
        case "key-created":
            lasts = get("LIFETIME")
            return f"{get('KEY')}{f' for {_life(lasts)}' if lasts not in {'', '0'} else ''}"
        case "key-revoked":
            return f"{get('KEY')}, {_times(get('COUNT'), 'connection')} closed"
        case "run-leased":
            return get("ADDRESS")
        case "run-ended":
            closed = _times(get("COUNT"), "connection")
            return f"{get('KEY')} after {_life(get('LIFETIME'))}: {get('REASON')}, {closed} closed"
        case "key-minted":
            return f"for {_life(get('LIFETIME'))}"
        case "tokens-dropped":
            return f"{_times(get('COUNT'), 'token')}: {get('REASON')}"
        case "refreshed":
            mode = ", direct" if get("MODE") == "direct" else ""
            return f"{get('TOKEN_FP')} for {_life(get('LIFETIME'))}{mode}{_took(record)}"
        case "refresh-failed" | "renewal-failed":
            return f"{get('ERROR_CODE')}{_took(record)}"
        case "prompted":
            return f"{get('HOST')}, app {get('CLIENT')}"
        case "prompt-ended":
            return f"{get('RESULT')}{_took(record)}"
        case "signed-in":
            return f"{get('HOST')}, in {get('STORE')}"
        case "login-renewed":
            return _took(record).removeprefix(", ")
        case "confined":
            return f"lacks {get('LACKS')}" if get("LACKS") else "all layers hold"
        case _:
            return get("HOST") or get("REASON") or get("ERROR_CODE") or get("RESULT")


def _took(record: Record) -> str:
    """Return `, 241 ms`; from two seconds on in the words of `duration`."""
    try:
        seconds = int(record.get("LATENCY_USEC")) / 1_000_000
    except ValueError:
        return ""
    return f", {duration(seconds)}" if seconds >= 2 else f", {seconds * 1000:.0f} ms"


def _repeated(record: Record) -> str:
    """Return `, 12 times` where a record stands for more than one."""
    count = record.get("COUNT")
    return f", {_times(count, 'time')}" if count not in {"", "1"} else ""


def _life(seconds: str) -> str:
    return duration(float(seconds)) if seconds.isdigit() else "?"


def _times(count: str, noun: str) -> str:
    return f"{count} {noun}" if count == "1" else f"{count} {noun}s"
