"""`copilot-cred account list|use`: the logins the broker holds, and which is the default one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import say
from copilot_broker.cli.report import printable
from copilot_broker.cli.status import print_accounts


if TYPE_CHECKING:
    import argparse


__all__ = ["account_list", "account_use", "add"]

DESCRIPTION = """\
List the accounts or choose the default one.

An account is one person's own login, for example at work and at home; several people, or several
logins to spread one person's load, is what GitHub's terms forbid.
"""


def add(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "account", help="list the accounts, choose the default", description=DESCRIPTION
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show them", description="Show the accounts.")
    listing.add_argument("--json", action="store_true", help="one line of JSON")
    listing.set_defaults(run=account_list)
    use = actions.add_parser(
        "use",
        help="choose the default account",
        description="Make NAME the account that is meant when none is named.",
    )
    use.add_argument("name", metavar="NAME")
    use.set_defaults(run=account_use)


def account_list(args: argparse.Namespace) -> int:
    """Print the accounts on stdout."""
    with Client(name="copilot-cred") as client:
        answer = client.accounts()
    if args.json:
        print(json.dumps(answer))
    else:
        print_accounts(answer["accounts"])
    return 0


def account_use(args: argparse.Namespace) -> int:
    """Make an account the default one."""
    with Client(name="copilot-cred") as client:
        client.use(args.name)
    say(f"The default account is now {printable(args.name)}.")
    return 0
