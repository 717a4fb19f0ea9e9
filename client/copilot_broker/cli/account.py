"""`copilot-cred account list|use`: the logins the broker holds, and which is the default one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import print_table, say
from copilot_broker.cli.report import PROGRAM, printable


if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


__all__ = ["account_list", "account_use", "add"]

DESCRIPTION = """\
List the accounts or choose the default one.

An account is one person's own login, for example at work and at home; several
people, or several logins to spread one person's load, is what GitHub's terms
forbid. So the broker never changes from one account to another by itself: each
request is made with the account it names (--account), else with the default.
"""

EPILOG = """\
examples:
  copilot-cred login --account work --host acme.ghe.com
  copilot-cred account list
  copilot-cred account use work
"""

LIST_DESCRIPTION = """\
Show the accounts on stdout: who each is, where, how Copilot is asked (mode),
what GitHub says the login may do (scopes) and what keeps it (store). How they
do is shown by copilot-cred status.
"""

USE_DESCRIPTION = """\
Make NAME the account that is meant when none is named. That holds for every
tool of this user, and outlives the broker.
"""

HEADINGS = ("name", "user", "host", "mode", "scopes", "store", "default")
SPARE = ("scopes", "store")
"""What a narrow terminal has to do without."""


def add(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "account",
        help="list the accounts, choose the default",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show them", description=LIST_DESCRIPTION)
    listing.add_argument("--json", action="store_true", help="one line of JSON")
    listing.set_defaults(run=account_list)
    use = actions.add_parser("use", help="choose the default account", description=USE_DESCRIPTION)
    use.add_argument("name", metavar="NAME", help="as copilot-cred account list shows it")
    use.set_defaults(run=account_use)


def account_list(args: argparse.Namespace) -> int:
    """Print the accounts on stdout."""
    with Client(name=PROGRAM) as client:
        answer = client.accounts()
    if args.json:
        print(json.dumps(answer))
    elif answer["accounts"]:
        print_table(HEADINGS, [_row(account) for account in answer["accounts"]], SPARE)
    else:
        say("There are no accounts; to sign in: copilot-cred login")
    return 0


def account_use(args: argparse.Namespace) -> int:
    """Make an account the default one."""
    with Client(name=PROGRAM) as client:
        client.use(args.name)
    say(f"The default account is now {printable(args.name)}.")
    return 0


def _row(account: Mapping[str, Any]) -> tuple[str, ...]:
    shown = (account.get(key) for key in ("name", "login", "host", "mode", "scopes", "store"))
    return (*(str(value or "-") for value in shown), "yes" if account.get("default") else "-")
