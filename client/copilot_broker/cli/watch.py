"""`copilot-cred watch`: one line for the state now and one for every change after it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import duration
from copilot_broker.cli.report import Refusal, printable
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


__all__ = ["add", "watch"]

DESCRIPTION = """\
Print the state of an account, then one line for every change, until interrupted.

Without --json a line shows the token's id, never the token. With --json each line is an object
with `event` (token, login_required, cooldown, failed) and, for `token`, all that `get --format
json` prints: the token too.
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
    with Client(name="copilot-cred") as client:
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
        error = change.get("error") or {}
        what = f"{str(event).replace('_', ' ')}: {error.get('message', '')}"
        if error.get("hint"):
            what += f". {error['hint']}"
    return printable(f"{now}  {change.get('account', '-')}  {what}")
