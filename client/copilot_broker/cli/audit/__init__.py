"""`copilot-cred audit`: who was given what, who was refused, and how the logins fared.

Here is its command line; `verb` does the work. `journal` and `local_log` are the two places where
records are, `running` asks the broker for its file, `events` is the table of what there is,
`shown` has the words.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.audit.events import BY_NAME


if TYPE_CHECKING:
    from collections.abc import Collection


__all__ = ["add"]

COUNT = 50
"""Records shown unless -n says otherwise: two screens."""

COUNT_MAX = 100_000
"""Records held at once; for more there is journalctl."""

DESCRIPTION = """\
Show what the broker has written down: who was lent a token or has asked
Copilot, who was refused, every refresh, login prompt, login and logout. Never
a token: only a fingerprint, by which one can be told from another until the
broker is restarted.

Records are kept in the journal; where there is none, in a small file of the
broker's own (audit.jsonl in its state folder). Both are read, and the broker
is asked where its file is.

Whoever is refused again and again has one record at once, then one a minute
that says how often; together they are all that happened.

A ! marks a record that the journal ascribes to another unit than
copilot-broker.service: any program of yours can write one that looks like the
broker's (--json: vouched is false; null in a file, where nobody can tell). A
program that goes as far as to enter the broker's unit is not found out so.

who is the systemd unit of the program that asked, or its name and process
number; with a ? where the kernel could not prove it. account is the broker's
name for the login. Times are local, with --json UTC.
"""

EPILOG = """\
events:
  {events}

examples:
  copilot-cred audit --since today
  copilot-cred audit --denied --follow
  copilot-cred audit --unit 'app-*' --event token-granted --since '2 hours ago'
  copilot-cred audit --json -n 1000 | jq -r 'select(.token_fp) | .peer_exe'

--since takes journalctl's words: 2026-11-21, '2026-11-21 10:00', 10:00, today,
yesterday, -1h, '10 min ago', @1800000000; see systemd.time(7).
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "audit",
        help="show who was given what, and who was refused",
        description=DESCRIPTION,
        epilog=EPILOG.format(events=_in_lines(BY_NAME)),
    )
    parser._negative_number_matcher = re.compile(r"-\d")  # noqa: SLF001 - `--since -1h`, as of 3.14
    parser.add_argument("--follow", "-f", action="store_true", help="go on as more comes")
    parser.add_argument("--since", metavar="WHEN", help="nothing older than that")
    parser.add_argument("--account", metavar="NAME", help="of this account only")
    parser.add_argument(
        "--event",
        metavar="NAME",
        action="append",
        choices=sorted(BY_NAME),
        help="of this kind only; may be given several times",
    )
    parser.add_argument("--unit", metavar="GLOB", help="of programs in such a systemd unit only")
    parser.add_argument("--denied", action="store_true", help="only what was refused")
    parser.add_argument(
        "-n", type=_count, default=COUNT, metavar="N", help="the last N records (default 50)"
    )
    parser.add_argument("--json", action="store_true", help="one object per line")
    parser.add_argument(
        "--source",
        choices=("auto", "journal", "file"),
        default="auto",
        help="where to look (default: in both places)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from copilot_broker.cli.audit.verb import audit  # noqa: PLC0415 - what runs a program is slow

    return audit(args)


def _count(word: str) -> int:
    if not word.isdecimal() or not 0 < int(word) <= COUNT_MAX:
        text = f"a number from 1 to {COUNT_MAX}, please, and not {word!r}"
        raise argparse.ArgumentTypeError(text)
    return int(word)


def _in_lines(names: Collection[str]) -> str:
    return "\n  ".join(textwrap.wrap(" ".join(names), 77, break_on_hyphens=False))
