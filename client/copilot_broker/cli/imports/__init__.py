"""`copilot-cred import`: see which tools keep a GitHub login on this machine, and take one.

Only on request, and read-only: no other tool's file is written, locked or renewed. A file for each
shape in which a login is kept; `places.py` knows where, `reading.py` reads with care.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import say
from copilot_broker.cli.imports.look import look
from copilot_broker.cli.imports.shown import print_found
from copilot_broker.cli.imports.taking import confirm, pick, with_token
from copilot_broker.cli.login import LOGIN_TIMEOUT, STORES, conclude, wait
from copilot_broker.cli.report import PROGRAM, Refusal
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "take"]

DESCRIPTION = """\
Show which tools keep a GitHub login on this machine: whose, of what kind, how
old, and whether it can be taken. With a number of that list, or a tool's name,
take that one: it is shown first, and a terminal asks.

Files are only read, and nothing is renewed there. Those that belong to others,
or that others may change, are not used. No token is shown. Nothing else of
copilot-broker looks into these places, but copilot-cred doctor, which says
which tools use a login of their own.

The token goes to the broker, which asks GitHub whose it is. It stays with the
other tool as well, and ends there and here together: to have one of the
broker's own, sign in with copilot-cred login.
"""

EPILOG = """\
kinds:
  gho_  ghu_      of an app that somebody has approved
  github_pat_     a fine-grained token; needs the permission "Copilot Requests"
  ghs_            of an installation, lives for an hour
  raw             of before 2021
  copilot         lent by GitHub for minutes: no login
  ghp_  ghr_      not accepted by Copilot
  -               not read: in a keyring, or a file that is refused

examples:
  copilot-cred import
  copilot-cred import 2
  copilot-cred import opencode --account work --yes
  copilot-cred import --json | jq -r '.found[] | select(.can_take).tool'
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "import",
        help="take a login that another tool keeps",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "login", metavar="NUMBER|TOOL", nargs="?", help="the one to take; without: list them"
    )
    parser.add_argument("--account", metavar="NAME", help="name for this login (default: default)")
    parser.add_argument("--store", choices=STORES, help="where to keep it, see: login --help")
    parser.add_argument("--yes", action="store_true", help="take it without being asked")
    parser.add_argument(
        "--json", action="store_true", help="the list as one line of JSON, without tokens"
    )
    parser.set_defaults(run=take)


def take(args: argparse.Namespace) -> int:
    """List what is there, or take one; returns when it is saved. Raises Refusal."""
    found = look()
    if args.login is None:
        if args.json:
            print(json.dumps({"found": [each.to_map(n) for n, each in enumerate(found, 1)]}))
        elif found:
            print_found(found)
            say(f"To take one: {PROGRAM} import NUMBER")
        else:
            say(f"No other tool's login was found. To sign in: {PROGRAM} login")
        return 0
    if args.json:
        raise Refusal(
            ErrorClass.USAGE,
            "usage",
            "--json is for the list",
            f"see how it is called: {PROGRAM} import --help",
        )
    chosen = pick(found, args.login)
    confirm(chosen, args.login, yes=args.yes)
    chosen = with_token(chosen)
    options = {
        "token": chosen.token,
        "host": chosen.host,
        "client_id": chosen.app or None,
        "store": args.store,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with Client(name=PROGRAM, timeout=LOGIN_TIMEOUT) as client:
        return conclude(wait(client.login(args.account, **given)))
