"""`copilot-cred usage`: which client has used how much, as the broker's ledger has it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import print_bars, print_table, say, wrapped
from copilot_broker.cli.report import PROGRAM, Refusal
from copilot_broker.cli.usage_view import GROUPS, bars, columns, print_csv, rows_of, summary
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["add", "usage"]

TIMEOUT = 60.0
"""Seconds; a year of a busy machine takes one, and a disk may be slow."""

DESCRIPTION = """\
Show who has used how much: for each client its requests, and tokens as Copilot
counted them. A client is a key of the HTTP door, else a systemd unit, else a
program; what was asked by token (copilot-cred get) nobody here can count.

turns are those that a person began, and after the + those of an agent.
untold counts answers whose tokens Copilot never told, as of who hung up.
premium is an estimate: the multiplier that Copilot's list gives a model, for
each turn of a person's that succeeded; copilot-cred quota knows what was
billed. A + behind it: of some models the multiplier was not known.

Days are days in UTC. Counted is what was sent to Copilot, and never any words:
no prompt and no answer is in the ledger. How long it is kept says [usage] keep
in config.toml.
"""

EPILOG = """\
examples:
  copilot-cred usage
  copilot-cred usage --since 30d --by model
  copilot-cred usage --since 2026-01-01 --until 2026-01-31 --by day
  copilot-cred usage --since 1d --by client --by model
  copilot-cred usage --since 400d --by day --by client --csv > usage.csv
  copilot-cred usage --json | jq '.rows[] | {client, prompt_tokens}'
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "usage",
        help="show which client has used how much",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "--since",
        type=_since,
        metavar="WHEN",
        help="a day (2026-01-31), or how long ago: 1d is today (default: 7d)",
    )
    parser.add_argument(
        "--until",
        type=_until,
        metavar="WHEN",
        help="the last day; 1d is yesterday (default: today)",
    )
    parser.add_argument(
        "--by",
        action="append",
        choices=GROUPS,
        help="what each row is about; may be given several times (default: client)",
    )
    parser.add_argument("--account", metavar="NAME", help="only what was sent with this login")
    told = parser.add_mutually_exclusive_group()
    told.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    told.add_argument("--csv", action="store_true", help="as comma-separated values (RFC 4180)")
    parser.set_defaults(run=usage)


def usage(args: argparse.Namespace) -> int:
    """Print it on stdout."""
    _check_order(args.since, args.until)
    by = list(dict.fromkeys(args.by or ["client"]))
    with Client(name=PROGRAM, timeout=TIMEOUT) as client:
        answer = client.usage_report(args.since, args.until, by, args.account)
    if args.json:
        print(json.dumps(answer))
        return 0
    rows = rows_of(answer)
    if args.csv:
        print_csv(sys.stdout, by, rows)
    elif rows:
        _print(answer, by, rows)
    else:
        say(f"Nothing was counted {_span(answer)}.")
    if answer.get("more"):
        say("There is more than is told here: choose fewer days, or fewer --by.")
    return 0


def _print(answer: Mapping[str, Any], by: list[str], rows: list[Mapping[str, Any]]) -> None:
    print(wrapped(f"Usage {_span(answer)} (UTC): {summary(rows)}", hanging="  "))
    print()
    headings, cells, spare = columns(by, rows)
    print_table(headings, cells, spare)
    print()
    print("tokens")
    print_bars(bars(by, rows))


def _check_order(since: float | None, until: float | None) -> None:
    """Raise Refusal for a last day before the first; a day alone is all right."""
    from copilot_broker.cli.times import DAY  # noqa: PLC0415 - beside its like

    last = time.time() if until is None else until
    if since is not None and since // DAY > last // DAY:
        message = "the day of --since is after that of --until (or of today)"
        hint = f"see what they take: {PROGRAM} usage --help"
        raise Refusal(ErrorClass.USAGE, "usage", message, hint)


def _span(answer: Mapping[str, Any]) -> str:
    since, until = str(answer.get("since")), str(answer.get("until"))
    return f"on {since}" if since == until else f"from {since} to {until}"


def _since(text: str) -> float:
    """Return the moment: so many days are told, today being one of them."""
    return _moment(text, "takes a day (2026-01-31), or how long ago it was: 7d, 3M", is_first=True)


def _until(text: str) -> float:
    return _moment(text, "takes a day (2026-01-31), or how long ago it was: 1d", is_first=False)


def _moment(text: str, allowed: str, *, is_first: bool) -> float:
    from datetime import UTC, datetime  # noqa: PLC0415 - slow, and only wanted here

    from copilot_broker.cli.times import DAY, span  # noqa: PLC0415 - beside its like

    seconds = span(text) if text[-1:].isalpha() else None
    if seconds is not None:
        # The last 7 days are today and six before it.
        return max(0.0, time.time() - seconds + (DAY if is_first and seconds >= DAY else 0))
    try:
        return max(0.0, datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(allowed) from None
