"""`copilot-cred watch`: one line for the state now and one for every change after it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.report import PROGRAM, Refusal, printable
from copilot_broker.cli.times import duration, pause
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


__all__ = ["add", "watch"]

DESCRIPTION = """\
Print the state of an account, then one line for every change, until
interrupted.

Without --json a line shows the token's id, never the token. With --json each
line is an object with `event` (token, login_required, cooldown, failed) and,
for `token`, all that `get --format json` prints: the token too.
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "watch", help="print every change as it happens", description=DESCRIPTION
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.add_argument("--json", action="store_true", help="one object per line, with the token")
    parser.set_defaults(run=watch)


def watch(args: argparse.Namespace) -> int:
    """Print changes on stdout until interrupted; the broker going away is error 3."""
    with Client(name=PROGRAM) as client:
        for change in client.watch(args.account):
            print(json.dumps(change) if args.json else _line(change), flush=True)
    raise Refusal(
        ErrorClass.UNREACHABLE,
        "broker_gone",
        "the broker has ended the watch",
        "start it: systemctl --user start copilot-broker.socket",
    )


def _line(change: Mapping[str, Any]) -> str:
    now = time.strftime("%H:%M:%S")
    event = change.get("event", "?")
    if event == "token":
        what = f"token {change.get('token_id')}, valid {duration(change.get('expires_in'))}"
    else:
        what = str(event).replace("_", " ") + _why(Refusal.from_map(change.get("error")))
    return printable(f"{now}  {change.get('account', '-')}  {what}")


def _why(error: Refusal | None) -> str:
    """Return the error as the end of a line; `report.words` in one."""
    if error is None:
        return ""
    waits = [] if error.retry_after is None else [f"again in {pause(error.retry_after)}"]
    return ": " + ". ".join(said for said in (error.message, *waits, error.hint) if said)
