"""`copilot-cred logout`: have the broker forget a login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import say


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "logout"]

LOGOUT_TIMEOUT = 30.0
"""Seconds: a keyring may have to be woken up before it forgets."""

DESCRIPTION = """\
Forget the login, in the broker and in the store.

GitHub still lists the approval; to withdraw it, revoke the app under
https://github.com/settings/applications, which signs out every tool that uses the same app.
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "logout", help="forget a login", description=DESCRIPTION
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.set_defaults(run=logout)


def logout(args: argparse.Namespace) -> int:
    """Have the broker forget the login."""
    with Client(name="copilot-cred", timeout=LOGOUT_TIMEOUT) as client:
        client.logout(args.account)
    say("Signed out. GitHub still lists the approval: see copilot-cred logout --help")
    return 0
